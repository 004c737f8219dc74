"""A process of the hammer: `python -m tests.adapters.cosmos.hammer_publisher CONNECTION DATABASE NUMBER LIFE`.

It publishes what is its to publish, but for what standard input says is acknowledged already, and prints a line for
each acknowledgement. Now and then it dies, before or after a commit.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from events_core.adapters.cosmos import CosmosConnection, CosmosEventStore
from events_core.common.errors import EventsError
from tests.contract.event_store import event

PROCESSES, OWN, SEGMENT_SIZE = 8, 200, 50
DIED_BEFORE, DIED_AFTER = 70, 71
_AT_ONCE = 8
_DEATHS = 0.05  # of commits
_EACH = 20  # of so many events one is sent again, and one is sent by a neighbour too

Commit = Callable[..., Awaitable[None]]


def own(number: int) -> list[str]:
    """The ids of a process's own events."""
    return [f"{number}-{n}" for n in range(OWN)]


def to_publish(number: int) -> list[str]:
    """What a process publishes: its own events, and one in twenty of its neighbour's at about the same time."""
    neighbours = own((number + 1) % PROCESSES)
    return [each for n, mine in enumerate(own(number)) for each in [mine, *(neighbours[n : n + 1] * (n % _EACH == 0))]]


def is_sent_again(event_id: str) -> bool:
    """Whether an event is published a second time, right after it was acknowledged."""
    return int(event_id.partition("-")[2]) % _EACH == _EACH // 2


def open_store(connection: str, database: str) -> CosmosEventStore:
    """The store as every process of the hammer opens it."""
    of = CosmosConnection.of_string(connection)
    return CosmosEventStore(of, database, key=bytes(32), segment_size=SEGMENT_SIZE)


def make_mortal(store: CosmosEventStore, chance: random.Random) -> None:
    """Let some of the commits of a store be the last that its process begins, or ends."""

    def mortal(commit: Commit) -> Commit:
        async def committed(what: str, *arguments: Any) -> None:
            dies = chance.random() < _DEATHS and what == "append"
            after = chance.random() < 0.5
            if dies and not after:
                os._exit(DIED_BEFORE)
            await commit(what, *arguments)
            if dies:
                os._exit(DIED_AFTER)

        return committed

    for name in ("create", "batch"):
        setattr(store._database, name, mortal(getattr(store._database, name)))


async def publish(store: CosmosEventStore, event_id: str) -> None:
    """Publish an event until it is acknowledged, and print its place."""
    while True:
        try:
            (outcome,) = await store.append([event(event_id)])
        except EventsError:
            continue
        print(event_id, outcome.cursor.position, int(outcome.duplicate), flush=True)
        return


async def worker(store: CosmosEventStore, left: Iterator[str]) -> None:
    """Publish one event after the other, and some of them twice."""
    for event_id in left:
        await publish(store, event_id)
        if is_sent_again(event_id):
            await publish(store, event_id)


async def live(connection: str, database: str, number: int, life: int) -> None:
    """One life of a process."""
    acknowledged = set(sys.stdin.read().split())
    left = iter([each for each in to_publish(number) if each not in acknowledged])
    store = open_store(connection, database)
    make_mortal(store, random.Random(f"{number}.{life}"))
    await asyncio.gather(*(worker(store, left) for _ in range(_AT_ONCE)))
    await store.close()


if __name__ == "__main__":
    asyncio.run(live(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
