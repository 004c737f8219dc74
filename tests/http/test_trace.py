"""Traces over HTTP: what happened to an event, and why it did not reach a subscription."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import azure.functions as func
import pytest
from aiohttp import web

from events_core import app
from events_core.common.errors import EventsError
from events_core.http import deliveries
from events_core.http.query import Parameters
from events_core.http.request import Request
from tests.support.asgi import Answer
from tests.support.pdp_server import DENY, PERMIT
from tests.support.service import (
    ANCIENT,
    APP_FEED,
    PARTY,
    PERSON,
    PUBLISH,
    RESOURCE,
    Service,
    event,
    ids,
    instance_source,
    running,
)
from tests.support.subscribing import LOOPBACK, SUBSCRIPTIONS, deliveries_of, published, settled, subscribed
from tests.support.webhook_server import WebhookServer


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """The service with permission to deliver to loopback."""
    async with running(tmp_path, monkeypatch, **LOOPBACK) as service:
        yield service


async def trace_of(service: Service, event_id: str, source: str, token: str, **query: Any) -> Answer:
    """Ask for the trace of an event."""
    return await service.get(f"{PUBLISH}/{event_id}/trace", token, source=source, **query)


async def unreached(service: Service, event_id: str, source: str, token: str) -> dict[int, str]:
    """Ask why an event did not reach subscriptions. Return the reason by subscription."""
    answer = await trace_of(service, event_id, source, token, explain="true")
    assert answer.status == 200, answer.body
    entries = answer.json()["entries"]
    return {entry["subscriptionId"]: entry["reason"] for entry in entries if entry["activity"] == "unreached"}


@pytest.mark.on_cosmos
async def test_a_publisher_sees_the_whole_trace(service: Service, receiver: WebhookServer) -> None:
    """A PlatformAccessToken of the app or the right to publish opens the trace; it names no endpoint."""
    subscription = await subscribed(service, receiver)
    source = instance_source()
    (name,) = await published(service, source=source)
    await settled()
    answer = await service.request(
        "GET", f"{PUBLISH}/{name}/trace?{urlencode({'source': source})}", platform_token=service.app()
    )
    assert answer.status == 200
    entries = answer.json()["entries"]
    assert [entry["activity"] for entry in entries] == ["registered", "matched", "attempted", "delivered"]
    assert [entry["subscriptionId"] for entry in entries] == [None, *[subscription["id"]] * 3]
    assert (entries[2]["status"], entries[2]["consumer"]) == (200, "/org/ttd")
    assert receiver.url not in answer.body.decode()
    permitted = await trace_of(service, name, source, service.org(org="skd"))
    assert permitted.json() == answer.json()


@pytest.mark.on_cosmos
async def test_a_subscriber_sees_its_own_entries(service: Service, receiver: WebhookServer) -> None:
    """A caller without a part in the event gets 404, as for an unknown event."""
    mine = await subscribed(service, receiver)
    user = service.user()
    await subscribed(service, receiver, user, path="/user", subjectFilter=f"/party/{PARTY}")
    source = instance_source()
    (name,) = await published(service, source=source)
    await settled()
    service.pdp.decide = lambda asked: DENY if asked.action == "publish" else PERMIT
    own = await trace_of(service, name, source, service.org())
    assert {entry["subscriptionId"] for entry in own.json()["entries"]} == {mine["id"]}
    assert {entry["consumer"] for entry in (await trace_of(service, name, source, user)).json()["entries"]} == {
        "/user/20012345"
    }
    assert (await trace_of(service, name, source, service.org(org="skd"))).status == 404
    assert (await trace_of(service, "unknown", source, service.org())).status == 404
    assert (await service.get(f"{PUBLISH}/{name}/trace", service.org())).status == 400


@pytest.mark.on_cosmos
async def test_a_trace_shows_withheld_deliveries(service: Service, receiver: WebhookServer) -> None:
    """A publisher sees that a consumer was denied the event."""
    await subscribed(service, receiver)
    service.pdp.decide = lambda asked: DENY if asked.action == "read" else PERMIT
    source = instance_source()
    (name,) = await published(service, source=source)
    await settled()
    entries = (await trace_of(service, name, source, service.org("altinn:events.publish.admin"))).json()["entries"]
    assert [entry["activity"] for entry in entries] == ["registered", "matched", "withheld"]


@pytest.mark.on_cosmos
async def test_a_delivery_is_undecided_while_the_decision_point_is_down(
    service: Service, receiver: WebhookServer
) -> None:
    """The trace says so, and the list does not show the event. Once it is decided, both show it."""
    subscription = await subscribed(service, receiver)
    path, source = f"{SUBSCRIPTIONS}/{subscription['id']}", instance_source()
    await service.request("PATCH", path, token=service.org(), json_body={"paused": True})
    service.pdp.status = 503
    (name,) = await published(service, source=source)
    admin = service.org("altinn:events.publish.admin")
    entries = (await trace_of(service, name, source, admin)).json()["entries"]
    assert [entry["activity"] for entry in entries] == ["registered", "matched", "undecided"]
    (waiting,) = await deliveries_of(service, subscription["id"])
    assert (waiting["state"], waiting["eventId"], waiting["source"]) == ("pending", None, None)
    service.pdp.status = 200
    await service.request("PATCH", path, token=service.org(), json_body={"paused": False})
    await settled()
    entries = (await trace_of(service, name, source, admin)).json()["entries"]
    assert [entry["activity"] for entry in entries] == ["registered", "matched", "attempted", "delivered"]
    (delivered,) = await deliveries_of(service, subscription["id"])
    assert (delivered["eventId"], delivered["source"]) == (name, source)


@pytest.mark.on_cosmos
async def test_an_undecidable_right_to_publish_shows_no_trace(service: Service, receiver: WebhookServer) -> None:
    """It counts as denied if the decision point answers the caller's other questions; else the answer is 503."""
    await subscribed(service, receiver)
    source = instance_source()
    (name,) = await published(service, source=source)
    stranger = service.org(org="skd")
    service.pdp.fails = lambda asked: asked.action == "publish"
    answer = await trace_of(service, name, source, stranger)
    assert (answer.status, "could not decide" in answer.json()["detail"]) == (503, True)
    assert ids((await service.get(APP_FEED, stranger, from_=ANCIENT)).json()) == [name]
    assert (await trace_of(service, name, source, stranger)).status == 404


