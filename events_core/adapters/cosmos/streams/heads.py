"""The head of a stream is its newest document. A process remembers heads for a minute, and finds them when cold."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache

from events_core.adapters.cosmos.streams.names import segment_of
from events_core.adapters.cosmos.streams.queries import StreamQueries
from events_core.adapters.cosmos.streams.retention import Retention
from events_core.adapters.cosmos.streams.states import StreamStates
from events_core.common.texts import digest

WARM_SECONDS = 60.0
BLOCK = 1_024
"""How many positions a writer reserves at once: the head of a stream is at most so far below its bound."""
_STREAMS_KEPT = 20_000
_ASKED_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Head:
    """The newest document of a stream; position 0 if the stream has none. No reader sees a placeholder."""

    position: int = 0
    registered: int = 0
    ukey: str = ""
    is_placeholder: bool = False

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Head:
        """A document as the head."""
        return cls(document["seq"], document["registered"], document["ukey"], bool(document.get("placeholder")))


@dataclass(frozen=True, slots=True)
class _Learnt:
    head: Head
    at: float


class Heads:
    """The heads that this process knows, by stored name. They may be behind the stream, never ahead of it."""

    def __init__(
        self,
        queries: StreamQueries,
        states: StreamStates,
        retention: Retention,
        segment_size: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queries = queries
        self._states = states
        self._retention = retention
        self.block = min(BLOCK, segment_size)
        self._size = segment_size
        self._clock = clock
        self._known: LRUCache[bytes, _Learnt] = LRUCache(_STREAMS_KEPT)
        self._seen: LRUCache[bytes, int] = LRUCache(_STREAMS_KEPT)

    def learn(self, name: str, head: Head) -> None:
        """Remember a head, unless a newer one is known."""
        key = digest(name)
        known = self._known.get(key)
        if known is None or known.head.position <= head.position:
            self._known[key] = _Learnt(head, self._clock())

    def known(self, name: str) -> Head | None:
        """The newest head that this process has seen, however long ago."""
        learnt = self._known.get(digest(name))
        return None if learnt is None else learnt.head

    def see(self, name: str, position: int) -> None:
        """Remember that the stream holds a document at a position, which need not be its head."""
        key = digest(name)
        if self._seen.get(key, 0) < position:
            self._seen[key] = position

    def seen(self, name: str) -> int:
        """The greatest position at which this process has seen a document, 0 if it has seen none."""
        known = self.known(name)
        return max(self._seen.get(digest(name), 0), known.position if known else 0)

    async def find_new(self, names: Sequence[str]) -> None:
        """Learn which of the streams are new, of those that this process has not met: one request for many of them."""
        unmet = [name for name in names if self.known(name) is None]
        for at in range(0, len(unmet), _ASKED_AT_ONCE):
            asked = unmet[at : at + _ASKED_AT_ONCE]
            listed = await self._states.listed(asked)
            for name in asked:
                if name not in listed:
                    self.learn(name, Head())

    async def changed(self, positions: Mapping[str, int]) -> dict[str, int]:
        """The newest positions of the streams that have grown beyond the given ones: one request for all of them.

        Streams of which this process knows that already are not asked for. Rows that are not visible do not count.
        """
        after: dict[str, int] = {}
        found: dict[str, Head] = {}
        for name, position in positions.items():
            known = self.known(name) or Head()
            after[name] = max(position, known.position)
            if known.position > position and self.is_visible(known):
                found[name] = known
        if asked := {name: position for name, position in after.items() if name not in found}:
            for name, document in (await self._queries.newest_after(asked, self._size)).items():
                self.learn(name, head := Head.of(document))
                found[name] = head
        return {name: head.position for name, head in found.items() if self.is_visible(head)}

    async def warm(self, name: str) -> Head:
        """A head that was the newest less than a minute ago. It costs no request while the stream is in use."""
        learnt = self._known.get(digest(name))
        if learnt is not None and self._clock() - learnt.at < WARM_SECONDS:
            return learnt.head
        return await self.fresh(name)

    async def fresh(self, name: str) -> Head:
        """The current head: one request, and more if this process is cold, or if a segment is full."""
        known = self.known(name)
        head = await self._head_of(name, segment_of(known.position if known else 0, self._size))
        if head is None or not self.is_visible(head) or (known is None and self._fills_segment(head)):
            head = await self._near_bound(name) or head
        while head is not None and self._fills_segment(head):
            further = await self._head_of(name, segment_of(head.position + 1, self._size))
            if further is None:
                break
            head = further
        self._known[digest(name)] = _Learnt(head or Head(), self._clock())
        return head or Head()

    async def search(self, name: str) -> Head:
        """The current head, also where the bound of positions is far beyond it: one request for each segment below."""
        head, segment = await self.fresh(name), segment_of((await self._states.bounds(name)).reserved, self._size)
        while head.position == 0 and segment >= 0:
            head, segment = await self._head_of(name, segment) or head, segment - 1
        self.learn(name, head)
        return head

    def is_visible(self, head: Head) -> bool:
        """Whether readers see the row at the head."""
        return head.position > 0 and not head.is_placeholder and head.registered >= self._retention.oldest()

    def _fills_segment(self, head: Head) -> bool:
        return head.position % self._size == 0

    async def _near_bound(self, name: str) -> Head | None:
        """The newest document that is at most a block below the bound of positions."""
        reserved = (await self._states.bounds(name)).reserved
        if reserved == 0:
            return None
        last, first = segment_of(reserved, self._size), segment_of(max(1, reserved - self.block), self._size)
        found = await self._head_of(name, last)
        return await self._head_of(name, first) if found is None and first < last else found

    async def _head_of(self, name: str, segment: int) -> Head | None:
        found = await self._queries.newest(name, segment)
        return None if found is None else Head.of(found)
