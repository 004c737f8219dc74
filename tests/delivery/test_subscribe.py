"""Subscribing: what a subscription begins with, when it is the same as another, and how its endpoint is validated."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from aiohttp import web

from events_core.access import scopes
from events_core.access.identity import caller_of_consumer
from events_core.common.clock import SECOND
from events_core.common.errors import EventsError, Problem
from events_core.delivery.rules import Wanted
from events_core.delivery.subscription import EventFilter, Subscription
from events_core.feeds.stream import Stream
from tests.contract.event_store import APP, event, events, ids
from tests.support.delivering import KNOWN_PERSON, KNOWN_UNIT, TTD, Deployment, names
from tests.support.webhook_server import Received

OWNER = replace(caller_of_consumer(TTD, 3), scopes=frozenset({scopes.SUBSCRIBE}))
MAIN_UNIT = "810419962"


# -- Creating ---------------------------------------------------------------------------------------------------------


async def test_the_same_subscription_made_at_once_by_many_is_one(deployment: Deployment) -> None:
    """One of them is told its secret."""
    wanted = Wanted(endpoint=deployment.receiver.url, resource=APP)
    others = [deployment.start() for _ in range(2)]
    subscribers = [each.subscriber for each in (deployment.application, *others)]
    made = await asyncio.gather(*(subscribers[n % 3].subscribe(OWNER, wanted) for n in range(8)))
    assert len({each.subscription.id for each in made}) == 1
    assert sum(each.secret is not None for each in made) == 1


async def test_made_anew_it_is_validated_anew(deployment: Deployment) -> None:
    """While it stays validated."""
    subscription = await deployment.subscribe()
    before = len(deployment.receiver.received)
    again = await deployment.subscribe()
    assert again.id == subscription.id
    assert again.validation.validated
    assert len(deployment.receiver.received) > before


async def test_what_was_followed_up_while_it_was_made_is_not_missed(deployment: Deployment) -> None:
    """Another process may follow up an event after its start was taken, and before that process could see it."""
    other = deployment.start()
    store = deployment.application.subscriber.subscriptions
    between = event("between")

    async def create_late(draft: Subscription) -> tuple[Subscription, bool]:
        await deployment.publish(between, process=other)
        return await store.create(draft)

    late = replace(deployment.application.subscriber, subscriptions=_Late(store, create_late))  # type: ignore[arg-type]
    subscribed = await late.subscribe(OWNER, Wanted(endpoint=deployment.receiver.url + "/hook", resource=APP))
    await deployment.publish(event("after"))
    await deployment.idle()
    await deployment.deliver()
    assert names(deployment.receiver) == ["between", "after"]
    assert subscribed.secret is not None


class _Late:
    """A store whose `create` is another's."""

    def __init__(self, store: object, create: object) -> None:
        self._store, self.create = store, create

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


async def test_an_alternative_subject_is_looked_up(deployment: Deployment) -> None:
    """The party that Register knows is the subject; nobody is told who is unknown."""
    person = await deployment.subscribe(alternative_subject=f"/person/{KNOWN_PERSON}", path="/a")
    unit = await deployment.subscribe(alternative_subject=f"/organisation/{KNOWN_UNIT}", path="/b")
    assert (person.filter.subject, unit.filter.subject) == ("/party/50002108", "/party/50074838")
    with pytest.raises(EventsError) as unknown:
        await deployment.subscribe(alternative_subject="/person/10987654321")
    assert unknown.value.problem is Problem.BAD_REQUEST
    assert unknown.value.detail == "A valid subject to the authenticated identity is required"
    await deployment.publish(event("a"), event("b", subject="/party/50074838"))
    await deployment.deliver()
    assert (names(deployment.receiver, "/a"), names(deployment.receiver, "/b")) == (["a"], ["b"])


async def test_without_register_nothing_is_made(deployment: Deployment) -> None:
    """It is asked again later."""
    deployment.register.status = 503
    with pytest.raises(EventsError) as refused:
        await deployment.subscribe(alternative_subject=f"/person/{KNOWN_PERSON}")
    assert refused.value.problem is Problem.UNAVAILABLE
    assert await deployment.application.subscriber.list(OWNER, 0, 10) == []


# -- Sub-units --------------------------------------------------------------------------------------------------------


