"""Projection: events of a resource stream, appended to a subject or org stream in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from typing_extensions import override

from events_core.adapters.cosmos.streams.append import Appender
from events_core.adapters.cosmos.streams.documents import Draft, rows_of
from events_core.adapters.cosmos.streams.heads import Heads
from events_core.adapters.cosmos.streams.names import Names
from events_core.common.errors import EventsError
from events_core.feeds.ports import ProjectedStreams, StoredEvent
from events_core.feeds.stream import Stream


@dataclass(frozen=True, slots=True)
class CosmosProjectedStreams(ProjectedStreams):
    """Subject and org streams in Cosmos DB. `ready` opens their store."""

    ready: Callable[[], Awaitable[None]]
    appender: Appender
    heads: Heads
    names: Names

    @override
    async def prepare(self, targets: Sequence[Stream]) -> None:
        await self.ready()
        await self.heads.find_new([self.names.of(target) for target in targets])

    @override
    async def project(self, target: Stream, events: Sequence[StoredEvent]) -> None:
        if not events:
            return
        await self.ready()
        drafts = [Draft.of_row(row) for row in rows_of(events)]
        futures = self.appender.submit(target, self.names.of(target), drafts, in_order=True)
        await asyncio.wait(futures)
        for future in futures:
            outcome = future.result()
            if isinstance(outcome, EventsError):
                raise outcome
