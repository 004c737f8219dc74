"""What following up needs of the store: checkpoints in `cursors`, and the projected streams."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from events_core.adapters.cosmos.streams.cursors import CursorDocuments, new_document
from events_core.adapters.cosmos.streams.documents import Document
from events_core.adapters.cosmos.streams.heads import Heads
from events_core.adapters.cosmos.streams.names import Names
from events_core.adapters.cosmos.streams.read import Reader
from events_core.feeds.ports import Checkpoint, Quarantined, StoredEvent
from events_core.feeds.stream import Stream

_HEADS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class CosmosCheckpoints:
    """A StreamLedger; `ready` opens the store that it belongs to."""

    ready: Callable[[], Awaitable[None]]
    cursors: CursorDocuments
    heads: Heads
    names: Names
    reader: Reader

    async def checkpoint(self, stream: Stream) -> Checkpoint:
        """How far a resource stream has been followed; see `StreamLedger.checkpoint`."""
        await self.ready()
        document = await self.cursors.get(self.names.of(stream))
        return Checkpoint() if document is None else _checkpoint_of(document)

    async def advance(
        self,
        stream: Stream,
        checkpoint: Checkpoint,
        position: int,
        *,
        catch_up_pending: bool,
        quarantined: Sequence[Quarantined],
    ) -> bool:
        """Replace the checkpoint that was read; see `StreamLedger.advance`."""
        await self.ready()
        name = self.names.of(stream)
        changes: dict[str, Any] = {
            "checkpoint": position,
            "catchUpPending": catch_up_pending,
            "quarantined": [asdict(each) for each in quarantined],
        }
        if checkpoint.etag is None:
            return await self.cursors.create(new_document(name, stream) | changes)
        return await self.cursors.advance(name, checkpoint.etag, **changes)

    async def read_after(self, stream: Stream, position: int, limit: int) -> Sequence[StoredEvent]:
        """The next rows of a stream; see `StreamLedger.read_after`."""
        await self.ready()
        return await self.reader.rows_after(self.names.of(stream), position, limit)

    async def end(self, stream: Stream) -> int:
        """The newest position of a stream; see `StreamLedger.end`."""
        await self.ready()
        return (await self.heads.fresh(self.names.of(stream))).position

    async def catch_up_pending(self) -> Sequence[Stream]:
        """The resource streams whose checkpoint is marked so; one indexed query."""
        await self.ready()
        return _streams_of(await self.cursors.where("c.catchUpPending = true"))

    async def behind(self) -> Sequence[Stream]:
        """The resource streams that hold more than their checkpoint says; one request for each of them."""
        await self.ready()
        documents = await self.cursors.where("IS_DEFINED(c.stream)")
        places = asyncio.Semaphore(_HEADS_AT_ONCE)
        are_behind = await asyncio.gather(*(self._is_behind(document, places) for document in documents))
        return [stream for stream, behind in zip(_streams_of(documents), are_behind, strict=True) if behind]

    async def _is_behind(self, document: Document, places: asyncio.Semaphore) -> bool:
        async with places:
            return (await self.heads.fresh(document["name"])).position > int(document["checkpoint"])

    async def suspects(self, most: int) -> Sequence[tuple[Stream, Checkpoint]]:
        """Resource streams that may be behind; see `StreamLedger.suspects`. One query, whose answer grows with them."""
        await self.ready()
        documents = await self.cursors.where("IS_DEFINED(c.stream)")
        documents.sort(key=lambda each: (each["catchUpPending"], each["_ts"]), reverse=True)
        return [(Stream(str(each["stream"])), _checkpoint_of(each)) for each in documents[:most]]

    async def quarantined(self) -> Sequence[Stream]:
        """The resource streams whose checkpoint holds events back."""
        await self.ready()
        return _streams_of(await self.cursors.where("IS_DEFINED(c.quarantined[0])"))

    async def restored(self) -> int:
        """Go on from what a restored database holds; see `StreamLedger.restored`."""
        await self.ready()
        await self.cursors.renew_generation()
        return sum([await self._lower(stream) for stream in _streams_of(await self.cursors.where("c.checkpoint > 0"))])

    async def _lower(self, stream: Stream) -> bool:
        """Set a checkpoint that is beyond its stream back to the stream's end; whether it was."""
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
