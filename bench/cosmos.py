"""The store on Cosmos DB, on the emulator of the tests: `python -m bench.cosmos`.

Requests for each operation carry over to any server; the eight processes are held against one on the same machine.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bench.store import BATCH, PAGE, RESOURCE, STREAM, event
from events_core.adapters.cosmos import CosmosConnection, CosmosEventStore
from events_core.adapters.cosmos.streams.names import SEGMENT_SIZE
from events_core.feeds.ports import ReadRequest, StoredEvent
from events_core.feeds.stream import START, Cursor, Filters
from tests.support.cosmos import CosmosServer, cosmos_server

SMALL, SEGMENTS, ROWS = 100, 16, 1_590
HOUR = 3_600 * 1_000_000
PROCESSES, AT_ONCE, SECONDS, LATENCY_MS = 8, 16, 8.0, 6.0
ALL, NONE = Filters(types=("app.%",)), Filters(types=("nothing",))

Act = Callable[[], Awaitable[object]]


class Ticking:
    """A clock that goes on by a second whenever it is asked, and by more when told; microseconds since the epoch."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000

    def __call__(self) -> int:
        """The time."""
        self.now += 1_000_000
        return self.now


@dataclass
class Bench:
    """An empty database, and the stores that were opened on it."""

    server: CosmosServer
    database: str
    clock: Ticking = field(default_factory=Ticking)
    opened: list[CosmosEventStore] = field(default_factory=list)

    async def open(self, segment_size: int = SMALL) -> CosmosEventStore:
        """A store whose process knows nothing but that the database is its own."""
        connection = CosmosConnection.of_string(self.server.connection_string)
        store = CosmosEventStore(connection, self.database, key=bytes(32), clock=self.clock, segment_size=segment_size)
        self.opened.append(store)
        await store.ping()
        return store


@asynccontextmanager
async def empty(server: CosmosServer) -> AsyncIterator[Bench]:
    """A database of its own for the block."""
    async with server.database() as database:
        bench = Bench(server, database)
        try:
            yield bench
        finally:
            for store in bench.opened:
                await store.close()


async def cost(store: CosmosEventStore, act: Act) -> int:
    """The requests on documents that something takes."""
    before = store.request_units.requests.copy()
    await act()
    return sum(count for name, count in (store.request_units.requests - before).items() if name != "metadata")


def row(name: str, measured: object, promised: str, *, kept: bool) -> None:
    """Print what was measured beside what is promised."""
    print(f"    {name:<46}{measured!s:>14}   {promised}{'' if kept else '   BROKEN'}")


def most(name: str, measured: int, promised: int) -> None:
    """Print a number of requests beside the most that is promised."""
    row(name, measured, f"at most {promised}", kept=measured <= promised)


async def place(store: CosmosEventStore, position: int) -> Cursor:
    """The cursor after a position."""
    cursor = START
    while cursor.position < position:
        limit = min(1_000, position - cursor.position)
        cursor = (await store.read(ReadRequest(STREAM, cursor, limit=limit))).end
    return cursor


async def pages(store: CosmosEventStore) -> None:
    """Pages by cursor and with filters, over `ROWS` events in `SEGMENTS` segments."""
    asked: list[tuple[str, int, Filters, int]] = [
        ("page of 50 by next", 5 * SMALL + 10, Filters(), 1),
        ("page of 50 by next across a boundary", 6 * SMALL - 20, Filters(), 2),
        ("page by next, empty", ROWS, Filters(), 2),
        ("page of 50, filtered", 5 * SMALL + 10, ALL, 2),
        ("page without a match, head and eight segments", 0, NONE, 10),
    ]
    for name, position, filters, promised in asked:
        request = ReadRequest(STREAM, await place(store, position), limit=PAGE, filters=filters)
        most(name, await cost(store, lambda request=request: store.read(request)), promised)  # type: ignore[misc]


async def starts(bench: Bench, ids: Sequence[str], moments: Sequence[int]) -> None:
    """A bare id, and a moment."""
    named = {"of the newest segment": ids[ROWS - 60], "of the oldest segment": ids[10], "that is unknown": "unknown"}
    for name, event_id in named.items():
        for knows in (True, False):
            store = await bench.open()
            if knows:
                await store.head(STREAM)
            request = ReadRequest(STREAM, event_id=event_id, limit=20)
            label = f"a bare id {name}{'' if knows else ', cold'}"
            most(label, await cost(store, lambda s=store, r=request: s.read(r)), 1 + 2)  # type: ignore[misc]
    worst = 0
    for number in range(30, ROWS, 2 * SMALL):
        store = await bench.open()
        await store.head(STREAM)
        request = ReadRequest(STREAM, registered_from=moments[number], limit=20)
        worst = max(worst, await cost(store, lambda s=store, r=request: s.read(r)))  # type: ignore[misc]
    most(f"from, {SEGMENTS} segments", worst, 3 + round(math.log2(SEGMENTS)))


