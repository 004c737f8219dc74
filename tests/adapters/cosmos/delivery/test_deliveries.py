"""Deliveries on Cosmos DB: recording takes several requests, and a worker may look between any two."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from events_core.adapters.cosmos.delivery.deliveries import DELIVERIES, CosmosDeliveries
from events_core.adapters.cosmos.streams.names import position_id
from events_core.common import errors
from events_core.common.clock import SECOND
from events_core.common.errors import EventsError, Problem
from events_core.delivery.delivery import Breaker, Replay, State
from events_core.delivery.ports import ReplayQuota
from tests.support.deliveries import LANE, NOW, delivery, leased, on_cosmos

DAY = 86_400 * SECOND


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CosmosDeliveries]:
    """The deliveries of an empty database."""
    async with on_cosmos(tmp_path) as stores:
        assert isinstance(stores.deliveries, CosmosDeliveries)
        yield stores.deliveries


async def serve(store: CosmosDeliveries) -> list[int]:
    """Deliver what is due, as a worker does; return the positions."""
    lease = await store.take(LANE, NOW, NOW + 60 * SECOND) if LANE in await store.due(NOW, 10) else None
    if lease is None:
        return []
    ready = (await store.ready(lease, NOW, 100, 100)).deliveries
    for due in ready:
        await store.save(replace(due, state=State.DELIVERED, next_attempt=None, settled=NOW))
    await store.release(lease, Breaker(), now=NOW)
    return [due.position for due in ready]


async def deliver(store: CosmosDeliveries) -> None:
    """Take the lane, deliver what is due, and release it, as a worker does that knows the lane then."""
    lease = await leased(store)
    read = await store.ready(lease, NOW, 8, 8)
    for due in read.deliveries:
        await store.save(replace(due, state=State.DELIVERED, next_attempt=None, settled=NOW))
    await store.release(lease, Breaker(), now=NOW, to_come=read.rest)


async def fail(*_: Any, **__: Any) -> bool:
    """The store does not answer."""
    raise errors.unavailable("The event store does not answer.")


async def test_a_worker_between_two_requests_of_a_record_loses_nothing(
    store: CosmosDeliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a request notes makes the lane due, so a worker that looks earlier does not clear it too soon."""
    change, served = store.database.change, list[int]()

    async def change_and_serve(*arguments: Any, **options: Any) -> bool:
        done = await change(*arguments, **options)
        served.extend(await serve(store))
        return done

    monkeypatch.setattr(store.database, "change", change_and_serve)
    await store.record([delivery(n) for n in range(1, 31)], NOW)
    monkeypatch.undo()
    served.extend(await serve(store))
    assert served == list(range(1, 31))


