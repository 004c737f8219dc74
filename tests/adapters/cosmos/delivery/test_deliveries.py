"""Deliveries on Cosmos DB: recording takes several requests, and a worker may look between any two."""

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
    """The deliveries of an empty database."""
    async with on_cosmos(tmp_path) as stores:
        assert isinstance(stores.deliveries, CosmosDeliveries)
        yield stores.deliveries


async def serve(store: CosmosDeliveries) -> list[int]:
    """Deliver what is due, as a worker does; return the positions."""
    lease = await store.take(LANE, NOW, NOW + 60 * SECOND) if LANE in await store.due(NOW, 10) else None
    if lease is None:
        return []
    ready = await store.ready(lease, NOW, 100, 100)
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
