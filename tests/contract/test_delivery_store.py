"""The port DeliveryStore, against every adapter: recording, leases, due times."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from events_core.common.clock import SECOND
from events_core.common.errors import EventsError, Problem
from events_core.delivery.delivery import Attempt, Breaker, Delivery, Lane, Replay, State
from events_core.delivery.ports import DeliveryFilter, DeliveryStore, Lease, ReplayQuota
from events_core.feeds.stream import Stream
from tests.support.deliveries import NOW, STORES, STREAM, Stores, delivery

LANE = Lane(1)


@pytest.fixture
def store(stores: Stores) -> DeliveryStore:
    """An empty store."""
    return stores.deliveries


def positions(some: Sequence[Delivery]) -> list[int]:
    """The positions of deliveries."""
    return [delivery.position for delivery in some]


async def leased(store: DeliveryStore, lane: Lane = LANE, now: int = NOW) -> Lease:
    """A lease of a minute."""
    lease = await store.take(lane, now, now + 60 * SECOND)
    assert lease is not None
    return lease


async def ready(store: DeliveryStore, lease: Lease, now: int = NOW) -> list[Delivery]:
    """All deliveries that are due."""
    return list(await store.ready(lease, now, 100, 100))


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
    assert not await stores.deliveries.release(lease, Breaker(), now=later)
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
    assert not await store.release(lease, Breaker(), now=NOW)
    assert list(await store.due(NOW + 9 * SECOND, 10)) == []
    assert list(await store.due(NOW + 10 * SECOND, 10)) == [LANE]
    later = NOW + 10 * SECOND
    lease = await leased(store, now=later)
    assert positions(await ready(store, lease, later - 1)) == []
    assert positions(await ready(store, lease, later)) == [2]
    await store.release(lease, Breaker(), now=later, at=NOW + 30 * SECOND)
    assert list(await store.due(NOW + 29 * SECOND, 10)) == []
    lease = await leased(store, now=NOW + 30 * SECOND)
    await store.save(replace(failed, state=State.DEAD, next_attempt=None, settled=NOW))
    assert not await store.release(lease, Breaker(), now=NOW + 30 * SECOND)
    assert list(await store.due(NOW + 999 * SECOND, 10)) == []


async def test_a_first_attempt_is_due_whatever_the_clock_says(store: DeliveryStore) -> None:
    """A clock that was set back must not let a later event overtake."""
    await store.record([delivery(1, next_attempt=NOW + 3_600 * SECOND)], NOW + 3_600 * SECOND)
    await store.record([delivery(2)], NOW)
    lease = await leased(store)
    assert positions(await ready(store, lease)) == [1, 2]


async def test_a_first_attempt_keeps_a_lane_due_whatever_the_clock_says(stores: Stores) -> None:
    """The recording process may have another clock than the worker."""
    await stores.deliveries.wake(LANE, NOW)
    lease = await leased(stores.deliveries)
    later = NOW + SECOND
    await stores.other_deliveries.record([delivery(1, next_attempt=later)], later)
    assert await stores.deliveries.release(lease, Breaker(), now=NOW)
    assert list(await stores.deliveries.due(NOW, 10)) == [LANE]


async def test_every_lane_of_a_subscription_can_be_woken(store: DeliveryStore) -> None:
    """Its replays are woken too, and its live lane even if it is empty."""
    begun = await store.begin_replay(Replay(LANE, 0, 9), NOW)
    lease = await store.take(begun.lane, NOW, NOW + SECOND)
    assert lease is not None
    await store.release(lease, Breaker(), now=NOW, at=NOW + 999 * SECOND)
    await store.record([delivery(1, Lane(2), next_attempt=NOW + 999 * SECOND)], NOW)
    assert list(await store.wake_all(1, NOW + SECOND)) == [LANE, begun.lane]
    assert set(await store.due(NOW + SECOND, 10)) >= {LANE, begun.lane}


async def test_deliveries_recorded_during_a_turn_keep_the_lane_due(stores: Stores) -> None:
    """A worker that looked too early leaves the lane due."""
    await stores.deliveries.record([delivery(1)], NOW)
    lease = await leased(stores.deliveries)
    (one,) = await ready(stores.deliveries, lease)
    await stores.deliveries.save(replace(one, state=State.DELIVERED, next_attempt=None, settled=NOW))
    assert await ready(stores.deliveries, lease) == []
    await stores.other_deliveries.record([delivery(2)], NOW)
    assert await stores.deliveries.release(lease, Breaker(), now=NOW)
    assert list(await stores.deliveries.due(NOW, 10)) == [LANE]


async def test_recording_and_giving_back_at_once_lose_nothing(stores: Stores) -> None:
    """In the end the lane is due as long as a delivery is open."""
    for n in range(1, 21):
        await stores.deliveries.wake(LANE, NOW)
        lease = await leased(stores.deliveries)
        await asyncio.gather(
            stores.other_deliveries.record([delivery(n)], NOW),
            stores.deliveries.release(lease, Breaker(), now=NOW),
        )
        assert list(await stores.deliveries.due(NOW, 10)) == [LANE]
        lease = await leased(stores.deliveries)
        (one,) = await ready(stores.deliveries, lease)
        await stores.deliveries.save(replace(one, state=State.DELIVERED, next_attempt=None, settled=NOW))
        await stores.deliveries.release(lease, Breaker(), now=NOW)
        assert list(await stores.deliveries.due(NOW, 10)) == []


async def test_a_lane_can_be_woken_without_deliveries(store: DeliveryStore) -> None:
    """The earlier of two times counts, also during a turn."""
    await store.wake(LANE, NOW + 5 * SECOND)
    await store.wake(LANE, NOW + 9 * SECOND)
    assert list(await store.due(NOW + 4 * SECOND, 10)) == []
    assert list(await store.due(NOW + 5 * SECOND, 10)) == [LANE]
    lease = await leased(store, now=NOW + 5 * SECOND)
    await store.wake(LANE, NOW + 6 * SECOND)
    assert await store.release(lease, Breaker(), now=NOW + 6 * SECOND)
    assert list(await store.due(NOW + 6 * SECOND, 10)) == [LANE]


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
    assert positions(await store.ready(lease, NOW + 100, 3, 2)) == [2, 4, 6, 1, 3]


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
    assert not await store.release(lease, Breaker(), now=NOW)
    early, late = NOW + 10 * SECOND - 1, NOW + 30 * SECOND
    assert (list(await store.due(early, 10)), list(await store.overdue(early))) == ([], [])
    assert list(await store.due(early + 1, 10)) == [LANE]
    assert [lane.since for lane in await store.overdue(late)] == [early + 1]
    lease = await leased(store, now=late)
    assert positions(await store.ready(lease, late, 9, 2)) == [2, 3]
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


async def test_a_wake_up_for_later_makes_no_lane_due_before(store: DeliveryStore) -> None:
    """Although the lane was due when its lease began; a worker would look at it again and again."""
    await store.record([delivery(1)], NOW)
    lease = await leased(store)
    (item,) = await ready(store, lease)
    await store.save(replace(item, state=State.DELIVERED, next_attempt=None, settled=NOW))
    await store.wake(LANE, NOW + 10 * SECOND)
    assert not await store.release(lease, Breaker(), now=NOW + SECOND)
    assert list(await store.due(NOW + 9 * SECOND, 10)) == []
    assert list(await store.due(NOW + 10 * SECOND, 10)) == [LANE]


async def test_deliveries_are_read_in_pages(store: DeliveryStore) -> None:
    """Pages have an order by position and replay, and may be filtered by state."""
    replayed = Lane(1, 1)
    await store.record([delivery(n) for n in range(1, 11)], NOW)
    await store.record([delivery(n, replayed) for n in (3, 8)], NOW)
    await store.record([delivery(5, Lane(2))], NOW)
    seen: list[tuple[int, int]] = []
    while page := await store.page(1, seen[-1] if seen else (0, 0), 4):
        seen += [(item.position, item.lane.replay) for item in page]
    assert seen == sorted([*((n, 0) for n in range(1, 11)), (3, 1), (8, 1)])
    lease = await leased(store)
    await store.save(replace((await ready(store, lease))[6], state=State.DEAD, next_attempt=None, settled=NOW))
    assert positions(await store.page(1, (0, 0), 10, DeliveryFilter(State.DEAD))) == [7]


@pytest.mark.parametrize("newest_first", [False, True])
async def test_pages_lose_no_replay_of_an_event(store: DeliveryStore, *, newest_first: bool) -> None:
    """A page may end among the deliveries of one event, and a later replay may have been recorded first."""
    for replay in (3, 1, 2, 0):
        await store.record([delivery(n, Lane(1, replay)) for n in (1, 2, 6)], NOW)
    wanted = DeliveryFilter(State.PENDING, newest_first=newest_first)
    seen: list[tuple[int, int]] = []
    while page := await store.page(1, seen[-1] if seen else None, 2, wanted):
        seen += [(item.position, item.lane.replay) for item in page]
    assert seen == sorted(((n, replay) for n in (1, 2, 6) for replay in range(4)), reverse=newest_first)


async def test_deliveries_are_found_by_their_event(store: DeliveryStore) -> None:
    """Only those whose event may be shown; a filter must not tell what a list hides."""
    shown: dict[str, Any] = {"event_id": "a", "source": "urn:s", "permit": True}
    hidden: dict[str, Any] = {**shown, "permit": None}
    await store.record([delivery(1, **shown), delivery(2, **hidden), delivery(3, **hidden, undecidable=1)], NOW)
    await store.record([delivery(4, **hidden, state=State.WITHHELD, next_attempt=None, settled=NOW)], NOW)
    await store.record([delivery(5, permit=True), delivery(6, **{**shown, "source": "urn:t"})], NOW)
    await store.record([delivery(7, **shown, state=State.DELIVERED, next_attempt=None, settled=NOW)], NOW)
    filters = [
        (DeliveryFilter(event_id="a"), [1, 6, 7]),
        (DeliveryFilter(event_id="a", source="urn:s"), [1, 7]),
        (DeliveryFilter(source="urn:s", newest_first=True), [7, 1]),
        (DeliveryFilter(State.DELIVERED, event_id="a"), [7]),
        (DeliveryFilter(State.WITHHELD, event_id="a"), []),
        (DeliveryFilter(event_id="\ud800"), []),
        (DeliveryFilter(newest_first=True), [7, 6, 5, 4, 3, 2, 1]),
    ]
    for wanted, expected in filters:
        assert positions(await store.page(1, None, 10, wanted)) == expected, wanted


async def test_an_events_deliveries_are_found(store: DeliveryStore) -> None:
    """They are those of every subscription and replay."""
    await store.record([delivery(3, Lane(n)) for n in (1, 2)], NOW)
    await store.record([delivery(3, Lane(1, 4)), delivery(4, Lane(1, 4))], NOW)
    await store.record([delivery(3, Lane(9), stream=Stream.of_resource("urn:other:x"))], NOW)
    assert [item.lane for item in await store.of_event(STREAM, 3)] == [Lane(1), Lane(1, 4), Lane(2)]


async def test_a_dead_delivery_can_be_revived(store: DeliveryStore) -> None:
    """It keeps its attempts and begins the schedule anew."""
    await store.record([delivery(n) for n in range(1, 7)], NOW)
    lease = await leased(store)
    for item in await ready(store, lease):
        state = State.DEAD if item.position > 2 else State.DELIVERED
        await store.save(replace(item, state=state, tries=16, next_attempt=None, settled=NOW))
    await store.release(lease, Breaker(), now=NOW)
    assert await store.revive(1, NOW + SECOND) == 4
    assert list(await store.due(NOW + SECOND, 10)) == [LANE]
    revived = await ready(store, await leased(store, now=NOW + SECOND), NOW + SECOND)
    assert sorted(positions(revived)) == [3, 4, 5, 6]
    assert {(item.state, item.tries, item.settled) for item in revived} == {(State.FAILING, 0, None)}
    assert await store.revive(1, NOW) == 0


async def test_replays_have_lanes_of_their_own(stores: Stores) -> None:
    """A new lane is due at once, and only the worker that has it stores its progress."""
    store = stores.deliveries
    await store.record([delivery(1)], NOW)
    first = await store.begin_replay(Replay(LANE, 0, 9), NOW)
    second = await stores.other_deliveries.begin_replay(Replay(LANE, 5, 9), NOW)
    assert (first.lane, second.lane) == (Lane(1, 1), Lane(1, 2))
    assert set(await store.due(NOW, 10)) == {LANE, first.lane, second.lane}
    lease = await leased(store, first.lane)
    await store.move_replay(lease, replace(first, after=4, done=True))
    assert await stores.other_deliveries.replay(first.lane) == replace(first, after=4, done=True)
    await store.move_replay(replace(lease, lane=second.lane), replace(second, after=8))
    assert await store.replay(second.lane) == second
    assert await store.replay(LANE) is None


async def test_finished_deliveries_expire_and_dead_ones_stay_with_their_event(tmp_path: Path) -> None:
    """The SQLite store removes them; Cosmos DB does it by itself."""
    async with STORES["sqlite"](tmp_path) as stores:
        store = stores.deliveries
        await store.record([delivery(n, registered=NOW + n) for n in range(1, 5)], NOW)
        one, two, three, _ = await ready(store, await leased(store))
        for item, state in ((one, State.DELIVERED), (two, State.DEAD), (three, State.WITHHELD)):
            await store.save(replace(item, state=state, next_attempt=None, settled=NOW))
        assert await store.expire(NOW + 1, NOW) == 2
        assert positions(await store.page(1, (0, 0), 10)) == [2, 4]
        assert await store.expire(NOW, NOW + 3) == 1
        assert positions(await store.page(1, (0, 0), 10)) == [4]


# -- Measuring --------------------------------------------------------------------------------------------------------


async def test_the_backlog_has_the_time_since_when_a_lane_is_due(store: DeliveryStore) -> None:
    """It covers leased lanes, and leaves out lanes that are due later."""
    await store.record([delivery(1), delivery(9)], NOW)
    await store.record([delivery(1, Lane(2))], NOW + 5)
    await store.record([delivery(1, Lane(3), next_attempt=NOW + 90 * SECOND, state=State.FAILING)], NOW)
    await _given_back(store, Lane(3))
    await leased(store)
    now = NOW + 60 * SECOND
    found = {lane.lane: (lane.since, lane.breaker) for lane in await store.overdue(now)}
    assert {*found} == {LANE, Lane(2)}
    assert all(NOW <= since <= NOW + 5 for since, _ in found.values())


async def test_the_backlog_has_the_state_of_the_endpoint(store: DeliveryStore) -> None:
    """A lane that was put off keeps it."""
    await store.record([delivery(1)], NOW)
    breaker = Breaker(25, NOW + 60 * SECOND)
    await store.release(await leased(store), breaker, now=NOW, at=breaker.open_until)
    (found,) = await store.overdue(NOW + SECOND)
    assert (found.lane, found.since, found.breaker) == (LANE, NOW, breaker)


async def test_dead_deliveries_are_counted(store: DeliveryStore) -> None:
    """The count covers all subscriptions."""
    assert await store.dead() == 0
    dead: dict[str, Any] = {"state": State.DEAD, "next_attempt": None, "settled": NOW}
    await store.record([delivery(1, **dead), delivery(2), delivery(3, **dead)], NOW)
    await store.record([delivery(9, Lane(2), **dead)], NOW)
    assert await store.dead() == 3


async def _given_back(store: DeliveryStore, lane: Lane) -> None:
    await store.release(await leased(store, lane), Breaker(), now=NOW)


async def test_unfinished_replays_have_a_quota(stores: Stores) -> None:
    """A replay is finished when it is done, and no delivery awaits its first attempt; others do not count."""
    store, quota = stores.deliveries, ReplayQuota([1, 2], 2)
    first = await store.begin_replay(Replay(LANE, 0, 9), NOW, quota)
    await store.begin_replay(Replay(Lane(3), 0, 9), NOW, ReplayQuota([3], 2))
    await stores.other_deliveries.begin_replay(Replay(Lane(2), 0, 9), NOW, quota)
    lanes = {str(lane) for lane in await store.due(NOW, 10)}

    async def is_refused() -> bool:
        with pytest.raises(EventsError) as refused:
            await store.begin_replay(Replay(LANE, 0, 9), NOW, quota)
        return refused.value.problem is Problem.TOO_MANY_REQUESTS

    assert await is_refused()
    assert {str(lane) for lane in await store.due(NOW, 10)} == lanes
    await store.record([delivery(1, first.lane, undecidable=1), delivery(2, first.lane)], NOW)
    lease = await leased(store, first.lane)
    await store.move_replay(lease, replace(first, done=True))
    assert await is_refused()
    for item in await ready(store, lease):
        assert await is_refused()
        await store.save(replace(item, state=State.FAILING, undecidable=0, next_attempt=NOW + SECOND))
    again = await store.begin_replay(Replay(LANE, 0, 9), NOW, quota)
    assert again.lane.replay > first.lane.replay
    assert await is_refused()


async def test_simultaneous_replays_stay_within_the_quota(stores: Stores) -> None:
    """Also of several subscriptions, in two processes."""
    both, quota = [stores.deliveries, stores.other_deliveries], ReplayQuota([1, 2], 3)
    replays = [Replay(Lane(1 + n % 2), 0, 9) for n in range(8)]
    outcomes = await asyncio.gather(
        *(both[n % 2].begin_replay(replay, NOW, quota) for n, replay in enumerate(replays)), return_exceptions=True
    )
    begun = [outcome for outcome in outcomes if isinstance(outcome, Replay)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, EventsError)]
    assert len(begun) <= 3
    assert {error.problem for error in refused} == {Problem.TOO_MANY_REQUESTS}
    assert len(begun) + len(refused) == 8
