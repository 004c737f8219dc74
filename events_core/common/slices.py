"""Long work on the event loop, in slices between which other tasks run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

SLICE_SECONDS, ROUND_SECONDS = 0.0002, 0.001
"""A slice is short, since a request of others waits for one at each of its many steps."""


class Slices:
    """The slices of one piece of work."""

    def __init__(self) -> None:
        self._ends = time.perf_counter() + SLICE_SECONDS

    async def pause(self) -> None:
        """Let other tasks run if the current slice is used up. Call it between two small steps."""
        if time.perf_counter() >= self._ends:
            await asyncio.sleep(0)
            self._ends = time.perf_counter() + SLICE_SECONDS


async def in_slices(items: Iterable[T]) -> AsyncIterator[T]:
    """The items, one by one. Making and using them is the work."""
    slices = Slices()
    for item in items:
        yield item
        await slices.pause()


class Pace:
    """Spreads the work of many tasks that become ready at once, so that others need not wait for all of them."""

    def __init__(self) -> None:
        self._ends = 0.0
        self._round_over: asyncio.Event | None = None

    async def turn(self) -> None:
        """Wait for a round of the event loop in which little time was used. Call it before a small step."""
        while self._round_over is not None and time.perf_counter() >= self._ends:
            await self._round_over.wait()
        if self._round_over is None:
            self._ends, self._round_over = time.perf_counter() + ROUND_SECONDS, asyncio.Event()
            asyncio.get_running_loop().call_soon(self._end_round)

    def _end_round(self) -> None:
        assert self._round_over is not None
        self._round_over.set()
        self._round_over = None