async def reading(server: CosmosServer) -> None:
    """Requests for each kind of read."""
    async with empty(server) as bench:
        store = await bench.open()
        events = [event(n) for n in range(ROWS)]
        for start in range(0, ROWS, 20):
            await store.append(events[start : start + 20])
        rows: list[StoredEvent] = []
        for position in range(0, ROWS, SMALL):
            request = ReadRequest(STREAM, await place(store, position), limit=SMALL)
            rows += (await store.read(request)).rows
        await pages(store)
        await starts(bench, [each.id for each in rows], [each.registered for each in rows])


async def publishing(server: CosmosServer) -> None:
    """Requests for each kind of append."""
    async with empty(server) as bench:
        store = await bench.open(SEGMENT_SIZE)
        await store.append([event(0)])
        most("publish one", await cost(store, lambda: store.append([event(1)])), 1)
        for count in (100, 250, BATCH):
            batch = [event(n) for n in range(count)]
            most(f"publish a batch of {count}", await cost(store, lambda b=batch: store.append(b)), -(-count // 100))  # type: ignore[misc]
        other = await bench.open(SEGMENT_SIZE)
        await other.append([event(2)])
        await store.append([event(3)])
        most("a conflict: a try, a query, a try", await cost(other, lambda: other.append([event(4)])), 3)


async def publishing_after_a_segment(server: CosmosServer) -> None:
    """Requests for one event while the segment before is young, and once it is not."""
    async with empty(server) as bench:
        store = await bench.open()
        await store.append([event(n) for n in range(SMALL + 1)])
        most("publish one after a segment closed", await cost(store, lambda: store.append([event(1)])), 2)
        bench.clock.now += HOUR
        await store.append([event(2)])
        most("publish one, an hour later", await cost(store, lambda: store.append([event(3)])), 2)


async def publish_for(store: CosmosEventStore, seconds: float) -> list[float]:
    """Publish one event after the other; the seconds that each took."""
    took: list[float] = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        await store.append([event(0)])
        took.append(time.perf_counter() - began)
    return took


async def work(connection: str, database: str) -> None:
    """A process that publishes with `AT_ONCE` requests at once, from when it is told; prints what each took."""
    store = CosmosEventStore(CosmosConnection.of_string(connection), database, key=bytes(32))
    await store.head(STREAM)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    took = await asyncio.gather(*(publish_for(store, SECONDS) for _ in range(AT_ONCE)))
    print(json.dumps([each for some in took for each in some]))
    await store.close()


async def _start(server: CosmosServer, database: str) -> Process:
    arguments = ["-m", "bench.cosmos", server.connection_string, database]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=PIPE, stdout=PIPE, limit=16 * 1024 * 1024
    )
    assert process.stdout is not None
    await process.stdout.readline()
    return process


async def race(server: CosmosServer, processes: int) -> tuple[float, float]:
    """Events in a second on one stream, and the 99th percentile of seconds, of so many processes at once."""
    async with server.database() as database:
        started = [await _start(server, database) for _ in range(processes)]
        answers = await asyncio.gather(*(process.communicate(b"go\n") for process in started))
    took = sorted(each for answer, _ in answers for each in json.loads(answer))
    return len(took) / SECONDS, took[len(took) * 99 // 100]


async def many_processes() -> None:
    """Eight processes on one stream, against one."""
    async with cosmos_server(latency_ms=LATENCY_MS) as server:
        alone, p99_alone = await race(server, 1)
        together, p99 = await race(server, PROCESSES)
    print(f"{RESOURCE}, {AT_ONCE} requests at once in each process, {LATENCY_MS:.0f} ms more for each request")
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
    """Print everything."""
    print("requests to Cosmos DB for each operation")
    async with cosmos_server() as server:
        for part in (reading, publishing, publishing_after_a_segment):
            await part(server)
    await many_processes()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2]) if len(sys.argv) > 1 else measure())
