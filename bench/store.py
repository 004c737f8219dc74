"""The embedded store: `python -m bench.store [EVENTS]`, by default with a million events.

The floor of a read is a raw SQLite read of the same rows, in a thread too.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from uuid import UUID, uuid4

from events_core.adapters.sqlite import SqliteEventStore
from events_core.cloudevent import CloudEvent
from events_core.feeds.ports import ReadRequest
from events_core.feeds.stream import START, Cursor, Filters, Stream

RESOURCE = "urn:altinn:resource:app_ttd_apps-test"
STREAM = Stream.of_resource(RESOURCE)
BUSY_PARTY, BUSY_EVERY = 50002108, 50
PAGE, SAMPLES, BATCH = 50, 600, 500
BURST = 30_000

Starts = list[tuple[Cursor, int]]
"""Cursors, with the times at which their rows were registered."""

Read = Callable[[int], Awaitable[object]]


def event(number: int, per_instance: int = 3) -> CloudEvent:
    """An app event of 430 bytes. Every 50th event is about one busy party."""
    busy = number % BUSY_EVERY == 0
    party = BUSY_PARTY if busy else 51_000_000 + number // per_instance
    instance = f"{party}/{UUID(int=number if busy else 2**126 + number // per_instance)}"
    attributes = {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": f"https://ttd.apps.altinn.no/ttd/apps-test/instances/{instance}",
        "type": f"app.instance.process.movedTo.task_{number % 5}",
        "subject": f"/party/{party}",
        "time": "2026-11-20T12:00:00.123456Z",
        "resource": RESOURCE,
        "resourceinstance": instance,
    }
    text = json.dumps(attributes)
    text = f'{text[:-1]}, "data": "{"x" * (430 - len(text) - 12)}"}}'
    return CloudEvent(
        attributes["id"],
        attributes["source"],
        attributes["type"],
        attributes["subject"],
        RESOURCE,
        instance,
        None,
        text.encode(),
    )


class Floor:
    """Reads of texts with only SQLite and a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(2)
        self._local = threading.local()

    async def page(self, index: str, where: str, *values: int) -> object:
        """Read the texts of a page of rows along an index."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._page, index, where, values)

    def _page(self, index: str, where: str, values: Sequence[int]) -> object:
        if not hasattr(self._local, "connection"):
            self._local.connection = sqlite3.connect(self._path, isolation_level=None)
            self._local.connection.execute("PRAGMA cache_size = -8000")
        sql = f"SELECT json FROM events INDEXED BY {index} WHERE {where} ORDER BY position LIMIT {PAGE}"
        return self._local.connection.execute(sql, values).fetchall()


async def timed(reads: Mapping[str, Read], samples: int = SAMPLES) -> dict[str, float]:
    """Median microseconds of each kind of read, measured in turns."""
    times: dict[str, list[float]] = {name: [] for name in reads}
    for sample in range(samples):
        for name, read in reads.items():
            start = time.perf_counter()
            await read(sample)
            times[name].append((time.perf_counter() - start) * 1e6)
    return {name: median(microseconds) for name, microseconds in times.items()}


async def fill(store: SqliteEventStore, first: int, last: int, *, size: int = BATCH, per_instance: int = 3) -> float:
    """Publish events in batches, one after the other. Returns events a second."""
    spent = 0.0
    for start in range(first, last, size):
        batch = [event(number, per_instance) for number in range(start, min(start + size, last))]
        began = time.perf_counter()
        await store.append(batch)
        spent += time.perf_counter() - began
    return (last - first) / spent


async def page_starts(store: SqliteEventStore, filters: Filters) -> Starts:
    """The start of every page along the stream."""
    found: Starts = []
    request = ReadRequest(STREAM, START, filters=filters, limit=1_000)
    while True:
        chunk = await store.read(request)
        found += [(row.cursor, row.registered) for row in chunk.rows[::PAGE]]
        if chunk.caught_up:
            return found
        request = ReadRequest(STREAM, chunk.end, filters=filters, limit=1_000)


async def random_starts(store: SqliteEventStore, filters: Filters) -> Starts:
    """Random starts of full pages."""
    return random.choices((await page_starts(store, filters))[:-2], k=SAMPLES)


async def pages(store: SqliteEventStore, path: Path) -> dict[str, float]:
    """Read a page of 50 by cursor, by time, and of one party, and compare each with its floor."""
    floor = Floor(path)
    deep = await random_starts(store, Filters())
    busy = Filters(subject=f"/party/{BUSY_PARTY}")
    of_party = await random_starts(store, busy)
    with sqlite3.connect(path) as connection:
        position = of_party[0][0].position
        (subject,) = connection.execute("SELECT subject FROM events WHERE position = ?", (position,)).fetchone()
    connection.close()
    return await timed(
        {
            "floor": lambda n: floor.page("by_resource", "resource = 1 AND position > ?", deep[n][0].position),
            "after": lambda n: store.read(ReadRequest(STREAM, deep[n][0])),
            "from": lambda n: store.read(ReadRequest(STREAM, registered_from=deep[n][1])),
            "after, from": lambda n: store.read(ReadRequest(STREAM, deep[n][0], registered_from=deep[n][1])),
            "floor of party": lambda n: floor.page(
                "by_subject_and_resource",
                "subject = ? AND resource = 1 AND position > ?",
                subject,
                of_party[n][0].position,
            ),
            "party": lambda n: store.read(ReadRequest(STREAM, of_party[n][0], filters=busy)),
            "empty": lambda n: store.read(ReadRequest(STREAM, deep[n][0], limit=1)),
        }
    )


def report_pages(count: int, times: dict[str, float], first: dict[str, float]) -> None:
    """Print the results for a size of the store."""
    print(f"{count:>9,} events", end="")
    for name, microseconds in times.items():
        base = times["floor of party" if name == "party" else "floor"]
        ratio = "" if name.startswith("floor") else f" = {microseconds / base:.2f}x floor"
        growth = f", {microseconds / first[name]:.2f}x of {min(count, 10_000):,}" if first is not times else ""
        print(f"\n    {name:<15}{microseconds:>7.0f} us{ratio}{growth}", end="")
    print()


async def _median_page(store: SqliteEventStore, floor: Floor, starts: Starts) -> tuple[float, float]:
    times = await timed(
        {
            "page": lambda n: store.read(ReadRequest(STREAM, starts[n][0])),
            "floor": lambda n: floor.page("by_resource", "resource = 1 AND position > ?", starts[n][0].position),
        },
        len(starts),
    )
    return times["page"], times["floor"]


async def burst(store: SqliteEventStore, path: Path, first: int) -> None:
    """Read before, during and after 30,000 new events, while some of them are still in the write-ahead log."""
    floor = Floor(path)
    deep = await random_starts(store, Filters())
    before = await _median_page(store, floor, deep)
    publishing = asyncio.create_task(fill(store, first, first + BURST, size=100))
    during: list[tuple[float, float]] = []
    while not publishing.done():
        during.append(await _median_page(store, floor, deep[:20]))
    after = await _median_page(store, floor, deep)
    fresh = await _median_page(store, floor, (await page_starts(store, Filters()))[-SAMPLES - 2 : -2])
    while_written = median(page for page, _ in during), median(floor for _, floor in during)
    print(f"burst of {BURST:,} events: a page takes {before[0]:.0f} us before (floor {before[1]:.0f})")
    for name, (page, its_floor) in {"while written": while_written, "after": after, "fresh rows": fresh}.items():
        print(f"    {name:<15}{page:>7.0f} us = {page / before[0]:.2f}x", end="")
        print(f" (floor {its_floor:.0f} = {its_floor / before[1]:.2f}x)")


class SlowCommits(SqliteEventStore):
    """A store whose commits take 5 ms longer."""

    def _commit(self, connection: sqlite3.Connection) -> None:
        time.sleep(0.005)
        super()._commit(connection)


async def publishers(store: SqliteEventStore, count: int, seconds: float = 2) -> float:
    """Events a second of `count` publishers. Each sends one event after the other."""
    until = time.perf_counter() + seconds

    async def publish() -> int:
        published = 0
        while time.perf_counter() < until:
            await store.append([event(random.getrandbits(40))])
            published += 1
        return published

    return sum(await asyncio.gather(*(publish() for _ in range(count)))) / seconds


async def group_commit(directory: Path) -> None:
    """Measure what concurrent publishers gain by sharing commits."""
    for kind, name in ((SlowCommits, "with 5 ms a commit"), (SqliteEventStore, "on this disk")):
        store = kind(directory / f"{kind.__name__}.db")
        one, sixteen = await publishers(store, 1), await publishers(store, 16)
        print(f"publish one by one {name}: {one:,.0f}/s by 1 publisher, {sixteen:,.0f}/s by 16 = {sixteen / one:.1f}x")
        await store.close()


async def batches(directory: Path) -> None:
    """Publish batches of 100 into a store of 100,000 events."""
    store = SqliteEventStore(directory / "batches.db")
    await fill(store, 0, 100_000)
    serial = await fill(store, 100_000, 110_000, size=100)
    ready = [[event(n) for n in range(start, start + 100)] for start in range(110_000, 130_000, 100)]
    began = time.perf_counter()
    for start in range(0, len(ready), 8):
        await asyncio.gather(*map(store.append, ready[start : start + 8]))
    print(f"batches of 100: {serial:,.0f} events/s one after the other, ", end="")
    print(f"{20_000 / (time.perf_counter() - began):,.0f} events/s by 8 at once")
    await store.close()


async def sizes(directory: Path) -> None:
    """Measure the bytes on disk of an event of 430 bytes."""
    for per_instance in (3, 1):
        path = directory / f"size{per_instance}.db"
        store = SqliteEventStore(path)
        await fill(store, 0, 50_000, per_instance=per_instance)
        await store.close()
        print(f"disk, {per_instance} events an instance: {path.stat().st_size / 50_000:.0f} bytes for an event of 430")


def resident() -> str:
    """The memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmRSS"))
    return f"{int(kilobytes) / 1024:.0f} MB"


async def measure(count: int, directory: Path) -> None:
    """Run all parts and print the results."""
    path = directory / "events.db"
    store = SqliteEventStore(path)
    print(f"resident before: {resident()}")
    first: dict[str, float] = {}
    stored = 0
    for step in sorted({min(10_000, count), min(100_000, count), count}):
        rate = await fill(store, stored, step)
        await asyncio.sleep(1)  # SQLite moves the write-ahead log into the file
        times = await pages(store, path)
        first = first or times
        report_pages(step, times, first)
        print(f"    filled at {rate:,.0f} events/s in batches of {BATCH}; resident {resident()}")
        stored = step
    await burst(store, path, stored)
    await store.close()
    for part in (batches, group_commit, sizes):
        await part(directory)


def main() -> None:
    """Measure in a temporary directory on the disk of the project."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench") as directory:
        asyncio.run(measure(count, Path(directory)))


if __name__ == "__main__":
    main()
