"""Publishing in every mode, and the events that the store then holds."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from events_core import app
from events_core.adapters.cosmos import CosmosEventStore
from tests.support.asgi import Answer
from tests.support.service import ANCIENT, PUBLISH, RESOURCE, RESOURCE_FEED, Service

STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
PUBLISH_SCOPE, ADMIN_SCOPE = "altinn:events.publish", "altinn:events.publish.admin"
BINARY = {
    "ce-specversion": "1.0",
    "ce-id": "e1",
    "ce-type": "mail.received",
    "ce-source": "https://mail.example/box",
    "ce-resource": RESOURCE,
}


def publisher(service: Service) -> str:
    """A token with the scope to publish and no other."""
    return service.org(PUBLISH_SCOPE)


async def structured(service: Service, event: object, token: str | None = None, **sent: Any) -> Answer:
    """Publish one event in structured mode, by default with the scope to publish."""
    token = token if token or "platform_token" in sent else publisher(service)
    return await service.request("POST", PUBLISH, token=token, json_body=event, content_type=STRUCTURED, **sent)


async def batch(service: Service, events: object, token: str | None = None, **sent: Any) -> Answer:
    """Publish a batch, by default with the scope to publish."""
    token = token if token or "platform_token" in sent else publisher(service)
    return await service.request("POST", PUBLISH, token=token, json_body=events, content_type=BATCH, **sent)


async def binary(
    service: Service,
    body: bytes = b"",
    content_type: str | None = None,
    headers: Mapping[str, str | None] | None = None,
) -> Answer:
    """Publish in binary mode; `headers` replace headers of `BINARY`, and None removes one."""
    sent = {name: value for name, value in {**BINARY, **(headers or {})}.items() if value is not None}
    return await service.request(
        "POST", PUBLISH, token=publisher(service), headers=sent, body=body, content_type=content_type
    )


async def feed(service: Service, resource: str = RESOURCE) -> list[dict[str, Any]]:
    """The events of a resource, read with the reportees scope."""
    token = service.org(f"altinn:events.reportees/{resource.removeprefix('urn:altinn:resource:')}")
    answer = await service.get(RESOURCE_FEED, token, from_=ANCIENT, resource=resource, size=1000)
    assert answer.status == 200, answer.body
    return list(answer.json())


async def stored() -> list[bytes]:
    """The text of every event in the service's store, read past the service."""
    events = await app.current()
    if isinstance(events.store, CosmosEventStore):
        sql = "SELECT c.stream, c.seq, c.json FROM c WHERE STARTSWITH(c.stream, 'resource:')"
        found = await events.store._database.query("test", "streams", sql, {}, None)
        found.sort(key=lambda row: (row["stream"], row["seq"]))
        return [str(row.get("json", "")).encode() for row in found]
    with closing(sqlite3.connect(events.settings.data_dir / "events.db")) as connection:
        return [bytes(row[0]) for row in connection.execute("SELECT json FROM events ORDER BY position")]


def fields(answer: Answer) -> list[str]:
    """The fields that a problem document names."""
    return [fault["field"] for fault in answer.json().get("errors", [])]


def of_size(event: Mapping[str, Any], size: int) -> bytes:
    """The event as JSON text of exactly `size` bytes, padded in its data."""
    bare = json.dumps({**event, "data": ""}).encode()
    return json.dumps({**event, "data": "x" * (size - len(bare))}).encode()
