"""How long the event loop was held: the processor time that this thread spent between two turns of a ticking task."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Ticking:
    """The longest slice so far, in seconds of processor time, so that a busy machine makes no difference."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self) -> None:
        """Tick at every turn of the event loop."""
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            self.longest = max(self.longest, time.thread_time() - before)


@asynccontextmanager
async def ticking() -> AsyncIterator[Ticking]:
    """Measure the slices of all tasks. Objects of before are not searched for garbage: a service has far fewer."""
    gc.collect()
    gc.freeze()
    ticks = Ticking()
    task = asyncio.create_task(ticks.run())
    await asyncio.sleep(0)
    try:
        yield ticks
        await asyncio.sleep(0)
    finally:
        task.cancel()
        gc.unfreeze()
