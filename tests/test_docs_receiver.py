"""The receiver of docs/subscribers.md, as its readers run it, against the service as the local host serves it."""

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
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from local.client import Service
from local.data_dir import open_issuer
from tests.support import documents
from tests.support.documents import ROOT
from tests.support.served import Served, served

GUIDE = ROOT / "docs/subscribers.md"
RECEIVER = ROOT / "docs/receiver.py"
SUBSCRIPTIONS = "/events/api/v1/subscriptions"
PATIENCE_SECONDS = 40


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service, which tries again soon."""
    with served(tmp_path_factory.mktemp("subscribers"), EVENTS_WEBHOOK_RETRY_SECONDS="1,1,1,1,1,1,1,1,1,1") as service:
        yield service


class Subscriber:
    """Somebody who follows the guide: a port for the receiver, its database, and requests as the guide makes them."""

    def __init__(self, service: Served, directory: Path) -> None:
        self._service = service
        self._issuer = open_issuer(service.data_dir)
        self.database = directory / "inbox.db"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def subscribe(self) -> dict[str, Any]:
        """Send the guide's own request, to this service and this receiver's port."""
        (command,) = [line for line in documents.shell_lines(GUIDE) if '"endPoint"' in line]
        words = shlex.split(command.replace("$(", "").replace(')" ', '" '))
        body = json.loads(words[words.index("-d") + 1])
        body["endPoint"] = body["endPoint"].replace("8000", str(self.port))
        return self.request("POST", SUBSCRIPTIONS, body)

    def request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Make a request as the service owner ttd."""
        headers = {
            "Authorization": f"Bearer {self._issuer.token_for_org('ttd', '')}",
            "Content-Type": "application/json",
        }
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._service.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as response:
            return dict(json.loads(response.read()))

    def publish(self, event_id: str) -> None:
        """Publish an event of the app that is subscribed to."""
        publisher = Service(self._service.url, lambda: self._issuer.token_for_org("ttd", "altinn:events.publish.admin"))
        event = {"specversion": "1.0", "id": event_id, "source": "https://example.com/s", "type": "a.thing"}
        list(publisher.publish([json.dumps({**event, "resource": "urn:altinn:resource:app_ttd_apps-test"})]))

    @contextmanager
    def receiving(self, *secrets: str) -> Iterator[subprocess.Popen[str]]:
        """Run the receiver as the guide does."""
        command = [sys.executable, str(RECEIVER), str(self.port), str(self.database)]
        environment = {**os.environ, "WEBHOOK_SECRETS": " ".join(secrets)}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("listening on ")
            try:
                yield process
            finally:
                process.terminate()

    def kept(self) -> list[str]:
        """The ids of the events that are kept."""
        if not self.database.exists():
            return []
        with closing(sqlite3.connect(self.database)) as connection:
            return [row[0] for row in connection.execute("SELECT id FROM inbox ORDER BY rowid")]

    def wait_for(self, *ids: str) -> None:
        """Return when just these events are kept, in their order; the receiver's file tells nobody of it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.kept() != [*ids]:
            assert time.monotonic() < deadline, self.kept()
            time.sleep(0.05)


@pytest.fixture
def subscriber(service: Served, tmp_path: Path) -> Subscriber:
    """A subscriber with a receiver of its own."""
    return Subscriber(service, tmp_path)


def test_the_receiver_of_the_guide_gets_each_event_once(subscriber: Subscriber) -> None:
    """Also what was published while it did not run, and after its secret was changed."""
    subscription = subscriber.subscribe()
    secret = subscription["secret"]
    with subscriber.receiving(secret):
        subscriber.publish("a")
        subscriber.wait_for("a")
    subscriber.publish("b")
    with subscriber.receiving(secret):
        subscriber.wait_for("a", "b")
    path = f"{SUBSCRIPTIONS}/{subscription['id']}"
    new = subscriber.request("POST", f"{path}/rotate-secret")["secret"]
    with subscriber.receiving(secret, new):
        subscriber.publish("c")
        subscriber.wait_for("a", "b", "c")
    with subscriber.receiving(new):
        subscriber.publish("d")
        subscriber.wait_for("a", "b", "c", "d")
        subscriber.request("POST", f"{path}/replay", {"from": "2020-01-01T00:00:00Z"})
        subscriber.publish("e")
        subscriber.wait_for("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, b"{}", 401),
        ({"webhook-id": "1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}, b"{}", 401),
        ({"webhook-id": "1", "webhook-timestamp": "x", "webhook-signature": "v1,AAAA"}, b"{}", 401),
        ({"webhook-id": "1", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA"}, b"{}", 401),
    ],
)
def test_the_receiver_refuses_what_is_not_signed(
    subscriber: Subscriber, headers: dict[str, str], body: bytes, status: int
) -> None:
    """Or was signed long ago, or by another secret."""
    with subscriber.receiving("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"):
        request = urllib.request.Request(f"http://127.0.0.1:{subscriber.port}/", body, headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        with refused.value as answer:
            assert answer.status == status


def test_what_the_guide_shows_is_what_runs() -> None:
    """The part of the receiver in the guide is the receiver's."""
    (shown,) = documents.blocks(GUIDE, "python")
    assert shown in RECEIVER.read_text()
