"""Feeds and publishing over HTTP, compared with a bare endpoint: `python -m bench.http [EVENTS]`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

from bench.client import Connection, latencies, request, throughput
from events_core.adapters.sqlite import SqliteEventStore
from events_core.cloudevent import CloudEvent
from local.issuer import DevelopmentIssuer

SIZE = 50
ROUNDS = 15
PER_ROUND = 40
RESOURCE = "urn:altinn:resource:app_ttd_apps-test"
PARTY = 50002108
APP_FEED, PARTY_FEED = "/events/api/v1/app/ttd/apps-test", "/events/api/v1/app/party"


def event(number: int, party: int) -> CloudEvent:
    """An app event of about 430 bytes."""
    event_id, guid = str(uuid.UUID(int=number)), str(uuid.UUID(int=number // 3))
    source = f"https://ttd.apps.altinn.no/ttd/apps-test/instances/{party}/{guid}"
    attributes = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": "app.instance.process.completed",
        "subject": f"/party/{party}",
        "time": "2026-11-16T18:00:00.123456Z",
        "resource": RESOURCE,
        "resourceinstance": f"{party}/{guid}",
    }
    text = json.dumps(attributes).encode()
    return CloudEvent(event_id, source, attributes["type"], f"/party/{party}", RESOURCE, f"{party}/{guid}", None, text)


async def fill(data_dir: Path, count: int) -> None:
    """Store `count` events. One in twenty is about PARTY."""
    store = SqliteEventStore(data_dir / "events.db")
    for start in range(0, count, 1000):
        numbers = range(start, min(start + 1000, count))
        await store.append([event(n, PARTY if n // 3 % 20 == 0 else 50_100_000 + n // 3 % 5000) for n in numbers])
    await store.close()


@contextmanager
def served(command: Sequence[str], data_dir: Path, ready: Callable[[str], bool]) -> Iterator[None]:
    """Run a server until the block ends."""
    environment = {**os.environ, "EVENTS_DATA_DIR": str(data_dir)}
    process = subprocess.Popen(
        [sys.executable, "-m", *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        while not ready(process.stdout.readline()):
            if process.poll() is not None:
                raise SystemExit(f"{command} ended with {process.returncode}")
        sink = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        yield
        sink.kill()
    finally:
        process.terminate()
        process.wait()


def pages(connection: Connection, path: str, token: str, count: int, **query: object) -> list[bytes]:
    """Walk a feed by `next`. Returns the request of each page."""
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{path}?{urlencode({'from': '2000-01-01T00:00:00Z', 'size': SIZE, **query})}"
    requests = []
    for _ in range(count):
        requests.append(request("GET", url, headers))
        url = connection.get(requests[-1]).headers["next"]
    return requests


def compare(ours: Connection, bare: Connection, mine: list[bytes], floor: list[bytes]) -> tuple[float, float]:
    """Median seconds of the service and of the bare endpoint, measured in turns under the same load."""
    medians: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        medians[0].append(median(latencies(ours, mine[:PER_ROUND])))
        medians[1].append(median(latencies(bare, floor[:PER_ROUND])))
    return median(medians[0]), median(medians[1])


def report(name: str, ours: float, floor: float, most: float) -> None:
    """Print both medians and their ratio."""
    print(
        f"{name:44} {ours * 1e6:9.0f} us   floor {floor * 1e6:7.0f} us   {ours / floor:5.2f}x   (at most {most}x)",
        flush=True,
    )


def publish(port: int, token: str, batches: int) -> float:
    """Publish batches of 100 on one connection. Returns events a second."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/cloudevents-batch+json"}
    bodies = []
    for _ in range(batches):
        events = [json.loads(event(uuid.uuid4().int >> 1, PARTY).json) for _ in range(100)]
        bodies.append(request("POST", "/events/api/v1/events", headers, json.dumps(events).encode()))
    connection = Connection(port)
    started = time.perf_counter()
    for body in bodies:
        reply = connection.get(body)
        assert reply.status == 200, reply.body
    return batches * 100 / (time.perf_counter() - started)


def main() -> None:
    """Fill a store, serve it by both servers, and compare them."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        asyncio.run(fill(data_dir, count))
        issuer = DevelopmentIssuer(data_dir)
        owner = issuer.token_for_org("ttd", "altinn:events/ttd/apps-test altinn:events.publish.admin")
        user = issuer.token_for_user(20012345, PARTY)
        port, bare_port = 7271, 7272
        ours_command = ["local", "serve", "--port", str(port), "--data-dir", folder, "--no-sample-data"]
        bare_command = ["uvicorn", "bench.bare:application", "--port", str(bare_port), "--no-access-log"]
        with (
            served(ours_command, data_dir, lambda line: line.startswith("listening")),
            served(bare_command, data_dir, lambda line: "running on" in line),
        ):
            measure(port, bare_port, owner, user, count)


def measure(port: int, bare_port: int, owner: str, user: str, count: int) -> None:
    """Print the results."""
    ours, bare = Connection(port), Connection(bare_port)
    floor = [request("GET", f"/page?position={n * SIZE}&size={SIZE}") for n in range(PER_ROUND)]
    empty_floor = [request("GET", f"/page?position={count + 1}&size={SIZE}")] * PER_ROUND
    owner_pages = pages(ours, APP_FEED, owner, PER_ROUND)
    party_pages = pages(ours, PARTY_FEED, user, PER_ROUND, party=PARTY)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 5))
    empty = pages(ours, APP_FEED, owner, 2, **{"from": now})[1:] * PER_ROUND
    print(f"{count:,} events, page of {SIZE}, one connection, medians of {ROUNDS} x {PER_ROUND}")
    report("owner feed, authorized by scope", *compare(ours, bare, owner_pages, floor), 4)
    report("party feed, decisions cached", *compare(ours, bare, party_pages, floor), 6)
    report("empty poll", *compare(ours, bare, empty, empty_floor), 3)
    ratios = [throughput(port, owner_pages, 8) / throughput(bare_port, floor, 8) for _ in range(5)]
    print(f"{'owner feed, 8 connections':44} {median(ratios):.2f}x of the bare endpoint's throughput (at least 0.4x)")
    rates = [publish(port, owner, 40) for _ in range(5)]
    print(f"{'publish, batches of 100':44} {median(rates):,.0f} events/s (at least 8,000)")


if __name__ == "__main__":
    main()
