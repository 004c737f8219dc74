"""The event store on Cosmos DB, on the emulator of the tests: `python -m bench.cosmos`.

The number of requests for an operation is the same on any server. Eight processes are compared with one process on the
same machine.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.store import BATCH, PAGE, RESOURCE, STREAM, event
from events_core.adapters.cosmos import CosmosConnection, CosmosEventStore
from events_core.adapters.cosmos.streams.names import SEGMENT_SIZE
from events_core.delivery.delivery import Lane
from events_core.feeds.ports import ReadRequest, StoredEvent
from events_core.feeds.stream import START, Cursor, Filters, Stream
from tests.support.cosmos import CosmosServer, cosmos_server
from tests.support.delivering import Deployment, deployment_on

SMALL, SEGMENTS, ROWS = 100, 16, 1_590
HOUR = 3_600 * 1_000_000
PROCESSES, AT_ONCE, SECONDS, LATENCY_MS = 8, 16, 8.0, 6.0
ALL, NONE = Filters(types=("app.%",)), Filters(types=("nothing",))

Act = Callable[[], Awaitable[object]]


class Ticking:
    """A clock in microseconds since the epoch. Every reading is a second later."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000

    def __call__(self) -> int:
        """Move one second on and return the time."""
        self.now += 1_000_000
        return self.now


@dataclass
class Bench:
    """An empty database, with the stores opened on it."""

    server: CosmosServer
    database: str
    clock: Ticking = field(default_factory=Ticking)
    opened: list[CosmosEventStore] = field(default_factory=list)

    async def open(self, segment_size: int = SMALL) -> CosmosEventStore:
        """Open a store as in a new process, which knows no stream yet."""
        connection = CosmosConnection.of_string(self.server.connection_string)
        store = CosmosEventStore(connection, self.database, key=bytes(32), clock=self.clock, segment_size=segment_size)
        self.opened.append(store)
        await store.ping()
        return store


@asynccontextmanager
async def empty(server: CosmosServer) -> AsyncIterator[Bench]:
    """A new database for the block."""
    async with server.database() as database:
        bench = Bench(server, database)
        try:
            yield bench
        finally:
            for store in bench.opened:
                await store.close()


async def cost(store: CosmosEventStore, act: Act) -> int:
    """Run `act`. Returns how many requests on documents it sends."""
    before = store.request_units.requests.copy()
    await act()
    return sum(count for name, count in (store.request_units.requests - before).items() if name != "metadata")


def row(name: str, measured: object, promised: str, *, kept: bool) -> None:
    """Print a measured value beside the promised one."""
    print(f"    {name:<46}{measured!s:>14}   {promised}{'' if kept else '   BROKEN'}")


def most(name: str, measured: int, promised: int) -> None:
    """Print a number of requests beside the promised maximum."""
    row(name, measured, f"at most {promised}", kept=measured <= promised)


async def cursor_after(store: CosmosEventStore, position: int) -> Cursor:
    """The cursor after a position."""
    cursor = START
    while cursor.position < position:
        limit = min(1_000, position - cursor.position)
        cursor = (await store.read(ReadRequest(STREAM, cursor, limit=limit))).end
    return cursor


async def pages(store: CosmosEventStore) -> None:
    """Read pages by cursor and with filters, over `ROWS` events in `SEGMENTS` segments."""
    cases: list[tuple[str, int, Filters, int]] = [
        ("page of 50 by next", 5 * SMALL + 10, Filters(), 1),
        ("page of 50 by next across a boundary", 6 * SMALL - 20, Filters(), 2),
        ("page by next, empty", ROWS, Filters(), 2),
        ("page of 50, filtered", 5 * SMALL + 10, ALL, 2),
        ("page without a match, head and eight segments", 0, NONE, 10),
    ]
    for name, position, filters, promised in cases:
        request = ReadRequest(STREAM, await cursor_after(store, position), limit=PAGE, filters=filters)
        most(name, await cost(store, partial(store.read, request)), promised)


async def starts(bench: Bench, rows: Sequence[StoredEvent]) -> None:
    """Start after a bare id, and from a time."""
    newest, oldest = rows[ROWS - 60].id, rows[10].id
    ids = {"of the newest segment": newest, "of the oldest segment": oldest, "that is unknown": "unknown"}
    for name, event_id in ids.items():
        for warm in (True, False):
            store = await bench.open()
            if warm:
                await store.head(STREAM)
            request = ReadRequest(STREAM, event_id=event_id, limit=20)
            label = f"a bare id {name}{'' if warm else ', cold'}"
            most(label, await cost(store, partial(store.read, request)), 1 + 2)
    worst = 0
    for number in range(30, ROWS, 2 * SMALL):
        store = await bench.open()
        await store.head(STREAM)
        request = ReadRequest(STREAM, registered_from=rows[number].registered, limit=20)
        worst = max(worst, await cost(store, partial(store.read, request)))
    most(f"from, {SEGMENTS} segments", worst, 3 + math.ceil(math.log2(SEGMENTS + 1)))


async def reading(server: CosmosServer) -> None:
    """Count the requests of each kind of read."""
    async with empty(server) as bench:
        store = await bench.open()
        events = [event(n) for n in range(ROWS)]
        for start in range(0, ROWS, 20):
            await store.append(events[start : start + 20])
        rows: list[StoredEvent] = []
        for position in range(0, ROWS, SMALL):
            request = ReadRequest(STREAM, await cursor_after(store, position), limit=SMALL)
            rows += (await store.read(request)).rows
        await pages(store)
        await starts(bench, rows)


