"""The beginning of a subscription: from its creation on it misses no event, and first attempts are in order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from events_core.common import errors
from events_core.common.errors import EventsError
from events_core.delivery.delivery import Lane
from events_core.delivery.rules import SubscriptionRequest
from events_core.delivery.subscribe import Change
from events_core.delivery.subscription import Subscription
from events_core.feeds.stream import Stream
from events_core.operations.application import Application
from tests.contract.event_store import APP, event, events, ids
from tests.support.delivering import TTD, Deployment, answering, names
from tests.support.webhook_server import Answer, Received

STREAM = Stream.of_resource(APP)
PARTY = "/party/1"
"""All events are about one subject, so they are attempted one after the other."""


def refusing(received: Received) -> web.Response:
    """An endpoint that refuses to be validated."""
    return web.Response(status=500 if b"validatesubscription" in received.body else 200)


class Failing:
    """A store that does not answer to one of its writes, though it is done. It counts the writes."""

    WRITES = ("record", "move_replay", "save", "take", "release", "wake_all", "change", "create")

    def __init__(self, store: Any, writes: list[str], fails: int) -> None:
        self._store, self._writes, self._fails = store, writes, fails

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in self.WRITES:
            return method

        async def write(*values: Any, **named: Any) -> Any:
            result = await method(*values, **named)
            self._writes.append(name)
            if len(self._writes) == self._fails:
                raise errors.unavailable("The store does not answer.")
            return result

        return write


class Between:
    """A store before, or after, one method of which something else happens."""

    def __init__(self, store: Any, name: str, happens: Callable[[], Any], *, after: bool = False) -> None:
        self._store, self._name, self._happens, self._after = store, name, happens, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name != self._name:
            return method

        async def call(*values: Any, **named: Any) -> Any:
            if not self._after:
                await self._happens()
            result = await method(*values, **named)
            if self._after:
                await self._happens()
            return result

        return call


def with_stores(
    application: Application, *, subscriptions: Any = None, deliveries: Any = None, checkpoints: Any = None
) -> Application:
    """The application whose use cases of subscriptions and deliveries have other stores."""
    worker, subscriber = application.lane_worker, application.subscriber
    subscriptions = subscriptions or worker.subscriptions
    deliveries = deliveries or worker.deliveries
    checkpoints = checkpoints or worker.checkpoints
    worker = replace(
        worker,
        subscriptions=subscriptions,
        deliveries=deliveries,
        checkpoints=checkpoints,
        validation=replace(worker.validation, subscriptions=subscriptions),
        attempts=replace(worker.attempts, subscriptions=subscriptions, deliveries=deliveries),
    )
    subscriber = replace(subscriber, subscriptions=subscriptions, deliveries=deliveries, lane_worker=worker)
    return replace(application, lane_worker=worker, subscriber=subscriber)


async def created(deployment: Deployment, answer: Answer = refusing) -> Subscription:
    """A subscription whose endpoint refuses to be validated."""
    deployment.receiver.answer = answer
    subscription = await deployment.subscribe()
    assert not subscription.was_ever_validated
    return subscription


async def validate(deployment: Deployment) -> None:
    """Validate the endpoint at its next try, and deliver."""
    deployment.receiver.answer = answering(200)
    deployment.clock.add(12)
    await deployment.deliver()


async def positions(deployment: Deployment, subscription: Subscription) -> list[int]:
    """The positions of a subscription's deliveries."""
    return [delivery.position for delivery in await deployment.deliveries(subscription)]


# -- Before the first validation --------------------------------------------------------------------------------------


async def test_nothing_is_recorded_before_the_first_validation(deployment: Deployment) -> None:
    """Follow-up does not even read the stream. When the endpoint is validated, nothing is missing."""
    subscription = await created(deployment)
    await deployment.publish(*(before := events(3, subject=PARTY)))
    assert await deployment.deliveries(subscription) == []
    assert not await deployment.application.lane_worker.fan_out.wants(STREAM)
    await validate(deployment)
    assert names(deployment.receiver) == ids(before)
    await deployment.publish(last := event("last", subject=PARTY))
    await deployment.deliver()
    assert names(deployment.receiver) == [*ids(before), last.id]


async def test_events_before_the_creation_do_not_match(deployment: Deployment) -> None:
    """The beginning starts where the stream ended then."""
    await deployment.publish(*events(3, subject=PARTY))
    subscription = await created(deployment)
    await validate(deployment)
    assert await deployment.deliveries(subscription) == []


async def test_a_repeat_of_a_failed_creation_misses_nothing(deployment: Deployment) -> None:
    """An event was followed up before the first request stored the subscription, and that request failed then.

    A worker validates the endpoint before the second request, and a later event does not overtake the first one.
    """
    application, other = deployment.application, deployment.start()
    one, two = events(2, subject=PARTY)

    async def publish() -> None:
        await deployment.publish(one, process=other)

    store = Between(application.subscriber.subscriptions, "create", publish)
    failing = with_stores(application, subscriptions=Failing(store, [], 1))
    wanted = SubscriptionRequest(endpoint=deployment.receiver.url + "/hook", resource=APP)
    with pytest.raises(EventsError):
        await failing.subscriber.subscribe(deployment.caller(TTD), wanted)
    (subscription,) = await application.subscriber.list(deployment.caller(TTD), 0, 2)
    await application.deliveries.wake(Lane(subscription.id))
    await deployment.publish(two, process=other)
    await deployment.deliver(other)
    await deployment.subscribe()
    await deployment.deliver()
    assert names(deployment.receiver) == [one.id, two.id]


