"""Checkpoints of resource streams, in the container `cursors`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from typing_extensions import override

from events_core.adapters.cosmos.client import Document
from events_core.adapters.cosmos.streams.heads import Heads
from events_core.adapters.cosmos.streams.names import Names
from events_core.adapters.cosmos.streams.read import Reader
from events_core.adapters.cosmos.streams.states import StreamStates, new_state
from events_core.feeds.ports import Checkpoint, CheckpointStore, Quarantined, StoredEvent
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
        position: int,
        *,
        catch_up_pending: bool,
        quarantined: Sequence[Quarantined],
    ) -> bool:
        await self.ready()
        name = self.names.of(stream)
        changes: dict[str, Any] = {
            "checkpoint": position,
            "catchUpPending": catch_up_pending,
            "quarantined": [asdict(each) for each in quarantined],
        }
        if checkpoint.etag is None:
            return await self.states.create(new_state(name, stream) | changes)
        return await self.states.advance(name, checkpoint.etag, **changes)

    @override
    async def read_after(self, stream: Stream, position: int, limit: int) -> Sequence[StoredEvent]:
        await self.ready()
        return await self.reader.rows_after(self.names.of(stream), position, limit)

    @override
    async def end(self, stream: Stream) -> int:
        await self.ready()
        return (await self.heads.fresh(self.names.of(stream))).position

    @override
    async def catch_up_pending(self) -> Sequence[Stream]:
        await self.ready()
        return _streams_of(await self.states.where("c.catchUpPending = true"))

    @override
    async def behind(self) -> Sequence[Stream]:
        await self.ready()
        documents = await self.states.where("IS_DEFINED(c.stream)")
        slots = asyncio.Semaphore(_HEADS_AT_ONCE)

        async def is_behind(document: Document) -> bool:
            async with slots:
                return (await self.heads.fresh(document["name"])).position > int(document["checkpoint"])

        behind = await asyncio.gather(*map(is_behind, documents))
        return [stream for stream, is_one in zip(_streams_of(documents), behind, strict=True) if is_one]

    @override
    async def suspects(self, most: int) -> Sequence[tuple[Stream, Checkpoint]]:
        # One query without an upper bound: its answer grows with the number of streams.
        await self.ready()
        documents = await self.states.where("IS_DEFINED(c.stream)")
        documents.sort(key=lambda document: (document["catchUpPending"], document["_ts"]), reverse=True)
        return [(Stream(str(document["stream"])), _checkpoint_of(document)) for document in documents[:most]]

    @override
    async def quarantined(self) -> Sequence[Stream]:
        await self.ready()
        return _streams_of(await self.states.where("IS_DEFINED(c.quarantined[0])"))

    @override
    async def restored(self) -> int:
        await self.ready()
        await self.states.renew_generation()
        streams = _streams_of(await self.states.where("c.checkpoint > 0"))
        return sum([await self._lower(stream) for stream in streams])

    async def _lower(self, stream: Stream) -> bool:
        """Set a checkpoint that is beyond its stream back to the stream's end; return whether it was beyond."""
        seen = await self.checkpoint(stream)
        head = await self.heads.fresh(self.names.of(stream))
        if seen.position <= head.position:
            return False
        quarantined = [each for each in seen.quarantined if each.position <= head.position]
        return await self.advance(stream, seen, head.position, catch_up_pending=True, quarantined=quarantined)


def _streams_of(documents: Sequence[Document]) -> list[Stream]:
    return [Stream(str(document["stream"])) for document in documents]


def _checkpoint_of(document: Document) -> Checkpoint:
    quarantined = [Quarantined(**each) for each in document.get("quarantined", ())]
    return Checkpoint(document["checkpoint"], document["_etag"], bool(document["catchUpPending"]), quarantined)
