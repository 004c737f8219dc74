"""Retention: raise a stream's floor, later delete what is below it in order, and never delete the newest document."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from events_core.adapters.cosmos.client import CosmosDatabase, Document
from events_core.adapters.cosmos.failures import FAILURES
from events_core.adapters.cosmos.streams.documents import placeholder
from events_core.adapters.cosmos.streams.heads import Heads
from events_core.adapters.cosmos.streams.names import first_of, segment_of
from events_core.adapters.cosmos.streams.positions import PositionsByTime
from events_core.adapters.cosmos.streams.queries import STREAMS, StreamQueries
from events_core.adapters.cosmos.streams.states import StreamStates, bounds_of, new_state

_AT_ONCE = 100
_RESOURCE = "resource:"


@dataclass(frozen=True, slots=True)
class Retention:
    """Removes the oldest events. `gap_seconds` pass between raising a floor and deleting below it.

    In the gap, readers that began before may finish. `expire` has to be called again after it.
    """

    database: CosmosDatabase
    queries: StreamQueries
    states: StreamStates
    heads: Heads
    positions_by_time: PositionsByTime
    segment_size: int
    gap_seconds: float = 3_600.0

    async def expire(self, registered_before: int) -> int:
        """Remove what was registered before a time; return how many events of resource streams were deleted now."""
        begun = await self.queries.begun_before(registered_before)  # these streams have lost nothing yet
        raised = [str(state["name"]) for state in await self.states.where("c.floor > 1")]
        removed = 0
        for name in sorted({*begun, *raised}):
            removed_here = await self._expire(name, registered_before)
            removed += removed_here if name.startswith(_RESOURCE) else 0
        return removed

    async def _expire(self, name: str, registered_before: int) -> int:
        removed = await self._delete(name, await self._state(name))
        state = await self._state(name)
        if state["floor"] - state.get("deleted", 1) > 1:
            return removed  # the gap has not passed
        if not await self._raise_floor(name, state, registered_before):
            return removed
        return removed + await self._delete(name, await self._state(name))

    async def _state(self, name: str) -> Document:
        state = await self.states.get(name)
        while state is None:
            await self.states.create(new_state(name))
            state = await self.states.get(name)
        return state

    async def _raise_floor(self, name: str, state: Document, registered_before: int) -> bool:
        """Raise the floor to the oldest row that is kept, in a resource stream at most to just after the checkpoint."""
        found, floor = await self.positions_by_time.newest_before(name, registered_before)
        if found is None:
            return False
        last = int(found["seq"])
        if name.startswith(_RESOURCE):
            last = min(last, bounds_of(state).checkpoint)
        return last >= floor and await self.states.raise_floor(name, last + 1, time.time())

    async def _delete(self, name: str, state: Document) -> int:
        """Delete what is below the floor if the gap has passed; return how many events were deleted."""
        floor, first = int(state["floor"]), int(state.get("deleted", 1))
        if floor <= first or time.time() - state.get("raisedAt", 0) < self.gap_seconds:
            return 0
        head = await self.heads.fresh(name)
        removed = 0
        while first < floor:
            segment = segment_of(first, self.segment_size)
            until = min(floor, first_of(segment + 1, self.segment_size))
            documents = await self.queries.range(name, segment, first, until, _AT_ONCE)
            if not documents:
                first = until
                continue
            await self._remove([document for document in documents if document["seq"] < head.position])
            for document in documents:
                # A placeholder keeps the newest position, so that no position is used twice.
                if document["seq"] == head.position and not document.get("placeholder"):
                    await self.database.replace("expire", STREAMS, placeholder(document))
            removed += sum(not document.get("placeholder") for document in documents)
            first = int(documents[-1]["seq"]) + 1
        await self.states.note_deleted(name, min(floor, head.position))
        return removed

    async def _remove(self, documents: Sequence[Document]) -> None:
        """Delete documents of one segment in one batch, or one by one if some are gone already."""
        if not documents:
            return
        operations: list[tuple[Any, ...]] = [("delete", (document["id"],)) for document in documents]
        try:
            await self.database.batch("expire", STREAMS, operations, str(documents[0]["partition"]))
        except FAILURES:
            for document in documents:
                await self.database.delete("expire", STREAMS, document["id"], document["partition"])