@pytest.mark.on_cosmos
async def test_a_subscriber_sees_what_it_was_sent_while_the_right_to_publish_is_undecided(
    service: Service, receiver: WebhookServer
) -> None:
    """The event of an app whose policy is lost has a trace, and so has every event while the decision point is down."""
    await subscribed(service, receiver)
    source = instance_source()
    (name,) = await published(service, source=source)
    await settled()
    service.pdp.fails = lambda asked: "urn:altinn:instance-id" in asked.resource
    for status in (200, 503):
        service.pdp.status = status
        answer = await trace_of(service, name, source, service.org("altinn:events.subscribe"))
        assert [entry["activity"] for entry in answer.json().get("entries", [])] == [
            "matched",
            "attempted",
            "delivered",
        ]


@pytest.mark.on_cosmos
@pytest.mark.parametrize("explain", ["false", "true"])
async def test_a_subscriber_cannot_find_a_withheld_event(
    service: Service, receiver: WebhookServer, explain: str
) -> None:
    """Its trace is that of an unknown event until the decision point permits the event: the ids of a list hide it."""
    subscription = await subscribed(service, receiver)
    source = instance_source()
    service.pdp.decide = lambda _: DENY
    (name,) = await published(service, source=source)
    await settled()
    hidden = await trace_of(service, name, source, service.org(), explain=explain)
    unknown = await trace_of(service, "unknown", source, service.org(), explain=explain)
    assert (hidden.status, hidden.json()["detail"]) == (unknown.status, unknown.json()["detail"])
    assert hidden.status == 404
    (withheld,) = await deliveries_of(service, subscription["id"])
    service.pdp.decide = lambda asked: DENY if asked.action == "publish" else PERMIT
    (await app.current()).authorization.decisions.cache._kept.clear()
    shown = (await trace_of(service, name, source, service.org(), explain=explain)).json()["entries"]
    assert {entry["deliveryId"] for entry in shown} == {withheld["id"]}
    assert [entry["activity"] for entry in shown if entry["activity"] != "unreached"] == ["matched", "withheld"]
    assert [entry["reason"] for entry in shown if entry["activity"] == "unreached"] == ["withheld"] * (
        explain == "true"
    )


@pytest.mark.on_cosmos
async def test_a_subscriber_cannot_find_an_undecided_event(service: Service, receiver: WebhookServer) -> None:
    """Its trace is that of an unknown event while the decision point answers the caller's other questions."""
    await subscribed(service, receiver)
    (decided,) = await published(service)
    await settled()
    source = instance_source(guid="00000000-0000-0000-0000-000000000001")
    service.pdp.decide = lambda asked: DENY if asked.action == "publish" else PERMIT
    service.pdp.fails = lambda asked: asked.resource.get("urn:altinn:instance-id", "").endswith("-000000000001")
    (undecided,) = await published(service, source=source)
    await settled()
    assert ids((await service.get(APP_FEED, service.org(), from_=ANCIENT)).json()) == [decided]
    for explain in ("false", "true"):
        answer = await trace_of(service, undecided, source, service.org(), explain=explain)
        assert answer.status == 404, answer.body


