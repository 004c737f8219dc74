"""The follower that copies app events to the streams of their subject and org."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from events_core.access.names import Resource
from events_core.feeds.follow_up import Follower
from events_core.feeds.ports import PROJECTION, ProjectedStreams, StoredEvent
from events_core.feeds.stream import Stream, projections_of
from events_core.feeds.wait import WaitingReaders


@dataclass(frozen=True, slots=True)
class Projection(Follower[StoredEvent]):
    """Copies app events to their subject and org streams, for a store that keeps streams apart.

    A target is the name of a stream.
    """

    streams: ProjectedStreams
    waiting: WaitingReaders

    @property
    @override
    def name(self) -> str:
        return PROJECTION

    @override
    async def wants(self, stream: Stream) -> bool:
        return Resource.parse(stream.key).app is not None

    @override
    async def targets(self, events: Sequence[StoredEvent]) -> dict[str, dict[int, StoredEvent]]:
        targets: dict[str, dict[int, StoredEvent]] = {}
        for event in events:
            for stream in projections_of(event.resource, event.subject):
                targets.setdefault(stream.name, {})[event.position] = event
        await self.streams.prepare([Stream(target) for target in targets])
        return targets

    @override
    async def put(self, target: str, items: Sequence[StoredEvent]) -> None:
        stream = Stream(target)
        await self.streams.project(stream, items)
        self.waiting.wake([stream])
