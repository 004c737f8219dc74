"""Positions by time: a binary search over the oldest document of each segment."""

from __future__ import annotations

from events_core.adapters.cosmos.client import Document
from events_core.adapters.cosmos.streams.heads import Heads
from events_core.adapters.cosmos.streams.names import LARGEST_POSITION, segment_of
from events_core.adapters.cosmos.streams.queries import StreamQueries
from events_core.adapters.cosmos.streams.states import StreamStates


class PositionsByTime:
    """Finds rows by their time of registration, which never decreases along a stream."""

    def __init__(self, queries: StreamQueries, states: StreamStates, heads: Heads, segment_size: int) -> None:
        self._queries = queries
        self._states = states
        self._heads = heads
        self._size = segment_size

    async def newest_before(self, name: str, registered: int) -> tuple[Document | None, int]:
        """The newest row that readers may see and that was registered before a time, and the stream's floor.

        One request for the bounds, one for each halving of the number of segments, and one for the row.
        """
        registered = max(0, min(registered, LARGEST_POSITION))
        bounds = await self._states.bounds(name)
        known = self._heads.known(name)
        low = segment_of(bounds.floor, self._size)
        high = segment_of(max(bounds.checkpoint, known.position if known else 0), self._size)
        segment = await self._last_begun(name, low, high, registered)
        found = await self._queries.newest_before(name, segment, registered)
        if segment >= high and found is not None and found["seq"] % self._size == 0:
            further = await self._last_begun_after(name, segment, registered)
            if further > segment:
                found = await self._queries.newest_before(name, further, registered)
        return (found if found is not None and found["seq"] >= bounds.floor else None), bounds.floor

    async def _last_begun(self, name: str, low: int, high: int, registered: int) -> int:
        """The last segment up to `high` that begins before the time; `low` if none does."""
        while low < high:
            middle = (low + high + 1) // 2
            if await self._begins_before(name, middle, registered):
                low = middle
            else:
                high = middle - 1
        return low

    async def _last_begun_after(self, name: str, segment: int, registered: int) -> int:
        """The last segment that begins before the time, from a full segment on, if the stream's head is unknown."""
        step = 1
        while await self._begins_before(name, segment + step, registered):
            segment, step = segment + step, step * 2
        return await self._last_begun(name, segment, segment + step - 1, registered)

    async def _begins_before(self, name: str, segment: int, registered: int) -> bool:
        oldest = await self._queries.oldest(name, segment)
        return oldest is not None and oldest["registered"] < registered
