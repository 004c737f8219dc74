"""docs/receiver.py, run as docs/subscribers.md says, against the service on the local host."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from events_core.common.clock import now
from events_core.delivery.webhook import new_secret, validation_event
from local.client import Service
from local.data_dir import open_issuer
from tests.support import documents
from tests.support.documents import ROOT
from tests.support.served import Served, served

GUIDE = ROOT / "docs/subscribers.md"
RECEIVER = ROOT / "docs/receiver.py"
SUBSCRIPTIONS = "/events/api/v1/subscriptions"
PATIENCE_SECONDS = 40
OLD, NEW = new_secret(), new_secret()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service, which retries after a second."""
    with served(tmp_path_factory.mktemp("subscribers"), EVENTS_WEBHOOK_RETRY_SECONDS=",".join("1" * 30)) as service:
        yield service


class Inbox:
    """The port and the file of a receiver, and the running receiver."""

    def __init__(self, directory: Path) -> None:
        self.database = directory / "inbox.db"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    @contextmanager
    def receiving(self, *secrets: str) -> Iterator[None]:
        """Run the receiver with the guide's command."""
        command = [sys.executable, str(RECEIVER), str(self.port), str(self.database)]
        environment = {**os.environ, "WEBHOOK_SECRETS": " ".join(secrets)}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("listening on ")
            try:
                yield
            finally:
                process.terminate()

    def kept(self) -> list[str]:
        """Return the ids of the stored events."""
        with closing(sqlite3.connect(self.database)) as connection:
            return [row[0] for row in connection.execute("SELECT id FROM inbox ORDER BY rowid")]

    def send(self, body: bytes, headers: Mapping[str, str], method: str = "POST") -> tuple[int, Mapping[str, str]]:
        """Send a request; return status and headers of the receiver's answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", body, dict(headers), method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, dict(answer.headers)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, dict(refused.headers)


class Subscriber(Inbox):
    """A reader of the guide: a receiver, and the requests of the guide."""

    def __init__(self, service: Served, directory: Path) -> None:
        super().__init__(directory)
        self._service = service
        self._issuer = open_issuer(service.data_dir)

    def subscribe(self) -> dict[str, Any]:
        """Send the guide's request with the guide's token, to this service and for this port."""
        (command,) = [line for line in documents.shell_lines(GUIDE) if '"endPoint"' in line]
        token = self._service.run(*shlex.split(command.partition("$(.venv/bin/python ")[2].partition(")")[0])).strip()
        body = json.loads(shlex.split(command)[-1])
        body["endPoint"] = body["endPoint"].replace("8000", str(self.port))
        return self.request("POST", SUBSCRIPTIONS, body, token)

    def request(self, method: str, path: str, body: object = None, token: str | None = None) -> dict[str, Any]:
        """Make a request, by default as the service owner ttd."""
        bearer = token or self._issuer.token_for_org("ttd", "")
        headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._service.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as response:
            return dict(json.loads(response.read()))

    def publish(self, event_id: str) -> None:
        """Publish an event of the app in the subscription."""
        publisher = Service(self._service.url, lambda: self._issuer.token_for_org("ttd", "altinn:events.publish.admin"))
        event = {"specversion": "1.0", "id": event_id, "source": "https://example.com/s", "type": "a.thing"}
        list(publisher.publish([json.dumps({**event, "resource": "urn:altinn:resource:app_ttd_apps-test"})]))

    def states(self, subscription: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return event id and state of each delivery, with replays, by the event's position."""
        found = self.request("GET", f"{SUBSCRIPTIONS}/{subscription['id']}/deliveries")["deliveries"]
        return [(delivery["eventId"], delivery["state"]) for delivery in found]


