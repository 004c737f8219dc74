"""Work that many ask for and that is done once for all who asked before it began."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class CoalescedRuns:
    """Rounds of one piece of work, one at a time; all who ask during a round share the next."""

    def __init__(self) -> None:
        self.wanted = 0
        """How many wait for a round, or are in one."""
        self._lock = asyncio.Lock()
        self._begun = 0
        self._done = 0

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Return when a round that began after this call is done.

        Raises:
            Exception: what `work` raised.
        """
        asked = self._begun
        self.wanted += 1
        try:
            async with self._lock:
                if self._done <= asked:
                    self._begun += 1
                    await work()
                    self._done = self._begun
        finally:
            self.wanted -= 1