async def test_a_creation_whose_write_is_repeated_answers_with_its_secret(deployment: Deployment) -> None:
    """The store answers that the subscription stands, which the same request stored before."""
    store = deployment.application.subscriber.subscriptions

    class Twice:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        async def create(self, *values: Any) -> Any:
            await store.create(*values)
            return await store.create(*values)

    application = with_stores(deployment.application, subscriptions=Twice())
    wanted = SubscriptionRequest(endpoint=deployment.receiver.url + "/hook", resource=APP)
    subscribed = await application.subscriber.subscribe(deployment.caller(TTD), wanted)
    assert subscribed.secret is not None
    await application.lane_worker.close()


async def test_a_subscription_that_moves_before_it_is_validated_misses_nothing(deployment: Deployment) -> None:
    """Its start stays that of its creation, and nothing is recorded until the new endpoint is validated."""
    subscription = await created(deployment)
    await deployment.publish(*(one := events(2, subject=PARTY)))
    wanted = Change(endpoint=deployment.receiver.url + "/new")
    await deployment.application.subscriber.change(deployment.caller(TTD), subscription.id, wanted)
    await deployment.publish(*(two := events(2, subject=PARTY)))
    assert await deployment.deliveries(subscription) == []
    await validate(deployment)
    assert names(deployment.receiver, "/new") == ids([*one, *two])


async def test_an_endpoint_that_the_platform_confirms_gets_what_matched_before(deployment: Deployment) -> None:
    """It never answered a validation event."""
    subscription = await created(deployment)
    await deployment.publish(*(before := events(3, subject=PARTY)))
    await deployment.application.subscriber.confirm(subscription.id)
    await deployment.idle()
    assert names(deployment.receiver) == ids(before)


async def test_a_confirmation_whose_wake_up_is_lost_takes_effect_within_the_hour(deployment: Deployment) -> None:
    """Also if no event comes, and no validation is due any more."""
    subscription = await created(deployment)
    await deployment.publish(*(before := events(3, subject=PARTY)))
    for _ in range(17):
        deployment.clock.add(13 * 3_600)
        await deployment.deliver()
    failing = Failing(deployment.application.deliveries, [], 1)
    with pytest.raises(EventsError):
        await with_stores(deployment.application, deliveries=failing).subscriber.confirm(subscription.id)
    deployment.clock.add(3_601)
    await deployment.deliver()
    assert names(deployment.receiver) == ids(before)


# -- While it begins --------------------------------------------------------------------------------------------------


async def test_days_of_events_are_delivered_in_order(deployment: Deployment) -> None:
    """They are read in pages. Live events that are recorded meanwhile wait for them."""
    subscription = await created(deployment)
    published = events(450, subject=PARTY)
    for start in range(0, 450, 90):
        await deployment.application.store.append(published[start : start + 90])
    live: list[str] = []

    def answer(_: Received) -> web.Response:
        deployment.clock.add(0.02)  # more than a turn
        return web.Response()

    async def follow() -> None:
        if len(live) < 5:
            more = event(f"live{len(live)}", subject=PARTY)
            live.append(more.id)
            await deployment.publish(more)

    await deployment.application.subscriber.confirm(subscription.id)
    worker = deployment.application.lane_worker
    between = Between(worker.checkpoints, "read_after", follow, after=True)
    deployment.application = with_stores(deployment.application, checkpoints=between)
    deployment.receiver.answer = answer
    while len(names(deployment.receiver)) < 450 + len(live):
        await deployment.deliver()
    await worker.close()
    delivered = list(dict.fromkeys(names(deployment.receiver)))
    assert delivered == [*ids(published), *live]
    found = await positions(deployment, subscription)
    assert len(found) == len(set(found)) == 450 + len(live)


@pytest.mark.parametrize("moment", ["validated", "end", "move_replay", "read_after", "record"])
async def test_events_that_another_process_follows_up_are_recorded_once_and_in_order(
    deployment: Deployment, moment: str
) -> None:
    """At each moment of the beginning an event is published, and another process follows it up."""
    other, published = deployment.start(), list[str]()
    await other.subscriber.cache.fresh()

    async def publish() -> None:
        for _ in range(2):
            new = event(f"e{len(published)}", subject=PARTY)
            published.append(new.id)
            await deployment.publish(new, process=other)

    subscription = await created(deployment)
    await publish()
    worker = deployment.application.lane_worker

    async def answer(received: Received) -> web.Response:
        if moment == "validated" and b"validatesubscription" in received.body:
            await publish()
        return web.Response()

    deployment.receiver.answer = answer
    deliveries: Any = worker.deliveries
    checkpoints: Any = worker.checkpoints
    for after in (False, True):
        deliveries = Between(deliveries, moment, publish, after=after)
        checkpoints = Between(checkpoints, moment, publish, after=after)
    own = deployment.application
    deployment.application = with_stores(own, deliveries=deliveries, checkpoints=checkpoints)
    deployment.clock.add(12)
    await deployment.application.lane_worker.serve(Lane(subscription.id))
    await publish()
    deployment.application = own
    await deployment.deliver()
    assert names(deployment.receiver) == published
    found = await positions(deployment, subscription)
    assert len(found) == len(set(found)) == len(published)


