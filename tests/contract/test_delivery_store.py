"""The port DeliveryStore, against every adapter: recording, leases, due times."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from events_core.common.clock import SECOND
from events_core.delivery.delivery import Attempt, Breaker, Delivery, Lane, Replay, State
from events_core.delivery.ports import DeliveryFilter, DeliveryStore
from tests.support.deliveries import LANE, NOW, STREAM, Stores, delivery, leased, positions, ready


@pytest.fixture
def store(stores: Stores) -> DeliveryStore:
    """An empty store."""
    return stores.deliveries


async def test_a_recorded_delivery_is_due_and_unchanged(store: DeliveryStore) -> None:
    """Its lane is due too; deliveries come in the order of positions."""
    some = [delivery(n, permit=True, decided=5, unsure=n == 2) for n in range(1, 11)]
    await store.record(some, NOW)
    assert list(await store.due(NOW, 10)) == [LANE]
    found = await ready(store, await leased(store))
    assert [replace(delivery, version="") for delivery in found] == some


async def test_recording_again_changes_nothing(stores: Stores) -> None:
    """Attempts made meanwhile stay, and new deliveries are added."""
    await stores.deliveries.record([delivery(1)], NOW)
    lease = await leased(stores.deliveries)
    (one,) = await ready(stores.deliveries, lease)
    done = replace(one, state=State.DELIVERED, next_attempt=None, settled=NOW)
    assert await stores.deliveries.save(done) is not None
    await stores.other_deliveries.record([delivery(1), delivery(2)], NOW)
    assert positions(await ready(stores.other_deliveries, lease)) == [2]
    assert [delivery.state for delivery in await stores.deliveries.page(1, (0, 0), 10)] == [
        State.DELIVERED,
        State.PENDING,
    ]


async def test_a_delivery_keeps_the_id_that_was_stored_first(stores: Stores) -> None:
    """Also if two processes record it at the same time; what is sent, listed and traced has this id."""
    both = [stores.deliveries, stores.other_deliveries]
    await asyncio.gather(*(both[n % 2].record([delivery(1), delivery(2)], NOW) for n in range(8)))
    sent = await ready(stores.deliveries, await leased(stores.deliveries))
    await stores.other_deliveries.record([delivery(1), delivery(2)], NOW)
    ids = [item.id for item in sent]
    assert [item.id for item in await stores.other_deliveries.page(1, None, 10)] == ids
    assert [item.id for n in (1, 2) for item in await stores.deliveries.of_event(STREAM, n)] == ids
    saved = await stores.deliveries.save(replace(sent[0], state=State.DEAD, next_attempt=None, settled=NOW))
    assert saved is not None
    assert await stores.deliveries.revive(1, NOW) == 1
    assert [item.id for item in await stores.deliveries.page(1, None, 10)] == ids


async def test_a_lane_has_one_lease(stores: Stores) -> None:
    """A leased lane is not due; once the lease has ended another worker may take it."""
    await stores.deliveries.record([delivery(1)], NOW)
    lease = await leased(stores.deliveries)
    assert await stores.other_deliveries.take(LANE, NOW + SECOND, NOW + 99 * SECOND) is None
    assert list(await stores.other_deliveries.due(NOW + SECOND, 10)) == []
    later = NOW + 60 * SECOND
    assert list(await stores.other_deliveries.due(later, 10)) == [LANE]
    taken = await stores.other_deliveries.take(LANE, later, later + SECOND)
    assert taken is not None
    assert await stores.deliveries.renew(lease, later + 99 * SECOND) is None
    assert await stores.deliveries.release(lease, Breaker(), now=later) is None
    assert await stores.deliveries.take(LANE, later, later + 9 * SECOND) is None


async def test_one_of_many_workers_gets_the_lease(stores: Stores) -> None:
    """Eight workers in two processes ask at the same time."""
    await stores.deliveries.record([delivery(1)], NOW)
    both = [stores.deliveries, stores.other_deliveries]
    taken = await asyncio.gather(*(both[n % 2].take(LANE, NOW, NOW + 60 * SECOND + n) for n in range(8)))
    assert sum(lease is not None for lease in taken) == 1


async def test_a_lease_can_be_renewed(store: DeliveryStore) -> None:
    """More deliveries may be recorded meanwhile."""
    await store.record([delivery(1)], NOW)
    lease = await leased(store)
    await store.record([delivery(2)], NOW)
    renewed = await store.renew(lease, NOW + 120 * SECOND)
    assert renewed is not None
    assert await store.take(LANE, NOW + 100 * SECOND, NOW + 200 * SECOND) is None


async def test_a_lane_is_due_with_its_next_attempt(store: DeliveryStore) -> None:
    """An empty lane is never due."""
    await store.record([delivery(1), delivery(2)], NOW)
    lease = await leased(store)
    one, two = await ready(store, lease)
    await store.save(replace(one, state=State.DELIVERED, next_attempt=None, settled=NOW))
    failed = await store.save(replace(two, state=State.FAILING, next_attempt=NOW + 10 * SECOND))
    assert failed is not None
    assert await store.release(lease, Breaker(), now=NOW) == NOW + 10 * SECOND
    assert list(await store.due(NOW + 9 * SECOND, 10)) == []
    assert list(await store.due(NOW + 10 * SECOND, 10)) == [LANE]
    later = NOW + 10 * SECOND
    lease = await leased(store, now=later)
    assert positions(await ready(store, lease, later - 1)) == []
    assert positions(await ready(store, lease, later)) == [2]
    assert await store.release(lease, Breaker(), now=later, at=NOW + 30 * SECOND) == NOW + 30 * SECOND
    assert list(await store.due(NOW + 29 * SECOND, 10)) == []
    lease = await leased(store, now=NOW + 30 * SECOND)
    await store.save(replace(failed, state=State.DEAD, next_attempt=None, settled=NOW))
    assert await store.release(lease, Breaker(), now=NOW + 30 * SECOND) is None
    assert list(await store.due(NOW + 999 * SECOND, 10)) == []


async def test_a_first_attempt_is_due_whatever_the_clock_says(store: DeliveryStore) -> None:
    """A clock that was set back must not let a later event overtake."""
    await store.record([delivery(1, next_attempt=NOW + 3_600 * SECOND)], NOW + 3_600 * SECOND)
    await store.record([delivery(2)], NOW)
    lease = await leased(store)
    assert positions(await ready(store, lease)) == [1, 2]


async def test_a_first_attempt_keeps_a_lane_due_whatever_the_clock_says(stores: Stores) -> None:
    """The recording process may have another clock than the worker."""
    await stores.deliveries.wake(LANE)
    lease = await leased(stores.deliveries)
    later = NOW + SECOND
    await stores.other_deliveries.record([delivery(1, next_attempt=later)], later)
    assert await stores.deliveries.release(lease, Breaker(), now=NOW) == NOW
    assert list(await stores.deliveries.due(NOW, 10)) == [LANE]


async def test_every_lane_of_a_subscription_can_be_woken(store: DeliveryStore) -> None:
    """Its unfinished replays are woken too, and its live lane even if it is empty; finished replays are not."""
    begun = await store.begin_replay(Replay(LANE, 0, 9), NOW)
    for replay in [await store.begin_replay(Replay(LANE, 0, 9), NOW) for _ in range(3)]:
        lease = await store.move_replay(await leased(store, replay.lane), replace(replay, done=True))
        assert lease is not None
        assert await store.release(lease, Breaker(), now=NOW) is None
    await store.release(await leased(store, begun.lane), Breaker(), now=NOW, latest=NOW, at=NOW + 999 * SECOND)
    await store.record([delivery(1, Lane(2), next_attempt=NOW + 999 * SECOND)], NOW)
    assert list(await store.wake_all(1)) == [LANE, begun.lane]
    assert set(await store.due(NOW, 10)) == {LANE, begun.lane, Lane(2)}


async def test_deliveries_recorded_during_a_turn_keep_the_lane_due(stores: Stores) -> None:
    """A worker that looked too early leaves the lane due."""
    await stores.deliveries.record([delivery(1)], NOW)
    lease = await leased(stores.deliveries)
    (one,) = await ready(stores.deliveries, lease)
    await stores.deliveries.save(replace(one, state=State.DELIVERED, next_attempt=None, settled=NOW))
    assert await ready(stores.deliveries, lease) == []
    await stores.other_deliveries.record([delivery(2)], NOW)
    assert await stores.deliveries.release(lease, Breaker(), now=NOW) == NOW
    assert list(await stores.deliveries.due(NOW, 10)) == [LANE]


@pytest.mark.parametrize("to_come", [None, ()])
async def test_recording_and_giving_back_at_once_lose_nothing(
    stores: Stores, to_come: Sequence[Delivery] | None
) -> None:
    """In the end the lane is due as long as a delivery is open, also if the worker knows of none."""
    for n in range(1, 21):
        await stores.deliveries.wake(LANE)
        lease = await leased(stores.deliveries)
        await asyncio.gather(
            stores.other_deliveries.record([delivery(n)], NOW),
            stores.deliveries.release(lease, Breaker(), now=NOW, to_come=to_come),
        )
        assert list(await stores.deliveries.due(NOW, 10)) == [LANE]
        lease = await leased(stores.deliveries)
        (one,) = await ready(stores.deliveries, lease)
        await stores.deliveries.save(replace(one, state=State.DELIVERED, next_attempt=None, settled=NOW))
        await stores.deliveries.release(lease, Breaker(), now=NOW)
        assert list(await stores.deliveries.due(NOW, 10)) == []


async def test_a_lane_can_be_woken_without_deliveries(store: DeliveryStore) -> None:
    """It is due at once, and a wake-up during a turn keeps it due."""
    await store.wake(LANE)
    assert list(await store.due(NOW, 10)) == [LANE]
    lease = await leased(store)
    await store.wake(LANE)
    assert await store.release(lease, Breaker(), now=NOW) == NOW
    assert list(await store.due(NOW, 10)) == [LANE]
    assert await store.release(await leased(store), Breaker(), now=NOW) is None
    assert list(await store.due(NOW + 999 * SECOND, 10)) == []


async def test_a_lane_is_due_at_the_latest_time_of_its_release(store: DeliveryStore) -> None:
    """A validation or a replay may be due although no delivery is; a rest counts more."""
    await store.record([delivery(1, state=State.FAILING, next_attempt=NOW + 20 * SECOND)], NOW)
    for latest, at, due in ((10, None, 10), (30, None, 20), (10, 40, 40), (None, None, 20)):
        bounds: dict[str, Any] = {"latest": latest and NOW + latest * SECOND, "at": at and NOW + at * SECOND}
        lease = await leased(store, now=NOW + 100 * SECOND)
        assert await store.release(lease, Breaker(), now=NOW, **bounds) == NOW + due * SECOND
        assert list(await store.due(NOW + due * SECOND - 1, 10)) == []
        assert list(await store.due(NOW + due * SECOND, 10)) == [LANE]


async def test_the_breaker_stays_with_the_lane(store: DeliveryStore) -> None:
    """The next worker knows the state of the endpoint."""
    await store.record([delivery(1)], NOW)
    await store.release(await leased(store), Breaker(21, NOW + 7), now=NOW)
    assert (await leased(store)).breaker == Breaker(21, NOW + 7)


async def test_a_dropped_lane_is_gone(store: DeliveryStore) -> None:
    """Finished deliveries can still be found by their event."""
    await store.record([delivery(1)], NOW)
    await store.drop(await leased(store))
    assert list(await store.due(NOW + 999 * SECOND, 10)) == []
    assert await store.take(LANE, NOW, NOW + 1) is None
    assert positions(await store.of_event(STREAM, 1)) == [1]


async def test_first_attempts_come_by_position_and_retries_by_their_time(store: DeliveryStore) -> None:
    """Both are limited, and cross segments."""
    await store.record([delivery(n) for n in range(1, 13)], NOW)
    lease = await leased(store)
    for item in await ready(store, lease):
        if item.position % 2:
            await store.save(replace(item, state=State.FAILING, next_attempt=NOW + item.position))
    assert positions((await store.ready(lease, NOW + 100, 3, 2)).deliveries) == [2, 4, 6, 1, 3]


async def test_a_read_tells_whether_it_is_of_the_whole_lane(store: DeliveryStore) -> None:
    """Then the rest are the deliveries that wait for their time."""
    later: dict[str, Any] = {"state": State.FAILING, "next_attempt": NOW + 9 * SECOND}
    await store.record([delivery(1), delivery(2, **later), delivery(3)], NOW)
    lease = await leased(store)
    for most, rest in ((3, [2]), (1, None)):
        read = await store.ready(lease, NOW, most, most)
        assert positions(read.deliveries) == [1, 3][:most]
        assert read.rest is None if rest is None else positions(read.rest or ()) == rest


async def test_a_worker_that_knows_the_lane_tells_when_it_is_due(stores: Stores) -> None:
    """Unless somebody has made the lane due meanwhile, in the same segment of the stream or another one."""
    store = stores.deliveries
    retry = delivery(1, state=State.FAILING, next_attempt=NOW + 9 * SECOND)
    await store.record([retry], NOW)
    assert await store.release(await leased(store), Breaker(3), now=NOW, to_come=[retry]) == NOW + 9 * SECOND
    assert list(await store.due(NOW + 9 * SECOND - 1, 10)) == []
    later = NOW + 9 * SECOND
    for position in (2, 5):
        lease = await leased(store, now=later)
        assert lease.breaker == Breaker(3)
        assert positions((await store.ready(lease, later, 9, 9)).rest or ()) == []
        await stores.other_deliveries.record([delivery(position)], NOW)
        due = await store.release(lease, Breaker(3), now=later, to_come=[])
        assert due is not None
        assert due <= later
        lease = await leased(store, now=later)
        assert position in positions(await ready(store, lease, later))
        for item in await ready(store, lease, later):
            await store.save(replace(item, state=State.DELIVERED, next_attempt=None, settled=NOW))
        assert await store.release(lease, Breaker(3), now=later, to_come=[]) is None
        await store.wake(LANE)


async def test_a_backlog_starves_no_retry(store: DeliveryStore) -> None:
    """Retries are read beside any number of first attempts."""
    await store.record([delivery(n, Lane(1)) for n in range(1, 4)], NOW)
    lease = await leased(store)
    for item in await ready(store, lease):
        await store.save(replace(item, state=State.FAILING, next_attempt=NOW + item.position))
    await store.release(lease, Breaker(), now=NOW)
    await store.record([delivery(n) for n in range(4, 304)], NOW)
    lease = await leased(store, now=NOW + 5)
    read = await store.ready(lease, NOW + 5, 8, 2)
    assert (positions(read.deliveries), read.rest) == ([*range(4, 12), 1, 2], None)


@pytest.mark.parametrize("hours", [-1, 1])
async def test_the_clock_of_a_recorder_puts_nothing_off(stores: Stores, hours: int) -> None:
    """A delivery is due at once, whatever the clock of its process says, and so is its lane while it was due later."""
    recorded = NOW + hours * 3_600 * SECOND
    await stores.deliveries.record([delivery(1, state=State.FAILING, next_attempt=NOW + 9 * SECOND)], NOW)
    await stores.deliveries.release(await leased(stores.deliveries), Breaker(), now=NOW)
    await stores.other_deliveries.record([delivery(2, next_attempt=recorded, recorded=recorded)], recorded)
    assert list(await stores.deliveries.due(NOW, 10)) == [LANE]
    assert [lane.since <= NOW for lane in await stores.deliveries.overdue(NOW)] == [True]
    lease = await leased(stores.deliveries)
    assert positions((await stores.deliveries.ready(lease, NOW, 9, 9)).deliveries) == [2]
    due = await stores.deliveries.release(lease, Breaker(), now=NOW)
    assert due is not None
    assert due <= NOW
    assert list(await stores.deliveries.due(NOW, 10)) == [LANE]


async def test_an_undecidable_delivery_is_a_retry(store: DeliveryStore) -> None:
    """It is ready and its lane due at its time, beside failing deliveries; until then it is not overdue."""
    await store.record([delivery(n) for n in range(1, 7)], NOW)
    lease = await leased(store)
    for item, after in zip(await ready(store, lease), (30, 10, 20), strict=False):
        failed: dict[str, Any] = {"state": State.FAILING} if item.position == 3 else {"undecidable": item.position}
        assert await store.save(replace(item, next_attempt=NOW + after * SECOND, **failed)) is not None
    firsts = await ready(store, lease)
    assert positions(firsts) == [4, 5, 6]
    for item in firsts:
        await store.save(replace(item, state=State.DELIVERED, next_attempt=None, settled=NOW))
    assert await store.release(lease, Breaker(), now=NOW) == NOW + 10 * SECOND
    early, late = NOW + 10 * SECOND - 1, NOW + 30 * SECOND
    assert (list(await store.due(early, 10)), list(await store.overdue(early))) == ([], [])
    assert list(await store.due(early + 1, 10)) == [LANE]
    assert [lane.since for lane in await store.overdue(late)] == [early + 1]
    lease = await leased(store, now=late)
    assert positions((await store.ready(lease, late, 9, 2)).deliveries) == [2, 3]
    assert [item.undecidable for item in await ready(store, lease, late)] == [2, 0, 1]


async def test_an_undecidable_delivery_is_pending_or_failing(store: DeliveryStore) -> None:
    """Pages show it in its state, among the others by position."""
    await store.record([delivery(n) for n in range(1, 8)], NOW)
    for item in await ready(store, await leased(store)):
        state = State.FAILING if item.position % 3 == 0 else State.PENDING
        assert await store.save(replace(item, state=state, undecidable=item.position % 2)) is not None
    assert positions(await store.page(1, (0, 0), 3, DeliveryFilter(State.PENDING))) == [1, 2, 4]
    assert positions(await store.page(1, (4, 0), 3, DeliveryFilter(State.PENDING))) == [5, 7]
    assert positions(await store.page(1, (0, 0), 3, DeliveryFilter(State.FAILING))) == [3, 6]


async def test_a_decided_delivery_is_undecidable_no_more(store: DeliveryStore) -> None:
    """It comes by position again."""
    await store.record([delivery(1), delivery(2)], NOW)
    lease = await leased(store)
    one, _ = await ready(store, lease)
    saved = await store.save(replace(one, undecidable=1, next_attempt=NOW + SECOND))
    assert saved is not None
    assert await store.save(replace(saved, undecidable=0)) is not None
    assert positions(await ready(store, lease)) == [1, 2]


async def test_a_save_needs_the_version_that_was_read(store: DeliveryStore) -> None:
    """A worker that lost its lease cannot record an attempt."""
    await store.record([delivery(1)], NOW)
    (one,) = await ready(store, await leased(store))
    attempt = Attempt(NOW, 500, "refused", 3)
    first = await store.save(replace(one, attempts=(attempt,), tries=1, state=State.FAILING, next_attempt=NOW + 1))
    assert first is not None
    assert await store.save(replace(one, state=State.DELIVERED, next_attempt=None, settled=NOW)) is None
    (standing,) = await store.page(1, (0, 0), 10)
    assert standing == first
    assert list(standing.attempts) == [attempt]
    await store.remove(standing)
    assert list(await store.page(1, (0, 0), 10)) == []
    assert await store.save(standing) is None