@pytest.mark.on_cosmos
async def test_a_trace_shows_each_attempt(service: Service, receiver: WebhookServer) -> None:
    """Its delivery, number, duration, outcome, and the time of the next attempt."""
    subscription = await subscribed(service, receiver)
    receiver.answer = lambda _: web.Response(status=500)
    source = instance_source()
    (name,) = await published(service, source=source)
    await settled()
    (delivery,) = await deliveries_of(service, subscription["id"])
    entries = (await trace_of(service, name, source, service.org())).json()["entries"]
    registered, matched, attempted = entries
    assert attempted == {
        "at": delivery["attempts"][0]["at"],
        "activity": "attempted",
        "subscriptionId": subscription["id"],
        "deliveryId": delivery["id"],
        "consumer": "/org/ttd",
        "status": 500,
        "attempt": 1,
        "durationMs": delivery["attempts"][0]["durationMs"],
        "nextAttempt": delivery["nextAttempt"],
        "reason": "refused",
    }
    assert (registered["deliveryId"], matched["deliveryId"]) == (None, delivery["id"])
    assert [matched[name] for name in ("status", "attempt", "durationMs", "nextAttempt", "reason")] == [None] * 5


# -- Why an event did not arrive --------------------------------------------------------------------------------------


@pytest.mark.on_cosmos
async def test_an_explained_trace_names_the_filter_that_differs(service: Service, receiver: WebhookServer) -> None:
    """With both values, for a publisher and for a subscriber who may have the event; without `explain` it does not."""
    typed = await subscribed(service, receiver, typeFilter="app.other")
    placed = await subscribed(service, receiver, sourceFilter="https://other.apps.altinn.no/ttd/apps-test")
    about = await subscribed(service, receiver, subjectFilter="/party/1")
    matched = await subscribed(service, receiver)
    source = instance_source()
    (name,) = await published(service, source=source)
    await settled()
    service.pdp.decide = lambda asked: DENY if asked.action == "publish" else PERMIT
    for token in (service.org("altinn:events.publish.admin"), service.org()):
        reasons = await unreached(service, name, source, token)
        assert list(reasons) == [typed["id"], placed["id"], about["id"]]
        assert reasons[typed["id"]] == "typeFilter: the filter is 'app.other', the event has 'app.instance.created'"
        assert reasons[placed["id"]].startswith("sourceFilter: ")
        assert source in reasons[placed["id"]]
        assert reasons[about["id"]] == f"subjectFilter: the filter is '/party/1', the event has '/party/{PARTY}'"
        assert matched["id"] not in reasons
    plain = (await trace_of(service, name, source, service.org())).json()["entries"]
    assert {entry["activity"] for entry in plain} == {"matched", "attempted", "delivered"}


@pytest.mark.on_cosmos
async def test_an_explained_trace_shows_no_event_that_the_subscriber_may_not_have(
    service: Service, receiver: WebhookServer
) -> None:
    """The answer is 404, as for an unknown event; nor does another consumer see the subscription."""
    await subscribed(service, receiver, typeFilter="app.other")
    source = instance_source()
    (name,) = await published(service, source=source)
    service.pdp.decide = lambda asked: DENY if asked.action == "publish" else PERMIT
    assert (await trace_of(service, name, source, service.org(), explain="true")).status == 200
    assert (await trace_of(service, name, source, service.org())).status == 404
    assert (await trace_of(service, name, source, service.org(org="skd"), explain="true")).status == 404
    source = instance_source(guid="00000000-0000-0000-0000-000000000001")
    (name,) = await published(service, source=source)
    service.pdp.decide = lambda _: DENY
    denied = await trace_of(service, name, source, service.org(), explain="true")
    unknown = await trace_of(service, "unknown", source, service.org(), explain="true")
    assert (denied.status, denied.json()["detail"]) == (unknown.status, unknown.json()["detail"])
    assert denied.status == 404


