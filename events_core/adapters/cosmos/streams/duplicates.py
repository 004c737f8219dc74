"""Events that are published again after their segment was closed: a unique key holds in one logical partition only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cachetools import LRUCache

from events_core.adapters.cosmos.client import Document
from events_core.adapters.cosmos.streams.queries import StreamQueries
from events_core.common.texts import digest

HOUR = 3_600 * 1_000_000
_SEGMENTS_KEPT = 10_000


class Duplicates:
    """Looks for unique keys in closed segments: in the previous one, and in all that were closed within the hour.

    So a duplicate is recognised for an hour, and among the newest events of a whole segment, whichever is longer. The
    hour ends by this process's clock, and began by another's: a difference between them makes it longer or shorter, and
    the newest segment counts whatever the clocks say. `clock` gives microseconds since the epoch.
    """

    def __init__(self, queries: StreamQueries, clock: Callable[[], int]) -> None:
        self._queries = queries
        self._clock = clock
        self._closed_at: LRUCache[tuple[bytes, int], int] = LRUCache(_SEGMENTS_KEPT)

    async def find(self, name: str, segment: int, searched_to: int, ukeys: Sequence[str]) -> list[Document]:
        """The documents with these unique keys in the closed segments before `segment`, in one request.

        Segments before `searched_to` are left out: they were searched before.
        """
        segments = [segment - 1]
        while segments[-1] > searched_to and await self._closed_within_the_hour(name, segments[-1] - 1):
            segments.append(segments[-1] - 1)
        return await self._queries.with_ukeys(name, segments, ukeys)

    async def _closed_within_the_hour(self, name: str, segment: int) -> bool:
        """Whether a segment exists and was closed within the hour. Its newest document is read once."""
        if segment < 0:
            return False
        key = digest(name), segment
        closed_at = self._closed_at.get(key)
        if closed_at is None:
            newest = await self._queries.newest(name, segment)
            closed_at = self._closed_at[key] = int(newest["registered"]) if newest else 0
        return self._clock() - closed_at < HOUR
