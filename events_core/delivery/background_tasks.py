"""Tasks of this process that no caller waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class BackgroundTasks:
    """Runs coroutines in the background. `running` holds the tasks, so that none is garbage-collected."""

    running: set[asyncio.Task[Any]] = field(default_factory=set)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the background. It handles its own errors."""
        task = asyncio.create_task(coroutine)
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def close(self) -> None:
        """Cancel the tasks and wait for their end."""
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)
