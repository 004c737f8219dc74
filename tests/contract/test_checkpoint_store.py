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
from events_core.adapters.sqlite.checkpoints import SqliteCheckpoints
from events_core.cloudevent import CloudEvent
from events_core.feeds.ports import Checkpoint, CheckpointStore, EventStore, ProjectedStreams, Quarantined, StoredEvent
from events_core.feeds.stream import Stream
from tests.contract.event_store import APP, OTHER_APP, PARTY, PERSON, Clock, event, events, everything, ids
from tests.support.checkpoints import MemoryCheckpoints
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

    checkpoints: CheckpointStore
    publishing: Publishing
    clock: Clock
    projected: ProjectedStreams | None = None

    @property
    def projection(self) -> ProjectedStreams:
        """Its projected streams."""
        assert self.projected is not None
        return self.projected


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
    checkpoints = MemoryCheckpoints(clock)
    yield Place(checkpoints, checkpoints, clock, checkpoints)


@asynccontextmanager
async def cosmos() -> AsyncIterator[Place]:
    """Cosmos DB, on segments that are soon full."""
    clock = Clock()
    async with cosmos_server() as server, server.database() as database:
        connection = CosmosConnection.of_string(server.connection_string)
        store = CosmosEventStore(connection, database, key=bytes(32), clock=clock, segment_size=8)
        yield Place(store.checkpoints, StorePublishing(store), clock, store.projection)
        await store.close()


@asynccontextmanager
async def sqlite() -> AsyncIterator[Place]:
    """A file, whose rows serve every stream."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteEventStore(Path(directory) / "events.db", clock=clock)
        yield Place(SqliteCheckpoints(store), StorePublishing(store), clock)
        await store.close()


ADAPTERS: dict[str, Callable[[], AbstractAsyncContextManager[Place]]] = {
    "memory": memory,
    "cosmos": cosmos,
    "sqlite": sqlite,
}
"""Every adapter of the port, by name."""
projecting = pytest.mark.parametrize("place", ["memory", "cosmos"], indirect=True)
"""The adapters that project; on SQLite an event's one row stands in all of its streams."""


@pytest.fixture(params=ADAPTERS)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """An empty place."""
    async with ADAPTERS[request.param]() as place:
        yield place


@pytest.fixture
def checkpoints(place: Place) -> CheckpointStore:
    """Its ledger."""
    return place.checkpoints


# -- Checkpoints ------------------------------------------------------------------------------------------------------


async def test_a_stream_that_does_not_exist_has_a_checkpoint_at_its_start(checkpoints: CheckpointStore) -> None:
    """Without an etag, since nothing is written."""
    assert await checkpoints.checkpoint(APPS) == Checkpoint()


async def test_a_stream_that_was_never_followed_has_nothing_done(place: Place) -> None:
    """And owes nothing that it knows of."""
    await place.publishing.append(events(3))
    seen = await place.checkpoints.checkpoint(APPS)
    assert (seen.position, seen.catch_up_pending, list(seen.quarantined)) == (0, False, [])


async def test_a_checkpoint_is_moved_with_all_that_it_holds(place: Place) -> None:
    """And read back so."""
    await place.publishing.append(events(3))
    quarantined = [
        Quarantined("projection", SUBJECT.name, 2, "ValueError"),
        Quarantined("projection", Stream.of_subject(PERSON).name, 3, "KeyError"),
    ]
    checkpoints = place.checkpoints
    assert await checkpoints.advance(
        APPS, await checkpoints.checkpoint(APPS), 3, catch_up_pending=True, quarantined=quarantined
    )
    seen = await checkpoints.checkpoint(APPS)
    assert (seen.position, seen.catch_up_pending, list(seen.quarantined)) == (3, True, quarantined)


async def test_a_checkpoint_that_somebody_else_moved_stays(place: Place) -> None:
    """Of two who read the same one, the second is told."""
    await place.publishing.append(events(3))
    checkpoints = place.checkpoints
    stale = await checkpoints.checkpoint(APPS)
    assert await checkpoints.advance(APPS, stale, 1, catch_up_pending=False, quarantined=())
    assert not await checkpoints.advance(APPS, stale, 2, catch_up_pending=True, quarantined=())
    seen = await checkpoints.checkpoint(APPS)
    assert (seen.position, seen.catch_up_pending) == (1, False)


