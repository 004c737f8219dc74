"""Fair slots: no owner holds more than its share, and those who wait are served in rounds."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from hypothesis import given
from hypothesis import strategies as st

from events_core.common.fair_slots import FairSlots

SOON = 5.0
"""Seconds that no test waits in full."""


async def waiting(slots: FairSlots, owner: str, order: list[str], gate: asyncio.Event) -> None:
    """Take a slot, note the owner, and hold the slot until the gate opens."""
    async with slots.slot(owner, SOON) as held:
        assert held
        order.append(owner)
        await gate.wait()


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_owner_holds_no_more_than_its_share() -> None:
    """Though slots are free."""
    slots = FairSlots(10, each=2)
    async with AsyncExitStack() as stack:
        held = [await stack.enter_async_context(slots.slot("/org/a", 0)) for _ in range(3)]
        assert held == [True, True, False]
        assert await stack.enter_async_context(slots.slot("/org/b", 0))
    async with slots.slot("/org/a", 0) as again:
        assert again


async def test_owners_are_served_in_rounds() -> None:
    """One that waits a hundred times goes before another once a round."""
    slots, gate = FairSlots(1, each=1), asyncio.Event()
    order: list[str] = []
    tasks = []
    for owner in ["a", "a", "a", "a", "b", "c"]:
        tasks.append(asyncio.create_task(waiting(slots, owner, order, gate)))
        await settled()
    gate.set()
    await asyncio.gather(*tasks)
    assert order == ["a", "a", "b", "c", "a", "a"]


async def test_a_wait_ends() -> None:
    """Who waited leaves nothing behind."""
    slots = FairSlots(1, each=1)
    async with slots.slot("/org/a", 0), slots.slot("/org/b", 0.01) as held:
        assert not held
    assert (slots._waiting, dict(slots._held), slots._free) == ({}, {}, 1)


async def test_a_cancelled_wait_keeps_no_slot() -> None:
    """Not even one that was granted in the same moment."""
    slots, gate = FairSlots(1, each=1), asyncio.Event()
    order: list[str] = []
    first = asyncio.create_task(waiting(slots, "a", order, gate))
    await settled()
    second = asyncio.create_task(waiting(slots, "b", order, gate))
    await settled()
    waiter = slots._waiting["b"][0]
    gate.set()
    waiter.add_done_callback(lambda _: second.cancel())
    await asyncio.gather(first, second, return_exceptions=True)
    async with slots.slot("c", 0) as held:
        assert held
    assert (dict(slots._held), slots._free) == ({}, 1)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=30), st.integers(1, 5), st.integers(1, 3)
)
async def test_shares_hold_whatever_comes_and_goes(steps: list[tuple[str, int]], total: int, each: int) -> None:
    """No slot is free while somebody waits who may hold one, and none is lost."""
    slots = FairSlots(total, each)
    running: list[asyncio.Task[None]] = []
    order: list[str] = []
    gates: list[asyncio.Event] = []
    for owner, action in steps:
        if action < 2:
            gates.append(asyncio.Event())
            running.append(asyncio.create_task(waiting(slots, owner, order, gates[-1])))
        elif running and action == 2:
            gates[0 if len(order) % 2 else -1].set()
        elif running:
            running[len(order) % len(running)].cancel()
        await settled()
        assert sum(slots._held.values()) + slots._free == total
        assert all(count <= each for count in slots._held.values())
        assert not slots._free or all(slots._held[waiter] >= each for waiter in slots._waiting)
    for gate in gates:
        gate.set()
    await asyncio.gather(*running, return_exceptions=True)
    assert (slots._waiting, dict(slots._held), slots._free) == ({}, {}, total)
