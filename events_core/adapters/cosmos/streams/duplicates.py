"""Events that come again after their segment was closed: unique keys end with a logical partition."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from cachetools import LRUCache

from events_core.adapters.cosmos.streams.documents import Document
from events_core.adapters.cosmos.streams.queries import StreamQueries

HOUR = 3_600 * 1_000_000
ASKED_ENOUGH = 20
_SEGMENTS_KNOWN = 64
_SEGMENTS_KEPT = 20_000
_KEY_DIGITS = 16


class Duplicates:
    """Asks closed segments for keys: the previous one, and all that were closed within the hour.

    So an event is recognised for an hour and among the newest of a whole segment, whichever is longer. A closed
    segment never changes but for what is erased, which keeps its key: one that was closed more than an hour ago and
    is asked time and again is learnt by heart, 8 bytes a key. `clock` gives microseconds since the epoch.
    """

    def __init__(self, queries: StreamQueries, clock: Callable[[], int]) -> None:
        self._queries = queries
        self._clock = clock
        self._closed_at: LRUCache[tuple[str, int], int] = LRUCache(_SEGMENTS_KEPT)
        self._asked: LRUCache[tuple[str, int], int] = LRUCache(_SEGMENTS_KEPT)
        self._known: LRUCache[tuple[str, int], _Keys] = LRUCache(_SEGMENTS_KNOWN)

    async def before(self, name: str, segment: int, asked_to: int, ukeys: Sequence[str]) -> list[Document]:
        """What stands under the keys in closed segments before `segment`; those before `asked_to` were asked.

        One request, whether one segment is to be asked or many; none where the keys are known.
        """
        previous = segment - 1
        if previous > asked_to and await self._closed_lately(name, previous - 1):
            return await self._queries.standing_in(name, await self._to_ask(name, previous, asked_to), ukeys)
        keys = self._known.get((name, previous)) or await self._learnt(name, previous)
        if keys is not None and not keys.may_hold(ukeys):
            return []
        return await self._queries.standing(name, previous, ukeys)

    async def _to_ask(self, name: str, previous: int, asked_to: int) -> list[int]:
        """The segments that were closed within the hour, and the previous one; those that were asked left out."""
        segments = [previous]
        while segments[-1] > asked_to and await self._closed_lately(name, segments[-1] - 1):
            segments.append(segments[-1] - 1)
        return segments

    async def _learnt(self, name: str, segment: int) -> _Keys | None:
        """The keys of a segment, once it has been asked often enough to be worth it."""
        place = (name, segment)
        if await self._closed_lately(name, segment):
            return None
        self._asked[place] = self._asked.get(place, 0) + 1
        if self._asked[place] < ASKED_ENOUGH:
            return None
        keys = self._known[place] = _Keys(await self._queries.ukeys(name, segment))
        return keys

    async def _closed_lately(self, name: str, segment: int) -> bool:
        """Whether a segment was closed within the hour; its last document is asked for once."""
        if segment < 0:
            return False
        closed_at = self._closed_at.get((name, segment))
        if closed_at is None:
            last = await self._queries.newest(name, segment)
            closed_at = self._closed_at[name, segment] = int(last["registered"]) if last else 0
        return self._clock() - closed_at < HOUR


class _Keys:
    """The beginnings of a segment's unique keys, sorted."""

    def __init__(self, ukeys: Iterable[str]) -> None:
        self._beginnings = array("Q", sorted(map(_beginning, ukeys)))

    def may_hold(self, ukeys: Iterable[str]) -> bool:
        """False when none of the keys is among them."""
        return any(self._holds(_beginning(ukey)) for ukey in ukeys)

    def _holds(self, beginning: int) -> bool:
        at = bisect_left(self._beginnings, beginning)
        return at < len(self._beginnings) and self._beginnings[at] == beginning


def _beginning(ukey: str) -> int:
    return int(ukey[:_KEY_DIGITS], 16)
