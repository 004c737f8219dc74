"""Logs are one JSON object a line with the trace, and never hold a token, a person's number or an event's data."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from events_core import app
from events_core.adapters.telemetry import JsonLines
from events_core.feeds import publish
from tests.support.asgi import Answer
from tests.support.pdp_server import DENY
from tests.support.publishing import BATCH, STRUCTURED, batch, binary, publisher, structured
from tests.support.service import (
    ANCIENT,
    APP_FEED,
    PARTY_FEED,
    PERSON,
    PUBLISH,
    RESOURCE,
    RESOURCE_FEED,
    UNIT,
    Service,
    app_event,
    event,
    instance_source,
)

CANARY = "canary"
PERSON_SUBJECT = f"urn:altinn:person:identifier-no:{PERSON}"
STRANGER = "20868012804"
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


def planted(**attributes: Any) -> dict[str, Any]:
    """An event about a person with a canary in every attribute."""
    said = {
        "id": "canary-id",
        "type": "canary-type",
        "source": "https://canary-source.example/box",
        "subject": PERSON_SUBJECT,
        "data": {"canary-name": "canary-data", "number": PERSON},
        "canaryext": "canary-extension",
    }
    return event(**{**said, **attributes})


def planted_app_event(**attributes: Any) -> dict[str, Any]:
    """The same as an app's event."""
    source = instance_source().replace("altinn.example", "canary.example")
    return app_event(**{"source": source, "subject": PERSON_SUBJECT, "data": "canary-data", **attributes})


def untrusted_token(service: Service) -> str:
    """An untrusted token with a canary in its claims."""
    return service.org(iss="https://canary.example", name=PERSON)


async def app_post(service: Service, token: str | None = None, **attributes: Any) -> Answer:
    """Publish a planted event of an app."""
    token = token or service.app()
    return await service.request(
        "POST", "/events/api/v1/app", platform_token=token, json_body=planted_app_event(**attributes)
    )


async def feed_get(service: Service, path: str, headers: dict[str, str] | None = None, **query: Any) -> Answer:
    """Read with every scope, and with a canary as the name in the token."""
    token = service.org("altinn:events.subscribe", "altinn:events.publish.admin", name="canary-name")
    return await service.get(path, token, headers=headers, **query)


async def erase(service: Service, event_id: str = "canary-id") -> Answer:
    """Publish a planted event and erase one."""
    await structured(service, planted())
    path = f"{RESOURCE_FEED}/{event_id}?source=https://canary-source.example/box&resource={RESOURCE}"
    return await service.request("DELETE", path, token=service.org("altinn:events.erase"))


async def post_text(service: Service, body: str, content_type: str = STRUCTURED) -> Answer:
    """Publish a body byte for byte."""
    return await service.request(
        "POST", PUBLISH, token=publisher(service), body=body.encode(), content_type=content_type
    )


