"""The examples in the documents do what the documents say: commands, and the poller of docs/consumers.md."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import threading
import types
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from events_core.adapters.sqlite import SqliteEventStore
from events_core.feeds.ports import ReadRequest
from events_core.feeds.stream import Stream
from local.client import Service
from local.data_dir import open_issuer
from tests.support import documents
from tests.support.documents import DOCUMENTS, ROOT
from tests.support.served import Served, served

CONSUMERS = ROOT / "docs/consumers.md"
LAST = "the.last"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A served service, shared by the tests of this file; each uses a resource of its own."""
    with served(tmp_path_factory.mktemp("documents")) as service:
        yield service


@pytest.fixture
def poller() -> types.ModuleType:
    """The poller of docs/consumers.md, as its readers copy it."""
    module = types.ModuleType("poller")
    exec(documents.blocks(CONSUMERS, "python")[0], vars(module))
    return module


class Stop(Exception):  # noqa: N818 - no error: a handler ends the poller with it
    """A handler has had enough."""


class Feed:
    """A resource of its own, with its publisher, and a handler that keeps what it is given until it has had enough."""

    def __init__(self, service: Served, directory: Path) -> None:
        self.resource = f"urn:altinn:resource:{uuid.uuid4()}"
        self.start = f"{service.url}/events/api/v1/events?resource={self.resource}&from=2020-01-01T00:00:00Z&size=3"
        self.place = directory / "place.txt"
        self.seen: list[str] = []
        self._issuer = open_issuer(service.data_dir)
        self._publisher = Service(service.url, lambda: self._issuer.token_for_org("ttd", "altinn:events.publish.admin"))

    def token(self) -> str:
        """A reader's token."""
        return self._issuer.token_for_org("ttd", "altinn:events.subscribe")

    def publish(self, *ids: str, kind: str = "a.thing") -> None:
        """Publish events with these ids."""
        event = {"specversion": "1.0", "source": "https://example.com/s", "type": kind, "resource": self.resource}
        list(self._publisher.publish(json.dumps({**event, "id": each}) for each in ids))

    def publish_one_by_one(self, ids: Iterable[str]) -> None:
        """Publish events with these ids, each when the one before is acknowledged."""
        for each in ids:
            self.publish(each)

    def handle(self, event: dict[str, Any]) -> None:
        """Keep the event's id; stop at the last."""
        if event["type"] == LAST:
            raise Stop
        self.seen.append(event["id"])

    def follow(self, poller: types.ModuleType, handle: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Run the poller until its handler stops it."""
        with pytest.raises(Stop):
            poller.follow(self.start, self.place, self.token, handle or self.handle)


@pytest.fixture
def feed(service: Served, tmp_path: Path) -> Feed:
    """A feed that nobody else has."""
    return Feed(service, tmp_path)


def test_the_poller_returns_each_event_once_while_events_are_published(poller: types.ModuleType, feed: Feed) -> None:
    """Every event that several publishers store meanwhile is handed over exactly once, a publisher's in its order."""
    names = [[f"{publisher}-{number:03}" for number in range(60)] for publisher in "abc"]
    with ThreadPoolExecutor(len(names) + 1) as threads:
        reading = threads.submit(feed.follow, poller)
        list(threads.map(feed.publish_one_by_one, names))
        feed.publish("end", kind=LAST)
        reading.result(timeout=60)
    assert sorted(feed.seen) == list(itertools.chain(*names))
    assert [[name for name in feed.seen if name.startswith(p)] for p in "abc"] == names


def test_the_poller_goes_on_where_it_came_to(poller: types.ModuleType, feed: Feed) -> None:
    """A new run continues after the pages that were handled, and repeats the one that was not handled to its end."""
    feed.publish("1", "2", "3", "4", "5", "6")
    crash = iter([feed.handle, feed.handle, feed.handle, feed.handle])

    def crashing(event: dict[str, Any]) -> None:
        next(crash, fail)(event)

    feed.follow(poller, crashing)
    feed.publish("end", kind=LAST)
    feed.follow(poller)
    assert feed.seen == ["1", "2", "3", "4", "4", "5", "6"]


def fail(_: dict[str, Any]) -> None:
    """Handle an event by giving up."""
    raise Stop


class Flaky(BaseHTTPRequestHandler):
    """A service that answers with each of `statuses` once; below zero it breaks the answer off before its end."""

    statuses: Iterator[int]

    def do_GET(self) -> None:
        """Answer what is next."""
        status = next(self.statuses)
        body = json.dumps([{"type": LAST, "id": "1"}]).encode() if status == 200 else b""
        self.send_response(abs(status))
        self.send_header("Content-Length", str(len(body) + (status < 0)))
        self.send_header("Retry-After", "0")
        self.send_header("next", "/")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


def test_the_poller_outlives_an_outage(poller: types.ModuleType, feed: Feed) -> None:
    """429, 503 and half an answer are asked for again, and no event is passed over."""
    Flaky.statuses = iter([503, 429, -200, 200])
    poller.LONGEST_PAUSE_SECONDS = 0  # type: ignore[attr-defined]  # the poller's own
    with ThreadingHTTPServer(("127.0.0.1", 0), Flaky) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        feed.start = f"http://127.0.0.1:{server.server_port}/"
        feed.follow(poller)
        server.shutdown()
    assert list(Flaky.statuses) == []


def test_the_poller_repeats_no_request_that_is_wrong(poller: types.ModuleType, feed: Feed) -> None:
    """An answer of 400 ends the poller at once."""
    feed.start = feed.start.replace("size=3", "from=yesterday")
    with pytest.raises(urllib.request.HTTPError, match="400"):
        feed.follow(poller)


def curls(path: Path) -> list[str]:
    """The curl commands in a document."""
    return [body for body in documents.blocks(path, "sh") if body.startswith("curl")]


def substituted(word: str, service: Served) -> str:
    """A word of the shell with `$(.venv/bin/python ...)` replaced by what that prints."""
    return re.sub(r"\$\(\S+ (.*)\)", lambda match: service.run(*shlex.split(match[1])).strip(), word)


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if curls(path)], ids=lambda path: path.name)
def test_documented_curls_do_what_they_say(path: Path, service: Served) -> None:
    """Those of a document, pasted one after the other, are answered with 2xx; what is published is new."""
    for command in curls(path):
        words = [substituted(word, service) for word in shlex.split(command.replace("\\\n", " "))]
        options = list(itertools.pairwise(words))
        headers = dict(value.split(": ", 1) for option, value in options if option == "-H")
        data = dict(options).get("-d")
        url = next(word for word in words if word.startswith("http://127.0.0.1:7071/"))
        target = service.url + url.removeprefix("http://127.0.0.1:7071")
        request = urllib.request.Request(target, data.encode() if data else None, headers)
        with urllib.request.urlopen(request) as answer:
            published = json.load(answer)
            assert answer.status == 201 or not any(each["duplicate"] for each in published.get("events", ()))


async def test_the_documented_backup_holds_every_event(service: Served, feed: Feed) -> None:
    """The backup command, run while the service runs, makes a store with every event that was acknowledged."""
    feed.publish("1", "2", "3")
    command = next(line for line in documents.shell_lines(ROOT / "docs/operations.md") if "VACUUM" in line)
    service.run(*shlex.split(command)[1:])
    backup = SqliteEventStore(service.data_dir.parent / "backup.db")
    chunk = await backup.read(ReadRequest(Stream.of_resource(feed.resource)))
    await backup.close()
    assert [row.id for row in chunk.rows] == ["1", "2", "3"]
