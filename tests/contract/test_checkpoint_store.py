"""The StreamLedger port: checkpoints that only one can move, and streams that are projected once, in order."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from events_core.adapters.cosmos.client import CosmosConnection
from events_core.adapters.cosmos.streams.store import CosmosEventStore
from events_core.adapters.sqlite import SqliteEventStore
from events_core.adapters.sqlite.checkpoints import SqliteLedger
from events_core.cloudevent import CloudEvent
from events_core.feeds.ports import Checkpoint, EventStore, Parked, StoredEvent, StreamLedger
from events_core.feeds.stream import Stream
from tests.contract.event_store import ANY, APP, OTHER_APP, PARTY, PERSON, Clock, event, events, everything, ids
from tests.support.checkpoints import MemoryLedger
from tests.support.cosmos import cosmos_server

APPS, OTHERS = Stream.of_resource(APP), Stream.of_resource(OTHER_APP)
SUBJECT, ORG = Stream.of_subject(PARTY), Stream.of_org("ttd")


class Publishing(Protocol):
    """The side of a store that fills the streams which its ledger follows."""

    async def append(self, events: Sequence[CloudEvent]) -> object:
        """Publish events."""

    async def erase(self, event: CloudEvent) -> object:
        """Erase an event."""

    async def rows(self, stream: Stream) -> list[StoredEvent]:
        """What readers see of a stream."""


@dataclass
class Place:
    """A ledger with what fills it and the clock that both go by."""

    ledger: StreamLedger
    publishing: Publishing
    clock: Clock


@dataclass
class StorePublishing:
    """A store."""

    store: EventStore

    async def append(self, events: Sequence[CloudEvent]) -> object:
        """Publish events."""
        return await self.store.append(events)

    async def erase(self, event: CloudEvent) -> object:
        """Erase an event."""
        return await self.store.erase(event.resource, event.source, event.id)

    async def rows(self, stream: Stream) -> list[StoredEvent]:
        """What readers see of a stream."""
        return await everything(self.store, stream)


@asynccontextmanager
async def memory() -> AsyncIterator[Place]:
    """The ledger that the tests of the use case break."""
    clock = Clock()
    ledger = MemoryLedger(clock)
    yield Place(ledger, ledger, clock)


@asynccontextmanager
async def cosmos() -> AsyncIterator[Place]:
    """Cosmos DB, on segments that are soon full."""
    clock = Clock()
    async with cosmos_server() as server, server.database() as database:
        connection = CosmosConnection.of_string(server.connection_string)
        store = CosmosEventStore(connection, database, key=bytes(32), clock=clock, segment_size=8)
        yield Place(store.ledger, StorePublishing(store), clock)
        await store.close()


@asynccontextmanager
async def sqlite() -> AsyncIterator[Place]:
    """A file, whose rows serve every stream."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteEventStore(Path(directory) / "events.db", clock=clock)
        yield Place(SqliteLedger(store), StorePublishing(store), clock)
        await store.close()


LEDGERS: dict[str, Callable[[], AbstractAsyncContextManager[Place]]] = {
    "memory": memory,
    "cosmos": cosmos,
    "sqlite": sqlite,
}
"""Every adapter of the port, by name."""
projecting = pytest.mark.parametrize("place", ["memory", "cosmos"], indirect=True)
"""The adapters that project; on SQLite an event's one row stands in all of its streams."""


@pytest.fixture(params=LEDGERS)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """An empty place."""
    async with LEDGERS[request.param]() as place:
        yield place


@pytest.fixture
def ledger(place: Place) -> StreamLedger:
    """Its ledger."""
    return place.ledger


# -- Checkpoints ------------------------------------------------------------------------------------------------------


async def test_a_stream_that_does_not_exist_has_a_checkpoint_at_its_start(ledger: StreamLedger) -> None:
    """Without an etag, since nothing is written."""
    assert await ledger.checkpoint(APPS) == Checkpoint()


async def test_a_stream_that_was_never_followed_has_nothing_done(place: Place) -> None:
    """And owes nothing that it knows of."""
    await place.publishing.append(events(3))
    seen = await place.ledger.checkpoint(APPS)
    assert (seen.position, seen.owed, list(seen.parked)) == (0, False, [])


async def test_a_checkpoint_is_moved_with_all_that_it_holds(place: Place) -> None:
    """And read back so."""
    await place.publishing.append(events(3))
    parked = [Parked(SUBJECT, 2, "subject: ValueError"), Parked(Stream.of_subject(PERSON), 3, "subject: KeyError")]
    ledger = place.ledger
    assert await ledger.advance(APPS, await ledger.checkpoint(APPS), 3, owed=True, parked=parked)
    seen = await ledger.checkpoint(APPS)
    assert (seen.position, seen.owed, list(seen.parked)) == (3, True, parked)


