"""Eight processes that write to one stream, die and begin again, while four readers follow it."""

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
from tests.adapters.cosmos.place import RESOURCE, Place, positions
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

ROOT = Path(__file__).parents[3]
MOST_LIVES = 50
READERS: list[tuple[int, Filters]] = [
    (7, NO_FILTERS),
    (SEGMENT_SIZE, NO_FILTERS),
    (1_000, NO_FILTERS),
    (100, Filters(types=("app.%",))),
]

Seen = list[tuple[int, str]]
"""Rows as a reader saw them: position and id."""


@dataclass(frozen=True)
class Acknowledged:
    """What a publisher was told of an event."""

    id: str
    position: int
    duplicate: bool

    @classmethod
    def of(cls, line: str) -> Acknowledged:
        """A line that a publisher printed."""
        event_id, position, duplicate = line.split()
        return cls(event_id, int(position), duplicate == "1")


@dataclass(frozen=True)
class Published:
    """What one publisher was told in all its lives, and how each of them ended."""

    acknowledged: Sequence[Acknowledged]
    ends: Sequence[int]


async def _publisher(place: Place, number: int) -> Published:
    """Run a publisher, again each time that it dies, until everything is acknowledged."""
    acknowledged: list[Acknowledged] = []
    ends: list[int] = []
    while 0 not in ends and len(ends) < MOST_LIVES:
        of_life, end = await _life(place, number, len(ends), acknowledged)
        acknowledged += of_life
        ends.append(end)
    return Published(acknowledged, ends)


async def _life(
    place: Place, number: int, life: int, acknowledged: Sequence[Acknowledged]
) -> tuple[list[Acknowledged], int]:
    module = "tests.adapters.cosmos.streams.hammer_publisher"
    arguments = ["-m", module, place.server.connection_string, place.database, f"{number}", f"{life}"]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, stdin=PIPE, stdout=PIPE)
    try:
        told, _ = await process.communicate("\n".join(each.id for each in acknowledged).encode())
        return [Acknowledged.of(line) for line in told.decode().splitlines()], await process.wait()
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


async def _hammer(place: Place) -> tuple[list[Published], list[Seen]]:
    """Publish and read at once, each reader by a store of its own."""
    ended = asyncio.Event()
    stores = [open_store(place.server.connection_string, place.database) for _ in READERS]
    place.opened += stores
    async with asyncio.TaskGroup() as group:
        readers = [
            group.create_task(_reader(store, *reader, ended)) for store, reader in zip(stores, READERS, strict=True)
        ]
        published = await asyncio.gather(*(_publisher(place, number) for number in range(PROCESSES)))
        ended.set()
    return published, [reader.result() for reader in readers]


def _assert_ended_well(published: Sequence[Published]) -> None:
    ends = Counter(end for each in published for end in each.ends)
    assert ends.keys() == {0, DIED_BEFORE, DIED_AFTER}
    assert ends[0] == PROCESSES


def _assert_told_the_truth(published: Sequence[Published], stored: Seen) -> None:
    """Whoever asked about an event was told its one place, and at most once that it was new."""
    places = {event_id: position for position, event_id in stored}
    told = sorted((ack for each in published for ack in each.acknowledged), key=lambda ack: ack.id)
    assert [ack for ack in told if ack.position != places[ack.id]] == []
    for _, some in groupby(told, key=lambda ack: ack.id):
        assert [ack.duplicate for ack in some].count(False) <= 1
    for number, each in enumerate(published):
        assert {ack.id for ack in each.acknowledged} == set(to_publish(number))


def _assert_repeats_were_recognised(published: Sequence[Published]) -> None:
    """An event that its own publisher sent again was a duplicate then."""
    repeats = 0
    for each in published:
        for event_id in filter(is_sent_again, {ack.id for ack in each.acknowledged}):
            first, *later = (ack for ack in each.acknowledged if ack.id == event_id)
            assert all(ack.duplicate for ack in later), first
            repeats += len(later)
    assert repeats > PROCESSES * OWN * 0.03


@pytest.mark.timeout(300)  # some thirty processes start, one core or many
async def test_everybody_sees_one_sequence_however_many_write_and_die(place: Place) -> None:
    """Eight processes, deaths around commits, repeats, many segments: one dense order, and every event once."""
    published, seen = await _hammer(place)
    _assert_ended_well(published)
    stored, *others = seen
    assert all(other == stored for other in others)
    assert [position for position, _ in stored] == list(range(1, PROCESSES * OWN + 1))
    assert sorted(event_id for _, event_id in stored) == sorted(each for n in range(PROCESSES) for each in own(n))
    _assert_told_the_truth(published, stored)
    _assert_repeats_were_recognised(published)
    assert positions(await place.documents()) == [position for position, _ in stored]
