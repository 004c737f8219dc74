"""Pauses of an endpoint: 429 and 503 with `Retry-After` stop a consumer's deliveries to the endpoint until then."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from events_core.access.identity import caller_of_consumer
from events_core.common.clock import SECOND
from events_core.delivery.delivery import Lane
from events_core.delivery.replay import ReplayRequest
from events_core.delivery.subscription import Subscription
from tests.contract.event_store import event, events, ids
from tests.support.delivering import TTD, Deployment, answering, names
from tests.support.webhook_server import Answer, Received

SOON = 62
"""Seconds after which a pause of a minute is over."""


def busy(status: int = 429, retry_after: object = 60, times: int = 1) -> Answer:
    """An endpoint that accepts validations, and asks for a pause in its first answers to deliveries."""
    left = [web.Response] * times

    def answer(received: Received) -> web.Response:
        if b"validatesubscription" in received.body or received.method == "OPTIONS" or not left:
            return web.Response()
        left.pop()
        return web.Response(status=status, headers={"Retry-After": str(retry_after)})

    return answer


async def paused_for(deployment: Deployment, subscription: Subscription) -> float:
    """For how many seconds the endpoint of a subscription is paused from now on."""
    index = await deployment.application.subscriber.cache.fresh()
    return (index.paused_until(subscription) - deployment.clock()) / SECOND


@pytest.mark.parametrize("status", [429, 503])
async def test_an_endpoint_that_asks_for_a_pause_gets_nothing_meanwhile(deployment: Deployment, status: int) -> None:
    """Only the delivery that was answered counts an attempt. Afterwards everything is sent, in order."""
    subscription = await deployment.subscribe()
    deployment.receiver.answer = busy(status)
    published = events(5, subject="/party/1")
    await deployment.publish(*published)
    await deployment.deliver()
    assert names(deployment.receiver) == ids(published)[:1]
    assert [delivery.tries for delivery in await deployment.deliveries(subscription)] == [1, 0, 0, 0, 0]
    deployment.clock.add(50)
    await deployment.publish(event("later", subject="/party/1"))
    await deployment.deliver()
    assert names(deployment.receiver) == ids(published)[:1]
    deployment.clock.add(SOON - 50)
    await deployment.deliver()
    assert await deployment.states(subscription) == ["delivered"] * 6
    assert names(deployment.receiver)[1:] == [*ids(published)[1:], "later", ids(published)[0]]


async def test_a_paused_lane_sleeps_until_the_pause_ends(deployment: Deployment) -> None:
    """No worker looks at it before."""
    subscription = await deployment.subscribe()
    deployment.receiver.answer = busy()
    await deployment.publish(*events(2, subject="/party/1"))
    await deployment.deliver()
    now, store = deployment.clock(), deployment.application.deliveries
    assert list(await store.due(now + 58 * SECOND, 10)) == []
    assert list(await store.due(now + SOON * SECOND, 10)) == [Lane(subscription.id)]


async def test_a_pause_holds_for_every_lane_of_the_consumer_to_the_endpoint(deployment: Deployment) -> None:
    """Those of replays and of other subscriptions with the same endpoint."""
    first = await deployment.subscribe(type="app.%")
    await deployment.subscribe(subject="/party/%")
    await deployment.publish(event("a"))
    await deployment.deliver()
    deployment.receiver.received.clear()
    deployment.receiver.answer = busy()
    owner = caller_of_consumer(TTD, 3)
    await deployment.application.replays.begin(owner, first.id, ReplayRequest(start=0))
    await deployment.idle()
    assert names(deployment.receiver) == ["a"]
    later = await deployment.subscribe(type="app.instance.%")
    await deployment.publish(event("b"))
    await deployment.deliver()
    await deployment.application.replays.begin(owner, later.id, ReplayRequest(start=0))
    await deployment.idle()
    assert names(deployment.receiver) == ["a"]
    deployment.clock.add(SOON)
    await deployment.deliver()
    assert sorted(names(deployment.receiver)) == ["a", "a", "a", "b", "b", "b", "b"]


async def test_a_pause_concerns_no_other_consumer_and_no_other_endpoint(deployment: Deployment) -> None:
    """Not even the same consumer's endpoint on the same host, or the same endpoint of another consumer."""
    await deployment.subscribe()
    await deployment.subscribe(path="/other")
    await deployment.subscribe("/org/skd", path="/hook?skd")
    await deployment.subscribe("/org/skd")
    paused = deployment.receiver.url + "/hook"
    asked: list[Received] = []

    def answer(received: Received) -> web.Response:
        if received.path == "/hook" and not asked:
            asked.append(received)
            return web.Response(status=429, headers={"Retry-After": "60"})
        return web.Response()

    deployment.receiver.answer = answer
    await deployment.publish(event("a", subject="/party/1"))
    await deployment.deliver()
    await deployment.publish(event("b", subject="/party/1"))
    await deployment.deliver()
    assert names(deployment.receiver, "/other") == ["a", "b"]
    assert names(deployment.receiver, "/hook?skd") == ["a", "b"]
    assert sorted(names(deployment.receiver, "/hook")) == ["a", "a", "b"], paused


