"""Work that runs once for all callers that asked before it began."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class CoalescedRuns:
    """Runs a piece of work one run at a time. All callers that ask during a run share the next run."""

    def __init__(self) -> None:
        self.wanted = 0
        """How many calls of `run` have not returned yet."""
        self._lock = asyncio.Lock()
        self._begun = 0
        self._done = 0

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Return when a run that began after this call is done.

        Raises:
            Exception: The exception that `work` raised.
        """
        begun_before = self._begun
        self.wanted += 1
        try:
            async with self._lock:
                if self._done <= begun_before:
                    self._begun += 1
                    await work()
                    self._done = self._begun
        finally:
            self.wanted -= 1
