"""Slots that are shared out fairly: each owner holds few of them, and those who wait are served in rounds."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class FairSlots:
    """`total` slots, of which one owner holds at most `each`. Owners that wait get the free ones in rounds.

    Within one owner, whoever asked first is served first.
    """

    def __init__(self, total: int, each: int) -> None:
        self._free = total
        self._each = each
        self._held: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}  # owners in the order of their turns

    @asynccontextmanager
    async def slot(self, owner: Hashable, within: float) -> AsyncIterator[bool]:
        """Hold a slot within the block; False if the owner gets none within so many seconds."""
        held = await self._take(owner, within)
        try:
            yield held
        finally:
            if held:
                self._give_back(owner)

    async def _take(self, owner: Hashable, within: float) -> bool:
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(granted)
        self._hand_out()
        try:
            if not granted.done() and within > 0:
                await asyncio.wait([granted], timeout=within)
        except asyncio.CancelledError:
            if granted.done():
                self._give_back(owner)
            raise
        finally:
            if not granted.done():
                self._stop_waiting(owner, granted)
        return granted.done()

    def _give_back(self, owner: Hashable) -> None:
        self._free += 1
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        self._hand_out()

    def _hand_out(self) -> None:
        """Give each owner in turn one of the free slots, until none is free or nobody who waits may hold more."""
        owners = deque(self._waiting)
        while owners and self._free:
            owner = owners.popleft()
            if self._held[owner] < self._each:
                granted = self._waiting[owner][0]
                self._free -= 1
                self._held[owner] += 1
                self._stop_waiting(owner, granted)
                granted.set_result(None)
                if owner in self._waiting:
                    self._waiting[owner] = self._waiting.pop(owner)  # to the end of the round
                    owners.append(owner)

    def _stop_waiting(self, owner: Hashable, granted: asyncio.Future[None]) -> None:
        self._waiting[owner].remove(granted)
        if not self._waiting[owner]:
            del self._waiting[owner]
