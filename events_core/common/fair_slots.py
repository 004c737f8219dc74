"""Slots that are shared out fairly: each owner holds few of them, and those who wait are served in rounds."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

Bound = tuple[Hashable, int]
"""A name, and how many slots may be held under it at once."""
_ALL = object()


class FairSlots:
    """`total` slots, of which one owner holds at most `each`. Owners that wait get the free ones in rounds.

    Within one owner, those that wait under the same bounds are served in their order, and different bounds in rounds.
    """

    def __init__(self, total: int, each: int) -> None:
        self._total: Bound = (_ALL, total)
        self._each = each
        self._held: Counter[Hashable] = Counter()
        self._waiting: dict[str, dict[tuple[Bound, ...], deque[asyncio.Future[None]]]] = {}

    @asynccontextmanager
    async def slot(self, owner: str, within: float | None, *bounds: Bound) -> AsyncIterator[bool]:
        """Hold a slot within the block; False if none is free within so many seconds. None: wait without end."""
        held = await self.take(owner, within, *bounds)
        try:
            yield held
        finally:
            if held:
                self.give_back(owner, *bounds)

    async def take(self, owner: str, within: float | None, *bounds: Bound) -> bool:
        """Take a slot until `give_back` with the same bounds; False if none is free within so many seconds."""
        every = self._every(owner, bounds)
        return self._may_hold(every) or await self._wait(owner, within, every)

    def give_back(self, owner: str, *bounds: Bound) -> None:
        """Give back a slot that was taken under these bounds."""
        self._give_back(self._every(owner, bounds))

    def waiting(self, owner: str) -> int:
        """How many slots an owner waits for."""
        return sum(map(len, self._waiting.get(owner, {}).values()))

    def _every(self, owner: str, bounds: tuple[Bound, ...]) -> tuple[Bound, ...]:
        return self._total, (("owner", owner), self._each), *bounds

    def _may_hold(self, bounds: tuple[Bound, ...]) -> bool:
        """Take a slot if every bound allows it. Nobody who waits could take it, or would have got it already."""
        if any(self._held[name] >= most for name, most in bounds):
            return False
        for name, _ in bounds:
            self._held[name] += 1
        return True

    async def _wait(self, owner: str, within: float | None, bounds: tuple[Bound, ...]) -> bool:
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if within is None or within > 0:
            self._waiting.setdefault(owner, {}).setdefault(bounds, deque()).append(granted)
            try:
                await asyncio.wait([granted], timeout=within)
            except asyncio.CancelledError:
                if granted.done():
                    self._give_back(bounds)
                raise
            finally:
                if not granted.done():
                    self._stop_waiting(owner, bounds, granted)
        return granted.done()

    def _give_back(self, bounds: tuple[Bound, ...]) -> None:
        for name, _ in bounds:
            self._held[name] -= 1
            if not self._held[name]:
                del self._held[name]
        owners = deque(self._waiting)
        while owners and self._held[_ALL] < self._total[1]:
            owner = owners.popleft()
            if self._serve(owner) and owner in self._waiting:
                self._waiting[owner] = self._waiting.pop(owner)  # to the end of the round
                owners.append(owner)

    def _serve(self, owner: str) -> bool:
        """Give a slot to the first of an owner whose bounds allow it. Return whether there is one."""
        for bounds, queue in self._waiting[owner].items():
            if self._may_hold(bounds):
                granted = queue[0]
                self._stop_waiting(owner, bounds, granted)
                granted.set_result(None)
                return True
        return False

    def _stop_waiting(self, owner: str, bounds: tuple[Bound, ...], granted: asyncio.Future[None]) -> None:
        queue = self._waiting[owner].pop(bounds)
        queue.remove(granted)
        if queue:
            self._waiting[owner][bounds] = queue  # to the end of the owner's own round
        elif not self._waiting[owner]:
            del self._waiting[owner]
