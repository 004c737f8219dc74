"""The newest document of each stream: remembered for a minute, found from what `cursors` knows when cold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache

from events_core.adapters.cosmos.streams.cursors import CursorDocuments
from events_core.adapters.cosmos.streams.names import segment_of
from events_core.adapters.cosmos.streams.queries import StreamQueries

WARM_SECONDS = 60.0
_STREAMS_KEPT = 20_000
_ASKED_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Head:
    """The newest document of a stream; position 0 when there is none. `kept`: readers do not see it."""

    position: int = 0
    registered: int = 0
    ukey: str = ""
    kept: bool = False

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Head:
        """A document as the head."""
        return cls(document["seq"], document["registered"], document["ukey"], bool(document.get("kept")))


@dataclass(frozen=True, slots=True)
class _Learnt:
    head: Head
    at: float


class Heads:
    """What this process knows of the heads of streams, by stored name; only ever behind, never ahead."""

    def __init__(
        self,
        queries: StreamQueries,
        cursors: CursorDocuments,
        segment_size: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queries = queries
        self._cursors = cursors
        self._size = segment_size
        self._clock = clock
        self._known: LRUCache[str, _Learnt] = LRUCache(_STREAMS_KEPT)
        self._seen: LRUCache[str, int] = LRUCache(_STREAMS_KEPT)

    def learn(self, name: str, head: Head) -> None:
        """Remember a head that was seen, unless a newer one is known."""
        known = self._known.get(name)
        if known is None or known.head.position <= head.position:
            self._known[name] = _Learnt(head, self._clock())

    def known(self, name: str) -> Head | None:
        """The newest head that this process ever saw, however long ago."""
        learnt = self._known.get(name)
        return None if learnt is None else learnt.head

    def see(self, name: str, position: int) -> None:
        """Remember that a document stands at a position, whatever comes after it."""
        if self._seen.get(name, 0) < position:
            self._seen[name] = position

    def seen(self, name: str) -> int:
        """The greatest position at which this process ever saw a document, 0 when it saw none."""
        known = self.known(name)
        return max(self._seen.get(name, 0), known.position if known else 0)

    async def find_new(self, names: Sequence[str]) -> None:
        """Learn which of the streams that this process has never met hold nothing yet: two requests for all of them.

        Such a stream has neither a first document, nor a document in `cursors` as one has that retention has reached.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        unmet = [name for name in names if self.known(name) is None]
        for at in range(0, len(unmet), _ASKED_AT_ONCE):
            some = unmet[at : at + _ASKED_AT_ONCE]
            begun, listed = await asyncio.gather(self._queries.begun(some), self._cursors.listed(some))
            for name in some:
                if name not in begun and name not in listed:
                    self.learn(name, Head())

    async def warm(self, name: str) -> Head:
        """A head that was the newest less than a minute ago; costs nothing while the stream is in use."""
        learnt = self._known.get(name)
        if learnt is not None and self._clock() - learnt.at < WARM_SECONDS:
            return learnt.head
        return await self.fresh(name)

    async def fresh(self, name: str) -> Head:
        """The head now: one request, more when cold or when a segment is full.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        known = self.known(name)
        segment = segment_of(known.position if known else 0, self._size)
        head = await self._in(name, segment)
        if head is None or (known is None and self._is_last(head)):
            bounds = await self._cursors.bounds(name)
            for standing in (bounds.standing, bounds.floor, bounds.floor - 1):
                further = segment_of(standing, self._size)
                found = await self._in(name, further) if further != segment else None
                if found is not None:
                    segment, head = further, found
                    break  # else the checkpoint is one of before a restore
        if head is not None and self._is_last(head):
            head = await self._beyond(name, segment, head)
        self._known[name] = _Learnt(head or Head(), self._clock())
        return head or Head()

    async def _beyond(self, name: str, low: int, head: Head) -> Head:
        """The head, when segment `low` is full and `head` its last: strides that double, then halve."""
        step, above = 1, await self._in(name, low + 1)
        while above is not None and self._is_last(above):
            head, low, step = above, low + step, step * 2
            above = await self._in(name, low + step)
        return above if above is not None else await self._between(name, head, low, low + step)

    async def _between(self, name: str, head: Head, low: int, high: int) -> Head:
        """The head, when segment `low` is full, `head` its last, and segment `high` does not exist."""
        while high - low > 1:
            middle = (low + high) // 2
            found = await self._in(name, middle)
            if found is None:
                high = middle
            elif self._is_last(found):
                low, head = middle, found
            else:
                return found
        return head

    async def _in(self, name: str, segment: int) -> Head | None:
        found = await self._queries.newest(name, segment)
        return None if found is None else Head.of(found)

    def _is_last(self, head: Head) -> bool:
        return head.position % self._size == 0
