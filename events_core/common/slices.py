"""Long work in slices, so that it does not hold up the other tasks of the process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

SLICE_SECONDS = 0.01


async def in_slices(items: Iterable[T]) -> AsyncIterator[T]:
    """The items, one by one. Other tasks run whenever making and using the last items took 10 ms."""
    started = time.monotonic()
    for item in items:
        yield item
        if time.monotonic() - started > SLICE_SECONDS:
            await asyncio.sleep(0)
            started = time.monotonic()
