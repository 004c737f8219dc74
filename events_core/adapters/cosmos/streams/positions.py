"""Positions by time: a binary search over the oldest document of each segment."""

from __future__ import annotations

from events_core.adapters.cosmos.client import Document
from events_core.adapters.cosmos.streams.names import LARGEST_POSITION, segment_of
from events_core.adapters.cosmos.streams.queries import StreamQueries
from events_core.adapters.cosmos.streams.retention import Retention
from events_core.adapters.cosmos.streams.states import Bounds, StreamStates


class PositionsByTime:
    """Finds rows by their time of registration, which never decreases along a stream."""

    def __init__(self, queries: StreamQueries, states: StreamStates, retention: Retention, segment_size: int) -> None:
        self._queries = queries
        self._states = states
        self._retention = retention
        self._size = segment_size

    async def first_since(self, name: str, registered: int) -> Document | None:
        """The first visible row that was registered at a time or later.

        One request each for the bounds and the row, and one for each halving of the number of segments.
        """
        return await self._first_since(name, registered, await self._states.bounds(name))

    async def _first_since(self, name: str, registered: int, bounds: Bounds) -> Document | None:
        registered = max(self._retention.oldest(), min(registered, LARGEST_POSITION))
        segment, last = await self._last_begun(name, registered, bounds)
        while segment <= last:
            found = await self._queries.first_since(name, segment, registered)
            if found is not None:
                return found
            segment += 1
        return None

    async def newest_before(self, name: str, registered: int) -> Document | None:
        """The newest visible row that was registered before a time; as many requests."""
        registered = max(0, min(registered, LARGEST_POSITION))
        segment, last = await self._last_begun(name, registered, await self._states.bounds(name))
        found = await self._queries.newest_before(name, segment, registered) if segment <= last else None
        return found if found is not None and self._retention.shows(found) else None

    async def oldest(self, name: str) -> int:
        """The position from which a reader sees every row, 0 if there is none.

        It is the floor if nothing after the floor can have expired yet: a row that is missing there is a hole.
        """
        bounds = await self._states.bounds(name)
        if bounds.floor_set >= self._retention.oldest():
            return bounds.floor if bounds.reserved else 0
        found = await self._first_since(name, 0, bounds)
        return 0 if found is None else int(found["seq"])

    async def _last_begun(self, name: str, registered: int, bounds: Bounds) -> tuple[int, int]:
        """The last segment that begins before the time, else the first one; and the last one that may hold a row.

        The second is negative if none may.
        """
        low, high = 0, segment_of(bounds.reserved, self._size)
        last = high if bounds.reserved else -1
        while low < high:
            middle = (low + high + 1) // 2
            oldest = await self._queries.oldest(name, middle)
            # The last segment is empty before its first event, any other one only after its last one has expired.
            if middle < last if oldest is None else oldest["registered"] < registered:
                low = middle
            else:
                high = middle - 1
        return low, last