Step = Callable[[Service], Awaitable[Answer]]
IN_FEEDS: dict[str, Any] = {"resource": RESOURCE, "from_": ANCIENT}
STEPS: dict[str, tuple[int, Step]] = {
    "publish": (200, lambda s: structured(s, planted())),
    "publish again": (200, lambda s: structured(s, planted())),
    "publish a batch": (200, lambda s: batch(s, [planted(id=f"canary-{n}") for n in range(3)])),
    "publish binary": (
        200,
        lambda s: binary(s, b"canary", "text/plain", {"ce-subject": PERSON_SUBJECT, "ce-canary": "canary"}),
    ),
    "publish as an app": (201, app_post),
    "publish with a bad token": (401, lambda s: structured(s, planted(), untrusted_token(s))),
    "publish with nonsense": (401, lambda s: structured(s, planted(), "canary-token")),
    "publish as an unknown app": (401, lambda s: app_post(s, s.app("unknown/canary"))),  # a refused issuer is logged
    "publish another app's": (403, lambda s: app_post(s, source="https://canary.example/canary/app/instances/1/2")),
    "publish without scope": (403, lambda s: structured(s, planted(), s.org("canary:scope"))),
    "publish about a stranger": (
        403,
        lambda s: structured(s, planted(subject=f"urn:altinn:person:identifier-no:{STRANGER}")),
    ),
    "publish a bad source": (400, lambda s: structured(s, planted(source="https://canary source"))),
    "publish a bad name": (400, lambda s: structured(s, {**planted(), f"Canary-{PERSON}": 1})),
    "publish a bad time": (400, lambda s: structured(s, planted(time=f"canary {PERSON}"))),
    "publish no JSON": (400, lambda s: post_text(s, f'{{"data": "canary {PERSON}')),
    "publish twice the name": (400, lambda s: post_text(s, f'{{"canary{PERSON}": 1, "canary{PERSON}": 2}}')),
    "publish no batch": (400, lambda s: post_text(s, f'["canary {PERSON}"]', BATCH)),
    "publish a bad header": (400, lambda s: binary(s, headers={"ce-canary": f"%zz {PERSON}"})),
    "publish a text": (415, lambda s: post_text(s, f"canary {PERSON}", "text/canary")),
    "publish too much": (413, lambda s: structured(s, planted(data="canary " * 50_000))),
    "read as the owner": (200, lambda s: feed_get(s, APP_FEED, {"person": PERSON}, from_=ANCIENT)),
    "read as a party": (200, lambda s: feed_get(s, PARTY_FEED, {"person": PERSON}, from_=ANCIENT)),
    "read as a stranger": (200, lambda s: feed_get(s, PARTY_FEED, {"person": STRANGER}, from_=ANCIENT)),
    "read by post": (
        200,
        lambda s: s.request("POST", PARTY_FEED, token=s.user(), json_body={"person": PERSON, "from": ANCIENT}),
    ),
    "read a unit": (200, lambda s: feed_get(s, PARTY_FEED, unit=UNIT, from_=ANCIENT)),
    "read a resource": (200, lambda s: feed_get(s, RESOURCE_FEED, {"Altinn-Subject": PERSON_SUBJECT}, **IN_FEEDS)),
    "read after": (200, lambda s: feed_get(s, APP_FEED, after="canary-id")),
    "read with a person in the URL": (400, lambda s: feed_get(s, APP_FEED, from_=ANCIENT, person=PERSON)),
    "read with a subject in the URL": (400, lambda s: feed_get(s, RESOURCE_FEED, subject=PERSON_SUBJECT, **IN_FEEDS)),
    "read from nonsense": (400, lambda s: feed_get(s, APP_FEED, from_=f"canary-{PERSON}")),
    "read nowhere": (404, lambda s: feed_get(s, f"/canary/{PERSON}", canary=PERSON)),
    "read otherwise": (405, lambda s: s.request("PUT", f"{APP_FEED}?canary={PERSON}", body=b"canary")),
    "read as nothing": (406, lambda s: feed_get(s, APP_FEED, {"Accept": "text/canary"}, from_=ANCIENT)),
    "read with a bad trace": (
        200,
        lambda s: feed_get(s, APP_FEED, {"traceparent": f"canary-{PERSON}"}, from_=ANCIENT),
    ),
    "erase": (204, erase),
    "erase nothing": (404, lambda s: erase(s, "canary-other")),
    "health": (200, lambda s: feed_get(s, "/health/ready", canary=PERSON)),
}


class Log(logging.Handler):
    """The records of all loggers, formatted and as plain messages."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.written: list[str] = []
        self.said: list[str] = []

    def clear(self) -> None:
        """Forget the records."""
        self.written.clear()
        self.said.clear()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.written.append(self.format(record))
        self.said.append(f"{record.name} {record.getMessage()}")

    def with_(self, text: str) -> list[dict[str, Any]]:
        """The lines that hold a text, parsed."""
        return [json.loads(line) for line in self.written if text in line]

    @property
    def leaks(self) -> list[str]:
        """The lines that hold a canary, a person's number or a part of a token. The audit log names erased events."""
        never = (PERSON, STRANGER, "eyJ")
        said = [*self.written, *self.said]
        return [
            line
            for line in said
            if any(secret in line for secret in never) or (CANARY in line.lower() and "events_core.audit" not in line)
        ]


