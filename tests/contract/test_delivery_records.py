"""The port DeliveryStore, against every adapter: pages, replays, what is kept, and what is measured."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from events_core.common.clock import SECOND
from events_core.common.errors import EventsError, Problem
from events_core.delivery.delivery import Breaker, Lane, Replay, State
from events_core.delivery.ports import DeliveryFilter, DeliveryStore, ReplayQuota
from events_core.feeds.stream import Stream
from tests.support.deliveries import LANE, NOW, STORES, STREAM, Stores, delivery, leased, positions, ready


@pytest.fixture
def store(stores: Stores) -> DeliveryStore:
    """An empty store."""
    return stores.deliveries


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


async def test_a_delivery_is_found_by_its_id(store: DeliveryStore) -> None:
    """Also one whose event is hidden, but only among those of its subscription."""
    hidden: dict[str, Any] = {"state": State.WITHHELD, "next_attempt": None, "settled": NOW}
    await store.record([one := delivery(1), two := delivery(2, **hidden)], NOW)
    await store.record([replayed := delivery(1, Lane(1, 1)), other := delivery(1, Lane(2))], NOW)
    for wanted, found in ((one, [one]), (two, [two]), (replayed, [replayed]), (other, [])):
        page = await store.page(1, None, 10, DeliveryFilter(id=wanted.id))
        assert [replace(item, version="") for item in page] == found


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
    assert lease.replay == first
    moved = await store.move_replay(lease, halfway := replace(first, after=4))
    assert moved is not None
    assert moved.replay == halfway
    assert await store.move_replay(replace(lease, lane=second.lane), replace(second, after=8)) is None
    await store.release(moved, Breaker(), now=NOW, latest=NOW)
    assert (await leased(stores.other_deliveries, first.lane)).replay == halfway
    assert (await leased(store, second.lane)).replay == second
    assert (await leased(store)).replay is None


async def test_a_live_lane_can_have_a_replay(store: DeliveryStore) -> None:
    """Deliveries of events beyond it wait until it is done, retries too. It counts for no quota."""
    later: dict[str, Any] = {"state": State.FAILING, "next_attempt": NOW}
    await store.record([delivery(9), delivery(8, **later), delivery(6), delivery(2, **later)], NOW)
    lease = await leased(store)
    begun = await store.move_replay(lease, replay := Replay(LANE, 0, 8))
    assert begun is not None
    assert await ready(store, begun) == []
    await store.record([delivery(n) for n in range(3, 6)], NOW)
    halfway = await store.move_replay(begun, replace(replay, after=6))
    assert halfway is not None
    assert positions(await ready(store, halfway)) == [3, 4, 5, 6, 2]
    assert (await store.ready(halfway, NOW, 99, 99)).rest is None
    assert await store.release(halfway, Breaker(), now=NOW) == NOW
    lease = await leased(store)
    assert lease.is_replaying
    await store.begin_replay(Replay(LANE, 0, 9), NOW, ReplayQuota([1], 1))
    done = await store.move_replay(lease, replace(replay, after=8, done=True))
    assert done is not None
    assert positions(await ready(store, done)) == [3, 4, 5, 6, 9, 2, 8]


async def test_deliveries_of_replays_are_listed_and_revived(store: DeliveryStore) -> None:
    """Also those of events from before the subscription's own deliveries."""
    begun = await store.begin_replay(Replay(LANE, 0, 9), NOW)
    lease = await leased(store, begun.lane)
    await store.record([delivery(6, begun.lane), delivery(2, begun.lane)], NOW)
    lease = await store.move_replay(lease, replace(begun, after=9, done=True)) or lease
    listed = await store.page(1, None, 9)
    assert [(item.position, item.lane) for item in listed] == [(2, begun.lane), (6, begun.lane)]
    assert positions(await store.page(1, None, 1, DeliveryFilter(id=listed[1].id))) == [6]
    await store.save(replace(listed[0], state=State.DEAD, next_attempt=None, settled=NOW))
    assert await store.revive(1, NOW) == 1
    assert {*positions(await ready(store, lease))} == {2, 6}


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
    lease = await store.move_replay(await leased(store, first.lane), replace(first, done=True))
    assert lease is not None
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
