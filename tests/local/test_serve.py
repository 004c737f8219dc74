"""`python -m local serve`: start, first steps, stop, and errors at the start."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import shlex
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import orjson
import pytest

from local.data_dir import open_issuer
from local.persona import PARTY, USER
from tests.support.command_line import Served, line_of, run, served
from tests.support.cosmos import started_server
from tests.support.rights import rights, umask

ANCIENT = "2000-01-01T00:00:00Z"
OWNER_FEED = f"/events/api/v1/app/ttd/apps-test?from={ANCIENT}&size=1000"
OWNER = ("--org", "ttd", "--scope", "altinn:events/ttd")
FIRST_STEPS = 4


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A running service with sample data, which no test stops."""
    with served(tmp_path_factory.mktemp("data")) as running:
        yield running


def get(url: str, token: str, **headers: str) -> tuple[int, Any]:
    """The status and the JSON document at a URL."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}", **headers})
    try:
        with urllib.request.urlopen(request, timeout=40) as response:
            return response.status, orjson.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, None


def owner_token(running: Served) -> str:
    """A token of ttd that may read the events of its apps."""
    return open_issuer(running.data_dir).token_for_org("ttd", "altinn:events/ttd")


def first_steps(running: Served) -> list[list[str]]:
    """The commands that the service prints at its start, split as a shell does."""
    steps: list[list[str]] = []
    while len(steps) < FIRST_STEPS:
        line = line_of(running.process)
        if line.startswith("curl "):
            steps.append(shlex.split(line))
    return steps


def test_start_first_response_and_stop_take_at_most_a_second_and_a_half(tmp_path: Path) -> None:
    """The store is empty at first. Processor time is compared, since it depends less on the machine's load."""
    before = os.times()
    with served(tmp_path) as running:
        assert urllib.request.urlopen(f"{running.url}/health").status == 200
        running.stop()
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1.5


def test_the_printed_commands_work(tmp_path: Path) -> None:
    """They read both feeds, publish an event, and read the published event."""
    with served(tmp_path) as running:
        printed = [subprocess.run(step, capture_output=True, check=True).stdout for step in first_steps(running)]
    owner, party, published, since = map(orjson.loads, printed)
    assert len(owner) == len(party) == 5
    assert {event["subject"] for event in party} == {f"/party/{PARTY}"}
    assert [event["id"] for event in since] == [published]


def test_a_restart_keeps_the_events_and_stores_none_twice(tmp_path: Path) -> None:
    """Sample data goes only into an empty store."""
    counts = []
    for _ in range(2):
        with served(tmp_path) as running:
            counts.append(len(get(running.url + OWNER_FEED, owner_token(running))[1]))
            assert running.stop() == 0
    assert counts[0] == counts[1] > 100


def test_sample_data_can_be_left_out(tmp_path: Path) -> None:
    """The feed is then empty."""
    with served(tmp_path, "--no-sample-data") as running:
        assert get(running.url + OWNER_FEED, owner_token(running)) == (200, [])


@pytest.mark.parametrize("mask", [0, 0o022])
def test_everything_in_the_data_directory_is_for_its_owner_alone(tmp_path: Path, mask: int) -> None:
    """The store, the issuer's key and what else the service writes, whatever the umask is."""
    data = tmp_path / "data"
    with umask(mask), served(data) as running:
        assert get(running.url + OWNER_FEED, owner_token(running))[0] == 200
        found = {path.name: rights(path) for path in data.rglob("*")}
    assert rights(data) == 0o700
    assert {name for name, mode in found.items() if mode == 0o700} == {"issuer"}
    assert {name for name, mode in found.items() if mode == 0o600} == found.keys() - {"issuer"}
    assert {"key.pem", "events.db", "events.db-wal", "events.db-shm"} <= found.keys()


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (OWNER, OWNER_FEED),
        (("--user", str(USER), "--party", str(PARTY)), f"/events/api/v1/app/party?party={PARTY}&from={ANCIENT}"),
        (
            ("--system-user", "a1b2c3d4-0000-4000-8000-000000000009", "--org-number", "974760673"),
            f"/events/api/v1/app/party?party={PARTY}&from={ANCIENT}",
        ),
        (("--org-number", "974760673"), f"/events/api/v1/app/party?unit=974760673&from={ANCIENT}"),
    ],
)
def test_a_printed_token_is_trusted(service: Served, arguments: tuple[str, ...], path: str) -> None:
    """Each kind of caller reads sample events."""
    status, events = get(service.url + path, service.token(*arguments))
    assert status == 200
    assert events


