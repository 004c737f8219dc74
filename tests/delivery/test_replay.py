"""Replays: events are sent again, from any point on, beside live deliveries."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from events_core.access.identity import caller_of_consumer
from events_core.common.errors import EventsError, Problem
from events_core.delivery.ports import DeliveryFilter
from events_core.delivery.replay import ReplayRequest
from events_core.delivery.subscribe import Change
from tests.contract.event_store import event, events, ids
from tests.support.delivering import TTD, Deployment, answering, names
from tests.support.webhook_server import Received

OWNER = caller_of_consumer(TTD, 3)


def message_ids(deployment: Deployment) -> set[str]:
    """The ids of the deliveries that arrived."""
    received = deployment.receiver.received
    return {request.headers["webhook-id"] for request in received if "webhook-id" in request.headers}


async def test_a_replay_sends_the_matching_events_from_a_time_on(deployment: Deployment) -> None:
    """Under new ids, and also events from before the subscription."""
    before = events(3, type="a.kept")
    await deployment.publish(*before, event("other", type="b"))
    subscription = await deployment.subscribe(type="a.%")
    await deployment.publish(*(after := events(2, type="a.kept")))
    await deployment.deliver()
    assert names(deployment.receiver) == ids(after)
    live = message_ids(deployment)
    deployment.receiver.received.clear()
    await deployment.application.replays.begin(OWNER, subscription.id, ReplayRequest(start=0))
    await deployment.idle()
    await deployment.deliver()
    assert names(deployment.receiver) == ids([*before, *after])
    assert not live & message_ids(deployment)


async def test_a_replay_of_large_events_sends_all_of_them(deployment: Deployment) -> None:
    """They do not fit into one page of the store."""
    large = events(40, data="x" * 120_000)
    for number in range(0, len(large), 8):
        await deployment.publish(*large[number : number + 8])
    subscription = await deployment.subscribe()
    await deployment.application.replays.begin(OWNER, subscription.id, ReplayRequest(start=0))
    await deployment.idle()
    await deployment.deliver()
    assert names(deployment.receiver) == ids(large)


async def test_a_replay_ends_at_a_time(deployment: Deployment) -> None:
    """The bound is inclusive. A bound before every event replays nothing."""
    subscription = await deployment.subscribe()
    await deployment.publish(event("a"))
    deployment.clock.add(60)
    rows = (await deployment.application.checkpoints.read_after(subscription.filter.stream, 0, 10)).rows
    await deployment.publish(event("b"))
    await deployment.deliver()
    deployment.receiver.received.clear()
    await deployment.application.replays.begin(OWNER, subscription.id, ReplayRequest(start=0, end=rows[0].registered))
    await deployment.application.replays.begin(
        OWNER, subscription.id, ReplayRequest(start=0, end=rows[0].registered - 1)
    )
    await deployment.idle()
    await deployment.deliver()
    assert names(deployment.receiver)[:1] == ["a"]


async def test_a_replay_starts_after_an_event(deployment: Deployment) -> None:
    """The event is named by its id."""
    subscription = await deployment.subscribe()
    await deployment.publish(event("a"), event("b"), event("c"))
    await deployment.deliver()
    deployment.receiver.received.clear()
    await deployment.application.replays.begin(OWNER, subscription.id, ReplayRequest(event_id="a"))
    await deployment.idle()
    await deployment.deliver()
    assert names(deployment.receiver) == ["b", "c"]


async def test_one_delivery_can_be_replayed(deployment: Deployment) -> None:
    """By its id. The delivery of another subscription is refused."""
    subscription = await deployment.subscribe()
    other = await deployment.subscribe(type="x")
    await deployment.publish(event("a"), event("b"))
    await deployment.deliver()
    first, _ = await deployment.deliveries(subscription)
    deployment.receiver.received.clear()
    wanted = ReplayRequest(delivery=DeliveryFilter(id=first.id))
    await deployment.application.replays.begin(OWNER, subscription.id, wanted)
    await deployment.idle()
    await deployment.deliver()
    assert names(deployment.receiver) == ["a"]
    with pytest.raises(EventsError) as unknown:
        await deployment.application.replays.begin(OWNER, other.id, wanted)
    assert unknown.value.problem is Problem.NOT_FOUND


async def test_a_delivery_of_a_replay_can_be_replayed(deployment: Deployment) -> None:
    """It is listed with the others, also if the subscription has no delivery of its own."""
    await deployment.publish(event("a"), event("b"))
    subscription = await deployment.subscribe()
    await deployment.application.replays.begin(OWNER, subscription.id, ReplayRequest(start=0))
    await deployment.idle()
    await deployment.deliver()
    *_, replayed = await deployment.deliveries(subscription)
    assert replayed.lane.replay == 1
    deployment.receiver.received.clear()
    wanted = ReplayRequest(delivery=DeliveryFilter(id=replayed.id))
    await deployment.application.replays.begin(OWNER, subscription.id, wanted)
    await deployment.idle()
    await deployment.deliver()
    assert names(deployment.receiver) == ["b"]


async def test_a_dead_delivery_of_a_replay_can_be_revived(deployment: Deployment) -> None:
    """Its lane is due again."""
    await deployment.publish(event("a"))
    subscription = await deployment.subscribe()
    deployment.receiver.answer = answering(500)
    await deployment.application.replays.begin(OWNER, subscription.id, ReplayRequest(start=0))
    await deployment.idle()
    while "dead" not in await deployment.states(subscription):
        await deployment.deliver()
        deployment.clock.add(13 * 3_600)
    deployment.receiver.answer = answering(200)
    deployment.receiver.received.clear()
    revived = await deployment.application.replays.begin(OWNER, subscription.id, ReplayRequest(dead=True))
    await deployment.idle()
    await deployment.deliver()
    assert names(deployment.receiver) == ["a"] * (revived or 0) != []


async def test_dead_deliveries_can_be_revived(deployment: Deployment) -> None:
    """Their schedule starts again, under their ids. Other deliveries are not sent again."""
    subscription = await deployment.subscribe()
    deployment.receiver.answer = answering(500)
    await deployment.publish(event("a"))
    while await deployment.states(subscription) != ["dead"]:
        await deployment.deliver()
        deployment.clock.add(13 * 3_600)
    dead = message_ids(deployment)
    deployment.receiver.answer = answering(200)
    await deployment.publish(event("b"))
    await deployment.deliver()
    deployment.receiver.received.clear()
    assert await deployment.application.replays.begin(OWNER, subscription.id, ReplayRequest(dead=True)) == 1
    await deployment.idle()
    await deployment.deliver()
    assert names(deployment.receiver) == ["a"]
    assert message_ids(deployment) < dead
    assert await deployment.states(subscription) == ["delivered", "delivered"]


async def test_a_replay_delays_no_live_delivery(deployment: Deployment) -> None:
    """They have different lanes."""
    subscription = await deployment.subscribe()
    await deployment.publish(*(published := events(300)))
    await deployment.deliver()
    deployment.receiver.received.clear()
    await deployment.application.replays.begin(OWNER, subscription.id, ReplayRequest(start=0))
    await deployment.publish(event("live"))
    await deployment.deliver()
    await deployment.idle()
    await deployment.deliver()
    arrived = names(deployment.receiver)
    assert [name for name in arrived if name != "live"] == ids(published)
    assert arrived.count("live") == 1


async def test_a_replay_is_paused_and_resumed_with_its_subscription(deployment: Deployment) -> None:
    """It continues where it stopped."""
    subscription = await deployment.subscribe()
    await deployment.publish(*(published := events(3)))
    await deployment.deliver()
    deployment.receiver.received.clear()
    await deployment.application.subscriber.change(OWNER, subscription.id, Change(paused=True))
    await deployment.idle()
    await deployment.application.replays.begin(OWNER, subscription.id, ReplayRequest(start=0))
    await deployment.idle()
    assert names(deployment.receiver) == []
    await deployment.application.subscriber.change(OWNER, subscription.id, Change(paused=False))
    await deployment.idle()
    await deployment.deliver()
    assert names(deployment.receiver) == ids(published)


async def test_a_replay_begins_when_the_endpoint_is_validated(deployment: Deployment) -> None:
    """The validation wakes its lane, which would sleep for an hour otherwise."""
    subscription = await deployment.subscribe()
    deployment.receiver.answer = answering(410)
    await deployment.publish(*(published := events(3)))
    await deployment.deliver()
    assert (await deployment.stored(subscription.id)).disabled
    await deployment.application.replays.begin(OWNER, subscription.id, ReplayRequest(start=0))
    await deployment.idle()
    deployment.receiver.received.clear()
    gate = asyncio.Event()

    async def answer(received: Received) -> web.Response:
        if b"validatesubscription" in received.body:
            await gate.wait()
        return web.Response()

    deployment.receiver.answer = answer
    validating = asyncio.create_task(deployment.subscribe())
    while not any(request.method == "POST" for request in deployment.receiver.received):
        deployment.receiver.arrived.clear()
        await deployment.receiver.arrived.wait()
    while len(tasks := deployment.application.lane_worker.tasks.running) > 1:  # until the replay's lane is put to sleep
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    gate.set()
    await validating
    await deployment.deliver()
    assert names(deployment.receiver).count(published[-1].id) == 2


async def test_only_the_owner_replays_a_subscription(deployment: Deployment) -> None:
    """Any other caller is refused, and so is an unknown subscription."""
    subscription = await deployment.subscribe()
    stranger = caller_of_consumer("/org/skd", 3)
    for caller, number, problem in (
        (stranger, subscription.id, Problem.FORBIDDEN),
        (OWNER, subscription.id + 1, Problem.NOT_FOUND),
    ):
        with pytest.raises(EventsError) as refused:
            await deployment.application.replays.begin(caller, number, ReplayRequest(start=0))
        assert refused.value.problem is problem
