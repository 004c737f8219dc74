"""Requests of real clients, byte for byte as they left the socket, are answered as recorded/expected.json says."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from local.data_dir import open_issuer
from local.issuer import DevelopmentIssuer
from local.persona import PARTY, USER
from tests.support.served import Served, served

RECORDED = Path(__file__).parent / "recorded"
EXPECTED: dict[str, dict[str, Any]] = json.loads((RECORDED / "expected.json").read_text())
APP = "ttd/apps-test"
DOMAIN = "apps.example.test"
FILTERED = [name for name, expected in EXPECTED.items() if "filters" in expected]


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Host:
    """A served process, and the tokens of its issuer."""

    service: Served

    @property
    def issuer(self) -> DevelopmentIssuer:
        """The development issuer of the process."""
        return open_issuer(self.service.data_dir)

    def replay(self, name: str) -> Answer:
        """Send a recorded request, with the token of who asks."""
        raw = (RECORDED / f"{name}.http").read_bytes()
        address = urlsplit(self.service.url).netloc.encode()
        raw = raw.replace(b": HOST\r\n", b": " + address + b"\r\n", 1)
        line, rest = raw.split(b"\r\n", 1)
        header = self._header(EXPECTED[name]["as"])
        if header is None:
            return self.send(raw.replace(b"APPTOKEN", self.issuer.platform_token(APP).encode(), 1))
        return self.send(line + b"\r\n" + header.encode() + b"\r\n" + rest)

    def _header(self, caller: str) -> str | None:
        if caller == "app":
            return None  # the request has its header already
        if caller == "platform":
            return f"PlatformAccessToken: {self.issuer.platform_token('platform/events')}"
        return f"Authorization: Bearer {self.token(caller)}"

    def token(self, caller: str) -> str:
        """The bearer token of a caller of expected.json."""
        if caller == "user":
            return self.issuer.token_for_user(USER, PARTY)
        scopes = {
            "publisher": "altinn:events.publish altinn:events.publish.admin",
            "owner": f"altinn:events/{APP}",
            "reporter": "altinn:events.subscribe altinn:events.reportees/orders",
            "subscriber": "altinn:events.subscribe",
        }
        return self.issuer.token_for_org("ttd", scopes[caller])

    def send(self, raw: bytes) -> Answer:
        """Send bytes on a new connection, and read one response."""
        address = urlsplit(self.service.url)
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=20) as connection:
            connection.sendall(raw)
            response = HTTPResponse(connection, method=raw.partition(b" ")[0].decode())
            response.begin()
            return Answer(response.status, response.read())

    def feed(self, path: str, caller: str, **query: str) -> list[dict[str, Any]]:
        """The events of a feed, as a caller reads them."""
        pairs = urlencode({"from": "2000-01-01T00:00:00Z", "size": "1000", **query})
        head = f"GET {path}?{pairs} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {self.token(caller)}\r\n\r\n"
        answer = self.send(head.encode())
        assert answer.status == 200, answer.body
        return list(answer.json())

    def publish(self, *types: str) -> None:
        """Publish events of the app of these types."""
        for type_ in types:
            source = f"https://ttd.{DOMAIN}/{APP}/instances/{PARTY}/bde9a1ee-8f9c-4f8d-9a6c-0f2c8ae1a9b6"
            event = {"specversion": "1.0", "type": type_, "source": source, "subject": f"/party/{PARTY}"}
            body = json.dumps(event).encode()
            token = self.issuer.platform_token(APP)
            head = f"POST /events/api/v1/app HTTP/1.1\r\nHost: h\r\nPlatformAccessToken: {token}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            assert self.send(head.encode() + body).status == 201


@dataclass
class Hosts:
    """Served processes. Requests that publish the same event go to different ones, so that none is a duplicate."""

    root: Path
    stack: ExitStack
    started: dict[int, Host] = field(default_factory=dict)

    def for_request(self, name: str) -> Host:
        """The process for a request: a new one where each of the others may have its event."""
        number = _same_event(name).index(name)
        if number not in self.started:
            directory = self.root / str(number)
            directory.mkdir()
            self.started[number] = Host(self.stack.enter_context(served(directory, EVENTS_APPS_DOMAIN=DOMAIN)))
        return self.started[number]


def _same_event(name: str) -> list[str]:
    """The requests that publish the same event as this one, itself included."""
    event_id = EXPECTED[name].get("event", {}).get("id")
    if event_id is None:
        return [name]
    return [other for other in EXPECTED if EXPECTED[other].get("event", {}).get("id") == event_id]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Processes that end with this module."""
    with ExitStack() as stack:
        yield Hosts(tmp_path_factory.mktemp("recorded"), stack)


def published(host: Host, name: str, answer: Answer) -> dict[str, Any]:
    """The event of a recorded request, as it is in its feed."""
    if EXPECTED[name]["as"] == "app":
        path, caller, query, event_id = f"/events/api/v1/app/{APP}", "owner", {}, answer.json()
    else:
        assert not any(outcome["duplicate"] for outcome in answer.json()["events"])
        path, caller, query = "/events/api/v1/events", "reporter", {"resource": "urn:altinn:resource:orders"}
        event_id = EXPECTED[name]["event"]["id"]
    [event] = [event for event in host.feed(path, caller, **query) if event["id"] == event_id]
    return event


def test_every_recorded_request_has_its_answer() -> None:
    """And each answer its request."""
    files = {path.relative_to(RECORDED).with_suffix("").as_posix() for path in RECORDED.rglob("*.http")}
    assert files == EXPECTED.keys()
    assert len(files) == 37


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recorded_request_is_answered_as_it_must_be(hosts: Hosts, name: str) -> None:
    """Its status, its event in the feed, what that event has not, and what a 400 names."""
    host, expected = hosts.for_request(name), EXPECTED[name]
    answer = host.replay(name)
    assert answer.status in expected["status"], answer.body
    if answer.status == 415:
        assert "application/cloudevents+json" in answer.json()["detail"]
    if "names" in expected:
        assert expected["names"] in [fault["field"] for fault in answer.json()["errors"]]
    if "event" in expected or "absent" in expected:
        event = published(host, name, answer)
        assert {member: event.get(member) for member in expected.get("event", {})} == expected.get("event", {})
        assert set(expected.get("absent", ())) & event.keys() == set()


@pytest.mark.parametrize("name", FILTERED)
def test_a_recorded_filter_takes_effect(hosts: Hosts, name: str) -> None:
    """A list of types in brackets is no parameter to ignore: the reader would get every type."""
    host = hosts.for_request(name)
    assert EXPECTED[name]["filters"] == "type"
    host.publish("a.b", "c.d", "e.f")
    answer = host.replay(name)
    assert answer.status == 200
    assert {event["type"] for event in answer.json()} == {"a.b", "c.d"}
