"""Changing a subscription over HTTP: pausing, moving, its content type, and test events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.asgi import Answer
from tests.support.service import APP_RESOURCE, Service, ids, running
from tests.support.subscribing import LOOPBACK, SUBSCRIPTIONS, asked, deliveries_of, published, settled, subscribed
from tests.support.webhook_server import Received, WebhookServer

ENDPOINT = "https://subscriber.example/events"


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """The service with permission to deliver to loopback."""
    async with running(tmp_path, monkeypatch, **LOOPBACK) as service:
        yield service


async def patched(service: Service, number: int, **body: Any) -> Answer:
    """Change a subscription as its owner."""
    return await service.request("PATCH", f"{SUBSCRIPTIONS}/{number}", token=service.org(), json_body=body)


async def seen(service: Service, number: int) -> dict[str, Any]:
    """A subscription as its owner sees it."""
    return dict((await service.get(f"{SUBSCRIPTIONS}/{number}", service.org())).json())


@pytest.mark.on_cosmos
async def test_a_subscription_moves_with_its_backlog(service: Service, receiver: WebhookServer) -> None:
    """It keeps its id and secret, is validated anew, and sends nothing to the old endpoint any more."""
    made = await subscribed(service, receiver, path="/old")
    await patched(service, made["id"], paused=True)
    names = await published(service, 3)
    await settled()
    answer = await patched(service, made["id"], endPoint=receiver.url + "/new", paused=False)
    assert (answer.status, answer.json()["id"], answer.json()["endPoint"]) == (200, made["id"], receiver.url + "/new")
    await settled()
    assert ids(receiver.events("/new")) == names
    assert receiver.events("/old") == []
    assert all(request.verified_by(made["secret"]) for request in receiver.received if request.method == "POST")
    assert (await seen(service, made["id"]))["validated"]


@pytest.mark.on_cosmos
async def test_a_move_onto_another_subscription_is_refused(service: Service, receiver: WebhookServer) -> None:
    """Two subscriptions would be the same. Nothing of the change is done."""
    one = await subscribed(service, receiver, path="/one")
    await subscribed(service, receiver, path="/two")
    other = await subscribed(service, receiver, path="/three", typeFilter="x")
    answer = await patched(service, one["id"], endPoint=receiver.url + "/two", paused=True)
    assert (answer.status, answer.json()["title"]) == (409, "Conflict")
    after = await seen(service, one["id"])
    assert (after["endPoint"], after["paused"], after["validated"]) == (one["endPoint"], False, True)
    assert (await patched(service, other["id"], endPoint=receiver.url + "/two")).status == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "paused"),
        ({"paused": None}, "paused"),
        ({"paused": "no", "endPoint": ENDPOINT}, "paused"),
        ({"paused": True, "endPoint": "https://10.0.0.1/"}, "endPoint"),
        ({"paused": True, "endPoint": 7}, "endPoint"),
        ({"paused": True, "contentType": "text/plain"}, "contentType"),
        ({"paused": True, "typeFilter": "x"}, "typefilter"),
        ({"paused": True, "validated": True}, "validated"),
    ],
)
async def test_an_invalid_change_changes_nothing(service: Service, body: dict[str, Any], field: str) -> None:
    """The problem names the field."""
    made = (await asked(service, service.org(), endPoint=ENDPOINT, resourceFilter=APP_RESOURCE)).json()
    answer = await patched(service, made["id"], **body)
    assert (answer.status, answer.json()["errors"][0]["field"]) == (400, field)
    after = await seen(service, made["id"])
    assert (after["paused"], after["endPoint"], after["contentType"]) == (False, ENDPOINT, made["contentType"])


async def test_the_content_type_is_changed(service: Service) -> None:
    """Nothing else changes; null members count as absent."""
    made = (await asked(service, service.org(), endPoint=ENDPOINT, resourceFilter=APP_RESOURCE)).json()
    answer = await patched(service, made["id"], contentType="application/json", paused=None, endPoint=None)
    assert (answer.status, answer.json()["contentType"]) == (200, "application/json")
    assert answer.json()["endPoint"] == ENDPOINT


@pytest.mark.parametrize(
    ("asked_for", "then"), [(None, "application/cloudevents+json"), ("application/json", "application/json")]
)
async def test_a_move_keeps_only_a_content_type_that_was_asked_for(
    service: Service, receiver: WebhookServer, asked_for: str | None, then: str
) -> None:
    """What the old endpoint took, and nobody asked for, says nothing about the new one."""
    receiver.answer = lambda received: web.Response(
        status=200 if received.headers.get("content-type") == "application/json" else 415
    )
    made = await subscribed(service, receiver, path="/old", contentType=asked_for)
    assert (await seen(service, made["id"]))["contentType"] == "application/json"
    receiver.answer = lambda _: web.Response()
    moved = (await patched(service, made["id"], endPoint=receiver.url + "/new")).json()
    assert moved["contentType"] == then


async def test_a_subscription_moves_ten_times_an_hour(service: Service) -> None:
    """The eleventh move is 429 with `Retry-After`; an endpoint that stands already is no move."""
    made = (await asked(service, service.org(), endPoint=ENDPOINT, resourceFilter=APP_RESOURCE)).json()
    assert (await patched(service, made["id"], endPoint=ENDPOINT)).status == 200
    targets = [f"{ENDPOINT}/{n}" for n in range(11)]
    answers = await asyncio.gather(*(patched(service, made["id"], endPoint=target) for target in targets))
    assert sorted(answer.status for answer in answers) == [200] * 10 + [429]
    (refused,) = [answer for answer in answers if answer.status == 429]
    assert 3_000 < int(refused.headers["retry-after"]) <= 3_600


async def test_the_old_endpoint_cannot_disable_a_moved_subscription(service: Service, receiver: WebhookServer) -> None:
    """An attempt that had begun before the move may end with 410 after it."""
    made = await subscribed(service, receiver, path="/old")
    gate = asyncio.Event()

    async def answer(received: Received) -> web.Response:
        if received.path == "/old":
            await gate.wait()
        return web.Response(status=410 if received.path == "/old" else 200)

    receiver.answer = answer
    receiver.arrived.clear()
    (name,) = await published(service)
    await receiver.arrived.wait()
    assert (await patched(service, made["id"], endPoint=receiver.url + "/new")).status == 200
    gate.set()
    await settled()
    assert not (await seen(service, made["id"]))["disabled"]
    assert [event["id"] for event in receiver.events("/old")] == [name]


# -- Test events ------------------------------------------------------------------------------------------------------


async def send_test(service: Service, number: int) -> Answer:
    """Ask for a test event as the owner."""
    return await service.request("POST", f"{SUBSCRIPTIONS}/{number}/test", token=service.org())


@pytest.mark.on_cosmos
async def test_a_test_event_is_sent_at_once(service: Service, receiver: WebhookServer) -> None:
    """The answer is the attempt. The event is signed, and is no delivery."""
    made = await subscribed(service, receiver)
    receiver.received.clear()
    answer = await send_test(service, made["id"])
    assert (answer.status, answer.json()["status"], answer.json()["error"]) == (200, 200, None)
    (request,) = receiver.received
    assert request.verified_by(made["secret"])
    assert request.event["type"] == "platform.events.test"
    assert request.event["id"] == request.headers["webhook-id"]
    assert request.event["source"].endswith(f"{SUBSCRIPTIONS}/{made['id']}")
    assert await deliveries_of(service, made["id"]) == []
    receiver.answer = lambda _: web.Response(status=503, headers={"Retry-After": "60"})
    failed = (await send_test(service, made["id"])).json()
    assert (failed["status"], failed["error"]) == (503, "refused")
    assert (await seen(service, made["id"]))["validated"]


async def test_only_a_validated_endpoint_is_tested(service: Service, receiver: WebhookServer) -> None:
    """Otherwise anybody could have events sent anywhere: 409, and nothing is sent."""
    made = (await asked(service, service.org(), endPoint=ENDPOINT, resourceFilter=APP_RESOURCE)).json()
    assert (await send_test(service, made["id"])).status == 409
    gone = await subscribed(service, receiver, path="/gone")
    receiver.answer = lambda _: web.Response(status=410)
    await published(service)
    await settled()
    receiver.received.clear()
    assert (await seen(service, gone["id"]))["disabled"]
    assert (await send_test(service, gone["id"])).status == 409
    assert receiver.received == []


async def test_ten_test_events_a_minute_are_sent(service: Service, receiver: WebhookServer) -> None:
    """The eleventh is 429 with `Retry-After`."""
    made = await subscribed(service, receiver)
    receiver.received.clear()
    answers = await asyncio.gather(*(send_test(service, made["id"]) for _ in range(11)))
    assert sorted(answer.status for answer in answers) == [200] * 10 + [429]
    (refused,) = [answer for answer in answers if answer.status == 429]
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert len(receiver.received) == 10
