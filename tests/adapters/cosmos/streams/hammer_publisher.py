"""A publisher process for test_hammer.py.

`python -m tests.adapters.cosmos.streams.hammer_publisher CONNECTION DATABASE NUMBER LIFE` publishes the events of
process NUMBER, except those that standard input names as acknowledged. It prints a line for each acknowledgement. Now
and then the process dies, before or after a commit.
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
_DEATHS = 0.05  # the share of commits at which the process dies
_REPEATED = 20  # one in so many events is sent again, and another one is sent by a neighbour too

Commit = Callable[..., Awaitable[None]]


def own(number: int) -> list[str]:
    """The ids of a process's own events."""
    return [f"{number}-{n}" for n in range(OWN)]


def to_publish(number: int) -> list[str]:
    """The ids that a process publishes: its own, and at about the same time one in twenty of its neighbour's."""
    neighbours = own((number + 1) % PROCESSES)
    ids = []
    for n, event_id in enumerate(own(number)):
        ids.append(event_id)
        if n % _REPEATED == 0:
            ids.append(neighbours[n])
    return ids


def is_sent_again(event_id: str) -> bool:
    """Whether an event is published a second time, right after it was acknowledged."""
    return int(event_id.partition("-")[2]) % _REPEATED == _REPEATED // 2


def open_store(connection: str, database: str) -> CosmosEventStore:
    """Open the store as every process of the test does."""
    of = CosmosConnection.of_string(connection)
    return CosmosEventStore(of, database, key=bytes(32), segment_size=SEGMENT_SIZE)


def make_mortal(store: CosmosEventStore, chance: random.Random) -> None:
    """Let the process die before or after a random commit of the store."""

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
    """Publish an event until it is acknowledged, and print its position."""
    while True:
        try:
            (outcome,) = await store.append([event(event_id)])
        except EventsError:
            continue
        print(event_id, outcome.cursor.position, int(outcome.duplicate), flush=True)
        return


async def worker(store: CosmosEventStore, left: Iterator[str]) -> None:
    """Publish one event after the other; repeat those that `is_sent_again` names."""
    for event_id in left:
        await publish(store, event_id)
        if is_sent_again(event_id):
            await publish(store, event_id)


async def live(connection: str, database: str, number: int, life: int) -> None:
    """Publish until everything is acknowledged, or until the process dies."""
    acknowledged = set(sys.stdin.read().split())
    left = iter([event_id for event_id in to_publish(number) if event_id not in acknowledged])
    store = open_store(connection, database)
    make_mortal(store, random.Random(f"{number}.{life}"))
    await asyncio.gather(*(worker(store, left) for _ in range(_AT_ONCE)))
    await store.close()


if __name__ == "__main__":
    asyncio.run(live(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
