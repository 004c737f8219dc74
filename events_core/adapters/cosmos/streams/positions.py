"""Positions by time: a binary search over the oldest document of each segment."""

from __future__ import annotations

from dataclasses import dataclass

from events_core.adapters.cosmos.client import Document
from events_core.adapters.cosmos.streams.heads import Heads
from events_core.adapters.cosmos.streams.names import LARGEST_POSITION, segment_of
from events_core.adapters.cosmos.streams.queries import StreamQueries
from events_core.adapters.cosmos.streams.retention import Retention


@dataclass(frozen=True, slots=True)
class Since:
    """The rows registered since a time: the position of the first one, and the row `before` it if it is visible."""

    first: int
    before: Document | None = None


class PositionsByTime:
    """Finds rows by their time of registration, which never decreases along a stream."""

    def __init__(self, queries: StreamQueries, heads: Heads, retention: Retention, segment_size: int) -> None:
        self._queries = queries
        self._heads = heads
        self._retention = retention
        self._size = segment_size

    async def since(self, name: str, registered: int) -> Since | None:
        """The visible rows that were registered at a time or later; None if the stream has no visible row.

        One request each for the head and the row, and one for each halving of the number of segments.
        """
        oldest = self._retention.oldest()
        registered = max(oldest, min(registered, LARGEST_POSITION))
        head = await self._heads.fresh(name)
        if not self._heads.is_visible(head):
            return None
        segment = await self._last_begun(name, segment_of(head.position, self._size), registered)
        before = await self._queries.newest_before(name, segment, registered)
        if before is not None:
            return Since(before["seq"] + 1, before if before["registered"] >= oldest else None)
        for candidate in (segment, segment + 1):  # of the first one, all that was registered before may have expired
            first = await self._queries.oldest(name, candidate)
            if first is not None:
                return Since(first["seq"])
        return None

    async def oldest(self, name: str) -> int:
        """The position of the oldest visible row, 0 if there is none."""
        since = await self.since(name, 0)
        return 0 if since is None else since.first

    async def _last_begun(self, name: str, high: int, registered: int) -> int:
        """The last segment up to `high`, that of the head, which begins before the time; 0 if none does."""
        low = 0
        while low < high:
            middle = (low + high + 1) // 2
            oldest = await self._queries.oldest(name, middle)
            if oldest is None or oldest["registered"] < registered:  # below the head a segment is empty once it expired
                low = middle
            else:
                high = middle - 1
        return low