def test_a_token_of_another_data_directory_is_not_trusted(service: Served, tmp_path: Path) -> None:
    """Each data directory has its own key."""
    foreign = open_issuer(tmp_path).token_for_org("ttd", "altinn:events/ttd")
    assert get(service.url + OWNER_FEED, foreign)[0] == 401


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_while_a_long_poll_is_open(tmp_path: Path, stop: int) -> None:
    """The process ends within seconds with status 0, and the poll gets a response."""
    with served(tmp_path) as running:
        token = owner_token(running)
        newest = get(running.url + OWNER_FEED, token)[1][-1]["id"]
        url = f"{running.url}/events/api/v1/app/ttd/apps-test?after={newest}"
        answered: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        poll = threading.Thread(target=lambda: answered.put(get(url, token, Prefer="wait=30")))
        poll.start()
        with pytest.raises(Empty):
            answered.get(timeout=0.5)
        begun = time.perf_counter()
        assert running.stop(stop) == 0
        assert time.perf_counter() - begun < 4
        assert answered.get(timeout=5) == (200, [])
        poll.join()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [(b"no HTTP", 400), (b"GET /health HTTP/1.1\r\nHost: a b", 400), (b"PUT / HTTP/1.0", 404)],
)
def test_answers_of_the_server_itself_are_protected(service: Served, request_line: bytes, status: int) -> None:
    """A browser neither guesses their type nor shows them in a frame."""
    with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=10) as connection:
        connection.sendall(request_line + b"\r\nConnection: close\r\n\r\n")
        answer = connection.makefile("rb").read().lower()
    assert answer.startswith(b"http/1.1 %d" % status)
    assert answer.count(b"x-content-type-options: nosniff\r\n") == 1
    assert answer.count(b"frame-ancestors 'none'\r\n") == 1


@pytest.mark.parametrize(
    "endless",
    [
        (b"GET /health?", b"a" * 1_000),
        (b"GET /health HTTP/1.1\r\nHost: h\r\nX: ", b"a" * 1_000),
        (b"GET /health HTTP/1.1\r\nHost: h\r\n", b"x: a\r\n" * 200),
        (b"POST /events HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"x: a\r\n" * 200),
    ],
    ids=["path", "header", "headers", "trailers"],
)
def test_a_head_without_end_is_cut_off(service: Served, endless: tuple[bytes, bytes]) -> None:
    """No client makes the host keep more than a few hundred kilobytes of it."""
    begin, more = endless
    sent = 0
    with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=10) as connection:
        connection.sendall(begin)
        with contextlib.suppress(ConnectionError):
            while sent < 50_000_000:
                connection.sendall(more)
                sent += len(more)
    assert sent < 20_000_000  # most of it waits in the buffers of the sockets


def test_a_long_head_is_served(service: Served) -> None:
    """Sixty kilobytes, on a connection that has sent more than that before."""
    connection = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=10)
    with contextlib.closing(connection):
        for _ in range(3):
            connection.request("GET", f"/health?{'a' * 60_000}")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200


