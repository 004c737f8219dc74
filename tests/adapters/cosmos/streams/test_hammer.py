"""Eight processes write to one stream, die and start again, while four readers follow it."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest

from events_core.adapters.cosmos import CosmosEventStore
from events_core.feeds.ports import ReadRequest
from events_core.feeds.stream import NO_FILTERS, START, Cursor, Filters
from tests.adapters.cosmos.database import RESOURCE, Database, positions
from tests.adapters.cosmos.streams.hammer_publisher import (
    DIED_AFTER,
    DIED_BEFORE,
    OWN,
    PROCESSES,
    SEGMENT_SIZE,
    is_sent_again,
    open_store,
    own,
    to_publish,
)
from tests.support.cosmos import Fault

ROOT = Path(__file__).parents[4]
MOST_LIVES = 50
READERS: list[tuple[int, Filters]] = [
    (7, NO_FILTERS),
    (SEGMENT_SIZE, NO_FILTERS),
    (1_000, NO_FILTERS),
    (100, Filters(types=("app.%",))),
]

LOST_ANSWERS = [
    Fault(operation, container, status=None if cut else 503, cut=cut, after=True, probability=0.05, times=30)
    for operation, container in (
        ("create", "streams"),
        ("batch", "streams"),
        ("create", "cursors"),
        ("patch", "cursors"),
    )
    for cut in (False, True)
]
"""Writes that are done and whose answer is lost."""

Seen = list[tuple[int, str]]
"""Rows as a reader saw them: position and id."""


@dataclass(frozen=True)
class Acknowledged:
    """The outcome of one append, as a publisher printed it."""

    id: str
    position: int
    duplicate: bool

    @classmethod
    def of(cls, line: str) -> Acknowledged:
        """Parse a line that a publisher printed."""
        event_id, position, duplicate = line.split()
        return cls(event_id, int(position), duplicate == "1")


@dataclass(frozen=True)
class Published:
    """What one publisher printed in all its lives, and the exit code of each life."""

    acknowledged: Sequence[Acknowledged]
    ends: Sequence[int]


async def _publisher(database: Database, number: int) -> Published:
    """Run a publisher, and restart it when it dies, until every event is acknowledged."""
    acknowledged: list[Acknowledged] = []
    ends: list[int] = []
    while 0 not in ends and len(ends) < MOST_LIVES:
        of_life, end = await _life(database, number, len(ends), acknowledged)
        acknowledged += of_life
        ends.append(end)
    return Published(acknowledged, ends)


async def _life(
    database: Database, number: int, life: int, acknowledged: Sequence[Acknowledged]
) -> tuple[list[Acknowledged], int]:
    module = "tests.adapters.cosmos.streams.hammer_publisher"
    arguments = ["-m", module, database.server.connection_string, database.name, f"{number}", f"{life}"]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, stdin=PIPE, stdout=PIPE)
    try:
        printed, _ = await process.communicate("\n".join(one.id for one in acknowledged).encode())
        return [Acknowledged.of(line) for line in printed.decode().splitlines()], await process.wait()
    finally:
        if process.returncode is None:
            process.kill()


async def _reader(store: CosmosEventStore, limit: int, filters: Filters, publishing: asyncio.Event) -> Seen:
    """Follow the stream until publishing has ended and nothing more comes."""
    seen: Seen = []
    cursor: Cursor = START
    while True:
        ended = publishing.is_set()
        chunk = await store.read(ReadRequest(RESOURCE, cursor=cursor, limit=limit, filters=filters))
        seen += [(row.position, row.id) for row in chunk.rows]
        cursor = chunk.end
        if chunk.caught_up and ended:
            return seen
        if chunk.caught_up:
            await _until(publishing, 0.05)


async def _until(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


async def _hammer(database: Database) -> tuple[list[Published], list[Seen]]:
    """Publish and read at once, each reader with a store of its own."""
    ended = asyncio.Event()
    stores = [open_store(database.server.connection_string, database.name) for _ in READERS]
    database.opened += stores
    async with asyncio.TaskGroup() as group:
        readers = [
            group.create_task(_reader(store, *reader, ended)) for store, reader in zip(stores, READERS, strict=True)
        ]
        published = await asyncio.gather(*(_publisher(database, number) for number in range(PROCESSES)))
        ended.set()
    return published, [reader.result() for reader in readers]


def _assert_ended_well(published: Sequence[Published]) -> None:
    ends = Counter(end for publisher in published for end in publisher.ends)
    assert ends.keys() == {0, DIED_BEFORE, DIED_AFTER}
    assert ends[0] == PROCESSES


def _assert_outcomes_are_true(published: Sequence[Published], stored: Seen) -> None:
    """Every outcome of an event names its one position, and at most one is no duplicate."""
    positions_of = {event_id: position for position, event_id in stored}
    outcomes = sorted((one for publisher in published for one in publisher.acknowledged), key=lambda one: one.id)
    assert [one for one in outcomes if one.position != positions_of[one.id]] == []
    for _, of_event in groupby(outcomes, key=lambda one: one.id):
        assert [one.duplicate for one in of_event].count(False) <= 1
    for number, publisher in enumerate(published):
        assert {one.id for one in publisher.acknowledged} == set(to_publish(number))


def _assert_repeats_were_recognised(published: Sequence[Published]) -> None:
    """An event that its own publisher has sent again was a duplicate then."""
    repeats = 0
    for publisher in published:
        for event_id in filter(is_sent_again, {one.id for one in publisher.acknowledged}):
            first, *later = (one for one in publisher.acknowledged if one.id == event_id)
            assert all(one.duplicate for one in later), first
            repeats += len(later)
    assert repeats > PROCESSES * OWN * 0.03


@pytest.mark.slow
@pytest.mark.timeout(300)  # about thirty processes start, even on one core
async def test_every_reader_sees_the_same_dense_sequence(database: Database) -> None:
    """With deaths around commits, lost answers, repeats and many segments: one order, and every event once."""
    await database.inject(*LOST_ANSWERS)
    published, seen = await _hammer(database)
    _assert_ended_well(published)
    stored, *others = seen
    assert all(other == stored for other in others)
    assert [position for position, _ in stored] == list(range(1, PROCESSES * OWN + 1))
    assert sorted(event_id for _, event_id in stored) == sorted(
        event_id for n in range(PROCESSES) for event_id in own(n)
    )
    _assert_outcomes_are_true(published, stored)
    _assert_repeats_were_recognised(published)
    assert positions(await database.documents()) == [position for position, _ in stored]
