"""Delivering: every permitted event arrives, whatever fails on the way, and is accounted for."""

from __future__ import annotations

import math

import pytest
from aiohttp import web

from events_core.access.identity import caller_of_consumer
from events_core.common.clock import SECOND
from tests.contract.event_store import event, events, ids
from tests.support.delivering import Place, answering, names
from tests.support.pdp_server import DENY, PERMIT
from tests.support.webhook_server import Received

FIRST_WAIT = 11
"""Seconds after which the first retry is due, its jitter included."""


# -- What fails is tried again ----------------------------------------------------------------------------------------


async def test_what_an_endpoint_refuses_is_sent_again_on_schedule(place: Place) -> None:
    """Under the same id; not a moment before it is due."""
    subscription = await place.subscribe()
    place.receiver.answer = answering(500, 200)
    await place.publish(event("a"))
    await place.deliver()
    assert await place.states(subscription) == ["failing"]
    place.clock.add(9)
    await place.deliver()
    assert names(place.receiver) == ["a"]
    place.clock.add(FIRST_WAIT - 9)
    await place.deliver()
    assert names(place.receiver) == ["a", "a"]
    sent = place.receiver.received[-2:]
    assert len({each.headers["webhook-id"] for each in sent}) == 1
    assert await place.states(subscription) == ["delivered"]


async def test_after_the_last_try_it_is_dead(place: Place) -> None:
    """As many tries as the schedule has waits, and the first one."""
    subscription = await place.subscribe()
    place.receiver.answer = answering(500)
    await place.publish(event("a"))
    for _ in range(20):
        await place.deliver()
        place.clock.add(13 * 3_600)
    (delivery,) = await place.deliveries(subscription)
    assert (delivery.state.value, len(delivery.attempts)) == ("dead", 16)


async def test_a_failure_holds_nothing_else_up(place: Place) -> None:
    """Later events of the same subject overtake the one that failed."""
    await place.subscribe()
    place.receiver.answer = answering(500, 200)
    await place.publish(event("a"), event("b"), event("c"))
    await place.deliver()
    assert names(place.receiver) == ["a", "b", "c"]
    place.clock.add(FIRST_WAIT)
    await place.deliver()
    assert names(place.receiver) == ["a", "b", "c", "a"]


async def test_the_endpoint_may_ask_for_more_time(place: Place) -> None:
    """`Retry-After`, in seconds."""
    subscription = await place.subscribe()
    place.receiver.answer = lambda _: web.Response(status=503, headers={"Retry-After": "600"})
    await place.publish(event("a"))
    await place.deliver()
    (delivery,) = await place.deliveries(subscription)
    assert delivery.next_attempt is not None
    assert delivery.next_attempt - place.clock() > 590 * SECOND


@pytest.mark.parametrize("value", [f"Mon, 01 Jan 2024 00:00:00 +{'9' * 40}", "9" * 5_000])
async def test_an_absurd_answer_is_an_attempt_like_any_other(place: Place, value: str) -> None:
    """It is counted, and the schedule goes on: an endpoint cannot have itself called for ever."""
    subscription = await place.subscribe()
    place.receiver.answer = lambda _: web.Response(status=500, headers={"Retry-After": value})
    await place.publish(event("a"))
    await place.deliver()
    (delivery,) = await place.deliveries(subscription)
    assert (delivery.tries, delivery.state.value) == (1, "failing")


async def test_410_disables_the_subscription(place: Place) -> None:
    """Nothing is sent until it is validated anew; then everything is."""
    subscription = await place.subscribe()
    place.receiver.answer = answering(410, 200)
    await place.publish(event("a", subject="/party/1"), event("b", subject="/party/1"))
    await place.deliver()
    assert names(place.receiver) == ["a"]
    assert (await place.known(subscription.id)).disabled
    await place.publish(event("c"))
    place.clock.add(3_700)
    await place.deliver()
    assert names(place.receiver) == ["a"]
    again = await place.subscribe()
    assert (again.id, again.disabled) == (subscription.id, False)
    place.clock.add(FIRST_WAIT)
    await place.deliver()
    assert sorted(names(place.receiver)) == ["a", "a", "b", "c"]


