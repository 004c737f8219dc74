"""Deliveries on Cosmos DB, where recording takes several requests and a worker may look between any two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from events_core.adapters.cosmos.delivery.deliveries import CosmosDeliveries
from events_core.common.clock import SECOND
from events_core.delivery.delivery import Breaker, Lane, State
from tests.support.deliveries import NOW, delivery, on_cosmos

LANE = Lane(1)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CosmosDeliveries]:
    """An empty store."""
    async with on_cosmos(tmp_path) as stores:
        assert isinstance(stores.deliveries, CosmosDeliveries)
        yield stores.deliveries


async def serve(store: CosmosDeliveries) -> list[int]:
    """Deliver what is due, as a worker does; the positions."""
    lease = await store.take(LANE, NOW, NOW + 60 * SECOND) if LANE in await store.due(NOW, 10) else None
    if lease is None:
        return []
    some = await store.ready(lease, NOW, 100, 100)
    for each in some:
        await store.save(replace(each, state=State.DELIVERED, next_attempt=None, settled=NOW))
    await store.give_back(lease, Breaker(), now=NOW)
    return [each.position for each in some]


async def test_a_worker_between_two_requests_of_a_record_loses_nothing(
    store: CosmosDeliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deliveries in more segments than one request names: the lane is due once all of them can be found."""
    change, served = store.database.change, list[int]()

    async def change_and_serve(*arguments: Any) -> bool:
        done = await change(*arguments)
        served.extend(await serve(store))
        return done

    monkeypatch.setattr(store.database, "change", change_and_serve)
    await store.record([delivery(n) for n in range(1, 31)], NOW)
    monkeypatch.undo()
    served.extend(await serve(store))
    assert served == list(range(1, 31))