async def test_events_about_sub_units_match_where_that_is_asked_for(deployment: Deployment) -> None:
    """The main unit is the subject of the subscription, under any of its names."""
    deployment.register.units[MAIN_UNIT] = 50099999
    deployment.register.main_units[KNOWN_UNIT] = MAIN_UNIT
    await deployment.subscribe(path="/all", subject=f"/organisation/{MAIN_UNIT}", include_subunits=True)
    await deployment.subscribe(path="/main", subject=f"/organisation/{MAIN_UNIT}")
    await deployment.publish(event("sub", subject=f"/organisation/{KNOWN_UNIT}"), event("other", subject="/party/1"))
    await deployment.deliver()
    assert (names(deployment.receiver, "/all"), names(deployment.receiver, "/main")) == (["sub"], [])


async def test_while_register_is_down_sub_units_wait(deployment: Deployment) -> None:
    """And whatever follows them in their order; what does not match after all is dropped."""
    deployment.register.units[MAIN_UNIT] = 50099999
    deployment.register.main_units[KNOWN_UNIT] = MAIN_UNIT
    subscription = await deployment.subscribe(subject=f"/organisation/{MAIN_UNIT}", include_subunits=True)
    deployment.register.status = 503
    sub = f"/organisation/{KNOWN_UNIT}"
    await deployment.publish(event("a", subject=sub), event("no", subject="/party/1"), event("b", subject=sub))
    await deployment.deliver()
    assert names(deployment.receiver) == []
    deployment.register.status = 200
    deployment.clock.add(6)
    await deployment.deliver()
    assert names(deployment.receiver) == ["a", "b"]
    assert await deployment.states(subscription) == ["delivered", "delivered"]


# -- Validating -------------------------------------------------------------------------------------------------------


async def test_an_endpoint_that_refuses_its_validation_is_asked_again(deployment: Deployment) -> None:
    """On the schedule; how it stands can be seen."""
    deployment.receiver.answer = lambda _: web.Response(status=500)
    subscription = await deployment.subscribe()
    validation = subscription.validation
    assert (validation.validated, validation.tries, validation.status) == (False, 1, 500)
    assert validation.next_try is not None
    deployment.receiver.answer = lambda _: web.Response()
    deployment.clock.add(9)
    await deployment.deliver()
    assert not (await deployment.stored(subscription.id)).validation.validated
    deployment.clock.add(3)
    await deployment.deliver()
    validation = (await deployment.stored(subscription.id)).validation
    assert (validation.validated, validation.tries, validation.next_try) == (True, 2, None)


async def test_an_endpoint_that_is_never_validated_is_left_alone(deployment: Deployment) -> None:
    """After the last try; nothing was ever delivered to it."""
    deployment.receiver.answer = lambda _: web.Response(status=500)
    subscription = await deployment.subscribe()
    await deployment.publish(*events(2))
    for _ in range(20):
        await deployment.deliver()
        deployment.clock.add(13 * 3_600)
    validation = (await deployment.stored(subscription.id)).validation
    assert (validation.validated, validation.tries, validation.next_try) == (False, 16, None)
    assert names(deployment.receiver) == []
    assert await deployment.states(subscription) == ["pending", "pending"]


async def test_an_endpoint_that_speaks_the_handshake_may_refuse_us(deployment: Deployment) -> None:
    """`WebHook-Allowed-Origin` names somebody else: nothing is posted to it."""
    deployment.receiver.answer = lambda received: web.Response(headers={"WebHook-Allowed-Origin": "other.example"})
    subscription = await deployment.subscribe()
    assert subscription.validation.error == "handshake refused"
    assert [each.method for each in deployment.receiver.received] == ["OPTIONS"]
    assert deployment.receiver.received[0].headers["webhook-request-origin"]


async def test_an_endpoint_that_speaks_the_handshake_may_ask_for_a_rate(deployment: Deployment) -> None:
    """In deliveries a minute; attempts keep to it."""

    def answer(received: Received) -> web.Response:
        headers = {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "6"}
        return web.Response(headers=headers if received.method == "OPTIONS" else {})

    deployment.receiver.answer = answer
    subscription = await deployment.subscribe()
    assert subscription.allowed_rate == 6
    await deployment.publish(*(some := events(3)))
    await deployment.deliver()
    assert names(deployment.receiver) == ids(some[:1])
    for count in (2, 3):
        deployment.clock.add(11)
        await deployment.deliver()
        assert names(deployment.receiver) == ids(some[:count])