async def test_redirects_are_failures(place: Place) -> None:
    """Nothing follows them."""
    subscription = await place.subscribe()
    place.receiver.answer = lambda _: web.Response(status=302, headers={"Location": f"{place.receiver.url}/other"})
    await place.publish(event("a"))
    await place.deliver()
    assert names(place.receiver, "/other") == []
    (delivery,) = await place.deliveries(subscription)
    assert [(each.status, each.error) for each in delivery.attempts] == [(302, "redirect")]


# -- Deciding ---------------------------------------------------------------------------------------------------------


async def test_while_the_decision_point_is_down_nothing_is_sent_and_nothing_given_up(place: Place) -> None:
    """No attempt is counted; once it answers, everything goes out."""
    subscription = await place.subscribe()
    place.pdp.status = 503
    await place.publish(*events(3))
    for _ in range(20):
        await place.deliver()
        place.clock.add(13 * 3_600)
    assert names(place.receiver) == []
    assert [(each.state.value, each.tries) for each in await place.deliveries(subscription)] == [("pending", 0)] * 3
    place.pdp.status = 200
    await place.deliver()
    assert await place.states(subscription) == ["delivered"] * 3


async def test_a_right_that_was_revoked_meanwhile_is_not_honoured(place: Place) -> None:
    """The decision is asked for again when it is five minutes old."""
    subscription = await place.subscribe()
    place.receiver.answer = answering(500, 200)
    await place.publish(event("a"))
    await place.deliver()
    place.pdp.decide = lambda _: DENY
    place.forget_decisions()
    place.clock.add(301)
    await place.deliver()
    assert names(place.receiver) == ["a"]
    assert await place.states(subscription) == ["withheld"]


async def test_each_consumer_gets_what_it_may_read(place: Place) -> None:
    """One question to the decision point for all of them."""
    mine = await place.subscribe("/org/ttd", "/mine")
    theirs = await place.subscribe("/user/20012345", "/theirs", subject="/party/50002108")
    place.pdp.requests.clear()
    place.forget_decisions()
    place.pdp.decide = lambda asked: DENY if "urn:altinn:userid" in asked.subject else PERMIT
    await place.publish(event("a"))
    await place.deliver()
    assert len(place.pdp.requests) == 1
    assert (names(place.receiver, "/mine"), names(place.receiver, "/theirs")) == (["a"], [])
    assert (await place.states(mine), await place.states(theirs)) == (["delivered"], ["withheld"])


async def test_what_is_erased_meanwhile_is_not_sent(place: Place) -> None:
    """Its delivery is dropped."""
    subscription = await place.subscribe()
    erased = event("a")
    await place.publish(erased, event("b"))
    await place.events.store.erase(erased.resource, erased.source, erased.id)
    await place.deliver()
    assert names(place.receiver) == ["b"]
    assert [each.event_id for each in await place.deliveries(subscription)] == ["b"]


# -- Pausing ----------------------------------------------------------------------------------------------------------


async def test_what_matches_while_it_is_paused_is_sent_when_it_is_resumed(place: Place) -> None:
    """In order."""
    subscription = await place.subscribe()
    owner = caller_of_consumer(subscription.consumer, 3)
    await place.events.subscriber.pause(owner, subscription.id, paused=True)
    await place.idle()
    await place.publish(*(some := events(3)))
    await place.deliver()
    assert names(place.receiver) == []
    await place.events.subscriber.pause(owner, subscription.id, paused=False)
    await place.idle()
    assert names(place.receiver) == ids(some)


# -- Meanwhile --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["delete", "pause"])
async def test_a_subscription_that_changes_while_it_is_served_is_silent(place: Place, change: str) -> None:
    """Whoever changes it, within what a process may remember; what was in flight ends."""
    subscription = await place.subscribe()
    other = place.start().subscriber
    owner = caller_of_consumer(subscription.consumer, 3)

    async def answer(_: Received) -> web.Response:
        if len(place.receiver.events()) == 1:
            if change == "delete":
                await other.delete(owner, subscription.id)
            else:
                await other.pause(owner, subscription.id, paused=True)
            place.events.subscriber.cache._refreshed = -math.inf  # as two seconds later
        return web.Response()

    place.receiver.answer = answer
    await place.publish(*events(20))
    await place.deliver()
    assert len(names(place.receiver)) == 1