async def test_a_checkpoint_that_somebody_else_moved_stays(place: Place) -> None:
    """Of two who read the same one, the second is told."""
    await place.publishing.append(events(3))
    ledger = place.ledger
    stale = await ledger.checkpoint(APPS)
    assert await ledger.advance(APPS, stale, 1, owed=False, parked=())
    assert not await ledger.advance(APPS, stale, 2, owed=True, parked=())
    seen = await ledger.checkpoint(APPS)
    assert (seen.position, seen.owed) == (1, False)


async def test_a_write_that_changes_nothing_is_a_write(place: Place) -> None:
    """Whoever read before it loses, so that a mark can be renewed."""
    await place.publishing.append(events(1))
    ledger = place.ledger
    for _ in range(2):
        seen = await ledger.checkpoint(APPS)
        assert await ledger.advance(APPS, seen, 0, owed=True, parked=())
    assert not await ledger.advance(APPS, seen, 0, owed=False, parked=())


async def test_the_first_checkpoint_is_written_by_one(ledger: StreamLedger) -> None:
    """Also where nothing stood."""
    assert await ledger.advance(APPS, Checkpoint(), 0, owed=True, parked=())
    assert not await ledger.advance(APPS, Checkpoint(), 0, owed=False, parked=())


async def test_of_many_at_once_one_moves_the_checkpoint(place: Place) -> None:
    """By its etag."""
    await place.publishing.append(events(1))
    seen = await place.ledger.checkpoint(APPS)
    moves = [place.ledger.advance(APPS, seen, 1, owed=False, parked=()) for _ in range(6)]
    assert sorted(await asyncio.gather(*moves)) == [False] * 5 + [True]


async def test_streams_that_are_owed_are_listed(place: Place) -> None:
    """Until the mark is taken away."""
    await place.publishing.append([event(), event(resource=OTHER_APP)])
    ledger = place.ledger
    await ledger.advance(APPS, await ledger.checkpoint(APPS), 0, owed=True, parked=())
    assert await ledger.owed() == [APPS]
    await ledger.advance(APPS, await ledger.checkpoint(APPS), 0, owed=False, parked=())
    assert await ledger.owed() == []


async def test_streams_with_more_than_their_checkpoint_says_are_listed(place: Place) -> None:
    """From their first event on, whoever was or was not told of it."""
    ledger = place.ledger
    await place.publishing.append([event(), event(), event(resource=OTHER_APP)])
    assert set(await ledger.behind()) == {APPS, OTHERS}
    for stream in (APPS, OTHERS):
        end = (await ledger.read_after(stream, 0, 10))[-1].position
        assert await ledger.end(stream) == end
        await ledger.advance(stream, await ledger.checkpoint(stream), end, owed=False, parked=())
    assert await ledger.behind() == []
    await place.publishing.append([event()])
    assert await ledger.behind() == [APPS]


async def test_streams_that_hold_events_back_are_listed(place: Place) -> None:
    """Until nothing is parked."""
    await place.publishing.append([event(), event(resource=OTHER_APP)])
    ledger = place.ledger
    await ledger.advance(APPS, await ledger.checkpoint(APPS), 1, owed=False, parked=[Parked(ORG, 1, "org: ValueError")])
    assert await ledger.parked() == [APPS]
    await ledger.advance(APPS, await ledger.checkpoint(APPS), 1, owed=False, parked=())
    assert await ledger.parked() == []


async def test_those_that_may_be_behind_come_with_their_checkpoints(place: Place) -> None:
    """Those that are owed first, as many as are asked for, and every one that is behind."""
    ledger, resources = place.ledger, [f"{APP}-{n}" for n in range(4)]
    await place.publishing.append([event(resource=each) for each in resources])
    streams = [Stream.of_resource(each) for each in resources]
    owed = streams[1]
    await ledger.advance(owed, await ledger.checkpoint(owed), 0, owed=True, parked=())
    found = await ledger.suspects(10)
    assert {stream for stream, _ in found} == {*streams}
    assert found[0][0] == owed
    assert [await ledger.checkpoint(stream) for stream, _ in found] == [seen for _, seen in found]
    assert len(await ledger.suspects(2)) == 2


