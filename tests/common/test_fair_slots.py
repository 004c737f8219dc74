"""Fair slots: no owner holds more than its share, and those who wait are served in rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from contextlib import AsyncExitStack

from hypothesis import given
from hypothesis import strategies as st

from events_core.common.fair_slots import _ALL, Bound, FairSlots

SOON = 5.0
"""Seconds that no test waits in full."""


async def waiting(slots: FairSlots, owner: str, order: list[str], gate: asyncio.Event, *bounds: Bound) -> None:
    """Take a slot, note the owner, and hold the slot until the gate opens."""
    async with slots.slot(owner, SOON, *bounds) as held:
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
    assert (slots._waiting, dict(slots._held)) == ({}, {})


async def test_a_cancelled_wait_keeps_no_slot() -> None:
    """Not even one that was granted in the same moment."""
    slots, gate = FairSlots(1, each=1), asyncio.Event()
    order: list[str] = []
    first = asyncio.create_task(waiting(slots, "a", order, gate))
    await settled()
    second = asyncio.create_task(waiting(slots, "b", order, gate))
    await settled()
    ((waiter,),) = slots._waiting["b"].values()
    gate.set()
    waiter.add_done_callback(lambda _: second.cancel())
    await asyncio.gather(first, second, return_exceptions=True)
    async with slots.slot("c", 0) as held:
        assert held
    assert dict(slots._held) == {}


async def test_whoever_waits_for_a_bound_holds_nothing() -> None:
    """Others take the slots that are free meanwhile, also of the same owner."""
    slots, gate = FairSlots(3, each=3), asyncio.Event()
    order: list[str] = []
    slow = ("slow", 1)
    tasks = [asyncio.create_task(waiting(slots, "a", order, gate, slow)) for _ in range(3)]
    await settled()
    async with slots.slot("a", 0) as held, slots.slot("b", 0) as other:
        assert (held, other, order) == (True, True, ["a"])
    gate.set()
    await asyncio.gather(*tasks)
    assert (slots._waiting, dict(slots._held)) == ({}, {})


BOUNDS: list[list[Bound]] = [[], [("slow", 1)], [("x", 1)], [("slow", 1), ("x", 1)]]
STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(BOUNDS), st.integers(0, 3)), max_size=30)


@given(STEPS, st.integers(1, 5), st.integers(1, 3))
async def test_shares_hold_whatever_comes_and_goes(
    steps: list[tuple[str, list[Bound], int]], total: int, each: int
) -> None:
    """No slot is free while somebody waits who may hold one, and none is lost."""
    slots = FairSlots(total, each)
    running: list[asyncio.Task[None]] = []
    order: list[str] = []
    gates: list[asyncio.Event] = []
    for owner, bounds, action in steps:
        if action < 2:
            gates.append(asyncio.Event())
            running.append(asyncio.create_task(waiting(slots, owner, order, gates[-1], *bounds)))
        elif running and action == 2:
            gates[0 if len(order) % 2 else -1].set()
        elif running:
            running[len(order) % len(running)].cancel()
        await settled()
        limits: dict[Hashable, int] = {_ALL: total, **{("owner", name): each for name in "abc"}, "slow": 1, "x": 1}
        assert all(count <= limits[name] for name, count in slots._held.items())
        could = [bounds for groups in slots._waiting.values() for bounds in groups]
        assert all(any(slots._held[name] >= most for name, most in waits) for waits in could)
    for gate in gates:
        gate.set()
    await asyncio.gather(*running, return_exceptions=True)
    assert (slots._waiting, dict(slots._held)) == ({}, {})
