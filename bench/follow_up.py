"""Following up on the emulator: `python -m bench.follow_up`; a million events an hour over 5,000 subjects.

A publisher, the emulator and the process that follows have a process each, and each request takes 6 ms longer. What
is measured shares the machine with the other two, which in Azure run elsewhere: processor time carries over.
"""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from statistics import median

from bench.cosmos import LATENCY_MS, row
from events_core.adapters.cosmos import CosmosConnection, CosmosEventStore
from events_core.cloudevent import CloudEvent
from events_core.feeds.follow_up import FollowUp
from events_core.feeds.projection import Projection
from events_core.feeds.stream import Stream
from events_core.feeds.wait import WaitingReaders
from tests.contract.event_store import APP, event
from tests.support.cosmos import CosmosServer, cosmos_server

RATE, SUBJECTS, SECONDS = 278, 5_000, 36
AT_ONCE, FEED_SECONDS = 28, 0.5
STREAM = Stream.of_resource(APP)


def numbered(number: int) -> CloudEvent:
    """An event about one of the subjects, each in its turn."""
    return event(f"{number}", subject=f"/party/{number % SUBJECTS}")


@dataclass(frozen=True)
class Sample:
    """How far following up was at a moment, in seconds since publishing began."""

    at: float
    position: int

    @property
    def lag(self) -> float:
        """The age of the oldest event that was not projected."""
        return max(0.0, self.at - self.position / RATE)


async def publish(connection: str, database: str) -> None:
    """Publish at the rate, from when it is told."""
    store = CosmosEventStore(CosmosConnection.of_string(connection), database, key=bytes(32))
    await store.head(STREAM)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began, appends = time.perf_counter(), []
    for start in range(0, RATE * SECONDS, AT_ONCE):
        await asyncio.sleep(max(0.0, began + start / RATE - time.perf_counter()))
        appends.append(asyncio.ensure_future(store.append([numbered(start + n) for n in range(AT_ONCE)])))
    await asyncio.gather(*appends)
    await store.close()


async def publisher(server: CosmosServer, database: str) -> Process:
    """The publisher's process, ready."""
    arguments = ["-m", "bench.follow_up", server.connection_string, database]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    await process.stdout.readline()
    return process


async def follow(store: CosmosEventStore, process: Process) -> list[Sample]:
    """Follow until all is projected, woken as often as the change feed is read."""
    follow_up = FollowUp(store.checkpoints, [Projection(store.projection, WaitingReaders(store, 0))])
    samples: list[Sample] = []
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    began, total = time.perf_counter(), -(-RATE * SECONDS // AT_ONCE) * AT_ONCE
    while not samples or samples[-1].position < total:
        await asyncio.sleep(FEED_SECONDS)
        await follow_up.follow(STREAM)
        samples.append(Sample(time.perf_counter() - began, (await store.checkpoints.checkpoint(STREAM)).position))
    await process.wait()
    return samples


def report(name: str, samples: list[Sample]) -> None:
    """Print the lags of a part of the run."""
    lags = [each.lag for each in samples] or [0.0]  # one round may have been longer than the part
    row(f"{name}: lag, median", f"{median(lags):.1f} s", "seconds", kept=median(lags) < 10)
    row(f"{name}: lag, greatest", f"{max(lags):.1f} s", "", kept=True)


async def measure() -> None:
    """Print everything."""
    print(f"{RATE} events/s over {SUBJECTS} subjects for {SECONDS} s, {LATENCY_MS:.0f} ms more for each request")
    async with cosmos_server(latency_ms=LATENCY_MS) as server, server.database() as database:
        process = await publisher(server, database)
        store = CosmosEventStore(CosmosConnection.of_string(server.connection_string), database, key=bytes(32))
        await store.head(STREAM)
        requests, used = sum(store.request_units.requests.values()), time.process_time()
        samples = await follow(store, process)
        requests, used = sum(store.request_units.requests.values()) - requests, time.process_time() - used
        await store.close()
    met = SUBJECTS / RATE
    report("subjects not met yet", [each for each in samples if each.at <= met])
    report("subjects met before", [each for each in samples if each.at > met])
    total = samples[-1].position
    row("events/s projected", f"{total / samples[-1].at:.0f}", f"{RATE} published", kept=samples[-1].lag < 10)
    row("requests for each event", f"{requests / total:.2f}", "at most 1.2", kept=requests <= 1.2 * total)
    row("events/s of processor time", f"{total / used:.0f}", f"more than {RATE}", kept=total / used > RATE)


if __name__ == "__main__":
    asyncio.run(publish(sys.argv[1], sys.argv[2]) if len(sys.argv) > 1 else measure())