@pytest.fixture
async def log(service: Service) -> AsyncIterator[Log]:
    """Record every logger at every level."""
    await app.current()  # sets levels itself
    log = Log()
    loggers = [logging.getLogger(), logging.getLogger("events_core")]
    levels = [logger.level for logger in loggers]
    loggers[0].addHandler(log)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    yield log
    loggers[0].removeHandler(log)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.mark.on_cosmos
async def test_no_request_leaves_a_canary_in_the_logs(
    service: Service, log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    """No logger, not even that of a client library, records anything of a request, however it ends."""
    for name, (status, step) in STEPS.items():
        log.clear()
        assert (await step(service)).status == status, name
        assert log.written, name
        assert log.leaks == [], name
        assert capsys.readouterr().err == "", name


@pytest.mark.parametrize("neighbour", ["pdp", "register", "issuer"])
async def test_no_outage_leaves_a_canary_in_the_logs(service: Service, log: Log, neighbour: str) -> None:
    """While a dependency is down, the log has a warning without a canary."""
    await getattr(service, neighbour).stop()
    for step in (structured(service, planted()), feed_get(service, APP_FEED, {"person": PERSON}, from_=ANCIENT)):
        assert (await step).status in (200, 503)
    assert log.with_('"WARNING"')
    assert log.leaks == []


@pytest.mark.parametrize("body", [b"canary", b'{"Response": "canary"}', b'{"data": "canary", "partyId": "canary"}'])
async def test_responses_of_dependencies_are_not_logged(service: Service, log: Log, body: bytes) -> None:
    """An invalid response of the PDP or of Register is logged without its text."""
    service.pdp.body = service.register.body = body
    await structured(service, planted(subject="/party/1"))
    await feed_get(service, PARTY_FEED, {"person": PERSON}, from_=ANCIENT)
    assert log.leaks == []


async def test_a_denial_is_logged_without_its_event(service: Service, log: Log) -> None:
    """A 403 of the PDP logs nothing of the event."""
    service.pdp.decide = lambda _: DENY
    assert (await structured(service, planted())).status == 403
    assert log.leaks == []


async def test_an_exception_is_logged_without_its_message(
    service: Service, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has type, place and trace; the message may quote a request."""

    def broken(*_: object) -> None:
        raise ValueError(f"{CANARY} {PERSON} {publisher(service)}")

    monkeypatch.setattr(publish, "_validated", broken)
    assert (await structured(service, planted(), headers=TRACEPARENT)).status == 500
    [line] = log.with_('"exception"')
    assert (line["exception"], line["traceId"]) == ("ValueError", TRACE)
    assert line["at"][-1].endswith(" broken")
    assert log.leaks == []


async def test_each_request_is_one_line(service: Service, log: Log) -> None:
    """The line has the handler, the status, the milliseconds and the trace."""
    await structured(service, event(), headers=TRACEPARENT)
    [line] = log.with_('"request"')
    assert line.pop("milliseconds") > 0
    assert line.pop("time")
    assert line == {
        "level": "DEBUG",
        "logger": "events_core.http.edge",
        "message": "request",
        "traceId": TRACE,
        "endpoint": "publish_events",
        "status": 200,
    }


async def test_the_trace_of_a_problem_is_in_the_log(service: Service, log: Log) -> None:
    """The trace id of a problem document finds the line of its request."""
    answer = await service.get(APP_FEED)
    [line] = log.with_('"request"')
    assert (line["traceId"], line["status"]) == (answer.json()["traceId"], 401)


async def test_a_failure_of_a_dependency_is_logged_with_the_trace(service: Service, log: Log) -> None:
    """The warning has the trace of the request that needed the dependency."""
    await service.pdp.stop()
    await structured(service, event(), headers=TRACEPARENT)
    warnings = log.with_('"WARNING"')
    assert [warning["traceId"] for warning in warnings] == [TRACE]


async def test_traces_of_concurrent_requests_do_not_mix(service: Service, log: Log) -> None:
    """A request that waits while another runs keeps its own trace."""
    service.pdp.gate.clear()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(structured(service, event(), headers=TRACEPARENT))
        await service.pdp.arrived.wait()
        other = await service.get(APP_FEED)
        service.pdp.gate.set()
    requests = log.with_('"request"')
    assert waiting.result().status == 200
    assert [line["traceId"] for line in requests] == [other.json()["traceId"], TRACE]
