"""Following up on the emulator: `python -m bench.follow_up`. A million events an hour over 5,000 subjects.

The publisher, the emulator and the follower each have a process, and each request takes 6 ms longer. The follower
shares the machine with the other two, which run elsewhere in Azure. Its processor time is comparable.
"""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import Process
from dataclasses import dataclass
from statistics import median

from bench.cosmos import LATENCY_MS, ready_store, row, start_worker
from events_core.adapters.cosmos import CosmosConnection, CosmosEventStore
from events_core.cloudevent import CloudEvent
from events_core.feeds.follow_up import FollowUp
from events_core.feeds.projection import Projection
from events_core.feeds.stream import Stream
from events_core.feeds.wait import WaitingReaders
from tests.contract.event_store import APP, event
from tests.support.cosmos import cosmos_server

RATE, SUBJECTS, SECONDS = 278, 5_000, 36
AT_ONCE, FEED_SECONDS = 28, 0.5
STREAM = Stream.of_resource(APP)


def numbered(number: int) -> CloudEvent:
    """An event about one of the subjects, in rotation."""
    return event(f"{number}", subject=f"/party/{number % SUBJECTS}")


@dataclass(frozen=True)
class Sample:
    """The checkpoint at a time, in seconds since publishing began."""

    at: float
    position: int

    @property
    def lag(self) -> float:
        """The age of the oldest event that is not projected."""
        return max(0.0, self.at - self.position / RATE)


async def publish(connection: str, database: str) -> None:
    """In a worker process: publish at the rate."""
    async with ready_store(connection, database, STREAM) as store:
        began, appends = time.perf_counter(), []
        for start in range(0, RATE * SECONDS, AT_ONCE):
            await asyncio.sleep(max(0.0, began + start / RATE - time.perf_counter()))
            appends.append(asyncio.ensure_future(store.append([numbered(start + n) for n in range(AT_ONCE)])))
        await asyncio.gather(*appends)


async def follow(store: CosmosEventStore, publisher: Process) -> list[Sample]:
    """Follow until every event is projected, once for each poll of the change feed."""
    follow_up = FollowUp(store.checkpoints, [Projection(store.projection, WaitingReaders(store, 0))])
    samples: list[Sample] = []
    assert publisher.stdin is not None
    publisher.stdin.write(b"go\n")
    began, total = time.perf_counter(), -(-RATE * SECONDS // AT_ONCE) * AT_ONCE
    while not samples or samples[-1].position < total:
        await asyncio.sleep(FEED_SECONDS)
        await follow_up.follow(STREAM)
        samples.append(Sample(time.perf_counter() - began, (await store.checkpoints.checkpoint(STREAM)).position))
    await publisher.wait()
    return samples


def report(name: str, samples: list[Sample]) -> None:
    """Print the lag in a part of the run."""
    lags = [sample.lag for sample in samples] or [0.0]  # a round may be longer than the part
    row(f"{name}: lag, median", f"{median(lags):.1f} s", "seconds", kept=median(lags) < 10)
    row(f"{name}: lag, greatest", f"{max(lags):.1f} s", "", kept=True)


async def measure() -> None:
    """Run the benchmark and print the results."""
    print(f"{RATE} events/s over {SUBJECTS} subjects for {SECONDS} s, {LATENCY_MS:.0f} ms added to each request")
    async with cosmos_server(latency_ms=LATENCY_MS) as server, server.database() as database:
        publisher = await start_worker("bench.follow_up", server, database)
        store = CosmosEventStore(CosmosConnection.of_string(server.connection_string), database, key=bytes(32))
        await store.head(STREAM)
        requests, used = sum(store.request_units.requests.values()), time.process_time()
        samples = await follow(store, publisher)
        requests, used = sum(store.request_units.requests.values()) - requests, time.process_time() - used
        await store.close()
    all_known = SUBJECTS / RATE
    report("new subjects", [sample for sample in samples if sample.at <= all_known])
    report("known subjects", [sample for sample in samples if sample.at > all_known])
    total = samples[-1].position
    row("events/s projected", f"{total / samples[-1].at:.0f}", f"{RATE} published", kept=samples[-1].lag < 10)
    row("requests for each event", f"{requests / total:.2f}", "at most 1.2", kept=requests <= 1.2 * total)
    row("events/s of processor time", f"{total / used:.0f}", f"more than {RATE}", kept=total / used > RATE)


if __name__ == "__main__":
    asyncio.run(publish(sys.argv[1], sys.argv[2]) if len(sys.argv) > 1 else measure())