async def publishing(server: CosmosServer) -> None:
    """Count the requests of each kind of append."""
    async with empty(server) as bench:
        store = await bench.open(SEGMENT_SIZE)
        await store.append([event(0)])
        most("publish one", await cost(store, lambda: store.append([event(1)])), 1)
        for count in (100, 250, BATCH):
            batch = [event(n) for n in range(count)]
            most(f"publish a batch of {count}", await cost(store, partial(store.append, batch)), -(-count // 100))
        other = await bench.open(SEGMENT_SIZE)
        await other.append([event(2)])
        await store.append([event(3)])
        most("a conflict: a write, a query, a write", await cost(other, lambda: other.append([event(4)])), 3)


async def publishing_after_a_segment(server: CosmosServer) -> None:
    """Count the requests of one event soon after the previous segment closed, and an hour later."""
    async with empty(server) as bench:
        store = await bench.open()
        await store.append([event(n) for n in range(SMALL + 1)])
        most("publish one after a segment closed", await cost(store, lambda: store.append([event(1)])), 2)
        bench.clock.now += HOUR
        await store.append([event(2)])
        most("publish one, an hour later", await cost(store, lambda: store.append([event(3)])), 2)


def spent(deployment: Deployment) -> int:
    """The requests on documents so far."""
    store: Any = deployment.application.store
    return int(store.request_units.requests.total() - store.request_units.requests["metadata"])


async def delivering() -> None:
    """Count the requests of following up, of a delivery and of a wake-up."""
    with tempfile.TemporaryDirectory() as directory:
        async with deployment_on("cosmos", Path(directory)) as deployment:
            subscription = await deployment.subscribe(resource=RESOURCE)
            await deployment.publish(event(0))
            await deployment.deliver()
            lane, worker = Lane(subscription.id), deployment.application.lane_worker
            before = spent(deployment)
            await worker.serve(lane)
            most("a wake-up that finds nothing", spent(deployment) - before, 3)
            await deployment.application.store.append([event(1)])
            page = await deployment.application.checkpoints.read_after(STREAM, subscription.start + 1, PAGE)
            targets = await worker.fan_out.targets(page.rows)
            before = spent(deployment)
            for target, items in targets.items():
                await worker.fan_out.put(target, list(items.values()))
            await worker.serve(lane)
            most("one event to one subscription, from recording on", spent(deployment) - before, 8)
            await deployment.application.store.append([event(2)])
            before = spent(deployment)
            await deployment.application.follow_up.follow(STREAM)
            most("following up to org, subject and subscription", spent(deployment) - before, 12)


async def publish_for(store: CosmosEventStore, seconds: float) -> list[float]:
    """Publish one event after the other. Returns the seconds of each event."""
    took: list[float] = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        await store.append([event(0)])
        took.append(time.perf_counter() - began)
    return took


async def work(connection: str, database: str) -> None:
    """In a worker process: publish with `AT_ONCE` concurrent requests, and print the seconds of each request."""
    async with ready_store(connection, database, STREAM) as store:
        took = await asyncio.gather(*(publish_for(store, SECONDS) for _ in range(AT_ONCE)))
    print(json.dumps([seconds for request in took for seconds in request]))


@asynccontextmanager
async def ready_store(connection: str, database: str, stream: Stream) -> AsyncIterator[CosmosEventStore]:
    """In a worker process: a store that knows the stream's head, once the parent process has said go."""
    store = CosmosEventStore(CosmosConnection.of_string(connection), database, key=bytes(32))
    await store.head(stream)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    yield store
    await store.close()


async def start_worker(module: str, server: CosmosServer, database: str) -> Process:
    """Start a worker process of a benchmark and wait until it is ready."""
    arguments = ["-m", module, server.connection_string, database]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=PIPE, stdout=PIPE, limit=16 * 1024 * 1024
    )
    assert process.stdout is not None
    await process.stdout.readline()
    return process


async def race(server: CosmosServer, processes: int) -> tuple[float, float]:
    """Publish to one stream from several processes. Returns events a second and the p99 in seconds."""
    async with server.database() as database:
        workers = [await start_worker("bench.cosmos", server, database) for _ in range(processes)]
        outputs = await asyncio.gather(*(worker.communicate(b"go\n") for worker in workers))
    took = sorted(seconds for output, _ in outputs for seconds in json.loads(output))
    return len(took) / SECONDS, took[len(took) * 99 // 100]


async def many_processes() -> None:
    """Compare eight processes on one stream with one process."""
    async with cosmos_server(latency_ms=LATENCY_MS) as server:
        alone, p99_alone = await race(server, 1)
        together, p99 = await race(server, PROCESSES)
    print(f"{RESOURCE}, {AT_ONCE} concurrent requests of each process, {LATENCY_MS:.0f} ms added to each request")
    row("1 process: events/s", f"{alone:.0f}", "", kept=True)
    row("1 process: p99", f"{p99_alone * 1e3:.0f} ms", "", kept=True)
    row(
        f"{PROCESSES} processes: events/s of 1's",
        f"{together / alone:.0%}",
        "at least 35%",
        kept=together >= 0.35 * alone,
    )
    row(f"{PROCESSES} processes: p99", f"{p99 * 1e3:.0f} ms", "under 2000 ms", kept=p99 < 2)


async def measure() -> None:
    """Run all parts."""
    print("requests to Cosmos DB for each operation")
    async with cosmos_server() as server:
        for part in (reading, publishing, publishing_after_a_segment):
            await part(server)
    await delivering()
    await many_processes()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2]) if len(sys.argv) > 1 else measure())