async def test_a_write_that_changes_nothing_is_a_write(place: Place) -> None:
    """Whoever read before it loses, so that a mark can be renewed."""
    await place.publishing.append(events(1))
    checkpoints = place.checkpoints
    for _ in range(2):
        seen = await checkpoints.checkpoint(APPS)
        assert await checkpoints.advance(APPS, seen, 0, catch_up_pending=True, quarantined=())
    assert not await checkpoints.advance(APPS, seen, 0, catch_up_pending=False, quarantined=())


async def test_the_first_checkpoint_is_written_by_one(checkpoints: CheckpointStore) -> None:
    """Also where nothing stood."""
    assert await checkpoints.advance(APPS, Checkpoint(), 0, catch_up_pending=True, quarantined=())
    assert not await checkpoints.advance(APPS, Checkpoint(), 0, catch_up_pending=False, quarantined=())


async def test_of_many_at_once_one_moves_the_checkpoint(place: Place) -> None:
    """By its etag."""
    await place.publishing.append(events(1))
    seen = await place.checkpoints.checkpoint(APPS)
    moves = [place.checkpoints.advance(APPS, seen, 1, catch_up_pending=False, quarantined=()) for _ in range(6)]
    assert sorted(await asyncio.gather(*moves)) == [False] * 5 + [True]


async def test_streams_that_are_owed_are_listed(place: Place) -> None:
    """Until the mark is taken away."""
    await place.publishing.append([event(), event(resource=OTHER_APP)])
    checkpoints = place.checkpoints
    await checkpoints.advance(APPS, await checkpoints.checkpoint(APPS), 0, catch_up_pending=True, quarantined=())
    assert await checkpoints.catch_up_pending() == [APPS]
    await checkpoints.advance(APPS, await checkpoints.checkpoint(APPS), 0, catch_up_pending=False, quarantined=())
    assert await checkpoints.catch_up_pending() == []


async def test_streams_with_more_than_their_checkpoint_says_are_listed(place: Place) -> None:
    """From their first event on, whoever was or was not told of it."""
    checkpoints = place.checkpoints
    await place.publishing.append([event(), event(), event(resource=OTHER_APP)])
    assert set(await checkpoints.behind()) == {APPS, OTHERS}
    for stream in (APPS, OTHERS):
        end = (await checkpoints.read_after(stream, 0, 10))[-1].position
        assert await checkpoints.end(stream) == end
        await checkpoints.advance(
            stream, await checkpoints.checkpoint(stream), end, catch_up_pending=False, quarantined=()
        )
    assert await checkpoints.behind() == []
    await place.publishing.append([event()])
    assert await checkpoints.behind() == [APPS]


async def test_streams_that_hold_events_back_are_listed(place: Place) -> None:
    """Until nothing is parked."""
    await place.publishing.append([event(), event(resource=OTHER_APP)])
    checkpoints = place.checkpoints
    await checkpoints.advance(
        APPS,
        await checkpoints.checkpoint(APPS),
        1,
        catch_up_pending=False,
        quarantined=[Quarantined("projection", ORG.name, 1, "ValueError")],
    )
    assert await checkpoints.quarantined() == [APPS]
    await checkpoints.advance(APPS, await checkpoints.checkpoint(APPS), 1, catch_up_pending=False, quarantined=())
    assert await checkpoints.quarantined() == []


async def test_those_that_may_be_behind_come_with_their_checkpoints(place: Place) -> None:
    """Those that are owed first, as many as are asked for, and every one that is behind."""
    checkpoints, resources = place.checkpoints, [f"{APP}-{n}" for n in range(4)]
    await place.publishing.append([event(resource=each) for each in resources])
    streams = [Stream.of_resource(each) for each in resources]
    catch_up_pending = streams[1]
    await checkpoints.advance(
        catch_up_pending, await checkpoints.checkpoint(catch_up_pending), 0, catch_up_pending=True, quarantined=()
    )
    found = await checkpoints.suspects(10)
    assert {stream for stream, _ in found} == {*streams}
    assert found[0][0] == catch_up_pending
    assert [await checkpoints.checkpoint(stream) for stream, _ in found] == [seen for _, seen in found]
    assert len(await checkpoints.suspects(2)) == 2


