"""What following up needs of the store: checkpoints in `cursors`, and the projected streams."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from events_core.access.names import app_of
from events_core.adapters.cosmos.streams.cursors import CursorDocuments, new_document
from events_core.adapters.cosmos.streams.documents import Document
from events_core.adapters.cosmos.streams.heads import Heads
from events_core.adapters.cosmos.streams.names import Names
from events_core.adapters.cosmos.streams.projection import Projection
from events_core.adapters.cosmos.streams.read import Reader
from events_core.feeds.ports import Checkpoint, Parked, StoredEvent
from events_core.feeds.stream import Stream, projections_of

_HEADS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class CosmosLedger:
    """A StreamLedger; `ready` opens the store that it belongs to."""

    ready: Callable[[], Awaitable[None]]
    cursors: CursorDocuments
    heads: Heads
    names: Names
    reader: Reader
    projection: Projection

    async def checkpoint(self, stream: Stream) -> Checkpoint:
        """How far a resource stream has been followed; see `StreamLedger.checkpoint`."""
        await self.ready()
        document = await self.cursors.get(self.names.of(stream))
        return Checkpoint() if document is None else _checkpoint_of(document)

    async def advance(
        self, stream: Stream, checkpoint: Checkpoint, position: int, *, owed: bool, parked: Sequence[Parked]
    ) -> bool:
        """Replace the checkpoint that was read; see `StreamLedger.advance`."""
        await self.ready()
        name = self.names.of(stream)
        changes: dict[str, Any] = {"checkpoint": position, "owed": owed, "parked": [_as_json(each) for each in parked]}
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

    def projects(self, stream: Stream) -> bool:
        """Whether it is an app's."""
        return app_of(stream.key) is not None

    def targets(self, event: StoredEvent) -> Sequence[Stream]:
        """The streams of an event's subject and org."""
        return projections_of(event.resource, event.subject)

    async def prepare(self, targets: Sequence[Stream]) -> None:
        """Find the new ones among streams; see `StreamLedger.prepare`."""
        await self.ready()
        await self.heads.find_new([self.names.of(target) for target in targets])

    async def project(self, target: Stream, events: Sequence[StoredEvent]) -> None:
        """Append events to a subject or org stream; see `StreamLedger.project`."""
        await self.ready()
        await self.projection.project(target, events)

    async def owed(self) -> Sequence[Stream]:
        """The resource streams whose checkpoint is marked so; one indexed query."""
        await self.ready()
        return _streams_of(await self.cursors.where("c.owed = true"))

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
        documents.sort(key=lambda each: (each["owed"], each["_ts"]), reverse=True)
        return [(Stream(str(each["stream"])), _checkpoint_of(each)) for each in documents[:most]]

    async def parked(self) -> Sequence[Stream]:
        """The resource streams whose checkpoint holds events back."""
        await self.ready()
        return _streams_of(await self.cursors.where("IS_DEFINED(c.parked[0])"))

    async def restored(self) -> int:
        """Go on from what a restored database holds; see `StreamLedger.restored`."""
        await self.ready()
        await self.cursors.renew_mark()
        return sum([await self._lower(stream) for stream in _streams_of(await self.cursors.where("c.checkpoint > 0"))])

    async def _lower(self, stream: Stream) -> bool:
        """Set a checkpoint that is beyond its stream back to the stream's end; whether it was."""
        seen = await self.checkpoint(stream)
        head = await self.heads.fresh(self.names.of(stream))
        if seen.position <= head.position:
            return False
        parked = [each for each in seen.parked if each.position <= head.position]
        return await self.advance(stream, seen, head.position, owed=True, parked=parked)


def _streams_of(documents: Sequence[Document]) -> list[Stream]:
    return [Stream(str(document["stream"])) for document in documents]


def _checkpoint_of(document: Document) -> Checkpoint:
    parked = [Parked(Stream(each["target"]), each["position"], each["reason"]) for each in document.get("parked", ())]
    return Checkpoint(document["checkpoint"], document["_etag"], bool(document["owed"]), parked)


def _as_json(parked: Parked) -> Document:
    return {"target": parked.target.name, "position": parked.position, "reason": parked.reason}
