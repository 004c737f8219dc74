"""Turns: an attempt begins only if the lease outlasts it, and a lane rests as long as its turn says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from events_core.common.clock import SECOND
from events_core.delivery.delivery import Breaker, Lane, State
from events_core.delivery.ports import Lease, Ready
from events_core.delivery.turn import LEASE_MARGIN, Turn, lease_length
from tests.support.deliveries import NOW, STORES, Stores, delivery

LONGEST_ATTEMPT, LENGTH = 30 * SECOND, 20 * SECOND
LANE = Lane(1)


class Clock:
    """A clock that a test sets, in microseconds since the epoch."""

    now = NOW

    def __call__(self) -> int:
        """Return the time."""
        return self.now


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    """A store with one due delivery, as two processes see it."""
    async with STORES["sqlite"](tmp_path) as stores:
        await stores.deliveries.record([delivery(1)], NOW)
        yield stores


@pytest.fixture
def clock() -> Clock:
    """The clock of both workers."""
    return Clock()


async def take(stores: Stores, clock: Clock, *, other: bool = False) -> Turn | None:
    """Take a turn at the lane, in this process or the other."""
    store = stores.other_deliveries if other else stores.deliveries
    return await Turn.take(store, LANE, length=LENGTH, longest_attempt=LONGEST_ATTEMPT, clock=clock)


async def taken(stores: Stores, clock: Clock) -> Turn:
    """Take a turn at the free lane."""
    turn = await take(stores, clock)
    assert turn is not None
    return turn


async def test_one_worker_at_a_time_has_a_turn(stores: Stores, clock: Clock) -> None:
    """The other worker may take the lane when the first has released it."""
    turn = await taken(stores, clock)
    assert await take(stores, clock, other=True) is None
    await turn.release()
    assert await take(stores, clock, other=True) is not None


async def test_an_attempt_never_outlasts_the_lease(stores: Stores, clock: Clock) -> None:
    """The lease is renewed whenever an attempt that begins now could outlast it, for as long as the turn lasts."""
    turn = await taken(stores, clock)
    for seconds in range(20):
        clock.now = NOW + seconds * SECOND
        assert await turn.may_begin()
        assert turn.lease.until >= clock.now + LONGEST_ATTEMPT + LEASE_MARGIN
    clock.now = turn.lease.until - LONGEST_ATTEMPT
    turn.ends = clock.now + SECOND
    before = turn.lease.until
    assert await turn.may_begin()
    assert turn.lease.until == clock.now + lease_length(LONGEST_ATTEMPT) > before


async def test_no_attempt_begins_without_the_lease(stores: Stores, clock: Clock) -> None:
    """A worker that slept too long finds its lease lost, and its release changes nothing."""
    turn = await taken(stores, clock)
    clock.now += lease_length(LONGEST_ATTEMPT)
    turn.ends = clock.now + LENGTH
    other = await take(stores, clock, other=True)
    assert other is not None
    assert not await turn.may_begin()
    assert (turn.held, turn.is_over) == (False, True)
    assert await turn.release() is None
    assert await other.may_begin()


async def test_no_attempt_begins_after_the_turn(stores: Stores, clock: Clock) -> None:
    """Other lanes have their turn then."""
    turn = await taken(stores, clock)
    clock.now += LENGTH
    assert turn.is_over
    assert not await turn.may_begin()


async def test_no_attempt_begins_while_the_breaker_is_open(stores: Stores, clock: Clock) -> None:
    """It spares an endpoint that fails."""
    turn = await taken(stores, clock)
    turn.breaker = Breaker(Breaker.THRESHOLD, NOW + SECOND)
    assert not await turn.may_begin()
    clock.now += SECOND
    assert await turn.may_begin()


async def test_a_turn_that_knows_the_lane_reads_it_once(
    stores: Stores, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads again when something is due. The lane is due at its next attempt, whether the turn read it or not."""
    turn, read = await taken(stores, clock), stores.deliveries.ready
    reads: list[int] = []

    async def count(lease: Lease, now: int, firsts: int, retries: int) -> Ready:
        reads.append(now)
        return await read(lease, now, firsts, retries)

    monkeypatch.setattr(type(stores.deliveries), "ready", lambda _, *arguments: count(*arguments))
    (due,) = await turn.ready(8, 8)
    assert await turn.save(replace(due, state=State.FAILING, next_attempt=NOW + SECOND))
    assert list(await turn.ready(8, 8)) == []
    assert reads == [NOW]
    clock.now += SECOND
    (due,) = await turn.ready(8, 8)
    assert reads == [NOW, NOW + SECOND]
    assert await turn.save(replace(due, state=State.FAILING, next_attempt=NOW + 9 * SECOND))
    assert await turn.release() == NOW + 9 * SECOND


async def test_a_turn_reads_again_what_another_worker_has_changed(stores: Stores, clock: Clock) -> None:
    """It does not know when the next attempt is due, and the store tells when it releases the lane."""
    turn = await taken(stores, clock)
    (due,) = await turn.ready(8, 8)
    assert await stores.other_deliveries.save(replace(due, state=State.FAILING, next_attempt=NOW + SECOND))
    assert not await turn.save(replace(due, state=State.DELIVERED, next_attempt=None, settled=NOW))
    assert await turn.release() == NOW + SECOND


async def test_a_lane_rests_even_if_the_clock_steps_back(stores: Stores, clock: Clock) -> None:
    """The lane is due again when it has rested."""
    turn = await taken(stores, clock)
    turn.rest(NOW + 9 * SECOND)
    turn.rest(NOW + 5 * SECOND)
    clock.now -= 3_600 * SECOND
    assert turn.is_over
    assert await turn.release() == NOW + 9 * SECOND
    assert list(await stores.deliveries.due(NOW + 9 * SECOND - 1, 1)) == []
    assert list(await stores.deliveries.due(NOW + 9 * SECOND, 1)) == [LANE]


async def test_the_lease_of_a_dropped_lane_is_not_held(stores: Stores, clock: Clock) -> None:
    """Nobody can take the lane again."""
    turn = await taken(stores, clock)
    await turn.drop_lane()
    assert not turn.held
    assert await take(stores, clock) is None
