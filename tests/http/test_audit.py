"""The audit log: a line for each successful erasure and rotation of a secret, and none for a refusal."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from events_core.adapters.telemetry import JsonLines
from tests.support.asgi import Answer
from tests.support.publishing import structured
from tests.support.service import PERSON, RESOURCE, RESOURCE_FEED, UNIT, Service, event, running
from tests.support.subscribing import LOOPBACK, SUBSCRIPTIONS, subscribed
from tests.support.webhook_server import WebhookServer

ERASE_SCOPE = "altinn:events.erase"
SOURCE = "https://mail.example/box"


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """The service with permission to deliver to loopback."""
    async with running(tmp_path, monkeypatch, **LOOPBACK) as service:
        yield service


def audited(log: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The lines of the audit log at INFO, as they are written, without time and trace."""
    written = [JsonLines().format(record) for record in log.records if record.name == "events_core.audit"]
    lines = [json.loads(line) for line in written]
    assert {line["level"] for line in lines} <= {"INFO"}
    every = ("time", "level", "logger", "message", "traceId")
    return [{name: value for name, value in line.items() if name not in every} for line in lines]


async def erased(service: Service, event_id: str, source: str = SOURCE, token: str | None = None) -> Answer:
    """Erase an event by the id in the path."""
    path = f"{RESOURCE_FEED}/{quote(event_id, safe='')}?{urlencode({'source': source, 'resource': RESOURCE})}"
    return await service.request("DELETE", path, token=token or service.org(ERASE_SCOPE))


async def test_an_erasure_is_one_line_of_the_audit_log(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """By the id in the path or as a parameter: who did it, and which event."""
    for name in ("a", "b"):
        await structured(service, event(id=name))
    assert (await erased(service, "a")).status == 204
    query = urlencode({"id": "b", "source": SOURCE, "resource": RESOURCE})
    token = service.organisation(ERASE_SCOPE)
    assert (await service.request("DELETE", f"{RESOURCE_FEED}?{query}", token=token)).status == 204
    line = {"action": "erase", "resource": RESOURCE, "source": SOURCE}
    assert audited(caplog) == [
        {**line, "by": "/org/ttd", "id": "a"},
        {**line, "by": f"/organisation/{UNIT}", "id": "b"},
    ]


@pytest.mark.parametrize(
    ("event_id", "source"),
    [(PERSON, SOURCE), (f"x-{PERSON}_y", SOURCE), ("a", f"https://mail.example/person/{PERSON}/box")],
)
async def test_the_audit_log_masks_numbers_of_persons(
    service: Service, caplog: pytest.LogCaptureFixture, event_id: str, source: str
) -> None:
    """An id or a source may hold one, wherever it stands."""
    await structured(service, event(id=event_id, source=source))
    assert (await erased(service, event_id, source)).status == 204
    [line] = audited(caplog)
    assert PERSON not in json.dumps(line)
    assert line["by"] == "/org/ttd"


async def test_a_rotation_is_one_line_of_the_audit_log(
    service: Service, receiver: WebhookServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It names the subscription, and never the secret."""
    number = (await subscribed(service, receiver))["id"]
    answer = await service.request("POST", f"{SUBSCRIPTIONS}/{number}/rotate-secret", token=service.org())
    assert answer.status == 200
    assert audited(caplog) == [{"action": "rotate-secret", "by": "/org/ttd", "subscriptionId": number}]
    assert answer.json()["secret"] not in caplog.text


async def test_a_refusal_is_no_line_of_the_audit_log(
    service: Service, receiver: WebhookServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither without the right, nor for what is unknown, nor while the store is down."""
    await structured(service, event(id="a"))
    number = (await subscribed(service, receiver))["id"]
    path = f"{SUBSCRIPTIONS}/{number}/rotate-secret"
    answers = [
        await erased(service, "a", token=service.org()),
        await erased(service, "unknown"),
        await service.request("POST", path, token=service.org(org="skd")),
        await service.request("POST", f"{SUBSCRIPTIONS}/{number + 1}/rotate-secret", token=service.org()),
        await service.request("POST", path),
    ]
    assert [answer.status for answer in answers] == [403, 404, 403, 404, 401]
    assert audited(caplog) == []
