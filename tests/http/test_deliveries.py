"""Deliveries over HTTP: a published event reaches the endpoints of the consumers who may read it, and is traced."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from aiohttp import web

from tests.support.pdp_server import DENY, PERMIT
from tests.support.service import (
    ANCIENT,
    APP_FEED,
    APP_RESOURCE,
    APP_TOKEN_SCOPES,
    PUBLISH,
    RESOURCE,
    Service,
    event,
    ids,
    instance_source,
    running,
)
from tests.support.subscribing import LOOPBACK, SUBSCRIPTIONS, asked, deliveries_of, published, settled, subscribed
from tests.support.webhook_server import WebhookServer


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """The service with permission to deliver to loopback."""
    async with running(tmp_path, monkeypatch, **LOOPBACK) as service:
        yield service


@pytest.mark.on_cosmos
async def test_an_event_arrives_unchanged_and_signed(service: Service, receiver: WebhookServer) -> None:
    """The endpoint gets the event in structured mode, with the three headers of Standard Webhooks."""
    subscription = await subscribed(service, receiver)
    (name,) = await published(service, data={"a": 1.0})
    await settled()
    (arrived,) = receiver.events()
    assert arrived["id"] == name
    request = receiver.received[-1]
    assert request.headers["content-type"].startswith("application/cloudevents+json")
    assert b'"data": {"a": 1.0}' in request.body
    assert request.verified_by(subscription["secret"])
    (delivery,) = await deliveries_of(service, subscription["id"])
    assert (delivery["state"], delivery["eventId"]) == ("delivered", name)
    assert request.headers["webhook-id"] == delivery["id"]
    assert [attempt["status"] for attempt in delivery["attempts"]] == [200]


@pytest.mark.on_cosmos
async def test_events_of_one_subject_arrive_in_order(service: Service, receiver: WebhookServer) -> None:
    """The order is that of publication."""
    await subscribed(service, receiver)
    names = await published(service, 20)
    await settled()
    assert ids(receiver.events()) == names


@pytest.mark.on_cosmos
async def test_an_event_that_the_consumer_may_not_read_is_withheld(service: Service, receiver: WebhookServer) -> None:
    """The delivery is recorded as withheld, and nothing is sent."""
    subscription = await subscribed(service, receiver)
    service.pdp.decide = lambda asked: DENY if asked.action == "read" else PERMIT
    await published(service)
    await settled()
    assert receiver.events() == []
    (delivery,) = await deliveries_of(service, subscription["id"])
    assert (delivery["state"], delivery["eventId"], delivery["source"]) == ("withheld", None, None)


@pytest.mark.on_cosmos
async def test_an_event_arrives_only_at_subscribers_of_its_resource(service: Service, receiver: WebhookServer) -> None:
    """A subscription to another resource gets nothing."""
    token = service.org("altinn:events.subscribe")
    await subscribed(service, receiver, token, path="/mail", resourceFilter=RESOURCE)
    await subscribed(service, receiver, token, path="/app", resourceFilter=APP_RESOURCE)
    await service.publish(event(id="mail"))
    await settled()
    assert ids(receiver.events("/mail")) == ["mail"]
    assert receiver.events("/app") == []


@pytest.mark.on_cosmos
async def test_earlier_events_are_not_delivered(service: Service, receiver: WebhookServer) -> None:
    """A subscription begins with its creation."""
    await published(service)
    await subscribed(service, receiver)
    (name,) = await published(service)
    await settled()
    assert ids(receiver.events()) == [name]


@pytest.mark.on_cosmos
async def test_deliveries_wait_for_the_validation(service: Service, receiver: WebhookServer) -> None:
    """Events that match before the validation are sent after it."""
    receiver.answer = lambda _: web.Response(status=500)
    answer = await asked(service, service.org(), endPoint=receiver.url, resourceFilter=APP_RESOURCE)
    (name,) = await published(service)
    receiver.answer = lambda _: web.Response()
    number = answer.json()["id"]
    validated = await service.request(
        "PUT", f"{SUBSCRIPTIONS}/validate/{number}", platform_token=service.app("platform/events")
    )
    assert validated.status == 200
    assert validated.json()["validated"]
    await settled()
    assert ids(receiver.events()) == [name]


@pytest.mark.on_cosmos
async def test_an_undecidable_delivery_is_pending_and_not_shown(service: Service, receiver: WebhookServer) -> None:
    """It has no event, no attempt, and the time when the decision point is asked again; its trace says `undecided`."""
    subscription = await subscribed(service, receiver)
    source = instance_source()
    service.pdp.fails = lambda asked: asked.action == "read" and "urn:altinn:instance-id" in asked.resource
    (name,) = await published(service, source=source)
    await settled()
    (delivery,) = await deliveries_of(service, subscription["id"], state="pending")
    assert delivery["nextAttempt"] is not None
    assert [delivery[field] for field in ("eventId", "source", "attempts")] == [None, None, []]
    admin = service.org("altinn:events.publish.admin")
    entries = (await service.get(f"{PUBLISH}/{name}/trace", admin, source=source)).json()["entries"]
    assert [entry["activity"] for entry in entries] == ["registered", "matched", "undecided"]
    assert entries[2]["at"] < delivery["nextAttempt"]


@pytest.mark.on_cosmos
async def test_a_paused_endpoint_is_shown(service: Service, receiver: WebhookServer) -> None:
    """In each subscription of the consumer to it, in lists too, and in no other."""
    answered = await subscribed(service, receiver)
    same = await subscribed(service, receiver, typeFilter="other.type")
    other = await subscribed(service, receiver, path="/other", typeFilter="other.type")
    receiver.answer = lambda _: web.Response(status=429, headers={"Retry-After": "600"})
    await published(service, 3)
    await settled()
    assert len(receiver.events()) == 1
    listed = (await service.get(SUBSCRIPTIONS, service.org())).json()["subscriptions"]
    shown = {subscription["id"]: subscription["endpointPausedUntil"] for subscription in listed}
    assert shown[other["id"]] is None
    assert shown[answered["id"]] == shown[same["id"]] is not None
    single = await service.get(f"{SUBSCRIPTIONS}/{same['id']}", service.org())
    assert single.json()["endpointPausedUntil"] == shown[same["id"]]
    (failing, *_) = await deliveries_of(service, answered["id"])
    assert failing["attempts"][0]["at"] < shown[same["id"]]


# -- Lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.on_cosmos
async def test_deliveries_are_listed_in_pages(service: Service, receiver: WebhookServer) -> None:
    """Deliveries stand in the order of their events; `next` of the last page finds later ones."""
    subscription = await subscribed(service, receiver)
    names = await published(service, 5)
    await settled()
    target = f"{SUBSCRIPTIONS}/{subscription['id']}/deliveries?size=2"
    seen: list[str] = []
    while True:
        answer = await service.request("GET", target, token=service.org())
        page = answer.json()
        assert page["count"] == len(page["deliveries"])
        seen += [delivery["eventId"] for delivery in page["deliveries"]]
        target = answer.headers["next"]
        if not page["count"]:
            break
    assert seen == names
    more = await published(service)
    await settled()
    later = await service.request("GET", target, token=service.org())
    assert [delivery["eventId"] for delivery in later.json()["deliveries"]] == more


@pytest.mark.on_cosmos
async def test_deliveries_are_listed_by_state(service: Service, receiver: WebhookServer) -> None:
    """A failing delivery shows its attempts and the time of the next one."""
    subscription = await subscribed(service, receiver)
    receiver.answer = lambda _: web.Response(status=503)
    await published(service)
    await settled()
    (failing,) = await deliveries_of(service, subscription["id"], state="failing")
    (attempt,) = failing["attempts"]
    assert (attempt["status"], attempt["error"]) == (503, "refused")
    assert attempt["durationMs"] >= 0
    assert failing["nextAttempt"] > attempt["at"]
    assert await deliveries_of(service, subscription["id"], state="delivered") == []


@pytest.mark.on_cosmos
async def test_the_newest_deliveries_come_first_if_asked_for(service: Service, receiver: WebhookServer) -> None:
    """`next` repeats the order and goes on to older ones."""
    subscription = await subscribed(service, receiver)
    names = await published(service, 5)
    await settled()
    target = f"{SUBSCRIPTIONS}/{subscription['id']}/deliveries?size=2&order=desc"
    seen: list[str] = []
    while (answer := await service.request("GET", target, token=service.org())).json()["count"]:
        seen += [delivery["eventId"] for delivery in answer.json()["deliveries"]]
        target = answer.headers["next"]
    assert seen == names[::-1]


@pytest.mark.on_cosmos
async def test_deliveries_are_listed_by_event(service: Service, receiver: WebhookServer) -> None:
    """A delivery whose event is withheld is not found by its event; `next` repeats the filters."""
    subscription = await subscribed(service, receiver)
    source, hidden = instance_source(), instance_source()
    one, two = await published(service, 2, source=source)
    service.pdp.decide = lambda asked: DENY
    (withheld,) = await published(service, source=hidden)
    await settled()
    queries: list[tuple[dict[str, Any], list[str]]] = [
        ({"eventId": one}, [one]),
        ({"eventId": one, "source": source}, [one]),
        ({"eventId": one, "source": hidden}, []),
        ({"source": source, "order": "desc"}, [two, one]),
        ({"source": source, "state": "dead"}, []),
        ({"eventId": withheld}, []),
        ({"source": hidden}, []),
    ]
    for wanted, expected in queries:
        found = await deliveries_of(service, subscription["id"], **wanted)
        assert [delivery["eventId"] for delivery in found] == expected, wanted
    path = f"{SUBSCRIPTIONS}/{subscription['id']}/deliveries"
    page = await service.get(path, service.org(), source=source, size=1)
    following = await service.request("GET", page.headers["next"], token=service.org())
    assert [delivery["eventId"] for delivery in following.json()["deliveries"]] == [two]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"state": "lost"}, "state"),
        ({"after": "x"}, "after"),
        ({"size": "0"}, "size"),
        ({"order": "newest"}, "order"),
    ],
)
async def test_invalid_parameters_of_a_list_are_refused(service: Service, query: dict[str, Any], field: str) -> None:
    """The problem names the parameter."""
    answer = await asked(service, service.org(), endPoint="https://x.example/", resourceFilter=APP_RESOURCE)
    path = f"{SUBSCRIPTIONS}/{answer.json()['id']}/deliveries"
    refused = await service.get(path, service.org(), **query)
    assert (refused.status, refused.json()["errors"][0]["field"]) == (400, field)


# -- Replaying --------------------------------------------------------------------------------------------------------


@pytest.mark.on_cosmos
async def test_a_replay_sends_events_again_under_new_ids(service: Service, receiver: WebhookServer) -> None:
    """A replay starts at a time, an event, a cursor or a delivery, or is of one event."""
    subscription = await subscribed(service, receiver)
    names = await published(service, 3)
    await settled()
    path = f"{SUBSCRIPTIONS}/{subscription['id']}/replay"
    first = (await deliveries_of(service, subscription["id"]))[0]
    page = await service.get(APP_FEED, service.org(APP_TOKEN_SCOPES), from_=ANCIENT, size=1)
    cursor = dict(parse_qsl(urlsplit(page.headers["next"]).query))["at"]
    bodies: list[tuple[dict[str, Any], list[str]]] = [
        ({"from": ANCIENT}, names),
        ({"after": names[1]}, names[2:]),
        ({"after": cursor}, names[1:]),
        ({"delivery": first["id"]}, names[:1]),
        ({"eventId": first["eventId"], "source": first["source"]}, names[:1]),
        ({"from": ANCIENT, "to": "2001-01-01T00:00:00Z"}, []),
    ]
    for body, expected in bodies:
        receiver.received.clear()
        answer = await service.request("POST", path, token=service.org(), json_body=body)
        assert answer.status == 202, answer.body
        await settled()
        assert ids(receiver.events()) == expected, body
    every = [delivery["id"] for delivery in await deliveries_of(service, subscription["id"], size=1000)]
    assert len(set(every)) == len(every) == 3 + 3 + 1 + 2 + 1 + 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"from": ANCIENT, "after": "a"},
        {"from": "yesterday"},
        {"from": "2026-01-01T00:00:00"},
        {"from": 7},
        {"dead": "yes"},
        {"dead": True, "to": "2026-01-01T00:00:00Z"},
        {"eventId": "a"},
        {"source": "urn:a"},
        {"from": ANCIENT, "source": "urn:a"},
        {"eventId": "a", "source": 7},
        {"eventId": "a", "source": "urn:a", "to": "2026-01-01T00:00:00Z"},
        {"from": ANCIENT, "until": "2026-01-01T00:00:00Z"},
        {"delivery": "x"},
        {"delivery": "1-1"},
        {"delivery": "0123456789abcdef0123456789abcdef", "to": "2026-01-01T00:00:00Z"},
        {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
    ],
)
async def test_an_invalid_replay_is_refused(service: Service, body: dict[str, Any]) -> None:
    """The response is 400, and nothing is replayed."""
    answer = await asked(service, service.org(), endPoint="https://x.example/", resourceFilter=APP_RESOURCE)
    path = f"{SUBSCRIPTIONS}/{answer.json()['id']}/replay"
    assert (await service.request("POST", path, token=service.org(), json_body=body)).status == 400


@pytest.mark.on_cosmos
async def test_only_an_event_that_was_shown_is_replayed(service: Service, receiver: WebhookServer) -> None:
    """One without a delivery, or with a withheld one only, is 404."""
    before = instance_source()
    (early,) = await published(service, source=before)
    subscription = await subscribed(service, receiver)
    service.pdp.decide = lambda asked: DENY
    hidden = instance_source()
    (withheld,) = await published(service, source=hidden)
    await settled()
    service.pdp.decide = lambda asked: PERMIT
    path = f"{SUBSCRIPTIONS}/{subscription['id']}/replay"
    for name, source in ((early, before), (withheld, hidden), ("unknown", before)):
        body = {"eventId": name, "source": source}
        assert (await service.request("POST", path, token=service.org(), json_body=body)).status == 404


# -- Secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.on_cosmos
async def test_after_a_rotation_both_secrets_verify(service: Service, receiver: WebhookServer) -> None:
    """A consumer has time to switch; the response shows the new secret once."""
    subscription = await subscribed(service, receiver)
    path = f"{SUBSCRIPTIONS}/{subscription['id']}/rotate-secret"
    answer = await service.request("POST", path, token=service.org())
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    await published(service)
    await settled()
    last = receiver.received[-1]
    assert last.verified_by(subscription["secret"])
    assert last.verified_by(answer.json()["secret"])


# -- Erasing ----------------------------------------------------------------------------------------------------------


@pytest.mark.on_cosmos
async def test_deliveries_of_an_erased_event_are_dropped(service: Service, receiver: WebhookServer) -> None:
    """A delivery that was not sent yet disappears with its event."""
    subscription = await subscribed(service, receiver)
    path = f"{SUBSCRIPTIONS}/{subscription['id']}"
    await service.request("PATCH", path, token=service.org(), json_body={"paused": True})
    source = instance_source()
    (erased,) = await published(service, source=source)
    await settled()
    query = urlencode({"source": source, "resource": APP_RESOURCE})
    gone = await service.request("DELETE", f"{PUBLISH}/{erased}?{query}", token=service.org("altinn:events.erase"))
    assert gone.status == 204
    await service.request("PATCH", path, token=service.org(), json_body={"paused": False})
    await settled()
    assert receiver.events() == []
    assert await deliveries_of(service, subscription["id"]) == []
