"""Deliveries under faults: no permitted event is lost, and no denied event is sent."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from events_core.cloudevent import CloudEvent
from events_core.common import errors
from events_core.delivery.delivery import Lane
from events_core.feeds.follow_up import FollowUp
from local.host import Function
from local.queues import QueueOptions, Queues, queue_trigger
from tests.contract.event_store import event, events, ids
from tests.support.delivering import Deployment, names
from tests.support.pdp_server import DENY, PERMIT, Asked, Ruling
from tests.support.webhook_server import Received, WebhookServer

SUBSCRIPTIONS, EVENTS, SUBJECTS, FAULTS, PAUSES = 50, 200, 5, 0.3, 0.01
STORE_CALLS = ("record", "take", "ready", "save", "release", "renew", "due", "at")


class Faulty:
    """A store whose calls fail by chance, before they do anything or after, like a lost connection."""

    def __init__(self, store: object, chance: Callable[[], bool]) -> None:
        self._store, self._chance = store, chance

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in STORE_CALLS:
            return method

        async def call(*arguments: Any, **named: Any) -> Any:
            if self._chance():
                raise errors.unavailable("The store does not answer.")
            result = await method(*arguments, **named)
            if self._chance():
                raise errors.unavailable("The store does not answer.")
            return result

        return call


def inject_faults(deployment: Deployment, chance: Callable[[], bool]) -> None:
    """Let the stores fail by chance under fan-out and delivery."""
    application = deployment.application
    deliveries = Faulty(application.deliveries, chance)
    fan_out = replace(application.lane_worker.fan_out, deliveries=deliveries)
    lane_worker = application.lane_worker
    attempts = replace(lane_worker.attempts, deliveries=deliveries, store=Faulty(application.store, chance))
    deployment.application = replace(
        application,
        lane_worker=replace(lane_worker, deliveries=deliveries, fan_out=fan_out, attempts=attempts),
        follow_up=FollowUp(application.checkpoints, [fan_out]),
    )


async def publish(deployment: Deployment, published: list[CloudEvent]) -> None:
    """Append events, and follow up until that succeeds, as the change feed and the sweeps do."""
    application = deployment.application
    await application.store.append(published)
    while await application.checkpoints.behind():
        await application.follow_up.compare()


async def deliver_everything(deployment: Deployment) -> None:
    """Serve lanes until no attempt is to come. Let time pass whenever no lane is due."""
    application = deployment.application
    while True:
        lanes = await application.deliveries.due(deployment.clock(), 1_000)
        await asyncio.gather(*(application.lane_worker.serve(lane) for lane in lanes), return_exceptions=True)
        if not lanes:
            if not await application.deliveries.due(deployment.clock() + 10**15, 1):
                return
            deployment.clock.add(60)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_every_permitted_event_arrives_at_every_subscription(deployment: Deployment) -> None:
    """With faults of endpoints, stores and decision point, three in ten; first attempts of each subject in order.

    There are ten thousand pairs of event and subscription; fewer on Cosmos DB, whose emulator would take minutes.
    """
    subscriptions, count = (4, 50) if deployment.application.settings.on_cosmos else (SUBSCRIPTIONS, EVENTS)
    dice = random.Random(4711)
    paths = [f"/{number}" for number in range(subscriptions)]
    for path in paths:
        await deployment.subscribe(f"/org/{path[1:]}", path, subject="/party/%")
    published = [
        event(f"e{number}", type=f"t{number % 7}", subject=f"/party/{number % SUBJECTS}") for number in range(count)
    ]
    deployment.forget_decisions()
    deployment.pdp.decide = _ruling
    endpoint = FailingEndpoint(dice)
    deployment.receiver.answer = endpoint.answer
    inject_faults(deployment, lambda: dice.random() < FAULTS / 10)
    task = asyncio.create_task(_flickering(deployment, dice))
    for at in range(0, count, 20):
        await publish(deployment, published[at : at + 20])
        await deliver_everything(deployment)
    task.cancel()
    deployment.pdp.status = 200
    await deliver_everything(deployment)
    for path in paths:
        for subject in {each.subject or "" for each in published}:
            is_permitted = _is_permitted(path[1:], subject.rpartition("/")[2])
            expected = [each.id for each in published if each.subject == subject] if is_permitted else []
            assert endpoint.first_attempts[path, subject] == expected
            assert endpoint.accepted[path] >= set(expected)


class FailingEndpoint:
    """An endpoint that refuses, redirects, is busy, or closes the connection, three times in ten."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.first_attempts: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.accepted: dict[str, set[str]] = defaultdict(set)

    def answer(self, received: Received) -> web.Response | None:
        """Note the attempt, then fail or accept it."""
        name, subject = str(received.event["id"]), str(received.event["subject"])
        seen = self.first_attempts[received.path, subject]
        if name not in seen:
            seen.append(name)
        if self._dice.random() >= FAULTS:
            self.accepted[received.path].add(name)
            return web.Response()
        # A 429 is rare, since it pauses the endpoint, and most of the time would be spent on pauses.
        status = 429 if self._dice.random() < PAUSES else self._dice.choice([500, 302, None])
        if status is None:
            return None
        return web.Response(status=status, headers={"Retry-After": "1", "Location": "http://127.0.0.1/"})


