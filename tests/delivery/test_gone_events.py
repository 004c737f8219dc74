"""Deliveries of events whose retention is over end as dead, with a line in the log."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from events_core.delivery.delivery import Lane
from events_core.delivery.subscribe import Change
from tests.contract.event_store import event, events, ids
from tests.support.delivering import TTD, Deployment, names
from tests.support.webhook_server import Received

PARTY = "/party/1"
"""All events are about one subject, so they are attempted one after the other."""


class Gone:
    """An event store without some events, whose retention is over."""

    def __init__(self, store: Any, gone: set[str]) -> None:
        self._store, self._gone = store, gone

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def at(self, *values: Any) -> Any:
        """Return the rows that are not gone."""
        return [row for row in await self._store.at(*values) if row.id not in self._gone]


def forget(deployment: Deployment, gone: list[str]) -> None:
    """Let the retention of events end."""
    worker = deployment.application.lane_worker
    attempts = replace(worker.attempts, store=Gone(worker.attempts.store, set(gone)))
    deployment.application = replace(deployment.application, lane_worker=replace(worker, attempts=attempts))


async def test_the_delivery_of_an_event_that_is_gone_is_dead(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, and it counts among the dead ones. Later events are sent."""
    subscription = await deployment.subscribe()
    await deployment.publish(*(published := events(3, subject=PARTY)))
    forget(deployment, ids(published[:2]))
    await deployment.deliver()
    assert await deployment.states(subscription) == ["dead", "dead", "delivered"]
    assert names(deployment.receiver) == ids(published[2:])
    assert await deployment.application.deliveries.dead() == 2
    lines = [record.getMessage() for record in caplog.records if "delivery dead" in record.getMessage()]
    assert len(lines) == 2
    assert f"subscriptionId={subscription.id} consumer={TTD} endPoint={deployment.receiver.url} status=none" in lines[0]


async def test_deliveries_of_a_paused_subscription_die_with_their_events(deployment: Deployment) -> None:
    """Its lane is looked at every hour, and nothing is sent."""
    subscription = await deployment.subscribe()
    caller = deployment.caller(TTD)
    await deployment.application.subscriber.change(caller, subscription.id, Change(paused=True))
    await deployment.idle()
    await deployment.publish(*(published := events(12, subject=PARTY)))
    await deployment.deliver()
    assert await deployment.states(subscription) == ["pending"] * 12
    forget(deployment, ids(published[:10]))
    deployment.clock.add(3_601)
    await deployment.deliver()
    assert await deployment.states(subscription) == ["dead"] * 10 + ["pending"] * 2
    assert names(deployment.receiver) == []


async def test_an_event_that_goes_just_before_it_is_sent_is_dead(deployment: Deployment) -> None:
    """The event is read again when its attempt comes late."""
    subscription = await deployment.subscribe()
    one, two = events(2, subject=PARTY)

    def answer(_: Received) -> web.Response:
        deployment.clock.add(2.5)
        gone.add(two.id)
        return web.Response()

    gone: set[str] = set()
    deployment.receiver.answer = answer
    await deployment.publish(one, two)
    worker = deployment.application.lane_worker
    attempts = replace(worker.attempts, store=Gone(worker.attempts.store, gone))
    await replace(worker, attempts=attempts).serve(Lane(subscription.id))
    assert await deployment.states(subscription) == ["delivered", "dead"]


async def test_a_dead_delivery_that_nobody_decided_shows_no_event(deployment: Deployment) -> None:
    """The consumer may be one who may not read it."""
    subscription = await deployment.subscribe()
    deployment.pdp.status = 503
    await deployment.publish(hidden := event("hidden", subject=PARTY))
    await deployment.deliver()
    forget(deployment, [hidden.id])
    deployment.clock.add(12)
    await deployment.deliver()
    (dead,) = await deployment.deliveries(subscription)
    assert (dead.state.value, dead.is_shown) == ("dead", False)
