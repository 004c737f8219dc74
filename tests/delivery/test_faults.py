"""Deliveries under faults: of everything that is permitted nothing is lost, and of what is refused nothing is sent."""

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
from events_core.operations.application import Application
from local.host import Function
from local.queues import QueueOptions, Queues, queue_trigger
from tests.contract.event_store import event, events, ids
from tests.support.delivering import Place, names
from tests.support.pdp_server import DENY, PERMIT, Asked, Ruling
from tests.support.webhook_server import Received, WebhookServer

SUBSCRIPTIONS, EVENTS, SUBJECTS, FAULTS = 50, 200, 5, 0.3
STORE_CALLS = ("record", "take", "ready", "save", "give_back", "keep", "due", "at")


class Faulty:
    """A store whose calls fail now and then: before they have done anything, or after, as a connection that is lost."""

    def __init__(self, store: object, chance: Callable[[float], bool]) -> None:
        self._store, self._chance = store, chance

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in STORE_CALLS:
            return method

        rate = FAULTS / 50 if name == "record" else FAULTS / 10  # a page has 50 records, which fail or succeed together

        async def call(*arguments: Any, **named: Any) -> Any:
            if self._chance(rate):
                raise errors.unavailable("The store does not answer.")
            result = await method(*arguments, **named)
            if self._chance(rate):
                raise errors.unavailable("The store does not answer.")
            return result

        return call


def with_faults(place: Place, chance: Callable[[float], bool]) -> None:
    """Let the stores that fan-out and delivery use fail by chance."""
    deliverer, fan_out = place.events.deliverer, place.events.subscriber.fan_out
    deliveries = Faulty(place.events.subscriber.deliveries, chance)
    deliverer._deliveries = fan_out._deliveries = deliveries
    deliverer._attempts = replace(
        deliverer._attempts,
        deliveries=deliveries,
        events=Faulty(place.events.store, chance),
    )


async def followed(place: Place, some: list[CloudEvent]) -> None:
    """Publish, and follow up until that succeeds, as the change feed's retries and the sweeps do."""
    await place.events.store.append(some)
    while await place.events.checkpoints.behind():
        await place.events.follow_up.compare()


async def served(place: Place, events: Application | None = None) -> None:
    """Serve until nothing is open any more, letting time pass whenever nothing is due."""
    process = events or place.events
    deliveries = process.subscriber.deliveries
    while True:
        lanes = await deliveries.due(place.clock(), 1_000)
        await asyncio.gather(*(process.deliverer.serve(lane) for lane in lanes), return_exceptions=True)
        if not lanes:
            if not await deliveries.due(place.clock() + 10**15, 1):
                return
            place.clock.add(60)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_every_permitted_pair_arrives_and_no_other(place: Place) -> None:
    """Under faults of endpoints, store and decision point, three in ten; first attempts in order for each subject.

    Ten thousand pairs of event and subscription; on Cosmos DB, whose emulator would take minutes, some of them.
    """
    subscriptions, count = (4, 50) if place.events.settings.on_cosmos else (SUBSCRIPTIONS, EVENTS)
    await _under_faults(place, subscriptions, count)


async def _under_faults(place: Place, subscriptions: int, count: int) -> None:
    dice = random.Random(4711)
    paths = [f"/{number}" for number in range(subscriptions)]
    for path in paths:
        await place.subscribe(f"/user/{path[1:]}", path, subject="/party/%")
    some = [
        event(f"e{number}", type=f"t{number % 7}", subject=f"/party/{number % SUBJECTS}") for number in range(count)
    ]
    place.events.authorization._decisions._kept.clear()
    place.pdp.decide = _ruling
    first: dict[tuple[str, str], list[str]] = defaultdict(list)
    taken: dict[str, set[str]] = defaultdict(set)

    def answer(received: Received) -> web.Response | None:
        name, subject = str(received.event["id"]), str(received.event["subject"])
        line = first[received.path, subject]
        if name not in line:
            line.append(name)
        if dice.random() < FAULTS:
            return _fault(dice)
        taken[received.path].add(name)
        return web.Response()

    place.receiver.answer = answer
    with_faults(place, lambda rate: dice.random() < rate)
    task = asyncio.create_task(_flickering(place, dice))
    for at in range(0, count, 20):
        await followed(place, some[at : at + 20])
        await served(place)
    task.cancel()
    place.pdp.status = 200
    await served(place)
    for path in paths:
        for subject in {each.subject or "" for each in some}:
            is_permitted = _is_permitted(path[1:], subject.rpartition("/")[2])
            expected = [each.id for each in some if each.subject == subject] if is_permitted else []
            assert first[path, subject] == expected
            assert taken[path] >= set(expected)


