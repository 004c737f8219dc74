"""Where a moment lies in a stream: a binary search over the oldest document of each segment."""

from __future__ import annotations

from events_core.adapters.cosmos.streams.cursors import CursorDocuments
from events_core.adapters.cosmos.streams.documents import Document
from events_core.adapters.cosmos.streams.heads import Heads
from events_core.adapters.cosmos.streams.names import LARGEST_POSITION, segment_of
from events_core.adapters.cosmos.streams.queries import StreamQueries


class PositionsByTime:
    """Finds positions by registration, which never decreases along a stream."""

    def __init__(self, queries: StreamQueries, cursors: CursorDocuments, heads: Heads, segment_size: int) -> None:
        self._queries = queries
        self._cursors = cursors
        self._heads = heads
        self._size = segment_size

    async def newest_before(self, name: str, moment: int) -> tuple[Document | None, int]:
        """The newest row that readers may see and that was registered before a moment, microseconds since the epoch.

        And the stream's floor, which was asked along.

        One request for the bounds, one for each halving of the segments, and one for the row.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        moment = max(0, min(moment, LARGEST_POSITION))
        bounds = await self._cursors.bounds(name)
        known = self._heads.known(name)
        low = segment_of(bounds.floor, self._size)
        high = segment_of(max(bounds.checkpoint, known.position if known else 0), self._size)
        segment = await self._last_begun(name, low, high, moment)
        found = await self._queries.newest_before(name, segment, moment)
        if segment >= high and found is not None and found["seq"] % self._size == 0:
            further = await self._stride(name, segment, moment)
            if further > segment:
                found = await self._queries.newest_before(name, further, moment)
        return (found if found is not None and found["seq"] >= bounds.floor else None), bounds.floor

    async def _last_begun(self, name: str, low: int, high: int, moment: int) -> int:
        """The last segment up to `high` that begins before the moment; `low` when none does."""
        while low < high:
            middle = (low + high + 1) // 2
            if await self._begins_before(name, middle, moment):
                low = middle
            else:
                high = middle - 1
        return low

    async def _stride(self, name: str, segment: int, moment: int) -> int:
        """The last segment that begins before the moment, from a full one on whose head nobody knows."""
        step = 1
        while await self._begins_before(name, segment + step, moment):
            segment, step = segment + step, step * 2
        return await self._last_begun(name, segment, segment + step - 1, moment)

    async def _begins_before(self, name: str, segment: int, moment: int) -> bool:
        oldest = await self._queries.oldest(name, segment)
        return oldest is not None and oldest["registered"] < moment
