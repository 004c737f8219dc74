"""Events that are published again after their segment was closed: a unique key holds in one logical partition only."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from cachetools import LRUCache

from events_core.adapters.cosmos.client import Document
from events_core.adapters.cosmos.streams.queries import StreamQueries
from events_core.common.texts import digest

HOUR = 3_600 * 1_000_000
ASKED_ENOUGH = 20
_SEGMENTS_KNOWN = 64
_SEGMENTS_KEPT = 10_000
_KEY_DIGITS = 16

_Key = tuple[bytes, int]
"""The digest of a stream's name, and a segment."""


class Duplicates:
    """Looks for unique keys in closed segments: in the previous one, and in all that were closed within the hour.

    So a duplicate is recognised for an hour, and among the newest events of a whole segment, whichever is longer.
    The unique keys of a closed segment never change. Once a segment was closed an hour ago and has been asked
    `ASKED_ENOUGH` times, this process loads its keys, 8 bytes each. `clock` gives microseconds since the epoch.
    """

    def __init__(self, queries: StreamQueries, clock: Callable[[], int]) -> None:
        self._queries = queries
        self._clock = clock
        self._closed_at: LRUCache[_Key, int] = LRUCache(_SEGMENTS_KEPT)
        self._asked: LRUCache[_Key, int] = LRUCache(_SEGMENTS_KEPT)
        self._known: LRUCache[_Key, _Keys] = LRUCache(_SEGMENTS_KNOWN)

    async def find(self, name: str, segment: int, searched_to: int, ukeys: Sequence[str]) -> list[Document]:
        """The documents with these unique keys in the closed segments before `segment`.

        Segments before `searched_to` are left out: they were searched before. One request for any number of segments;
        none if the keys are loaded.
        """
        previous = segment - 1
        segments = [previous]
        while segments[-1] > searched_to and await self._closed_within_the_hour(name, segments[-1] - 1):
            segments.append(segments[-1] - 1)
        if len(segments) > 1:
            return await self._queries.with_ukeys_in(name, segments, ukeys)
        keys = self._known.get(_key(name, previous)) or await self._load(name, previous)
        if keys is not None and not keys.may_hold(ukeys):
            return []
        return await self._queries.with_ukeys(name, previous, ukeys)

    async def _load(self, name: str, segment: int) -> _Keys | None:
        """Load the keys of a segment once it has been asked often enough."""
        if await self._closed_within_the_hour(name, segment):
            return None
        key = _key(name, segment)
        self._asked[key] = self._asked.get(key, 0) + 1
        if self._asked[key] < ASKED_ENOUGH:
            return None
        keys = self._known[key] = _Keys(await self._queries.ukeys(name, segment))
        return keys

    async def _closed_within_the_hour(self, name: str, segment: int) -> bool:
        """Whether a segment exists and was closed within the hour. Its newest document is read once."""
        if segment < 0:
            return False
        closed_at = self._closed_at.get(_key(name, segment))
        if closed_at is None:
            newest = await self._queries.newest(name, segment)
            closed_at = self._closed_at[_key(name, segment)] = int(newest["registered"]) if newest else 0
        return self._clock() - closed_at < HOUR


class _Keys:
    """The unique keys of a segment: the first 64 bits of each, sorted."""

    def __init__(self, ukeys: Iterable[str]) -> None:
        self._prefixes = array("Q", sorted(map(_prefix, ukeys)))

    def may_hold(self, ukeys: Iterable[str]) -> bool:
        """False if none of the keys is in the segment."""
        for prefix in map(_prefix, ukeys):
            at = bisect_left(self._prefixes, prefix)
            if at < len(self._prefixes) and self._prefixes[at] == prefix:
                return True
        return False


def _key(name: str, segment: int) -> _Key:
    """The key of a segment, short however long the name of its stream is."""
    return digest(name), segment


def _prefix(ukey: str) -> int:
    return int(ukey[:_KEY_DIGITS], 16)
