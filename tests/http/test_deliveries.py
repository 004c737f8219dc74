"""Deliveries over HTTP: what is published reaches the endpoints of those who may read it, and is accounted for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.pdp_server import DENY, PERMIT
from tests.support.service import APP_RESOURCE, RESOURCE, Service, event, ids, running
from tests.support.subscribing import LOOPBACK, SUBSCRIPTIONS, asked, deliveries_of, published, settled, subscribed
from tests.support.webhook_server import WebhookServer


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """The service, which may deliver to loopback."""
    async with running(tmp_path, monkeypatch, **LOOPBACK) as service:
        yield service


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookServer]:
    """An endpoint that takes everything."""
    async with WebhookServer() as receiver:
        yield receiver


async def test_what_is_published_arrives_signed_and_as_it_was(service: Service, receiver: WebhookServer) -> None:
    """The event in structured mode, with the three headers of Standard Webhooks."""
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


async def test_events_of_one_subject_arrive_in_order(service: Service, receiver: WebhookServer) -> None:
    """As they were published."""
    await subscribed(service, receiver)
    names = await published(service, 20)
    await settled()
    assert ids(receiver.events()) == names


async def test_an_event_that_the_consumer_may_not_read_is_withheld(service: Service, receiver: WebhookServer) -> None:
    """And recorded so."""
    subscription = await subscribed(service, receiver)
    service.pdp.decide = lambda asked: DENY if asked.action == "read" else PERMIT
    await published(service)
    await settled()
    assert receiver.events() == []
    assert [each["state"] for each in await deliveries_of(service, subscription["id"])] == ["withheld"]


async def test_other_resources_arrive_where_they_are_subscribed_to(service: Service, receiver: WebhookServer) -> None:
    """And nowhere else."""
    token = service.org("altinn:events.subscribe")
    await subscribed(service, receiver, token, path="/mail", resourceFilter=RESOURCE)
    await subscribed(service, receiver, token, path="/app", resourceFilter=APP_RESOURCE)
    await service.publish(event(id="mail"))
    await settled()
    assert ids(receiver.events("/mail")) == ["mail"]
    assert receiver.events("/app") == []


async def test_what_was_published_before_is_not_delivered(service: Service, receiver: WebhookServer) -> None:
    """A subscription begins when it is made."""
    await published(service)
    await subscribed(service, receiver)
    (name,) = await published(service)
    await settled()
    assert ids(receiver.events()) == [name]


async def test_deliveries_wait_for_the_validation(service: Service, receiver: WebhookServer) -> None:
    """What matches meanwhile is sent once the endpoint is validated."""
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
