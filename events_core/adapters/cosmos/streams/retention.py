"""Retention: raise the floor, later delete what is below it in order, and never the newest document of a stream."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from events_core.adapters.cosmos.client import CosmosDatabase
from events_core.adapters.cosmos.failures import FAILURES, failures_as_unavailable
from events_core.adapters.cosmos.streams.cursors import CursorDocuments, bounds_of, new_document
from events_core.adapters.cosmos.streams.documents import Document, placeholder
from events_core.adapters.cosmos.streams.heads import Heads
from events_core.adapters.cosmos.streams.names import first_of, segment_of
from events_core.adapters.cosmos.streams.positions import PositionsByTime
from events_core.adapters.cosmos.streams.queries import STREAMS, StreamQueries

_AT_ONCE = 100
_RESOURCE = "resource:"


@dataclass(frozen=True, slots=True)
class Retention:
    """Removes the oldest events; `gap_seconds` pass between raising a floor and deleting below it.

    The gap lets readers that began before go on, and takes effect when `expire` is called again.
    """

    database: CosmosDatabase
    queries: StreamQueries
    cursors: CursorDocuments
    heads: Heads
    positions_by_time: PositionsByTime
    segment_size: int
    gap_seconds: float = 3_600.0

    async def expire(self, registered_before: int) -> int:
        """Answer `EventStore.expire`; counts what is deleted from resource streams now."""
        removed = 0
        for name in await self._streams(registered_before):
            of_stream = await self._expire(name, registered_before)
            removed += of_stream if name.startswith(_RESOURCE) else 0
        return removed

    async def _streams(self, registered_before: int) -> list[str]:
        """Every stream with something old: its first document stands, or its floor was raised once."""
        begun = await self.queries.begun_before(registered_before)
        raised = [str(each["name"]) for each in await self.cursors.where("c.floor > 1")]
        return sorted({*begun, *raised})

    async def _expire(self, name: str, registered_before: int) -> int:
        document = await self._document(name)
        removed = await self._delete(name, document)
        document = await self._document(name)
        if document["floor"] - document.get("deleted", 1) > 1:
            return removed  # what is below the floor waits for its hour
        if not await self._raise(name, document, registered_before):
            return removed
        return removed + await self._delete(name, await self._document(name))

    async def _document(self, name: str) -> Document:
        document = await self.cursors.get(name)
        while document is None:
            await self.cursors.create(new_document(name))
            document = await self.cursors.get(name)
        return document

    async def _raise(self, name: str, document: Document, registered_before: int) -> bool:
        """Raise the floor to the oldest row that is kept; of a resource stream not past what was followed up."""
        found, floor = await self.positions_by_time.newest_before(name, registered_before)
        if found is None:
            return False
        last = int(found["seq"])
        if name.startswith(_RESOURCE):
            last = min(last, bounds_of(document).checkpoint)
        return last >= floor and await self.cursors.raise_floor(name, last + 1, time.time())

    async def _delete(self, name: str, document: Document) -> int:
        """Delete what is below the floor, once its time has come; how many rows that readers saw."""
        floor, first = int(document["floor"]), int(document.get("deleted", 1))
        if floor <= first or time.time() - document.get("raisedAt", 0) < self.gap_seconds:
            return 0
        head = await self.heads.fresh(name)
        removed = 0
        while first < floor:
            segment = segment_of(first, self.segment_size)
            until = min(floor, first_of(segment + 1, self.segment_size))
            some = await self.queries.range(name, segment, first, until, _AT_ONCE)
            if not some:
                first = until
                continue
            await self._remove([each for each in some if each["seq"] < head.position])
            await self._keep([each for each in some if each["seq"] == head.position])
            removed += sum(not each.get("kept") for each in some)
            first = int(some[-1]["seq"]) + 1
        await self.cursors.note_deleted(name, min(floor, head.position))
        return removed

    async def _remove(self, documents: Sequence[Document]) -> None:
        """Delete documents of one segment, all at once, or one by one when some are gone already."""
        if not documents:
            return
        operations: list[tuple[Any, ...]] = [("delete", (each["id"],)) for each in documents]
        try:
            await self.database.batch("expire", STREAMS, operations, str(documents[0]["partition"]))
        except FAILURES:
            for each in documents:
                await self.database.delete("expire", STREAMS, each["id"], each["partition"])

    async def _keep(self, documents: Sequence[Document]) -> None:
        """Leave of a stream's newest document its place, so that no position is given twice."""
        for each in documents:
            if not each.get("kept"):
                with failures_as_unavailable():
                    await self.database.replace("expire", STREAMS, placeholder(each))
