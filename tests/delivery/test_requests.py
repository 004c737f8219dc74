"""Requests to Cosmos DB: how many a delivery, a wake-up and a beginning cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from events_core.common.clock import SECOND
from events_core.delivery.delivery import Lane
from events_core.delivery.subscribe import Change
from events_core.delivery.subscription import Subscription
from events_core.feeds.stream import Stream
from tests.contract.event_store import APP, event
from tests.support.delivering import TTD, Deployment, deployment_on


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    """A deployment on Cosmos DB."""
    async with deployment_on("cosmos", tmp_path) as deployment:
        yield deployment


def spent(deployment: Deployment) -> Counter[str]:
    """The requests to the store so far, by operation."""
    deliveries: Any = deployment.application.deliveries
    store: Any = deployment.application.store
    units = {id(units): units for units in (deliveries.database.request_units, store.request_units)}
    total = sum((each.requests for each in units.values()), Counter[str]())
    del total["metadata"]
    return total


async def begun(deployment: Deployment) -> Subscription:
    """A subscription that has begun, in a process that has read what it keeps."""
    subscription = await deployment.subscribe()
    await deployment.publish(event("before"))
    await deployment.deliver()
    return subscription


async def test_an_event_costs_eight_requests_from_recording_to_release(deployment: Deployment) -> None:
    """The delivery, its lane, a turn, and what changed of subscriptions; following up is counted elsewhere."""
    subscription = await begun(deployment)
    fan_out = deployment.application.lane_worker.fan_out
    await deployment.application.store.append([event("a")])
    rows = (
        await deployment.application.checkpoints.read_after(Stream.of_resource(APP), subscription.start + 1, 10)
    ).rows
    targets = await fan_out.targets(rows)
    before = spent(deployment)
    for target, items in targets.items():
        await fan_out.put(target, list(items.values()))
    await deployment.application.lane_worker.serve(Lane(subscription.id))
    used = spent(deployment) - before
    assert await deployment.states(subscription) == ["delivered"] * 2
    assert used.total() <= 8, used


async def test_a_wake_up_without_deliveries_costs_three_requests(deployment: Deployment) -> None:
    """Take the lane, look at what changed of subscriptions, and release the lane."""
    subscription = await begun(deployment)
    before = spent(deployment)
    await deployment.application.lane_worker.serve(Lane(subscription.id))
    used = spent(deployment) - before
    assert used.total() <= 3, used


async def test_the_look_at_a_paused_subscription_costs_few_requests(deployment: Deployment) -> None:
    """Every hour. Its first deliveries are looked at, whose events may be gone."""
    subscription = await begun(deployment)
    caller = deployment.caller(TTD)
    await deployment.application.subscriber.change(caller, subscription.id, Change(paused=True))
    await deployment.idle()
    await deployment.publish(event("a"))
    await deployment.deliver()
    deployment.clock.add(3_601)
    before = spent(deployment)
    await deployment.application.lane_worker.serve(Lane(subscription.id))
    used = spent(deployment) - before
    assert used.total() <= 6, used
    due = await deployment.application.deliveries.due(deployment.clock() + 3_600 * SECOND, 10)
    assert list(due) == [Lane(subscription.id)]