async def test_a_follow_up_that_saw_no_subscription_hides_no_event(deployment: Deployment) -> None:
    """It read its page, and looked at the subscriptions, before the validation was stored; it moves on after it."""
    subscription = await created(deployment)
    other = deployment.start()
    published = events(2, subject=PARTY)
    await other.store.append(published)
    confirm = deployment.application.subscriber.confirm

    async def confirmed() -> None:
        await confirm(subscription.id)
        await deployment.idle()

    late = replace(other.follow_up, checkpoints=Between(other.checkpoints, "advance", confirmed))
    await late.follow(STREAM)
    await deployment.deliver()
    assert names(deployment.receiver) == ids(published)


async def test_a_subscription_that_is_paused_while_it_begins_goes_on_when_it_is_resumed(deployment: Deployment) -> None:
    """Nothing is sent meanwhile, and nothing is missed or out of order."""
    subscription = await created(deployment)
    await deployment.publish(*(one := events(3, subject=PARTY)))
    subscriber, caller = deployment.application.subscriber, deployment.caller(TTD)

    async def pause() -> None:
        await subscriber.change(caller, subscription.id, Change(paused=True))

    between = Between(deployment.application.deliveries, "move_replay", pause, after=True)
    pausing = with_stores(deployment.application, deliveries=between)
    deployment.receiver.answer = answering(200)
    deployment.clock.add(12)
    await pausing.lane_worker.serve(Lane(subscription.id))
    await deployment.idle()
    sent = len(names(deployment.receiver))
    await deployment.publish(*(two := events(2, subject=PARTY)))
    await deployment.deliver()
    assert len(names(deployment.receiver)) == sent
    await subscriber.change(caller, subscription.id, Change(paused=False))
    await deployment.idle()
    await deployment.deliver()
    assert names(deployment.receiver) == ids([*one, *two])


@pytest.mark.parametrize("fails", range(1, 9))
async def test_a_crash_after_any_write_of_the_beginning_loses_nothing(deployment: Deployment, fails: int) -> None:
    """The store does not answer after it has written. Another worker goes on when the lease has ended."""
    subscription = await created(deployment)
    published = events(3, subject=PARTY)
    await deployment.publish(*published)
    own, writes = deployment.application, list[str]()
    deployment.receiver.answer = answering(200)
    deployment.clock.add(12)
    failing = with_stores(
        own,
        subscriptions=Failing(own.subscriber.subscriptions, writes, fails),
        deliveries=Failing(own.deliveries, writes, fails),
    )
    with suppress(EventsError):
        await failing.lane_worker.serve(Lane(subscription.id))
    assert len(writes) >= fails
    await deployment.publish(last := event("last", subject=PARTY))
    for _ in range(3):
        deployment.clock.add(90)
        await deployment.deliver()
    assert list(dict.fromkeys(names(deployment.receiver))) == [*ids(published), last.id]
    assert await deployment.states(subscription) == ["delivered"] * 4


# -- After the first validation ---------------------------------------------------------------------------------------


async def test_what_matches_while_an_endpoint_is_gone_is_kept(deployment: Deployment) -> None:
    """Until it is validated again, at the same or another URL."""
    subscription = await deployment.subscribe()
    deployment.receiver.answer = answering(410)
    await deployment.publish(first := event("first", subject=PARTY))
    await deployment.deliver()
    assert (await deployment.stored(subscription.id)).disabled
    await deployment.publish(*(meanwhile := events(3, subject=PARTY)))
    assert len(await deployment.deliveries(subscription)) == 4
    wanted = Change(endpoint=deployment.receiver.url + "/new")
    deployment.receiver.answer = refusing
    await deployment.application.subscriber.change(deployment.caller(TTD), subscription.id, wanted)
    await deployment.idle()
    await deployment.publish(*(moved := events(2, subject=PARTY)))
    assert len(await deployment.deliveries(subscription)) == 6
    await validate(deployment)
    assert {*names(deployment.receiver, "/new")} == {first.id, *ids([*meanwhile, *moved])}


async def test_a_subscription_begins_once(deployment: Deployment) -> None:
    """Later validations look at no event anew."""
    subscription = await deployment.subscribe()
    await deployment.publish(*events(2, subject=PARTY))
    await deployment.deliver()
    lane = Lane(subscription.id)
    lease = await deployment.application.deliveries.take(lane, deployment.clock(), deployment.clock() + 1)
    assert lease is not None
    assert lease.replay is not None
    assert (lease.replay.done, lease.replay.until) == (True, subscription.start)
