"""Waiting readers of a process."""

from __future__ import annotations

import asyncio

from events_core.feeds.wait import WaitingReaders


async def until_readers_wait(readers: WaitingReaders, count: int) -> None:
    """Return once so many readers wait for a change."""
    async with asyncio.timeout(20):
        while sum(watch.waiting for watch in readers._watches.values()) < count:  # noqa: ASYNC110 - nothing says so
            await asyncio.sleep(0.01)