async def test_a_release_between_two_requests_of_a_record_loses_nothing(
    store: CosmosDeliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker knows of no delivery, and ends its lease without another look."""
    await store.wake(LANE)
    lease = await leased(store)
    change = store.database.change

    async def change_and_release(*arguments: Any, **options: Any) -> bool:
        monkeypatch.undo()
        done = await change(*arguments, **options)
        await store.release(lease, Breaker(), now=NOW, to_come=[])
        return done

    monkeypatch.setattr(store.database, "change", change_and_release)
    await store.record([delivery(n) for n in range(1, 31)], NOW)
    assert await serve(store) == list(range(1, 31))


@pytest.mark.parametrize("count", [1, 2, 9])
async def test_a_delivery_whose_lane_was_not_touched_is_due_when_it_is_recorded_again(
    store: CosmosDeliveries, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Although the consumer may not read the event any more: what is stored is open, and a worker has to look."""
    deliveries = [delivery(n) for n in range(1, count + 1)]
    monkeypatch.setattr(store.database, "change", fail)
    with pytest.raises(EventsError):
        await store.record(deliveries, NOW)
    monkeypatch.undo()
    assert list(await store.due(NOW, 10)) == []
    withheld = [replace(each, state=State.WITHHELD, next_attempt=None, settled=NOW) for each in deliveries]
    await store.record(withheld, NOW)
    assert await serve(store) == list(range(1, count + 1))


async def test_a_withheld_delivery_makes_no_lane_due(store: CosmosDeliveries) -> None:
    """It is listed all the same."""
    await store.record([delivery(1, state=State.WITHHELD, next_attempt=None, settled=NOW)], NOW)
    assert list(await store.due(NOW, 10)) == []
    assert [each.position for each in await store.page(1, None, 10)] == [1]


@pytest.mark.parametrize(
    ("registered_days_ago", "state", "days"),
    [
        (0, State.PENDING, 91),
        (40, State.FAILING, 51),
        (40, State.DEAD, 51),
        (89.99, State.PENDING, 1.01),
        (90.5, State.FAILING, 1),
        (200, State.DEAD, 1),
        (40, State.DELIVERED, 30),
        (89.99, State.WITHHELD, 30),
    ],
)
async def test_a_delivery_is_kept_as_long_as_its_event(
    store: CosmosDeliveries, registered_days_ago: float, state: State, days: float
) -> None:
    """An open or dead one, and for a day at least; a finished one for 30 days."""
    registered = NOW - int(registered_days_ago * DAY)
    now = replace(store, clock=lambda: NOW)
    await now.record([delivery(1, registered=registered, recorded=registered)], NOW)
    (stored,) = await now.page(1, None, 1)
    await now.save(replace(stored, state=state, next_attempt=NOW if state.open else None))
    document = await store.database.read("delivery", DELIVERIES, position_id(1), "1|00000000")
    assert document is not None
    assert document["ttl"] == pytest.approx(days * 86_400, abs=1)


async def requests(store: CosmosDeliveries, act: Awaitable[Any]) -> int:
    """Do something, and return how many requests that took."""
    before = store.database.request_units.requests.total()
    await act
    return store.database.request_units.requests.total() - before


async def test_one_event_to_one_subscription_takes_six_requests(store: CosmosDeliveries) -> None:
    """Two to record it, and four to take the lane, read it, save the attempt and release the lane."""
    await store.record([delivery(1)], NOW)
    await serve(store)
    assert await requests(store, store.record([delivery(2)], NOW)) == 2
    assert await requests(store, deliver(store)) == 4
    assert list(await store.due(NOW + 999 * SECOND, 10)) == []


async def test_an_empty_wake_up_takes_two_requests(store: CosmosDeliveries) -> None:
    """One takes the lane and tells that it is empty, and one releases it."""
    await store.record([delivery(1)], NOW)
    await serve(store)
    await store.wake(LANE)
    assert await requests(store, deliver(store)) == 2
    assert list(await store.due(NOW + 999 * SECOND, 10)) == []


async def test_a_wake_up_before_the_next_attempt_takes_three_requests(store: CosmosDeliveries) -> None:
    """The read tells when the lane is due."""
    await store.record([delivery(1, state=State.FAILING, next_attempt=NOW + 9 * SECOND)], NOW)
    assert await requests(store, deliver(store)) == 3
    assert list(await store.due(NOW + 9 * SECOND - 1, 10)) == []
    assert list(await store.due(NOW + 9 * SECOND, 10)) == [LANE]


async def test_waking_a_subscription_with_finished_replays_takes_two_requests(store: CosmosDeliveries) -> None:
    """One asks for the lanes with something to do, and one makes the live lane due."""
    for _ in range(20):
        begun = await store.begin_replay(Replay(LANE, 0, 9), NOW)
        lease = await store.move_replay(await leased(store, begun.lane), replace(begun, done=True))
        assert lease is not None
        await store.release(lease, Breaker(), now=NOW)
    assert await requests(store, store.wake_all(1)) == 2


async def test_a_replay_that_cannot_be_counted_holds_no_place_for_ever(
    store: CosmosDeliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lane is due a minute later, so that it is served and finished, though its caller was told of a failure."""
    query = store.database.query

    async def fail_to_count(operation: str, *arguments: Any) -> Any:
        if operation == "replays":
            raise errors.unavailable("The event store does not answer.")
        return await query(operation, *arguments)

    monkeypatch.setattr(store.database, "query", fail_to_count)
    with pytest.raises(EventsError) as failed:
        await store.begin_replay(Replay(LANE, 0, 9), NOW, ReplayQuota([1], 1))
    monkeypatch.undo()
    assert failed.value.problem is Problem.UNAVAILABLE
    assert list(await store.due(NOW, 10)) == []
    (lane,) = await store.due(NOW + 60 * SECOND, 10)
    lease = await store.take(lane, NOW, NOW + SECOND)
    assert lease is not None
    assert lease.replay is not None
    lease = await store.move_replay(lease, replace(lease.replay, done=True))
    assert lease is not None
    await store.release(lease, Breaker(), now=NOW)
    await store.begin_replay(Replay(LANE, 0, 9), NOW, ReplayQuota([1], 1))
