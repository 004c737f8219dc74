"""The OpenAPI document describes every response about subscriptions, and every request to an endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from openapi_schema_validator import OAS31Validator

from events_core.delivery.delivery import State, new_id
from events_core.delivery.webhook import body_for, handshake_headers, headers_for, new_secret
from tests.support.asgi import Answer
from tests.support.deliveries import subscription
from tests.support.openapi import assert_documented, assert_webhook, document
from tests.support.service import ANCIENT, APP_RESOURCE, PUBLISH, RESOURCE, Service, instance_source, running
from tests.support.subscribing import LOOPBACK, SUBSCRIPTIONS, asked, deliveries_of, published, settled, subscribed
from tests.support.webhook_server import Received, WebhookServer

ONE = f"{SUBSCRIPTIONS}/{{id}}"
VALIDATE = f"{SUBSCRIPTIONS}/validate/{{id}}"
DELIVERIES, REPLAY, ROTATE = f"{ONE}/deliveries", f"{ONE}/replay", f"{ONE}/rotate-secret"
TEST = f"{ONE}/test"
TRACE = f"{PUBLISH}/{{id}}/trace"
ENDPOINT = "https://subscriber.example/events"
NEEDED = {"endPoint": ENDPOINT, "resourceFilter": APP_RESOURCE}
SCHEMAS: Mapping[str, Any] = document()["components"]["schemas"]


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """The service with permission to deliver to loopback."""
    async with running(tmp_path, monkeypatch, **LOOPBACK) as service:
        yield service


async def documented(
    service: Service, method: str, template: str, status: int, of: object = "", *, query: str = "", **sent: Any
) -> Answer:
    """Send a request, by default as the owner of the subscription `of`, and check the response by the document."""
    who = {} if "platform_token" in sent else {"token": service.org()}
    target = template.replace("{id}", quote(str(of), safe="")) + query
    answer = await service.request(method, target, **{**who, **sent})
    assert answer.status == status, answer.body
    assert_documented(method, template, answer.status, answer.headers, answer.body)
    return answer


def members(schema: str) -> set[str]:
    """The members of an object by the document."""
    return set(SCHEMAS[schema]["properties"])


# -- Responses --------------------------------------------------------------------------------------------------------


async def test_creating_a_subscription_is_documented(service: Service) -> None:
    """A new one has the secret, a repeat has not."""
    new = await documented(service, "POST", SUBSCRIPTIONS, 201, json_body=NEEDED)
    again = await documented(service, "POST", SUBSCRIPTIONS, 201, json_body=NEEDED)
    assert new.json().keys() == members("Subscription") | members("NewSubscription")
    assert again.json().keys() == members("Subscription")
    assert new.json()["validation"].keys() == members("Validation")


async def test_reading_subscriptions_is_documented(service: Service) -> None:
    """A subscription, an empty list and a list with a further page."""
    await documented(service, "GET", SUBSCRIPTIONS, 200)
    number = (await asked(service, service.org(), **NEEDED)).json()["id"]
    await asked(service, service.org(), **{**NEEDED, "endPoint": "https://other.example/hook"})
    await documented(service, "GET", ONE, 200, number)
    page = await documented(service, "GET", SUBSCRIPTIONS, 200, query="?size=1")
    assert page.json().keys() == members("SubscriptionList")
    assert "next" in page.headers


async def test_changing_a_subscription_is_documented(service: Service) -> None:
    """The owner pauses it, rotates its secret and deletes it; the platform validates it."""
    number = (await asked(service, service.org(), **NEEDED)).json()["id"]
    await documented(service, "PATCH", ONE, 200, number, json_body={"paused": True})
    await documented(service, "PUT", VALIDATE, 200, number, platform_token=service.app("platform/events"))
    await documented(service, "POST", ROTATE, 200, number)
    await documented(service, "DELETE", ONE, 200, number)


async def test_test_events_and_conflicts_are_documented(service: Service, receiver: WebhookServer) -> None:
    """The attempt, the request to the endpoint, both reasons of 409, and 429."""
    made = await subscribed(service, receiver)
    receiver.received.clear()
    attempt = await documented(service, "POST", TEST, 200, made["id"])
    assert attempt.json().keys() == members("Attempt")
    check_webhook("test", receiver.received[0])
    other = (await asked(service, service.org(), **NEEDED)).json()["id"]
    await documented(service, "POST", TEST, 409, other)
    await documented(service, "PATCH", ONE, 409, other, json_body={"endPoint": made["endPoint"]})
    for _ in range(9):
        await documented(service, "POST", TEST, 200, made["id"])
    await documented(service, "POST", TEST, 429, made["id"])


CHANGES: list[tuple[dict[str, Any], bool]] = [
    ({"paused": True, "endPoint": None}, True),
    ({"contentType": "application/json"}, True),
    ({"endPoint": ENDPOINT, "paused": False}, True),
    ({}, False),
    ({"paused": None}, False),
    ({"paused": "no"}, False),
    ({"contentType": "text/plain"}, False),
    ({"paused": True, "typeFilter": "x"}, False),
]


@pytest.mark.parametrize(("body", "valid"), CHANGES, ids=str)
async def test_valid_changes_are_those_of_the_document(service: Service, body: dict[str, Any], *, valid: bool) -> None:
    """A body gets 200 if the document allows it, and 400 if not."""
    number = (await asked(service, service.org(), **NEEDED)).json()["id"]
    await documented(service, "PATCH", ONE, 200 if valid else 400, number, json_body=body)
    schema = {**SCHEMAS["SubscriptionChange"], "components": document()["components"]}
    assert OAS31Validator(schema).is_valid(body) == valid


async def test_deliveries_are_documented(service: Service, receiver: WebhookServer) -> None:
    """An empty list, a delivered and a failing delivery."""
    number = (await subscribed(service, receiver))["id"]
    await documented(service, "GET", DELIVERIES, 200, number)
    await published(service)
    await settled()
    broken = await subscribed(service, receiver, path="/broken")
    receiver.answer = lambda _: None
    await published(service)
    await settled()
    page = await documented(service, "GET", DELIVERIES, 200, number)
    failing = await documented(service, "GET", DELIVERIES, 200, broken["id"], query="?state=failing")
    assert page.json().keys() == members("DeliveryList")
    for delivery in page.json()["deliveries"] + failing.json()["deliveries"]:
        assert delivery.keys() == members("Delivery")
        assert delivery["attempts"][0].keys() == members("Attempt")
    (attempt,) = failing.json()["deliveries"][0]["attempts"]
    assert f"`{attempt['error']}`" in SCHEMAS["Attempt"]["properties"]["error"]["description"]


async def test_traces_are_documented(service: Service, receiver: WebhookServer) -> None:
    """The entries from registration to delivery."""
    await subscribed(service, receiver)
    source = instance_source()
    (name,) = await published(service, source=source)
    await settled()
    query = f"?{urlencode({'source': source})}"
    answer = await documented(service, "GET", TRACE, 200, name, query=query, platform_token=service.app())
    entries = answer.json()["entries"]
    assert {entry["activity"] for entry in entries} == {"registered", "matched", "attempted", "delivered"}
    assert all(entry.keys() == members("TraceEntry") for entry in entries)


REPLAYS: list[tuple[dict[str, Any], bool]] = [
    ({"from": ANCIENT}, True),
    ({"from": ANCIENT, "to": "2030-01-01T00:00:00Z"}, True),
    ({"after": "unknown"}, True),
    ({"after": "unknown", "to": "2030-01-01T00:00:00Z"}, True),
    ({"dead": True}, True),
    ({}, False),
    ({"to": "2030-01-01T00:00:00Z"}, False),
    ({"from": ANCIENT, "after": "unknown"}, False),
    ({"after": "unknown", "dead": True}, False),
    ({"from": "yesterday"}, False),
    ({"from": 7}, False),
    ({"dead": "yes"}, False),
    ({"delivery": "yes"}, False),
    ({"eventId": "a"}, False),
    ({"source": "urn:a"}, False),
    ({"eventId": "a", "source": "urn:a", "to": "2030-01-01T00:00:00Z"}, False),
    ({"from": ANCIENT, "until": "2030-01-01T00:00:00Z"}, False),
]


@pytest.mark.parametrize(("body", "valid"), REPLAYS, ids=str)
async def test_valid_replays_are_those_of_the_document(service: Service, body: dict[str, Any], *, valid: bool) -> None:
    """A body gets 202 if the document allows it, and 400 if not."""
    number = (await asked(service, service.org(), **NEEDED)).json()["id"]
    await documented(service, "POST", REPLAY, 202 if valid else 400, number, json_body=body)
    assert OAS31Validator({**SCHEMAS["ReplayRequest"], "components": document()["components"]}).is_valid(body) == valid


async def test_the_replay_of_a_delivery_is_documented(service: Service, receiver: WebhookServer) -> None:
    """The id of a list gets 202, an unknown id 404."""
    number = (await subscribed(service, receiver))["id"]
    await published(service)
    await settled()
    (delivery,) = await deliveries_of(service, number)
    await documented(service, "POST", REPLAY, 202, number, json_body={"delivery": delivery["id"]})
    await documented(service, "POST", REPLAY, 404, number, json_body={"delivery": new_id()})


async def test_refusals_are_documented(service: Service) -> None:
    """Bodies, parameters, tokens, rights and unknown ids."""
    number = (await asked(service, service.org(), **NEEDED)).json()["id"]
    await documented(service, "POST", SUBSCRIPTIONS, 400, json_body={"resourceFilter": APP_RESOURCE})
    await documented(service, "POST", SUBSCRIPTIONS, 403, json_body={**NEEDED, "resourceFilter": RESOURCE})
    await documented(service, "GET", SUBSCRIPTIONS, 400, query="?after=x")
    await documented(service, "PATCH", ONE, 400, number, json_body={"paused": "no"})
    await documented(service, "GET", DELIVERIES, 400, number, query="?state=lost")
    await documented(service, "PUT", VALIDATE, 403, number, platform_token=service.app())
    await documented(service, "PUT", VALIDATE, 404, 999, platform_token=service.app("platform/events"))
    await documented(service, "GET", TRACE, 400, "unknown")
    await documented(service, "GET", TRACE, 404, "unknown", query="?source=unknown")


@pytest.mark.parametrize(
    ("method", "template", "body"),
    [
        ("GET", ONE, None),
        ("PATCH", ONE, {"paused": True}),
        ("DELETE", ONE, None),
        ("GET", DELIVERIES, None),
        ("POST", REPLAY, {"dead": True}),
        ("POST", ROTATE, None),
        ("POST", TEST, None),
    ],
)
async def test_other_callers_get_documented_refusals(
    service: Service, method: str, template: str, body: object
) -> None:
    """401 without a token, 403 for another consumer, 404 for an unknown subscription."""
    number = (await asked(service, service.org(), **NEEDED)).json()["id"]
    await documented(service, method, template, 401, number, json_body=body, token=None)
    await documented(service, method, template, 403, number, json_body=body, token=service.org(org="skd"))
    await documented(service, method, template, 404, number + 1, json_body=body)


@pytest.mark.parametrize(("method", "template"), [("POST", SUBSCRIPTIONS), ("PATCH", ONE), ("POST", REPLAY)])
async def test_refused_bodies_are_documented(service: Service, method: str, template: str) -> None:
    """A large body gets 413, another media type 415."""
    number = (await asked(service, service.org(), **NEEDED)).json()["id"]
    large = b" " * 70_000
    await documented(service, method, template, 413, number, body=large, content_type="application/json")
    await documented(service, method, template, 415, number, body=b"{}", content_type="text/plain")


async def test_an_outage_of_the_pdp_is_documented(service: Service) -> None:
    """Creating a subscription gets 503."""
    service.pdp.status = 500
    await documented(service, "POST", SUBSCRIPTIONS, 503, json_body=NEEDED)


def test_the_document_lists_every_state_of_a_delivery() -> None:
    """The enum of the schema is the enum of the code."""
    assert set(SCHEMAS["DeliveryState"]["enum"]) == {state.value for state in State}


# -- Webhooks ---------------------------------------------------------------------------------------------------------


def check_webhook(name: str, received: Received) -> None:
    """Check a request to an endpoint by the document."""
    assert_webhook(name, received.method, received.headers, received.body)


async def test_requests_to_an_endpoint_are_documented(service: Service, receiver: WebhookServer) -> None:
    """Handshake, validation and events; after a rotation an event has two signatures."""
    number = (await subscribed(service, receiver))["id"]
    await published(service)
    await settled()
    await documented(service, "POST", ROTATE, 200, number)
    await published(service, data={"a": 1.0})
    await settled()
    handshake, validation, first, second = receiver.received
    check_webhook("validation", handshake)
    check_webhook("validation", validation)
    check_webhook("event", first)
    check_webhook("event", second)
    assert second.headers["webhook-signature"].count("v1,") == 2


def test_requests_to_slack_are_documented() -> None:
    """Slack gets an event and a validation in its own envelope."""
    slack = subscription(endpoint="https://hooks.slack.com/services/T0/B0/x")
    body, (media_type,) = body_for(slack, b'{"specversion": "1.0"}')
    for name, message_id in (("event", new_id()), ("validation", "0b2bd4d8-6ab6-4cc1-9f0c-7a0bd1d2c9d1")):
        headers = headers_for(message_id, 1_795_710_148, body, [new_secret()])
        sent = {"Content-Type": media_type, **handshake_headers("example.com"), **headers}
        assert_webhook(name, "POST", {header.lower(): value for header, value in sent.items()}, body)


@pytest.mark.parametrize(
    "broken",
    [
        {"webhook-id": None},
        {"webhook-id": "7-1201"},
        {"webhook-timestamp": "2026-11-26T15:02:28Z"},
        {"webhook-signature": "v1,short"},
        {"webhook-trace": "1"},
        {"content-type": "text/plain"},
    ],
    ids=str,
)
def test_an_undocumented_webhook_fails(broken: dict[str, str | None]) -> None:
    """The check refuses headers that are missing, wrong or undocumented, and another content type."""
    body, (media_type,) = body_for(subscription(endpoint="https://hooks.slack.com/"), b"{}")
    headers = headers_for(new_id(), 1, body, [new_secret()])
    sent = {"Content-Type": media_type, **handshake_headers("example.com"), **headers}
    good = {name.lower(): value for name, value in sent.items()}
    assert_webhook("event", "POST", good, body)
    headers = {name: value for name, value in {**good, **broken}.items() if value is not None}
    with pytest.raises(AssertionError, match="POST event"):
        assert_webhook("event", "POST", headers, body)