def until(expected: object, observe: Callable[[], object]) -> None:
    """Poll until `observe` returns the expected value: neither the receiver's file nor the service notifies a test."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := observe()) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


@pytest.fixture
def subscriber(service: Served, tmp_path: Path) -> Subscriber:
    """A subscriber with a receiver of its own."""
    return Subscriber(service, tmp_path)


def test_the_receiver_of_the_guide_gets_each_event_once(subscriber: Subscriber) -> None:
    """Also after it was down, after its secret was rotated, and after a replay."""
    subscription = subscriber.subscribe()
    path, secret = f"{SUBSCRIPTIONS}/{subscription['id']}", subscription["secret"]
    with subscriber.receiving(secret):
        subscriber.publish("a")
        until(["a"], subscriber.kept)
    subscriber.publish("b")
    until([("a", "delivered"), ("b", "failing")], lambda: subscriber.states(subscription))
    with subscriber.receiving(secret):
        until(["a", "b"], subscriber.kept)
    new = subscriber.request("POST", f"{path}/rotate-secret")["secret"]
    with subscriber.receiving(secret):
        subscriber.publish("c")
        until(["a", "b", "c"], subscriber.kept)
    with subscriber.receiving(new):
        subscriber.publish("d")
        until(["a", "b", "c", "d"], subscriber.kept)
        subscriber.request("POST", f"{path}/replay", {"from": "2020-01-01T00:00:00Z"})
        twice = [(event_id, "delivered") for event_id in "aabbccdd"]
        until(twice, lambda: subscriber.states(subscription))
    assert subscriber.kept() == ["a", "b", "c", "d"]


# -- The receiver alone; the library of Standard Webhooks signs its requests ------------------------------------------


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    """A receiver with an old and a new secret, shared by tests that each send an event of their own."""
    inbox = Inbox(tmp_path_factory.mktemp("inbox"))
    with inbox.receiving(OLD, NEW):
        yield inbox


def event(event_id: str) -> bytes:
    """Return the text of an event."""
    return json.dumps({"specversion": "1.0", "id": event_id, "source": "https://example.com/s", "type": "a"}).encode()


def signed(body: bytes, *secrets: str, seconds_ago: float = 0) -> dict[str, str]:
    """Return the headers of a delivery that was signed some seconds ago."""
    at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    signatures = [Webhook(secret).sign("9f2c4a7d1e8b4f60a3d5c7e9b1f20486", at, body.decode()) for secret in secrets]
    headers = {"webhook-id": "9f2c4a7d1e8b4f60a3d5c7e9b1f20486", "webhook-timestamp": str(int(at.timestamp()))}
    return {**headers, "webhook-signature": " ".join(signatures)}


@pytest.mark.parametrize(
    ("name", "secrets", "seconds_ago"),
    [
        ("old", [OLD], 0),
        ("new", [NEW], 0),
        ("both", [new_secret(), NEW], 0),
        ("slow", [OLD], 240),
        ("ahead", [OLD], -240),
    ],
)
def test_the_receiver_keeps_an_event_signed_by_one_of_its_secrets(
    inbox: Inbox, name: str, secrets: list[str], seconds_ago: float
) -> None:
    """It keeps the event once, even if it arrives twice."""
    for _ in range(2):
        assert inbox.send(event(name), signed(event(name), *secrets, seconds_ago=seconds_ago))[0] == 200
    assert inbox.kept().count(name) == 1


@pytest.mark.parametrize(
    ("body", "secret", "seconds_ago", "changed"),
    [
        ("refused", new_secret(), 0, {}),
        ("another", OLD, 0, {}),
        ("refused", OLD, 360, {}),
        ("refused", OLD, -360, {}),
        ("refused", OLD, 0, {"webhook-id": "3b7e9d0c5a1f4286b8e4d6f0a2c19375"}),
        ("refused", OLD, 0, {"webhook-timestamp": "now"}),
        ("refused", OLD, 0, {"webhook-signature": ""}),
        ("refused", OLD, 0, {"webhook-signature": "v1,"}),
    ],
    ids=["forged", "changed", "stale", "early", "other id", "no time", "no signature", "empty signature"],
)
def test_the_receiver_refuses_a_wrong_or_old_signature(
    inbox: Inbox, body: str, secret: str, seconds_ago: float, changed: dict[str, str]
) -> None:
    """Every reason gives 401, and the event is not kept."""
    headers = signed(event(body), secret, seconds_ago=seconds_ago) | changed
    assert inbox.send(event("refused"), headers)[0] == 401
    assert "refused" not in inbox.kept()


def test_the_receiver_refuses_a_request_without_signature(inbox: Inbox) -> None:
    """Anybody can find the receiver's address."""
    assert inbox.send(event("refused"), {})[0] == 401
    assert "refused" not in inbox.kept()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"type": "a"}', b'{"type": "a", "id": "1"}'])
def test_the_receiver_refuses_a_body_that_is_no_event(inbox: Inbox, body: bytes) -> None:
    """A valid signature does not make a body an event: 400."""
    assert inbox.send(body, signed(body, NEW))[0] == 400


def test_the_receiver_refuses_a_body_that_is_too_large(inbox: Inbox) -> None:
    """It looks at the length and reads nothing."""
    assert inbox.send(b"", {"Content-Length": str(2**30)})[0] == 413


def test_the_receiver_accepts_the_validation_event_without_keeping_it(inbox: Inbox) -> None:
    """The validation event tells of nothing that happened."""
    body = validation_event("validation-1", "https://example.com/s/1", now())
    assert inbox.send(body, signed(body, NEW))[0] == 200
    assert "validation-1" not in inbox.kept()


def test_the_receiver_speaks_the_handshake(inbox: Inbox) -> None:
    """It allows every origin, since the signature decides."""
    status, headers = inbox.send(b"", {"WebHook-Request-Origin": "events.example"}, "OPTIONS")
    assert (status, headers["WebHook-Allowed-Origin"]) == (200, "events.example")


def test_the_receiver_does_not_acknowledge_an_event_that_it_cannot_keep(tmp_path: Path) -> None:
    """It answers 503, so that the event comes again."""
    inbox = Inbox(tmp_path)
    with inbox.receiving(NEW):
        inbox.database.write_bytes(b"no database" * 1_000)
        assert inbox.send(event("a"), signed(event("a"), NEW))[0] == 503


def test_the_receiver_does_not_start_without_a_secret(tmp_path: Path) -> None:
    """Without one it would refuse every request, and the log would not say why."""
    command = [sys.executable, str(RECEIVER), "0", str(tmp_path / "inbox.db")]
    environment = {**os.environ, "WEBHOOK_SECRETS": ""}
    ended = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=20)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "WEBHOOK_SECRETS" in ended.stderr