def _is_permitted(user: str, party: str) -> bool:
    """Every user may read all but the events about one party."""
    return int(user) % SUBJECTS + 1 != int(party)


def _ruling(asked: Asked) -> Ruling:
    is_permitted = _is_permitted(asked.subject["urn:altinn:userid"], asked.resource["urn:altinn:partyid"])
    return PERMIT if is_permitted else DENY


def _fault(dice: random.Random) -> web.Response | None:
    """An endpoint that refuses, redirects, is busy, or closes the connection."""
    status = dice.choice([500, 302, 429, None])
    if status is None:
        return None
    return web.Response(status=status, headers={"Retry-After": "1", "Location": "http://127.0.0.1/"})


async def _flickering(place: Place, dice: random.Random) -> None:
    """A decision point that is down three times in ten."""
    while True:
        place.pdp.status = 503 if dice.random() < FAULTS else 200
        await asyncio.sleep(0.01)


# -- Workers ----------------------------------------------------------------------------------------------------------


async def test_a_worker_whose_lease_ran_out_records_nothing(place: Place) -> None:
    """Another has served the lane meanwhile: the delivery was sent twice, and has one attempt."""
    subscription = await place.subscribe()
    other = place.start()
    gate, calls = asyncio.Event(), 0

    async def answer(_: Received) -> web.Response:
        nonlocal calls
        calls += 1
        if calls == 1:
            await gate.wait()
        return web.Response()

    place.receiver.answer = answer
    await place.publish(event("a"))
    place.receiver.arrived.clear()
    zombie = asyncio.create_task(place.events.deliverer.serve(Lane(subscription.id)))
    await place.receiver.arrived.wait()
    place.clock.add(300)
    await other.deliverer.serve(Lane(subscription.id))
    gate.set()
    await zombie
    assert names(place.receiver) == ["a", "a"]
    (delivery,) = await place.deliveries(subscription)
    assert (delivery.state.value, len(delivery.attempts)) == ("delivered", 1)


async def test_a_worker_that_stops_between_sending_and_recording_sends_again(place: Place) -> None:
    """At least once; nothing else is sent meanwhile by another."""
    subscription = await place.subscribe()

    class StoppedError(BaseException):
        """The process is gone."""

    async def stop(*_: object) -> None:
        raise StoppedError

    attempts = place.events.deliverer._attempts
    stopping = _Instead(attempts.deliveries, save=stop)
    place.events.deliverer._attempts = replace(attempts, deliveries=stopping)
    place.events.deliverer._deliveries = _Instead(attempts.deliveries, give_back=stop)
    await place.publish(event("a"), event("b"))
    with pytest.raises(BaseException):  # noqa: B017 - whatever a process that is killed leaves
        await place.events.deliverer.serve(Lane(subscription.id))
    other = place.start()
    await other.deliverer.serve(Lane(subscription.id))
    assert names(place.receiver) == ["a"]
    place.clock.add(300)
    await place.deliver(other)
    assert names(place.receiver) == ["a", "a", "b"]


class _Instead:
    """A store with other methods in place of some of its own."""

    def __init__(self, store: object, **methods: object) -> None:
        self._store = store
        vars(self).update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_a_clock_that_steps_loses_nothing_and_keeps_the_order(place: Place) -> None:
    """Back by an hour, and forward again."""
    await place.subscribe()
    await place.publish(event("a"))
    place.clock.add(-3_600)
    await place.publish(event("b"))
    await place.deliver()
    place.clock.add(7_200)
    await place.publish(event("c"))
    await place.deliver()
    assert names(place.receiver) == ["a", "b", "c"]


async def test_endpoints_that_hang_hold_nobody_else_up(place: Place) -> None:
    """However many subscriptions lead to them, and however few the workers are."""
    gate = asyncio.Event()

    async def answer(received: Received) -> web.Response:
        if received.path.startswith("/hang") and received.method == "POST" and b"validate" not in received.body:
            await gate.wait()
        return web.Response()

    place.receiver.answer = answer
    hanging = [await place.subscribe(path=f"/hang/{number}") for number in range(30)]
    queues = Queues({})

    async def deliver(message: Any) -> None:
        lane = Lane.parse(message.get_body().decode())
        assert lane is not None
        await place.events.deliverer.serve(lane)

    trigger = {"type": "queueTrigger", "name": "message", "queueName": "deliveries"}
    worker = asyncio.create_task(queue_trigger(Function("deliver", trigger, deliver, (), queues), QueueOptions(24)))
    async with WebhookServer() as receiver:
        good = await place.subscribe(endpoint=receiver.url)
        try:
            await place.publish(*(some := events(3)))
            for subscription in [*hanging, good]:
                await queues.of(trigger).send(str(Lane(subscription.id)))
            await receiver.until(3)
            assert names(receiver) == ids(some)
        finally:
            gate.set()
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