async def test_a_stream_that_holds_nothing_ends_at_its_start(checkpoints: CheckpointStore) -> None:
    """Position 0 stands for "before the first event"."""
    assert await checkpoints.end(OTHERS) == 0


# -- Reading ----------------------------------------------------------------------------------------------------------


async def test_rows_are_read_in_their_order_from_any_position(place: Place) -> None:
    """Page by page, none twice and none left out."""
    some = events(30)
    await place.publishing.append(some)
    read: list[StoredEvent] = []
    while page := await place.checkpoints.read_after(APPS, read[-1].position if read else 0, 7):
        assert len(page) <= 7
        read += page
    assert ids(read) == ids(some)
    assert [row.json for row in read] == [each.json for each in some]


async def test_a_tombstone_keeps_its_place(place: Place) -> None:
    """Without a text, with what says where it belongs."""
    some = events(3)
    await place.publishing.append(some)
    await place.publishing.erase(some[1])
    rows = await place.checkpoints.read_after(APPS, 0, 10)
    assert [row.json is None for row in rows] == [False, True, False]
    assert (rows[1].id, rows[1].resource, rows[1].subject) == (some[1].id, APP, PARTY)


# -- Projecting -------------------------------------------------------------------------------------------------------


async def rows_of(place: Place, some: Sequence[CloudEvent]) -> Sequence[StoredEvent]:
    """Publish events of one resource; return their rows."""
    await place.publishing.append(some)
    return await place.checkpoints.read_after(Stream.of_resource(some[0].resource), 0, 1000)


@projecting
@pytest.mark.parametrize("target", [SUBJECT, ORG, Stream.of_subject(PERSON)], ids=["party", "org", "person"])
async def test_projected_events_are_what_was_published(place: Place, target: Stream) -> None:
    """In the same order, with the same text."""
    some = events(20)
    await place.projection.project(target, await rows_of(place, some))
    assert [row.json for row in await place.publishing.rows(target)] == [each.json for each in some]


@projecting
async def test_projecting_again_changes_nothing(place: Place) -> None:
    """Not even in part: what is new comes after what stands."""
    rows = await rows_of(place, events(20))
    await place.projection.project(SUBJECT, rows[:12])
    await place.projection.project(SUBJECT, rows[5:])
    await place.projection.project(SUBJECT, rows[:3])
    assert ids(await place.publishing.rows(SUBJECT)) == ids(rows)


@projecting
async def test_projecting_at_once_keeps_the_order(place: Place) -> None:
    """Each event stands once."""
    rows = await rows_of(place, events(20))
    await asyncio.gather(*(place.projection.project(SUBJECT, rows[:end]) for end in (20, 5, 12, 20)))
    assert ids(await place.publishing.rows(SUBJECT)) == ids(rows)


@projecting
async def test_events_of_several_resources_stand_in_one_stream(place: Place) -> None:
    """Those with the same source and id too."""
    for resource in (APP, OTHER_APP):
        rows = await rows_of(place, [event("a", resource=resource)])
        await place.projection.project(ORG, rows)
    assert [row.resource for row in await place.publishing.rows(ORG)] == [APP, OTHER_APP]


@projecting
async def test_projected_events_are_registered_when_they_are_projected(place: Place) -> None:
    """Never earlier than the newest there, whatever the clock says."""
    rows = await rows_of(place, events(2))
    moment = place.clock.now = place.clock.now + 60_000_000
    await place.projection.project(SUBJECT, rows[:1])
    place.clock.now -= 30_000_000
    await place.projection.project(SUBJECT, rows[1:])
    assert [row.registered for row in await place.publishing.rows(SUBJECT)] == [moment, moment]


@projecting
async def test_a_tombstone_is_projected_as_one(place: Place) -> None:
    """So that an event erased meanwhile can never come after it."""
    some = events(2)
    late = await rows_of(place, some)
    await place.publishing.erase(some[0])
    await place.projection.project(SUBJECT, await place.checkpoints.read_after(APPS, 0, 10))
    await place.projection.project(SUBJECT, late)
    texts = [row.json for row in await place.publishing.rows(SUBJECT)]
    assert [text for text in texts if text is not None] == [some[1].json]


@projecting
async def test_nothing_is_projected_of_nothing(place: Place) -> None:
    """An empty page is no work."""
    await place.projection.project(SUBJECT, [])
    assert await place.publishing.rows(SUBJECT) == []
