"""The examples in the documents do what the documents say: commands, programs, and the containers of an emulator."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from events_core.adapters.cosmos.containers import CONTAINERS
from events_core.adapters.sqlite import SqliteEventStore
from events_core.feeds.ports import ReadRequest
from events_core.feeds.stream import Stream
from local.client import Service
from local.data_dir import open_issuer
from tests.support import documents, node
from tests.support.cosmos import cosmos_server
from tests.support.documents import DOCUMENTS, ROOT
from tests.support.served import Served, served
from tools.make_containers import make_containers

LAST = "the.last"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A served service, shared by the tests of this file. Each test uses a resource of its own."""
    with served(tmp_path_factory.mktemp("documents")) as service:
        yield service


@pytest.fixture
def poller() -> ModuleType:
    """A module of docs/poller.py of its own, so that a test may change its constants."""
    spec = importlib.util.spec_from_file_location("poller", ROOT / "docs/poller.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Stop(Exception):  # noqa: N818 - no error: a handler ends the poller with it
    """A handler ends the poller."""


class Feed:
    """A resource of its own, its publisher, and a handler that notes event ids until the last event comes."""

    def __init__(self, service: Served, directory: Path) -> None:
        self.resource = f"urn:altinn:resource:{uuid.uuid4()}"
        self.start = f"{service.url}/events/api/v1/events?resource={self.resource}&from=2020-01-01T00:00:00Z&size=3"
        self.next_file = directory / "next.txt"
        self.seen: list[str] = []
        self._issuer = open_issuer(service.data_dir)
        self._publisher = Service(service.url, lambda: self._issuer.token_for_org("ttd", "altinn:events.publish.admin"))

    def token(self) -> str:
        """Return a reader's token."""
        return self._issuer.token_for_org("ttd", "altinn:events.subscribe")

    def publish(self, *ids: str, kind: str = "a.thing") -> None:
        """Publish events with these ids."""
        event = {"specversion": "1.0", "source": "https://example.com/s", "type": kind, "resource": self.resource}
        list(self._publisher.publish(json.dumps({**event, "id": event_id}) for event_id in ids))

    def publish_one_by_one(self, ids: Iterable[str]) -> None:
        """Publish events with these ids, each after the previous one was acknowledged."""
        for event_id in ids:
            self.publish(event_id)

    def handle(self, event: dict[str, Any]) -> None:
        """Note the event's id; stop at the last event."""
        if event["type"] == LAST:
            raise Stop
        self.seen.append(event["id"])

    def follow(self, poller: ModuleType, handle: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Run the poller until its handler stops it."""
        with pytest.raises(Stop):
            poller.follow(self.start, self.next_file, self.token, handle or self.handle)


@pytest.fixture
def feed(service: Served, tmp_path: Path) -> Feed:
    """A feed that no other test uses."""
    return Feed(service, tmp_path)


def test_the_poller_returns_each_event_once_during_publishing(poller: ModuleType, feed: Feed) -> None:
    """It hands over every event of several publishers exactly once, in the order of each publisher."""
    names = [[f"{publisher}-{number:03}" for number in range(60)] for publisher in "abc"]
    with ThreadPoolExecutor(len(names) + 1) as threads:
        reading = threads.submit(feed.follow, poller)
        list(threads.map(feed.publish_one_by_one, names))
        feed.publish("end", kind=LAST)
        reading.result(timeout=60)
    assert sorted(feed.seen) == list(itertools.chain(*names))
    assert [[name for name in feed.seen if name.startswith(p)] for p in "abc"] == names


def test_the_poller_goes_on_from_its_last_page(poller: ModuleType, feed: Feed) -> None:
    """A new run repeats only the page that the last run had not finished."""
    feed.publish("1", "2", "3", "4", "5", "6")
    crash = iter([feed.handle, feed.handle, feed.handle, feed.handle])

    def crashing(event: dict[str, Any]) -> None:
        next(crash, fail)(event)

    feed.follow(poller, crashing)
    feed.publish("end", kind=LAST)
    feed.follow(poller)
    assert feed.seen == ["1", "2", "3", "4", "4", "5", "6"]


def fail(_: dict[str, Any]) -> None:
    """End the poller at an event."""
    raise Stop


class Flaky(BaseHTTPRequestHandler):
    """A service that answers with each of `statuses` once. It breaks off the answer of a negative status."""

    statuses: Iterator[int]

    def do_GET(self) -> None:
        """Answer with the next status."""
        status = next(self.statuses)
        body = json.dumps([{"type": LAST, "id": "1"}]).encode() if status == 200 else b""
        self.send_response(abs(status))
        self.send_header("Content-Length", str(len(body) + (status < 0)))
        self.send_header("Retry-After", "0")
        self.send_header("next", "/")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Log nothing."""


def test_the_poller_survives_an_outage(poller: ModuleType, feed: Feed) -> None:
    """It asks again after 429, 503 and half an answer, and passes over no event."""
    Flaky.statuses = iter([503, 429, -200, 200])
    vars(poller)["LONGEST_PAUSE_SECONDS"] = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Flaky) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        feed.start = f"http://127.0.0.1:{server.server_port}/"
        feed.follow(poller)
        server.shutdown()
    assert list(Flaky.statuses) == []


def test_the_poller_does_not_repeat_a_wrong_request(poller: ModuleType, feed: Feed) -> None:
    """An answer of 400 ends the poller at once."""
    feed.start = feed.start.replace("size=3", "from=yesterday")
    with pytest.raises(urllib.error.HTTPError, match="400"):
        feed.follow(poller)


def _substituted(word: str, service: Served) -> str:
    """Return a word of the shell with `$(.venv/bin/python ...)` replaced by what that prints."""
    return re.sub(r"\$\(\S+ (.*)\)", lambda match: service.run(*shlex.split(match[1])).strip(), word)


def _fault_of(command: str, service: Served) -> str | None:
    """Run a curl command against the service; return what is wrong with the answer, if anything."""
    words = [_substituted(word, service) for word in shlex.split(command.replace("\\\n", " "))]
    options = list(itertools.pairwise(words))
    headers = dict(value.split(": ", 1) for option, value in options if option == "-H")
    data = dict(options).get("-d")
    url = next(word for word in words if word.startswith("http://127.0.0.1:7071/"))
    target = service.url + url.removeprefix("http://127.0.0.1:7071")
    try:
        with urllib.request.urlopen(urllib.request.Request(target, data.encode() if data else None, headers)) as answer:
            published = json.load(answer)
            is_new = answer.status == 201 or not any(event["duplicate"] for event in published.get("events", ()))
            return None if is_new else f"duplicate: {published}"
    except urllib.error.HTTPError as refused:
        with refused:
            return f"{refused.code} {refused.read().decode()}"


def test_documented_curl_commands_succeed(service: Served) -> None:
    """Pasted one after the other, the commands of the documents get 2xx, and they publish new events."""
    commands = [body for path in DOCUMENTS for body in documents.blocks(path, "sh") if body.startswith("curl")]
    assert len(commands) > 4
    faults = {command: _fault_of(command, service) for command in commands}
    assert {command: fault for command, fault in faults.items() if fault is not None} == {}


class Relay(BaseHTTPRequestHandler):
    """Hands a POST that announces its length on to `url`, and notes its headers."""

    url: str
    seen: Mapping[str, str] = {}

    def do_POST(self) -> None:
        """Hand the request on, and the answer back."""
        Relay.seen = dict(self.headers.items())
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with urllib.request.urlopen(urllib.request.Request(self.url + self.path, body, dict(self.seen))) as answer:
            self.send_response(answer.status)
            self.end_headers()
            self.wfile.write(answer.read())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Log nothing."""


@pytest.mark.parametrize(("language", "program", "suffix"), [("python", sys.executable, "py"), ("js", "node", "mjs")])
def test_each_publishing_example_publishes_an_event(
    service: Served, tmp_path: Path, language: str, program: str, suffix: str
) -> None:
    """An example of docs/publishers.md, pasted into a file and run, announces its length and prints the outcome."""
    (example,) = documents.blocks(ROOT / "docs/publishers.md", language)
    file = tmp_path / f"example.{suffix}"
    file.write_text(example)
    token = open_issuer(service.data_dir).token_for_org("ttd", "altinn:events.publish")
    with ThreadingHTTPServer(("127.0.0.1", 0), Relay) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Relay.url = service.url
        settings = {"EVENTS_URL": f"http://127.0.0.1:{server.server_port}", "EVENTS_TOKEN": token}
        command = [node.program(program) if program == "node" else program, str(file)]
        ran = subprocess.run(
            command, env={**os.environ, **settings}, check=False, capture_output=True, text=True, timeout=30
        )
        server.shutdown()
    assert (ran.returncode, ran.stderr) == (0, "")
    (outcome,) = json.loads(ran.stdout)["events"]
    assert outcome["duplicate"] is False
    assert Relay.seen["Content-Type"].startswith("application/cloudevents+json")


async def test_the_documented_backup_holds_every_event(service: Served, feed: Feed) -> None:
    """The backup command works while the service runs, and copies every acknowledged event."""
    feed.publish("1", "2", "3")
    command = next(line for line in documents.shell_lines(ROOT / "docs/operations.md") if "VACUUM" in line)
    service.run(*shlex.split(command)[1:])
    backup = SqliteEventStore(service.data_dir.parent / "backup.db")
    chunk = await backup.read(ReadRequest(Stream.of_resource(feed.resource)))
    await backup.close()
    assert [row.id for row in chunk.rows] == ["1", "2", "3"]


async def test_the_documented_script_makes_every_container() -> None:
    """It may run twice, and its containers are those of the service."""
    async with cosmos_server("atomic") as server, server.client() as client:
        name = f"test-{uuid.uuid4().hex}"
        server.databases.add(name)
        for _ in range(2):
            await make_containers(server.connection_string, name)
        made = [properties["id"] async for properties in client.get_database_client(name).list_containers()]
    assert sorted(made) == sorted(container.name for container in CONTAINERS)