async def test_what_goes_nowhere_is_told(place: Place) -> None:
    """Of a stream as of its events; a stream that holds nothing ends at its start."""
    ledger = place.ledger
    await place.publishing.append([event(), event(resource=ANY)])
    for stream in (APPS, Stream.of_resource(ANY)):
        (row,) = await ledger.read_after(stream, 0, 10)
        assert bool(ledger.targets(row)) == ledger.projects(stream)
    assert not ledger.projects(Stream.of_resource(ANY))
    assert await ledger.end(OTHERS) == 0


# -- Reading ----------------------------------------------------------------------------------------------------------


async def test_rows_are_read_in_their_order_from_any_position(place: Place) -> None:
    """Page by page, none twice and none left out."""
    some = events(30)
    await place.publishing.append(some)
    read: list[StoredEvent] = []
    while page := await place.ledger.read_after(APPS, read[-1].position if read else 0, 7):
        assert len(page) <= 7
        read += page
    assert ids(read) == ids(some)
    assert [row.json for row in read] == [each.json for each in some]


async def test_a_tombstone_keeps_its_place(place: Place) -> None:
    """Without a text, with what says where it belongs."""
    some = events(3)
    await place.publishing.append(some)
    await place.publishing.erase(some[1])
    rows = await place.ledger.read_after(APPS, 0, 10)
    assert [row.json is None for row in rows] == [False, True, False]
    assert (rows[1].id, rows[1].resource, rows[1].subject) == (some[1].id, APP, PARTY)


# -- Projecting -------------------------------------------------------------------------------------------------------


async def rows_of(place: Place, some: Sequence[CloudEvent]) -> Sequence[StoredEvent]:
    """Publish events of one resource; return their rows."""
    await place.publishing.append(some)
    return await place.ledger.read_after(Stream.of_resource(some[0].resource), 0, 1000)


@projecting
@pytest.mark.parametrize("target", [SUBJECT, ORG, Stream.of_subject(PERSON)], ids=["party", "org", "person"])
async def test_projected_events_are_what_was_published(place: Place, target: Stream) -> None:
    """In the same order, with the same text."""
    some = events(20)
    await place.ledger.project(target, await rows_of(place, some))
    assert [row.json for row in await place.publishing.rows(target)] == [each.json for each in some]


@projecting
async def test_projecting_again_changes_nothing(place: Place) -> None:
    """Not even in part: what is new comes after what stands."""
    rows = await rows_of(place, events(20))
    await place.ledger.project(SUBJECT, rows[:12])
    await place.ledger.project(SUBJECT, rows[5:])
    await place.ledger.project(SUBJECT, rows[:3])
    assert ids(await place.publishing.rows(SUBJECT)) == ids(rows)


@projecting
async def test_projecting_at_once_keeps_the_order(place: Place) -> None:
    """Each event stands once."""
    rows = await rows_of(place, events(20))
    await asyncio.gather(*(place.ledger.project(SUBJECT, rows[:end]) for end in (20, 5, 12, 20)))
    assert ids(await place.publishing.rows(SUBJECT)) == ids(rows)


@projecting
async def test_events_of_several_resources_stand_in_one_stream(place: Place) -> None:
    """Those with the same source and id too."""
    for resource in (APP, OTHER_APP):
        rows = await rows_of(place, [event("a", resource=resource)])
        await place.ledger.project(ORG, rows)
    assert [row.resource for row in await place.publishing.rows(ORG)] == [APP, OTHER_APP]


@projecting
async def test_projected_events_are_registered_when_they_are_projected(place: Place) -> None:
    """Never earlier than the newest there, whatever the clock says."""
    rows = await rows_of(place, events(2))
    moment = place.clock.now = place.clock.now + 60_000_000
    await place.ledger.project(SUBJECT, rows[:1])
    place.clock.now -= 30_000_000
    await place.ledger.project(SUBJECT, rows[1:])
    assert [row.registered for row in await place.publishing.rows(SUBJECT)] == [moment, moment]


@projecting
async def test_a_tombstone_is_projected_as_one(place: Place) -> None:
    """So that an event erased meanwhile can never come after it."""
    some = events(2)
    late = await rows_of(place, some)
    await place.publishing.erase(some[0])
    await place.ledger.project(SUBJECT, await place.ledger.read_after(APPS, 0, 10))
    await place.ledger.project(SUBJECT, late)
    texts = [row.json for row in await place.publishing.rows(SUBJECT)]
    assert [text for text in texts if text is not None] == [some[1].json]


@projecting
async def test_nothing_is_projected_of_nothing(place: Place) -> None:
    """An empty page is no work."""
    await place.ledger.project(SUBJECT, [])
    assert await place.publishing.rows(SUBJECT) == []
