"""Replaying: what a subscription matches is sent again, from wherever its consumer wants, beside what is sent live."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from events_core.access.identity import caller_of_consumer
from events_core.common.errors import EventsError, Problem
from events_core.delivery.replay import Wanted, replay
from tests.contract.event_store import event, events, ids
from tests.support.delivering import TTD, Place, answering, names
from tests.support.webhook_server import Received

OWNER = caller_of_consumer(TTD, 3)


def message_ids(place: Place) -> set[str]:
    """The ids of the deliveries that arrived."""
    return {each.headers["webhook-id"] for each in place.receiver.received if "webhook-id" in each.headers}


async def test_everything_from_a_moment_on_is_sent_again(place: Place) -> None:
    """Also what was published before the subscription was made; only what it matches; under new ids."""
    before = events(3, type="a.kept")
    await place.publish(*before, event("other", type="b"))
    subscription = await place.subscribe(type="a.%")
    await place.publish(*(after := events(2, type="a.kept")))
    await place.deliver()
    assert names(place.receiver) == ids(after)
    live = message_ids(place)
    place.receiver.received.clear()
    await replay(place.events.subscriber, OWNER, subscription.id, Wanted(start=0))
    await place.idle()
    await place.deliver()
    assert names(place.receiver) == ids([*before, *after])
    assert not live & message_ids(place)


async def test_a_replay_ends_where_it_is_told_to(place: Place) -> None:
    """At a moment, inclusive; a bound before everything replays nothing."""
    subscription = await place.subscribe()
    await place.publish(event("a"))
    place.clock.add(60)
    rows = await place.events.checkpoints.read_after(subscription.filter.stream, 0, 10)
    await place.publish(event("b"))
    await place.deliver()
    place.receiver.received.clear()
    await replay(place.events.subscriber, OWNER, subscription.id, Wanted(start=0, end=rows[0].registered))
    await replay(place.events.subscriber, OWNER, subscription.id, Wanted(start=0, end=rows[0].registered - 1))
    await place.idle()
    await place.deliver()
    assert names(place.receiver)[:1] == ["a"]


async def test_a_replay_goes_on_after_an_event(place: Place) -> None:
    """Which is named by its id."""
    subscription = await place.subscribe()
    await place.publish(event("a"), event("b"), event("c"))
    await place.deliver()
    place.receiver.received.clear()
    await replay(place.events.subscriber, OWNER, subscription.id, Wanted(event_id="a"))
    await place.idle()
    await place.deliver()
    assert names(place.receiver) == ["b", "c"]


async def test_one_delivery_can_be_sent_again(place: Place) -> None:
    """By its lane and position; none that is another's, or unknown."""
    subscription = await place.subscribe()
    await place.publish(event("a"), event("b"))
    await place.deliver()
    first, _ = await place.deliveries(subscription)
    place.receiver.received.clear()
    await replay(place.events.subscriber, OWNER, subscription.id, Wanted(delivery=(first.lane, first.position)))
    await place.idle()
    await place.deliver()
    assert names(place.receiver) == ["a"]
    with pytest.raises(EventsError) as unknown:
        await replay(place.events.subscriber, OWNER, subscription.id, Wanted(delivery=(first.lane, 999_999)))
    assert unknown.value.problem is Problem.NOT_FOUND


async def test_what_is_dead_can_be_sent_again(place: Place) -> None:
    """With a schedule of its own; nothing else is."""
    subscription = await place.subscribe()
    place.receiver.answer = answering(500)
    await place.publish(event("a"))
    while await place.states(subscription) != ["dead"]:
        await place.deliver()
        place.clock.add(13 * 3_600)
    place.receiver.answer = answering(200)
    await place.publish(event("b"))
    await place.deliver()
    place.receiver.received.clear()
    assert await replay(place.events.subscriber, OWNER, subscription.id, Wanted(dead=True)) == 1
    await place.idle()
    await place.deliver()
    assert names(place.receiver) == ["a"]
    assert await place.states(subscription) == ["delivered", "delivered"]


async def test_a_replay_disturbs_no_live_delivery(place: Place) -> None:
    """What is published meanwhile has its own lane."""
    subscription = await place.subscribe()
    await place.publish(*(some := events(300)))
    await place.deliver()
    place.receiver.received.clear()
    await replay(place.events.subscriber, OWNER, subscription.id, Wanted(start=0))
    await place.publish(event("live"))
    await place.deliver()
    await place.idle()
    await place.deliver()
    arrived = names(place.receiver)
    assert [name for name in arrived if name != "live"] == ids(some)
    assert arrived.count("live") == 1


async def test_a_replay_is_paused_and_resumed_with_its_subscription(place: Place) -> None:
    """It goes on where it was."""
    subscription = await place.subscribe()
    await place.publish(*(some := events(3)))
    await place.deliver()
    place.receiver.received.clear()
    await place.events.subscriber.pause(OWNER, subscription.id, paused=True)
    await place.idle()
    await replay(place.events.subscriber, OWNER, subscription.id, Wanted(start=0))
    await place.idle()
    assert names(place.receiver) == []
    await place.events.subscriber.pause(OWNER, subscription.id, paused=False)
    await place.idle()
    await place.deliver()
    assert names(place.receiver) == ids(some)


async def test_a_replay_that_waits_for_a_validation_begins_with_it(place: Place) -> None:
    """Not an hour later, when nothing else would have woken it."""
    subscription = await place.subscribe()
    place.receiver.answer = answering(410)
    await place.publish(*(some := events(3)))
    await place.deliver()
    assert (await place.known(subscription.id)).disabled
    await replay(place.events.subscriber, OWNER, subscription.id, Wanted(start=0))
    await place.idle()
    place.receiver.received.clear()
    gate = asyncio.Event()

    async def answer(received: Received) -> web.Response:
        if b"validatesubscription" in received.body:
            await gate.wait()
        return web.Response()

    place.receiver.answer = answer
    validating = asyncio.create_task(place.subscribe())
    while not any(each.method == "POST" for each in place.receiver.received):
        place.receiver.arrived.clear()
        await place.receiver.arrived.wait()
    while len(tasks := place.events.deliverer._tasks) > 1:  # until the replay's lane is put to sleep
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    gate.set()
    await validating
    await place.deliver()
    assert names(place.receiver).count(some[-1].id) == 2


async def test_nobody_replays_another_ones_subscription(place: Place) -> None:
    """Nor one that is unknown."""
    subscription = await place.subscribe()
    stranger = caller_of_consumer("/org/skd", 3)
    for caller, number, problem in (
        (stranger, subscription.id, Problem.FORBIDDEN),
        (OWNER, subscription.id + 1, Problem.NOT_FOUND),
    ):
        with pytest.raises(EventsError) as refused:
            await replay(place.events.subscriber, caller, number, Wanted(start=0))
        assert refused.value.problem is problem
