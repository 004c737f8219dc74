"""Subscribe and publish over HTTP, and wait for the deliveries."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from events_core import app
from tests.support.asgi import Answer
from tests.support.service import APP_RESOURCE, PARTY, Service, instance_source, serve_wakeups
from tests.support.webhook_server import WebhookServer

SUBSCRIPTIONS = "/events/api/v1/subscriptions"
LOOPBACK = {"EVENTS_WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8", "EVENTS_WEBHOOK_ALLOW_HTTP": "true"}
"""Settings that allow deliveries to a receiver on loopback."""
QUICK = {**LOOPBACK, "EVENTS_WEBHOOK_RETRY_SECONDS": "1,1,1"}
"""The same, with a retry schedule that a test can wait for."""


async def settled() -> None:
    """Wait until this process has delivered everything that is due."""
    events = await app.current()
    while True:
        serve_wakeups(events)
        tasks = events.lane_worker.tasks.running | events.lane_worker.sleeping.running
        if not tasks:
            return
        await asyncio.wait(tasks)


async def asked(service: Service, token: str, **fields: Any) -> Answer:
    """Request a subscription with these fields in the body."""
    return await service.request("POST", SUBSCRIPTIONS, token=token, json_body=fields)


async def subscribed(
    service: Service, receiver: WebhookServer, token: str | None = None, path: str = "/hook", **fields: Any
) -> dict[str, Any]:
    """Subscribe to the test app, and wait for the validation. Return the body of the answer."""
    body = {"endPoint": receiver.url + path, "resourceFilter": APP_RESOURCE, **fields}
    answer = await asked(service, token or service.org(), **body)
    assert answer.status == 201, answer.body
    await settled()
    return dict(answer.json())


async def deliveries_of(service: Service, number: int, token: str | None = None, **query: Any) -> list[dict[str, Any]]:
    """List the deliveries of a subscription."""
    answer = await service.get(f"{SUBSCRIPTIONS}/{number}/deliveries", token or service.org(), **query)
    assert answer.status == 200, answer.body
    return list(answer.json()["deliveries"])


async def published(service: Service, count: int = 1, **attributes: Any) -> list[str]:
    """Publish events of the test app, all about one instance unless `attributes` differ. Return their ids."""
    source = instance_source(party=PARTY, guid=str(uuid.uuid4()))
    return [await service.publish_app_event(**{"source": source, **attributes}) for _ in range(count)]
