"""Random lives of a stream: processes whose clocks differ, which write and read around the ends of its retention."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random

import pytest

from events_core.adapters.cosmos import CosmosEventStore
from events_core.feeds.ports import ReadRequest
from events_core.feeds.stream import START, Cursor, Filters
from tests.adapters.cosmos.database import RESOURCE, Database, follow
from tests.contract.event_store import SECOND, event, ids

MINUTE = 60 / 86_400
STEPS = (0, MINUTE, 30, 45, 60, 90 - MINUTE / 2, 90, 90 + MINUTE / 2, 90.5, 91 + MINUTE, 120)
"""Days between two steps of a life."""
FILTERS = (Filters(), Filters(), Filters(types=("app.%",)))


@dataclass
class Process:
    """A process that reads the stream to its end, again and again."""

    skew: int
    filters: Filters
    store: CosmosEventStore
    cursor: Cursor = START
    read: list[str] = field(default_factory=list)

    async def catch_up(self, limit: int) -> None:
        """Read to the end."""
        while True:
            request = ReadRequest(RESOURCE, cursor=self.cursor, limit=limit, filters=self.filters)
            chunk = await self.store.read(request)
            self.read += ids(chunk.rows)
            self.cursor = chunk.end
            if chunk.caught_up:
                return


@dataclass
class Life:
    """A stream, and three processes whose clocks differ by up to three minutes."""

    database: Database
    random: Random
    published: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.size = self.random.choice([3, 7, 20, 1_000])
        skews = [self.random.randint(-90, 90) * SECOND for _ in FILTERS]
        self.processes = [Process(*pair, self._open(pair[0])) for pair in zip(skews, FILTERS, strict=True)]

    def _open(self, skew: int) -> CosmosEventStore:
        clock = self.database.clock
        return self.database.open(segment_size=self.size, deadline=6.0, hole=3_600, clock=lambda: clock.now + skew)

    async def publish(self) -> None:
        """Publish from some processes at once, one of which may be new."""
        if self.random.random() < 0.2:
            process = self.random.choice(self.processes)
            process.store = self._open(process.skew)
        writers = self.random.choices(self.processes, k=self.random.randint(0, 3))
        await asyncio.gather(*(self._append(writer.store) for writer in writers))

    async def _append(self, store: CosmosEventStore) -> None:
        names = [f"{len(self.published) + n}" for n in range(self.random.choice([1, 1, 2, 5, self.size]))]
        self.published += names
        await store.append([event(name) for name in names])

    async def catch_up(self) -> bool:
        """Let every process read to the end; return whether each has read everything once."""
        for process in self.processes:
            await process.catch_up(self.random.choice([1, 3, 50]))
        return all(sorted(process.read) == sorted(self.published) for process in self.processes)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 4, 15, 18, 22, 23])
async def test_no_process_misses_or_repeats_an_event(database: Database, seed: int) -> None:
    """Those whose clocks are behind may be late by as much; registration never decreases."""
    random = Random(seed)
    life = Life(database, random)
    for _ in range(25):
        await life.publish()
        if not await life.catch_up():
            await database.advance(4 * MINUTE)
            assert await life.catch_up()
        await follow(random.choice(life.processes).store)
        registered = [document["registered"] for document in await database.rows()]
        assert registered == sorted(registered)
        await database.advance(random.choice(STEPS))
