"""Work that runs once for all callers that asked before it began."""

from __future__ import annotations

import asyncio

import pytest

from events_core.common.coalesce import CoalescedRuns


class Work:
    """Work that takes until `gate` opens, and notes the state when it begins. Its first `failures` runs fail."""

    def __init__(self) -> None:
        self.state = 1
        self.seen: list[int] = []
        self.running = 0
        self.failures = 0
        self.gate = asyncio.Event()

    async def __call__(self) -> None:
        """Run once."""
        assert self.running == 0
        self.running += 1
        self.seen.append(self.state)
        try:
            await self.gate.wait()
            if self.failures:
                self.failures -= 1
                raise ValueError(self.state)
        finally:
            self.running -= 1


async def test_callers_during_a_run_share_the_next_run() -> None:
    """The next run sees the state at the time of their call. Runs never overlap."""
    runs, work = CoalescedRuns(), Work()
    first = asyncio.create_task(runs.run(work))
    await asyncio.sleep(0)
    work.state = 2
    others = [asyncio.create_task(runs.run(work)) for _ in range(3)]
    await asyncio.sleep(0)
    assert (work.seen, runs.wanted) == ([1], 4)
    work.gate.set()
    await asyncio.gather(first, *others)
    assert (work.seen, runs.wanted) == ([1, 2], 0)


async def test_callers_one_after_the_other_have_their_own_runs() -> None:
    """A run that ended before a call is too old for the call."""
    runs, work = CoalescedRuns(), Work()
    work.gate.set()
    for state in (1, 2, 3):
        work.state = state
        await runs.run(work)
    assert work.seen == [1, 2, 3]


async def test_a_failed_run_counts_for_nobody_else() -> None:
    """The caller whose run failed gets the failure, and the next caller runs the work again."""
    runs, work = CoalescedRuns(), Work()
    work.failures = 1
    first, second = (asyncio.create_task(runs.run(work)) for _ in range(2))
    await asyncio.sleep(0)
    work.gate.set()
    with pytest.raises(ValueError, match="1"):
        await first
    await second
    assert (work.seen, runs.wanted) == ([1, 1], 0)


async def test_a_cancelled_caller_does_not_stop_the_others() -> None:
    """Another caller runs the work in its place."""
    runs, work = CoalescedRuns(), Work()
    first, second = (asyncio.create_task(runs.run(work)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    work.gate.set()
    await second
    assert first.cancelled()
    assert (work.seen, runs.wanted) == ([1, 1], 0)