async def test_the_validation_event_is_signed_and_names_the_subscription(deployment: Deployment) -> None:
    """As a CloudEvent of type `platform.events.validatesubscription`."""
    subscribed = await deployment.application.subscriber.subscribe(
        OWNER, Wanted(endpoint=deployment.receiver.url, resource=APP)
    )
    await deployment.idle()
    (request,) = [each for each in deployment.receiver.received if each.method == "POST"]
    assert subscribed.secret is not None
    assert request.verified_by(subscribed.secret)
    assert request.event["type"] == "platform.events.validatesubscription"
    assert str(request.event["source"]).endswith(f"/events/api/v1/subscriptions/{subscribed.subscription.id}")


# -- Changing ---------------------------------------------------------------------------------------------------------


async def test_of_a_deleted_subscription_its_number_is_kept(deployment: Deployment) -> None:
    """And neither whom it asked about, nor its endpoint, nor its secret: nobody needs them any more."""
    subscription = await deployment.subscribe(subject="/party/50002108", alternative_subject="/person/01899699552")
    store = deployment.application.subscriber.subscriptions
    token = (await store.changes()).token
    caller = replace(caller_of_consumer(subscription.consumer, 3), scopes=frozenset({scopes.SUBSCRIBE}))
    await deployment.application.subscriber.delete(caller, subscription.id)
    (kept,) = [each for each in (await store.changes(token)).subscriptions if each.id == subscription.id]
    assert (kept.deleted, kept.endpoint, kept.secrets.current, kept.secrets.previous) == (True, "", "", None)
    assert kept.filter == EventFilter(subscription.filter.resource)
    again = await deployment.subscribe(subject="/party/50002108")
    assert again.id > subscription.id


async def test_a_deleted_subscription_is_silent(deployment: Deployment) -> None:
    """In another process too, and also what was recorded for it; within five seconds."""
    subscription = await deployment.subscribe()
    other = deployment.start()
    await deployment.publish(event("a"), process=other)
    await deployment.application.subscriber.delete(OWNER, subscription.id)
    await deployment.publish(event("b"), process=other)
    deployment.receiver.received.clear()
    await deployment.idle()
    await deployment.deliver()
    assert names(deployment.receiver) == []
    assert not await deployment.application.subscriber.deliveries.due(deployment.clock() + 99 * SECOND, 10)
    with pytest.raises(EventsError) as gone:
        await deployment.application.subscriber.get(OWNER, subscription.id)
    assert gone.value.problem is Problem.NOT_FOUND


async def test_both_secrets_sign_for_a_day_after_a_rotation(deployment: Deployment) -> None:
    """Whichever a receiver has verifies; afterwards the new one alone does."""
    subscribed = await deployment.application.subscriber.subscribe(
        OWNER, Wanted(endpoint=deployment.receiver.url + "/hook", resource=APP)
    )
    old = subscribed.secret
    assert old is not None
    await deployment.idle()
    new = await deployment.application.subscriber.rotate_secret(OWNER, subscribed.subscription.id)
    await deployment.publish(event("a"))
    await deployment.deliver()
    assert deployment.receiver.received[-1].verified_by(old)
    assert deployment.receiver.received[-1].verified_by(new)
    deployment.clock.add(24 * 3_600 + 1)
    await deployment.publish(event("b"))
    await deployment.deliver()
    signatures = deployment.receiver.received[-1].headers["webhook-signature"].split(" ")
    assert len(signatures) == 1


async def test_secrets_are_stored_encrypted(deployment: Deployment) -> None:
    """What the store holds does not show them."""
    subscribed = await deployment.application.subscriber.subscribe(
        OWNER, Wanted(endpoint=deployment.receiver.url, resource=APP)
    )
    assert subscribed.secret is not None
    assert subscribed.secret.removeprefix("whsec_") not in repr(await deployment.stored(subscribed.subscription.id))


async def test_where_nobody_subscribes_following_up_asks_nobody(deployment: Deployment) -> None:
    """Neither the decision point nor Register."""
    await deployment.publish(*events(3))
    assert (deployment.pdp.requests, deployment.register.requests) == ([], [])
    seen = await deployment.application.checkpoints.checkpoint(Stream.of_resource(APP))
    assert seen.position > 0
