"""Subscribing: creating, changing and deleting subscriptions, and validating their endpoints."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace

import pytest
from aiohttp import web

from events_core.access import scopes
from events_core.access.identity import caller_of_consumer
from events_core.common.clock import SECOND
from events_core.common.errors import EventsError, Problem
from events_core.delivery.ports import SubscriptionQuota
from events_core.delivery.rules import SubscriptionRequest
from events_core.delivery.subscribe import Change
from events_core.delivery.subscription import EventFilter, Subscription
from events_core.feeds.stream import Stream
from tests.contract.event_store import APP, event, events, ids
from tests.support.delivering import KNOWN_PERSON, KNOWN_UNIT, TTD, Deployment, names
from tests.support.webhook_server import Received

OWNER = replace(caller_of_consumer(TTD, 3), scopes=frozenset({scopes.SUBSCRIBE}))
MAIN_UNIT = "810419962"


# -- Creating ---------------------------------------------------------------------------------------------------------


async def test_concurrent_identical_requests_create_one_subscription(deployment: Deployment) -> None:
    """One of the answers has the secret."""
    wanted = SubscriptionRequest(endpoint=deployment.receiver.url, resource=APP)
    others = [deployment.start() for _ in range(2)]
    subscribers = [process.subscriber for process in (deployment.application, *others)]
    answers = await asyncio.gather(*(subscribers[n % 3].subscribe(OWNER, wanted) for n in range(8)))
    assert len({subscribed.subscription.id for subscribed in answers}) == 1
    assert sum(subscribed.secret is not None for subscribed in answers) == 1


async def test_an_identical_request_validates_the_endpoint_again(deployment: Deployment) -> None:
    """The subscription stays validated meanwhile."""
    subscription = await deployment.subscribe()
    before = len(deployment.receiver.received)
    again = await deployment.subscribe()
    assert again.id == subscription.id
    assert again.validation.validated
    assert len(deployment.receiver.received) > before


async def test_an_event_followed_up_during_creation_is_delivered(deployment: Deployment) -> None:
    """Another process may follow it up after the start was read, and before it can see the subscription."""
    other = deployment.start()
    store = deployment.application.subscriber.subscriptions
    between = event("between")

    async def create_late(draft: Subscription, quota: SubscriptionQuota) -> tuple[Subscription, bool]:
        await deployment.publish(between, process=other)
        return await store.create(draft, quota)

    late = replace(deployment.application.subscriber, subscriptions=_Late(store, create_late))  # type: ignore[arg-type]
    subscribed = await late.subscribe(
        OWNER, SubscriptionRequest(endpoint=deployment.receiver.url + "/hook", resource=APP)
    )
    await deployment.publish(event("after"))
    await deployment.idle()
    await deployment.deliver()
    assert names(deployment.receiver) == ["between", "after"]
    assert subscribed.secret is not None


class _Late:
    """A store with another `create`."""

    def __init__(self, store: object, create: object) -> None:
        self._store, self.create = store, create

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


async def test_an_alternative_subject_becomes_a_party(deployment: Deployment) -> None:
    """Register finds the party. The error for an unknown person does not say that the person is unknown."""
    person = await deployment.subscribe(alternative_subject=f"/person/{KNOWN_PERSON}", path="/a")
    unit = await deployment.subscribe(alternative_subject=f"/organisation/{KNOWN_UNIT}", path="/b")
    assert (person.filter.subject, unit.filter.subject) == ("/party/50002108", "/party/50074838")
    with pytest.raises(EventsError) as unknown:
        await deployment.subscribe(alternative_subject="/person/10987654321")
    assert unknown.value.problem is Problem.FORBIDDEN
    assert unknown.value.detail == f"Not authorized to create a subscription for resource {APP}."
    await deployment.publish(event("a"), event("b", subject="/party/50074838"))
    await deployment.deliver()
    assert (names(deployment.receiver, "/a"), names(deployment.receiver, "/b")) == (["a"], ["b"])


async def test_no_subscription_is_created_while_register_is_down(deployment: Deployment) -> None:
    """Its subject would be unknown."""
    deployment.register.status = 503
    with pytest.raises(EventsError) as refused:
        await deployment.subscribe(alternative_subject=f"/person/{KNOWN_PERSON}")
    assert refused.value.problem is Problem.UNAVAILABLE
    assert await deployment.application.subscriber.list(OWNER, 0, 10) == []


async def test_a_failed_validation_of_a_repeat_stops_nothing(deployment: Deployment) -> None:
    """The endpoint was validated before, and goes on receiving events."""
    subscription = await deployment.subscribe()

    def answer(received: Received) -> web.Response:
        return web.Response(status=500 if b"validatesubscription" in received.body else 200)

    deployment.receiver.answer = answer
    again = await deployment.subscribe()
    assert (again.id, again.validation.validated, again.validation.status) == (subscription.id, True, 500)
    await deployment.publish(event("a"))
    await deployment.deliver()
    assert names(deployment.receiver) == ["a"]


async def test_a_subscription_that_is_never_validated_is_removed(deployment: Deployment) -> None:
    """Seven days after its creation. One that was validated stays, also while a later endpoint refuses."""
    validated = await deployment.subscribe(path="/a")
    deployment.receiver.answer = lambda _: web.Response(status=500)
    moved = await deployment.application.subscriber.change(
        OWNER, validated.id, Change(endpoint=deployment.receiver.url + "/b")
    )
    refused = await deployment.subscribe(path="/c")
    store, subscriber = deployment.application.subscriber.subscriptions, deployment.application.subscriber
    await subscriber.remove_never_validated(refused.created)
    assert await store.get(refused.id) is not None
    await subscriber.remove_never_validated(refused.created + 1)
    assert await store.get(refused.id) is None
    assert await store.get(moved.id) is not None


# -- Sub-units --------------------------------------------------------------------------------------------------------


async def test_events_about_sub_units_match_if_asked_for(deployment: Deployment) -> None:
    """The subscription names the main unit."""
    deployment.register.units[MAIN_UNIT] = 50099999
    deployment.register.main_units[KNOWN_UNIT] = MAIN_UNIT
    await deployment.subscribe(path="/all", subject=f"/organisation/{MAIN_UNIT}", include_subunits=True)
    await deployment.subscribe(path="/main", subject=f"/organisation/{MAIN_UNIT}")
    await deployment.publish(event("sub", subject=f"/organisation/{KNOWN_UNIT}"), event("other", subject="/party/1"))
    await deployment.deliver()
    assert (names(deployment.receiver, "/all"), names(deployment.receiver, "/main")) == (["sub"], [])


async def test_sub_units_wait_while_register_is_down(deployment: Deployment) -> None:
    """Deliveries behind them in their order wait too. A delivery that does not match in the end is removed."""
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


async def test_a_failed_validation_is_retried_on_schedule(deployment: Deployment) -> None:
    """The subscription shows its state."""
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


async def test_validation_ends_after_the_last_retry(deployment: Deployment) -> None:
    """An endpoint that is not validated gets no events."""
    deployment.receiver.answer = lambda _: web.Response(status=500)
    subscription = await deployment.subscribe()
    await deployment.publish(*events(2))
    for _ in range(20):
        await deployment.deliver()
        deployment.clock.add(13 * 3_600)
    validation = (await deployment.stored(subscription.id)).validation
    assert (validation.validated, validation.tries, validation.next_try) == (False, 16, None)
    assert names(deployment.receiver) == []
    assert await deployment.states(subscription) == []


async def test_an_endpoint_may_refuse_us_in_the_handshake(deployment: Deployment) -> None:
    """If `WebHook-Allowed-Origin` names another origin, no validation event is sent."""
    deployment.receiver.answer = lambda received: web.Response(headers={"WebHook-Allowed-Origin": "other.example"})
    subscription = await deployment.subscribe()
    assert subscription.validation.error == "handshake refused"
    assert [request.method for request in deployment.receiver.received] == ["OPTIONS"]
    assert deployment.receiver.received[0].headers["webhook-request-origin"]


async def test_an_endpoint_may_limit_the_rate_in_the_handshake(deployment: Deployment) -> None:
    """In deliveries a minute."""

    def answer(received: Received) -> web.Response:
        headers = {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "6"}
        return web.Response(headers=headers if received.method == "OPTIONS" else {})

    deployment.receiver.answer = answer
    subscription = await deployment.subscribe()
    assert subscription.allowed_rate == 6
    await deployment.publish(*(published := events(3)))
    await deployment.deliver()
    assert names(deployment.receiver) == ids(published[:1])
    for count in (2, 3):
        deployment.clock.add(11)
        await deployment.deliver()
        assert names(deployment.receiver) == ids(published[:count])


async def test_the_validation_event_is_signed_and_names_the_subscription(deployment: Deployment) -> None:
    """By a UUID and the URL of the subscription. Without a configured URL, that is the one of the request."""
    wanted = SubscriptionRequest(endpoint=deployment.receiver.url, resource=APP, base_url="http://127.0.0.1:7071")
    subscribed = await deployment.application.subscriber.subscribe(OWNER, wanted)
    await deployment.idle()
    (request,) = [received for received in deployment.receiver.received if received.method == "POST"]
    assert subscribed.secret is not None
    assert request.verified_by(subscribed.secret)
    assert request.event["type"] == "platform.events.validatesubscription"
    path = f"/events/api/v1/subscriptions/{subscribed.subscription.id}"
    assert request.event["source"] == f"http://127.0.0.1:7071{path}"
    assert str(uuid.UUID(str(request.event["id"]))) == request.event["id"] == request.headers["webhook-id"]


async def test_an_endpoint_that_takes_only_json_gets_json_from_its_validation_on(deployment: Deployment) -> None:
    """It answers 415 once, and the subscription says what it takes."""
    deployment.receiver.answer = _only_json
    subscription = await deployment.subscribe()
    assert (subscription.validation.validated, subscription.validation.tries) == (True, 1)
    assert subscription.content_type == "application/json"
    await deployment.publish(event("a"))
    await deployment.deliver()
    assert _posted_as(deployment) == ["application/cloudevents+json", "application/json", "application/json"]


async def test_an_endpoint_that_takes_only_json_later_gets_json_from_then_on(deployment: Deployment) -> None:
    """Both requests are one attempt."""
    subscription = await deployment.subscribe()
    deployment.receiver.answer = _only_json
    deployment.receiver.received.clear()
    await deployment.publish(event("a"), event("b"))
    await deployment.deliver()
    assert _posted_as(deployment) == ["application/cloudevents+json", "application/json", "application/json"]
    assert (await deployment.stored(subscription.id)).content_type == "application/json"
    first, second = await deployment.deliveries(subscription)
    assert [(delivery.state.value, len(delivery.attempts)) for delivery in (first, second)] == [("delivered", 1)] * 2


async def test_an_endpoint_that_takes_no_json_either_stays_as_it_is(deployment: Deployment) -> None:
    """The attempt is refused."""
    deployment.receiver.answer = lambda _: web.Response(status=415)
    subscription = await deployment.subscribe()
    assert (subscription.validation.status, subscription.validation.tries) == (415, 1)
    assert subscription.content_type == "application/cloudevents+json"


async def test_each_request_names_the_origin_of_the_handshake(deployment: Deployment) -> None:
    """The handshake itself, the validation event and every delivery."""
    await deployment.subscribe()
    await deployment.publish(event("a"))
    await deployment.deliver()
    received = deployment.receiver.received
    assert [request.method for request in received] == ["OPTIONS", "POST", "POST"]
    assert {request.headers["webhook-request-origin"] for request in received} == {"localhost"}


def _only_json(received: Received) -> web.Response:
    """Refuse every media type but `application/json`."""
    is_json = received.headers.get("content-type", "").startswith("application/json")
    return web.Response(status=200 if is_json or received.method == "OPTIONS" else 415)


def _posted_as(deployment: Deployment) -> list[str]:
    """The media types of the received bodies."""
    posted = [received for received in deployment.receiver.received if received.method == "POST"]
    return [received.headers["content-type"].partition(";")[0] for received in posted]


# -- Changing ---------------------------------------------------------------------------------------------------------


async def test_only_a_deletion_marker_is_kept_of_a_deleted_subscription(deployment: Deployment) -> None:
    """Filters, endpoint and secrets are gone, and the id is not used again."""
    subscription = await deployment.subscribe(subject="/party/50002108", alternative_subject="/person/01899699552")
    store = deployment.application.subscriber.subscriptions
    token = (await store.changes()).token
    caller = replace(caller_of_consumer(subscription.consumer, 3), scopes=frozenset({scopes.SUBSCRIBE}))
    await deployment.application.subscriber.delete(caller, subscription.id)
    changes = (await store.changes(token)).subscriptions
    (kept,) = [changed for changed in changes if changed.id == subscription.id]
    assert (kept.deleted, kept.endpoint, kept.secrets.current, kept.secrets.previous) == (True, "", "", None)
    assert kept.filter == EventFilter(subscription.filter.resource)
    again = await deployment.subscribe(subject="/party/50002108")
    assert again.id > subscription.id


async def test_a_deleted_subscription_gets_nothing(deployment: Deployment) -> None:
    """Not from another process either, nor what was recorded before."""
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


async def test_no_process_begins_at_the_old_endpoint_of_a_moved_subscription(deployment: Deployment) -> None:
    """From the answer to the move on; another process may have the old endpoint in its cache before."""
    subscription = await deployment.subscribe(path="/old")
    other = deployment.start()
    await deployment.publish(event("a"), process=other)
    await deployment.deliver(other)
    wanted = Change(endpoint=deployment.receiver.url + "/new")
    moving = asyncio.create_task(deployment.application.subscriber.change(OWNER, subscription.id, wanted))
    await deployment.publish(*(published := events(20)), process=other)
    await moving
    before = len(deployment.receiver.received)
    await deployment.deliver(other)
    await deployment.idle()
    await deployment.deliver(other)
    assert [request for request in deployment.receiver.received[before:] if request.path == "/old"] == []
    assert {*names(deployment.receiver)} == {"a", *ids(published)}


async def test_a_move_makes_no_subscription_unproven(deployment: Deployment) -> None:
    """An earlier endpoint was validated, so it does not count among those that never were."""
    subscription = await deployment.subscribe(path="/old")
    deployment.receiver.answer = lambda _: web.Response(status=500)
    wanted = Change(endpoint=deployment.receiver.url + "/new")
    moved = await deployment.application.subscriber.change(OWNER, subscription.id, wanted)
    assert (moved.validation.validated, moved.was_validated) == (False, True)


async def test_both_secrets_sign_for_a_day_after_a_rotation(deployment: Deployment) -> None:
    """The new secret's signature stands first. Afterwards only the new secret signs."""
    subscribed = await deployment.application.subscriber.subscribe(
        OWNER, SubscriptionRequest(endpoint=deployment.receiver.url + "/hook", resource=APP)
    )
    old = subscribed.secret
    assert old is not None
    await deployment.idle()
    new = await deployment.application.subscriber.rotate_secret(OWNER, subscribed.subscription.id)
    await deployment.publish(event("a"))
    await deployment.deliver()
    received = deployment.receiver.received[-1]
    assert received.verified_by(old)
    first = received.headers["webhook-signature"].split(" ")[0]
    assert replace(received, headers={**received.headers, "webhook-signature": first}).verified_by(new)
    deployment.clock.add(24 * 3_600 + 1)
    await deployment.publish(event("b"))
    await deployment.deliver()
    signatures = deployment.receiver.received[-1].headers["webhook-signature"].split(" ")
    assert len(signatures) == 1


async def test_secrets_are_stored_encrypted(deployment: Deployment) -> None:
    """A copy of the store must not let anyone sign."""
    subscribed = await deployment.application.subscriber.subscribe(
        OWNER, SubscriptionRequest(endpoint=deployment.receiver.url, resource=APP)
    )
    assert subscribed.secret is not None
    assert subscribed.secret.removeprefix("whsec_") not in repr(await deployment.stored(subscribed.subscription.id))


async def test_follow_up_without_subscriptions_asks_no_neighbour(deployment: Deployment) -> None:
    """Neither the decision point nor Register."""
    await deployment.publish(*events(3))
    assert (deployment.pdp.requests, deployment.register.requests) == ([], [])
    seen = await deployment.application.checkpoints.checkpoint(Stream.of_resource(APP))
    assert seen.position > 0
