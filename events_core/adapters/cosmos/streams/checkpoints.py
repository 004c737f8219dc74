"""Checkpoints of resource streams, in the container `cursors`."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from typing_extensions import override

from events_core.adapters.cosmos.client import Document
from events_core.adapters.cosmos.streams.heads import Heads
from events_core.adapters.cosmos.streams.names import Names
from events_core.adapters.cosmos.streams.read import Reader
from events_core.adapters.cosmos.streams.states import StreamStates, new_state
from events_core.common.errors import EventsError
from events_core.feeds.ports import Checkpoint, CheckpointStore, Quarantined, RowsAfter
from events_core.feeds.stream import Stream

_HEADS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class CosmosCheckpoints(CheckpointStore):
    """Checkpoints in Cosmos DB. `ready` opens their store."""

    ready: Callable[[], Awaitable[None]]
    states: StreamStates
    heads: Heads
    names: Names
    reader: Reader

    @override
    async def checkpoint(self, stream: Stream) -> Checkpoint:
        await self.ready()
        document = await self.states.get(self.names.of(stream))
        return Checkpoint() if document is None else _checkpoint_of(document)

    @override
    async def advance(
        self,
        stream: Stream,
        checkpoint: Checkpoint,
        positions: Mapping[str, int],
        *,
        catch_up_pending: bool,
        quarantined: Sequence[Quarantined],
    ) -> Checkpoint | None:
        await self.ready()
        name = self.names.of(stream)
        changes: dict[str, Any] = {
            "checkpoints": dict(positions),
            "catchUpPending": catch_up_pending,
            "quarantined": [asdict(each) for each in quarantined],
        }
        if checkpoint.etag is None:
            is_new = await self.states.create(new_state(name, stream) | changes)
            return await self.checkpoint(stream) if is_new else None
        document = await self.states.advance(name, checkpoint.etag, **changes)
        return None if document is None else _checkpoint_of(document)

    @override
    async def read_after(self, stream: Stream, position: int, limit: int) -> RowsAfter:
        await self.ready()
        return await self.reader.rows_after(self.names.of(stream), position, limit)

    @override
    async def end(self, stream: Stream) -> int:
        await self.ready()
        return (await self.heads.fresh(self.names.of(stream))).position

    @override
    async def catch_up_pending(self) -> Sequence[Stream]:
        await self.ready()
        documents = await self.states.of_resources("c.catchUpPending = true")
        return _streams_of(sorted(documents, key=_written))

    @override
    async def behind(self, seconds: float = 60.0) -> Sequence[Stream]:
        await self.ready()
        documents = await self.states.of_resources()
        random.shuffle(documents)  # so that a search that runs out of time leaves out others each time
        slots, deadline = asyncio.Semaphore(_HEADS_AT_ONCE), time.monotonic() + seconds

        async def is_behind(document: Document) -> bool:
            async with slots:
                return time.monotonic() < deadline and await self._is_behind(document)

        behind = await asyncio.gather(*map(is_behind, documents))
        return [stream for stream, is_one in zip(_streams_of(documents), behind, strict=True) if is_one]

    async def _is_behind(self, document: Document) -> bool:
        try:
            head = await self.heads.fresh(document["name"])
        except EventsError:
            return True  # whoever follows it finds out, and one stream must not end the search
        return head.position > _checkpoint_of(document).position

    @override
    async def suspects(self, most: int) -> Sequence[tuple[Stream, Checkpoint]]:
        # One query without an upper bound: its answer grows with the number of streams.
        await self.ready()
        documents = await self.states.of_resources()
        documents.sort(key=lambda each: (0, _written(each)) if each["catchUpPending"] else (1, -_written(each)))
        return [(Stream(str(document["stream"])), _checkpoint_of(document)) for document in documents[:most]]

    @override
    async def quarantined(self) -> Sequence[Stream]:
        await self.ready()
        return _streams_of(await self.states.of_resources("IS_DEFINED(c.quarantined[0])"))


def _streams_of(documents: Sequence[Document]) -> list[Stream]:
    return [Stream(str(document["stream"])) for document in documents]


def _written(document: Document) -> int:
    """When a state was written last. It is the server's time, so the clocks of two processes are not compared.

    Reserving positions writes the state of a busy stream too. The change feed follows such a stream meanwhile.
    """
    return int(document["_ts"])


def _checkpoint_of(document: Document) -> Checkpoint:
    quarantined = [Quarantined(**each) for each in document.get("quarantined", ())]
    return Checkpoint(document["checkpoints"], document["_etag"], bool(document["catchUpPending"]), quarantined)