@pytest.mark.on_cosmos
async def test_an_explained_trace_names_the_state_of_a_subscription(service: Service, receiver: WebhookServer) -> None:
    """Begun later, paused, disabled or not validated."""
    paused = await subscribed(service, receiver, path="/paused")
    disabled = await subscribed(service, receiver, path="/disabled")
    receiver.answer = lambda request: web.Response(status=410 if request.path == "/disabled" else 200)
    await published(service)
    await settled()
    path = f"{SUBSCRIPTIONS}/{paused['id']}"
    await service.request("PATCH", path, token=service.org(), json_body={"paused": True})
    receiver.answer = lambda _: web.Response(status=500)
    never = await subscribed(service, receiver, path="/never")
    source = instance_source()
    (name,) = await published(service, source=source)
    await settled()
    later = await subscribed(service, receiver, path="/later")
    assert await unreached(service, name, source, service.org()) == {
        paused["id"]: "paused",
        disabled["id"]: "disabled",
        never["id"]: "not validated",
        later["id"]: "begun later",
    }


@pytest.mark.on_cosmos
async def test_an_explained_trace_names_the_decision(service: Service, receiver: WebhookServer) -> None:
    """Withheld or undecidable, to the event's publisher, who may read neither."""
    subscription = await subscribed(service, receiver)
    source = instance_source()
    service.pdp.decide = lambda _: DENY
    (withheld,) = await published(service, source=source)
    await settled()
    admin = service.org("altinn:events.publish.admin")
    assert await unreached(service, withheld, source, admin) == {subscription["id"]: "withheld"}
    service.pdp.decide = lambda _: PERMIT
    source = instance_source(party=PARTY, guid="00000000-0000-0000-0000-000000000001")
    service.pdp.fails = lambda asked: "urn:altinn:instance-id" in asked.resource
    (undecided,) = await published(service, source=source)
    await settled()
    assert await unreached(service, undecided, source, admin) == {subscription["id"]: "undecidable"}


async def test_an_explained_trace_masks_persons(service: Service, receiver: WebhookServer) -> None:
    """Numbers of persons stand neither in the filter's value nor in the event's, and no alternative subject does."""
    token = service.org("altinn:events.subscribe altinn:events.publish.admin")
    person = f"urn:altinn:person:identifier-no:{PERSON}"
    about = await subscribed(service, receiver, token, resourceFilter=RESOURCE, subjectFilter=person)
    party = await subscribed(service, receiver, token, path="/p", resourceFilter=RESOURCE, subjectFilter="/party/1")
    published_event = event(subject=f"urn:altinn:person:identifier-no:{PERSON[:-1]}0")
    await service.publish(published_event)
    reasons = await unreached(service, published_event["id"], published_event["source"], token)
    shown = "urn:altinn:person:identifier-no:***"
    assert reasons[about["id"]] == f"subjectFilter: the filter is '{shown}', the event has '{shown}'"
    assert reasons[party["id"]] == f"subjectFilter: the filter is '/party/1', the event has '{shown}'"


async def test_an_alternative_subject_is_not_shown(service: Service, receiver: WebhookServer) -> None:
    """Neither itself nor the subject that Register gave for it."""
    number = (await subscribed(service, receiver, alternativeSubjectFilter=f"/person/{PERSON}"))["id"]
    source = instance_source()
    (name,) = await published(service, source=source, subject="/party/999")
    assert await unreached(service, name, source, service.org()) == {number: "alternativeSubjectFilter"}


async def test_explain_is_true_or_false(service: Service) -> None:
    """Any other value is refused by name."""
    answer = await trace_of(service, "a", "urn:a", service.org(), explain="maybe")
    assert (answer.status, answer.json()["errors"][0]["field"]) == (400, "explain")


def test_an_event_is_named_by_the_path_or_by_parameters() -> None:
    """An id that a path cannot hold is a parameter, and then the source may be missing."""
    paths: list[tuple[str, dict[str, str], tuple[str, str | None]]] = [
        ("/events/api/v1/trace?id=a%2Fb", {}, ("a/b", None)),
        ("/events/api/v1/trace?id=a&source=urn:x", {}, ("a", "urn:x")),
        ("/events/api/v1/events/a/trace?source=urn:x&id=other", {"id": "a"}, ("a", "urn:x")),
    ]
    for path, route, named in paths:
        request = Request(func.HttpRequest("GET", f"http://x.example{path}", route_params=route, body=b""), None)
        assert deliveries._named_event(request, Parameters(request.query)) == named
    unnamed = Request(func.HttpRequest("GET", "http://x.example/events/api/v1/trace", route_params={}, body=b""), None)
    with pytest.raises(EventsError, match="'id'"):
        deliveries._named_event(unnamed, Parameters(unnamed.query))