def _is_permitted(user: str, party: str) -> bool:
    """Every user may read all events except those about one party."""
    return int(user) % SUBJECTS + 1 != int(party)


def _ruling(asked: Asked) -> Ruling:
    is_permitted = _is_permitted(asked.subject["urn:altinn:org"], asked.resource["urn:altinn:partyid"])
    return PERMIT if is_permitted else DENY


async def _flickering(deployment: Deployment, dice: random.Random) -> None:
    """Let the decision point be down three times in ten."""
    while True:
        deployment.pdp.status = 503 if dice.random() < FAULTS else 200
        await asyncio.sleep(0.01)


# -- Workers ----------------------------------------------------------------------------------------------------------


async def test_a_worker_whose_lease_ran_out_records_nothing(deployment: Deployment) -> None:
    """Another worker served the lane meanwhile: the event was sent twice, and one attempt is recorded."""
    subscription = await deployment.subscribe()
    other = deployment.start()
    gate, calls = asyncio.Event(), 0

    async def answer(_: Received) -> web.Response:
        nonlocal calls
        calls += 1
        if calls == 1:
            await gate.wait()
        return web.Response()

    deployment.receiver.answer = answer
    await deployment.publish(event("a"))
    deployment.receiver.arrived.clear()
    zombie = asyncio.create_task(deployment.application.lane_worker.serve(Lane(subscription.id)))
    await deployment.receiver.arrived.wait()
    deployment.clock.add(300)
    await other.lane_worker.serve(Lane(subscription.id))
    gate.set()
    await zombie
    assert names(deployment.receiver) == ["a", "a"]
    (delivery,) = await deployment.deliveries(subscription)
    assert (delivery.state.value, len(delivery.attempts)) == ("delivered", 1)


async def test_a_worker_that_stops_before_recording_causes_a_second_attempt(deployment: Deployment) -> None:
    """Delivery is at least once. Until the lease ends, no other worker sends."""
    subscription = await deployment.subscribe()

    class StoppedError(BaseException):
        """The process is gone."""

    async def stop(*_: object, **__: object) -> None:
        raise StoppedError

    lane_worker, store = deployment.application.lane_worker, deployment.application.deliveries
    stopping = replace(lane_worker, deliveries=Replaced(store, release=stop, save=stop))
    await deployment.publish(event("a"), event("b"))
    with pytest.raises(StoppedError):
        await stopping.serve(Lane(subscription.id))
    other = deployment.start()
    await other.lane_worker.serve(Lane(subscription.id))
    assert names(deployment.receiver) == ["a"]
    deployment.clock.add(300)
    await deployment.deliver(other)
    assert names(deployment.receiver) == ["a", "a", "b"]


class Replaced:
    """A store with some of its methods replaced."""

    def __init__(self, store: object, **methods: object) -> None:
        self._store = store
        vars(self).update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_a_clock_that_steps_loses_nothing_and_keeps_the_order(deployment: Deployment) -> None:
    """The clock steps back by an hour, and forward again."""
    await deployment.subscribe()
    await deployment.publish(event("a"))
    deployment.clock.add(-3_600)
    await deployment.publish(event("b"))
    await deployment.deliver()
    deployment.clock.add(7_200)
    await deployment.publish(event("c"))
    await deployment.deliver()
    assert names(deployment.receiver) == ["a", "b", "c"]


async def test_a_hanging_endpoint_delays_no_other_endpoint(deployment: Deployment) -> None:
    """Even if more of its lanes are due than there are workers."""
    gate = asyncio.Event()

    async def answer(received: Received) -> web.Response:
        if received.path.startswith("/hang") and received.method == "POST" and b"validate" not in received.body:
            await gate.wait()
        return web.Response()

    deployment.receiver.answer = answer
    hanging = [await deployment.subscribe(path=f"/hang/{number}") for number in range(30)]
    queues = Queues({})

    async def deliver(message: Any) -> None:
        lane = Lane.parse(message.get_body().decode())
        assert lane is not None
        await deployment.application.lane_worker.serve(lane)

    trigger = {"type": "queueTrigger", "name": "message", "queueName": "deliveries"}
    worker = asyncio.create_task(queue_trigger(Function("deliver", trigger, deliver, (), queues), QueueOptions(24)))
    async with WebhookServer() as receiver:
        good = await deployment.subscribe(endpoint=receiver.url)
        try:
            await deployment.publish(*(published := events(3)))
            for subscription in [*hanging, good]:
                await queues.of(trigger).send(str(Lane(subscription.id)))
            await receiver.until(3)
            assert names(receiver) == ids(published)
        finally:
            gate.set()
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
