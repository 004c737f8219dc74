"""Deliveries on Cosmos DB: recording takes several requests, and a worker may look between any two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from events_core.adapters.cosmos.delivery.deliveries import CosmosDeliveries
from events_core.common import errors
from events_core.common.clock import SECOND
from events_core.common.errors import EventsError, Problem
from events_core.delivery.delivery import Breaker, Lane, Replay, State
from events_core.delivery.ports import ReplayQuota
from tests.support.deliveries import NOW, delivery, on_cosmos

LANE = Lane(1)


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


async def test_a_worker_between_two_requests_of_a_record_loses_nothing(
    store: CosmosDeliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lane becomes due in the last request, so a worker that looks earlier does not clear it too soon."""
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
    assert await store.due(NOW, 10) == []
    (lane,) = await store.due(NOW + 60 * SECOND, 10)
    lease = await store.take(lane, NOW, NOW + SECOND)
    assert lease is not None
    assert lease.replay is not None
    lease = await store.move_replay(lease, replace(lease.replay, done=True))
    assert lease is not None
    await store.release(lease, Breaker(), now=NOW)
    await store.begin_replay(Replay(LANE, 0, 9), NOW, ReplayQuota([1], 1))