def test_it_stops_within_seconds_while_a_request_never_ends(tmp_path: Path) -> None:
    """One client sends half a request, another client sends nothing."""
    with served(tmp_path) as running:
        port = int(running.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as half, socket.create_connection(("127.0.0.1", port)):
            half.sendall(b"POST /events HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{")
            begun = time.perf_counter()
            assert running.stop() == 0
            assert time.perf_counter() - begun < 6


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EVENTS_MAX_PAGE_SIZE", "many"),
        ("EVENTS_TOKEN_ISSUERS", "{"),
        ("EVENTS_POLICY_FILE", "/nowhere/policy.json"),
        ("EVENTS_REGISTER_FILE", "/nowhere/register.json"),
        ("EVENTS_PLATFORM_CERTIFICATE", "@Microsoft.KeyVault(SecretUri=https://vault.example/secrets/missing)"),
        ("EVENTS_DATA_DIR", "/dev/null/data"),
        ("EVENTS_COSMOS", "AccountEndpoint=;AccountKey=c2VjcmV0;"),
        ("EVENTS_COSMOS", "AccountEndpoint=https://x.documents.azure.com/;AccountKey=no base64;"),
    ],
)
def test_a_bad_setting_ends_the_start_with_one_line_that_names_it(tmp_path: Path, name: str, value: str) -> None:
    """The line is on standard error, and the exit status is 2."""
    settings = {"EVENTS_DATA_DIR": str(tmp_path), name: value}
    ended = run("serve", "--port", "0", **settings)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"{name}")
    assert ended.stderr.count("\n") == 1


def test_the_embedded_store_serves_only_development(tmp_path: Path) -> None:
    """In production, the host must not acknowledge events into a local file."""
    ended = run("serve", "--port", "0", "--data-dir", tmp_path, AZURE_FUNCTIONS_ENVIRONMENT="Production")
    assert ended.returncode == 2
    assert ended.stderr.startswith("EVENTS_COSMOS: ")


@pytest.fixture
def cosmos() -> Iterator[dict[str, str]]:
    """Settings for a new database on the Cosmos DB server of the tests."""
    server = asyncio.run(started_server())
    database = asyncio.run(server.make_containers())
    yield {"EVENTS_COSMOS": server.connection_string, "EVENTS_COSMOS_DATABASE": database}
    asyncio.run(server.drop(database))


def party_feed(running: Served, token: str, expected: str) -> list[str]:
    """The ids in the party's feed, read by long polls until `expected` is among them."""
    after = f"from={ANCIENT}"
    seen: list[str] = []
    for _ in range(10):
        page = f"{running.url}/events/api/v1/app/party?{after}&party={PARTY}&size=1000"
        status, events = get(page, token, Prefer="wait=5")
        assert status == 200
        seen += [event["id"] for event in events]
        if expected in seen:
            return seen
        after = f"after={seen[-1]}" if seen else after
    raise AssertionError("the event did not arrive")


def test_it_serves_on_cosmos_db(tmp_path: Path, cosmos: dict[str, str]) -> None:
    """`EVENTS_COSMOS` is all it needs for sample data, feeds, publishing, following up and a restart."""
    with served(tmp_path, **cosmos) as running:
        owner, party, publish, _ = first_steps(running)
        assert len(orjson.loads(subprocess.run(owner, capture_output=True, check=True).stdout)) == 5
        assert subprocess.run(party, capture_output=True, check=True).returncode == 0
        event_id = orjson.loads(subprocess.run(publish, capture_output=True, check=True).stdout)
        seen = party_feed(running, open_issuer(tmp_path).token_for_user(USER, PARTY), event_id)
        assert len(seen) == len(set(seen))
        assert running.stop() == 0
    assert not (tmp_path / "events.db").exists()
    with served(tmp_path, **cosmos) as again:
        status, events = get(f"{again.url}{OWNER_FEED}", owner_token(again))
        assert (status, event_id in [event["id"] for event in events]) == (200, True)


def test_an_address_in_use_is_a_one_line_error(service: Served, tmp_path: Path) -> None:
    """The exit status is 1."""
    port = service.url.rpartition(":")[2]
    ended = run("serve", "--port", port, "--data-dir", tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == f"cannot listen at 127.0.0.1:{port}: Address already in use\n"


def test_the_development_issuer_is_not_trusted_when_another_is_configured(tmp_path: Path) -> None:
    """No commands with its tokens are printed."""
    issuers = orjson.dumps([{"issuer": "https://issuer.example", "jwks_uri": "https://issuer.example/jwks"}]).decode()
    with served(tmp_path, EVENTS_TOKEN_ISSUERS=issuers) as running:
        assert get(running.url + OWNER_FEED, owner_token(running))[0] == 401
        running.process.send_signal(signal.SIGTERM)
        printed, _ = running.process.communicate(timeout=10)
        assert printed == ""
