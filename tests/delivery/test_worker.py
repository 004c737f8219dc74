"""Workers: every permitted event arrives, whatever fails on the way, and its delivery shows what happened."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from events_core.access.identity import caller_of_consumer
from events_core.common.clock import SECOND
from events_core.delivery.attempt import that_fit
from events_core.delivery.delivery import Lane, State
from events_core.delivery.shares import CONNECTIONS_OF_CONSUMER
from events_core.delivery.subscribe import Change
from tests.contract.event_store import event, events, ids
from tests.support.delivering import Deployment, answering, deployment_on, names
from tests.support.pdp_server import DENY, PERMIT
from tests.support.raw_server import RawServer, request_from
from tests.support.webhook_server import Received

FIRST_WAIT = 11
"""Seconds until the first retry is due, with the longest jitter."""


# -- Failing endpoints ------------------------------------------------------------------------------------------------


async def test_a_failed_delivery_is_retried_on_schedule(deployment: Deployment) -> None:
    """Under the same id, and not before it is due."""
    subscription = await deployment.subscribe()
    deployment.receiver.answer = answering(500, 200)
    await deployment.publish(event("a"))
    await deployment.deliver()
    assert await deployment.states(subscription) == ["failing"]
    deployment.clock.add(9)
    await deployment.deliver()
    assert names(deployment.receiver) == ["a"]
    deployment.clock.add(FIRST_WAIT - 9)
    await deployment.deliver()
    assert names(deployment.receiver) == ["a", "a"]
    sent = deployment.receiver.received[-2:]
    assert len({request.headers["webhook-id"] for request in sent}) == 1
    assert await deployment.states(subscription) == ["delivered"]


async def test_a_delivery_is_dead_after_the_last_retry(deployment: Deployment) -> None:
    """There is one attempt more than the schedule has waits."""
    subscription = await deployment.subscribe()
    deployment.receiver.answer = answering(500)
    await deployment.publish(event("a"))
    for _ in range(20):
        await deployment.deliver()
        deployment.clock.add(13 * 3_600)
    (delivery,) = await deployment.deliveries(subscription)
    assert (delivery.state.value, len(delivery.attempts)) == ("dead", 16)


async def test_without_retries_an_event_is_sent_once(tmp_path: Path) -> None:
    """The schedule of retries may be empty."""
    async with deployment_on("sqlite", tmp_path, webhook_retry_seconds=()) as deployment:
        subscription = await deployment.subscribe()
        deployment.receiver.answer = answering(500)
        await deployment.publish(event("a"))
        await deployment.deliver()
        assert names(deployment.receiver) == ["a"]
        assert await deployment.states(subscription) == ["dead"]


async def test_a_failed_delivery_delays_no_other_delivery(deployment: Deployment) -> None:
    """Later events about the same subject overtake it."""
    await deployment.subscribe()
    deployment.receiver.answer = answering(500, 200)
    await deployment.publish(event("a"), event("b"), event("c"))
    await deployment.deliver()
    assert names(deployment.receiver) == ["a", "b", "c"]
    deployment.clock.add(FIRST_WAIT)
    await deployment.deliver()
    assert names(deployment.receiver) == ["a", "b", "c", "a"]


async def test_an_endpoint_may_ask_for_a_longer_wait(deployment: Deployment) -> None:
    """By `Retry-After`, in seconds."""
    subscription = await deployment.subscribe()
    deployment.receiver.answer = lambda _: web.Response(status=503, headers={"Retry-After": "600"})
    await deployment.publish(event("a"))
    await deployment.deliver()
    (delivery,) = await deployment.deliveries(subscription)
    assert delivery.next_attempt is not None
    assert delivery.next_attempt - deployment.clock() > 590 * SECOND


@pytest.mark.parametrize("value", [f"Mon, 01 Jan 2024 00:00:00 +{'9' * 40}", "9" * 5_000])
async def test_a_malformed_answer_counts_as_an_attempt(deployment: Deployment, value: str) -> None:
    """Otherwise the endpoint would be called for ever."""
    subscription = await deployment.subscribe()
    deployment.receiver.answer = lambda _: web.Response(status=500, headers={"Retry-After": value})
    await deployment.publish(event("a"))
    await deployment.deliver()
    (delivery,) = await deployment.deliveries(subscription)
    assert (delivery.tries, delivery.state.value) == (1, "failing")


async def test_410_disables_the_subscription(deployment: Deployment) -> None:
    """Nothing is sent until the endpoint is validated again; then everything is."""
    subscription = await deployment.subscribe()
    deployment.receiver.answer = answering(410, 200)
    await deployment.publish(event("a", subject="/party/1"), event("b", subject="/party/1"))
    await deployment.deliver()
    assert names(deployment.receiver) == ["a"]
    assert (await deployment.stored(subscription.id)).disabled
    await deployment.publish(event("c"))
    deployment.clock.add(3_700)
    await deployment.deliver()
    assert names(deployment.receiver) == ["a"]
    again = await deployment.subscribe()
    assert (again.id, again.disabled) == (subscription.id, False)
    deployment.clock.add(FIRST_WAIT)
    await deployment.deliver()
    assert sorted(names(deployment.receiver)) == ["a", "a", "b", "c"]


async def test_a_410_whose_body_is_cut_off_disables_the_subscription(deployment: Deployment) -> None:
    """The status has arrived, so it is the outcome. So is that of the validation before."""
    cut_off = b"HTTP/1.1 %s\r\nContent-Length: 50\r\n\r\nfive!"
    answers = iter([b"200 OK", b"200 OK", b"410 Gone"])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_from(reader)
        writer.write(cut_off % next(answers))
        await writer.drain()

    async with RawServer(answer) as server:
        subscription = await deployment.subscribe(endpoint=server.url)
        assert subscription.validation.validated
        await deployment.publish(event("a"))
        await deployment.deliver()
    assert (await deployment.stored(subscription.id)).disabled
    (delivery,) = await deployment.deliveries(subscription)
    assert [attempt.status for attempt in delivery.attempts] == [410]


async def test_a_redirect_is_a_failure(deployment: Deployment) -> None:
    """The sender does not follow it."""
    subscription = await deployment.subscribe()
    deployment.receiver.answer = lambda _: web.Response(
        status=302, headers={"Location": f"{deployment.receiver.url}/other"}
    )
    await deployment.publish(event("a"))
    await deployment.deliver()
    assert names(deployment.receiver, "/other") == []
    (delivery,) = await deployment.deliveries(subscription)
    assert [(attempt.status, attempt.error) for attempt in delivery.attempts] == [(302, "redirect")]


# -- Large events -----------------------------------------------------------------------------------------------------


async def test_large_events_are_read_few_at_a_time(deployment: Deployment) -> None:
    """However many are due, a lane holds little memory. Retries have room of their own."""
    subscription = await deployment.subscribe()
    for _ in range(4):
        await deployment.publish(*events(4, data="x" * 200_000))
    due = await deployment.deliveries(subscription)
    retries = [replace(delivery, state=State.FAILING) for delivery in due]
    assert len(that_fit([*due, *retries])) == 3 + 2
    await deployment.deliver()
    assert len(names(deployment.receiver)) == 16


# -- Deciding ---------------------------------------------------------------------------------------------------------


async def test_deliveries_wait_while_the_decision_point_is_down(deployment: Deployment) -> None:
    """No attempt is counted. When the decision point answers again, everything is sent."""
    subscription = await deployment.subscribe()
    deployment.pdp.status = 503
    await deployment.publish(*events(3))
    for _ in range(20):
        await deployment.deliver()
        deployment.clock.add(13 * 3_600)
    assert names(deployment.receiver) == []
    assert [(delivery.state.value, delivery.tries) for delivery in await deployment.deliveries(subscription)] == [
        ("pending", 0)
    ] * 3
    deployment.pdp.status = 200
    await deployment.deliver()
    assert await deployment.states(subscription) == ["delivered"] * 3


async def test_a_revoked_right_stops_retries(deployment: Deployment) -> None:
    """A decision that is five minutes old is asked for again."""
    subscription = await deployment.subscribe()
    deployment.receiver.answer = answering(500, 200)
    await deployment.publish(event("a"))
    await deployment.deliver()
    deployment.pdp.decide = lambda _: DENY
    deployment.forget_decisions()
    deployment.clock.add(301)
    await deployment.deliver()
    assert names(deployment.receiver) == ["a"]
    assert await deployment.states(subscription) == ["withheld"]


async def test_a_decision_from_the_future_is_asked_for_again(deployment: Deployment) -> None:
    """The clock was set back since, so nobody knows how old the decision is."""
    subscription = await deployment.subscribe()
    await deployment.publish(event("a"))
    deployment.clock.add(-3_600)
    deployment.forget_decisions()
    deployment.pdp.decide = lambda _: DENY
    await deployment.application.lane_worker.serve(Lane(subscription.id))
    assert names(deployment.receiver) == []
    assert await deployment.states(subscription) == ["withheld"]


async def test_each_consumer_gets_only_the_events_it_may_read(deployment: Deployment) -> None:
    """One request to the decision point decides for all consumers."""
    mine = await deployment.subscribe("/org/ttd", "/mine")
    theirs = await deployment.subscribe("/user/20012345", "/theirs", subject="/party/50002108")
    deployment.pdp.requests.clear()
    deployment.forget_decisions()
    deployment.pdp.decide = lambda asked: DENY if "urn:altinn:userid" in asked.subject else PERMIT
    await deployment.publish(event("a"))
    await deployment.deliver()
    assert len(deployment.pdp.requests) == 1
    assert (names(deployment.receiver, "/mine"), names(deployment.receiver, "/theirs")) == (["a"], [])
    assert (await deployment.states(mine), await deployment.states(theirs)) == (["delivered"], ["withheld"])


async def test_an_erased_event_is_not_sent(deployment: Deployment) -> None:
    """Its delivery is removed."""
    subscription = await deployment.subscribe()
    erased = event("a")
    await deployment.publish(erased, event("b"))
    await deployment.application.store.erase(erased.resource, erased.source, erased.id)
    await deployment.deliver()
    assert names(deployment.receiver) == ["b"]
    assert [delivery.event_id for delivery in await deployment.deliveries(subscription)] == ["b"]


# -- Pausing ----------------------------------------------------------------------------------------------------------


async def test_a_paused_subscription_gets_nothing(deployment: Deployment) -> None:
    """When it is resumed, it gets the events of the pause in order."""
    subscription = await deployment.subscribe()
    owner = caller_of_consumer(subscription.consumer, 3)
    await deployment.application.subscriber.change(owner, subscription.id, Change(paused=True))
    await deployment.idle()
    await deployment.publish(*(published := events(3)))
    await deployment.deliver()
    assert names(deployment.receiver) == []
    await deployment.application.subscriber.change(owner, subscription.id, Change(paused=False))
    await deployment.idle()
    assert names(deployment.receiver) == ids(published)


async def test_nothing_that_waits_for_a_connection_begins_after_a_pause(deployment: Deployment) -> None:
    """A consumer gets few connections. The other attempts look at the subscription again when it is their turn."""
    subscriptions = [await deployment.subscribe(path=f"/{name}") for name in "abcde"]
    connections = CONNECTIONS_OF_CONSUMER * 3 // 4
    gate = asyncio.Event()

    async def answer(_: Received) -> web.Response:
        await gate.wait()
        return web.Response()

    deployment.receiver.answer = answer
    await deployment.publish(*(event(f"e{number}", subject=f"/party/{number + 1}") for number in range(8)))
    delivering = asyncio.create_task(deployment.deliver())
    while len(deployment.receiver.events()) < connections:
        deployment.receiver.arrived.clear()
        await deployment.receiver.arrived.wait()
    for subscription in subscriptions:
        await deployment.application.subscriber.change(
            caller_of_consumer(subscription.consumer, 3), subscription.id, Change(paused=True)
        )
    gate.set()
    await delivering
    assert len(deployment.receiver.events()) == connections


@pytest.mark.parametrize("change", ["delete", "pause"])
async def test_a_change_in_another_process_stops_deliveries(deployment: Deployment, change: str) -> None:
    """Within two seconds, during a turn. An attempt that is in flight ends."""
    subscription = await deployment.subscribe()
    other = deployment.start().subscriber
    owner = caller_of_consumer(subscription.consumer, 3)

    async def answer(_: Received) -> web.Response:
        if len(deployment.receiver.events()) == 1:
            if change == "delete":
                await other.delete(owner, subscription.id)
            else:
                await other.change(owner, subscription.id, Change(paused=True))
            deployment.application.subscriber.cache._refreshed = -math.inf  # as two seconds later
        return web.Response()

    deployment.receiver.answer = answer
    await deployment.publish(*events(20))
    await deployment.deliver()
    assert len(names(deployment.receiver)) == 1