async def test_a_pause_holds_in_every_process(deployment: Deployment) -> None:
    """In one that runs already, and in one that starts meanwhile."""
    subscription, running = await deployment.subscribe(), deployment.start()
    await deployment.publish(process=running)
    await running.lane_worker.serve(Lane(subscription.id))
    deployment.receiver.answer = busy()
    await deployment.publish(event("a"))
    await deployment.deliver()
    for number, process in enumerate((running, deployment.start())):
        await deployment.publish(event(f"later{number}"), process=process)
        await process.lane_worker.serve(Lane(subscription.id))
        await deployment.deliver(process)
        assert names(deployment.receiver) == ["a"]
    deployment.clock.add(SOON)
    await deployment.deliver(running)
    assert sorted(names(deployment.receiver)) == ["a", "a", "later0", "later1"]


async def test_a_pause_outlives_the_subscription_that_was_answered(deployment: Deployment) -> None:
    """Another subscription to the endpoint stays paused."""
    answered = await deployment.subscribe(type="app.%")
    deployment.receiver.answer = busy()
    await deployment.publish(event("a"))
    await deployment.deliver()
    other = await deployment.subscribe()
    await deployment.application.subscriber.delete(caller_of_consumer(TTD, 3), answered.id)
    await deployment.publish(event("b"))
    await deployment.deliver()
    assert names(deployment.receiver) == ["a"]
    assert await paused_for(deployment, other) > 50


async def test_attempts_that_have_begun_go_on(deployment: Deployment) -> None:
    """Their answers count."""
    subscription = await deployment.subscribe()
    both, answered = asyncio.Event(), asyncio.Event()

    async def answer(received: Received) -> web.Response:
        if len(deployment.receiver.events()) == 2:
            both.set()
        await both.wait()
        if received.event["id"] == "a":
            answered.set()
            return web.Response(status=429, headers={"Retry-After": "60"})
        await answered.wait()
        return web.Response()

    deployment.receiver.answer = answer
    await deployment.publish(event("a", subject="/party/1"), event("b", subject="/party/2"))
    await deployment.deliver()
    assert await deployment.states(subscription) == ["failing", "delivered"]


@pytest.mark.parametrize(
    ("status", "retry_after"), [(429, "0"), (429, "soon"), (500, "60"), (404, "60"), (503, "-5"), (429, "")]
)
async def test_other_answers_pause_no_endpoint(deployment: Deployment, status: int, retry_after: str) -> None:
    """Neither another status, nor 429 without a time to come."""
    await deployment.subscribe()
    deployment.receiver.answer = busy(status, retry_after)
    await deployment.publish(*events(3, subject="/party/1"))
    await deployment.deliver()
    assert len(names(deployment.receiver)) == 3


async def test_a_validation_event_pauses_no_endpoint(deployment: Deployment) -> None:
    """Its next try is later, and deliveries go on."""
    subscription = await deployment.subscribe()

    def answer(received: Received) -> web.Response:
        is_validation = b"validatesubscription" in received.body
        return web.Response(status=429, headers={"Retry-After": "60"}) if is_validation else web.Response()

    deployment.receiver.answer = answer
    await deployment.subscribe()
    assert await paused_for(deployment, subscription) < 0
    await deployment.publish(event("a"))
    await deployment.deliver()
    assert names(deployment.receiver) == ["a"]


async def test_a_pause_delays_no_validation(deployment: Deployment) -> None:
    """A validation that failed during a pause is tried again at its own time."""
    subscription = await deployment.subscribe()
    deployment.receiver.answer = busy()
    await deployment.publish(event("a"))
    await deployment.deliver()
    deployment.receiver.answer = lambda _: web.Response(status=500)
    await deployment.subscribe()
    deployment.receiver.answer = answering(200)
    deployment.clock.add(12)
    await deployment.deliver()
    assert (await deployment.stored(subscription.id)).validation.status == 200
    assert names(deployment.receiver) == ["a"]


@pytest.mark.parametrize(
    ("asked", "pause", "wait"),
    [(600, 600, 600), (7_200, 3_600, 7_200), (10**8, 3_600, 86_400)],
)
async def test_a_pause_lasts_an_hour_at_most(deployment: Deployment, asked: int, pause: int, wait: int) -> None:
    """The delivery that was answered waits as long as was asked for, up to a day."""
    subscription = await deployment.subscribe()
    deployment.receiver.answer = busy(retry_after=asked, times=100)
    await deployment.publish(event("a"))
    await deployment.deliver()
    assert pause - 2 < await paused_for(deployment, subscription) <= pause + 1
    (delivery,) = await deployment.deliveries(subscription)
    assert delivery.next_attempt is not None
    assert wait - 2 < (delivery.next_attempt - deployment.clock()) / SECOND <= wait * 1.1


async def test_a_paused_endpoint_is_logged_by_its_origin_once(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    """The line names the subscription and no path."""
    subscription = await deployment.subscribe(path="/secret-path")
    deployment.receiver.answer = busy()
    await deployment.publish(event("a"))
    await deployment.deliver()
    (line,) = [record.getMessage() for record in caplog.records if "endpoint paused" in record.getMessage()]
    assert f"subscriptionId={subscription.id} consumer=/org/ttd endPoint={deployment.receiver.url} status=429" in line
    assert "secret-path" not in caplog.text


async def test_a_paused_delivery_does_not_age(deployment: Deployment) -> None:
    """The gauge of undelivered events shows only what the service itself holds up."""
    await deployment.subscribe()
    deployment.receiver.answer = busy(retry_after=600)
    await deployment.publish(*events(3, subject="/party/1"))
    await deployment.deliver()
    deployment.clock.add(500)
    assert (await deployment.application.measure.gauges()).oldest_undelivered_seconds == 0
    deployment.clock.add(200)
    assert (await deployment.application.measure.gauges()).oldest_undelivered_seconds > 0
