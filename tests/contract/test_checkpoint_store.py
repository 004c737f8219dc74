"""The ports CheckpointStore and ProjectedStreams, against every adapter."""

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
from events_core.feeds.ports import (
    Checkpoint,
    CheckpointStore,
    EventStore,
    ProjectedStreams,
    Quarantined,
    RowsAfter,
    StoredEvent,
)
from events_core.feeds.stream import Stream
from tests.contract.event_store import APP, OTHER_APP, PARTY, PERSON, Clock, event, events, everything, ids
from tests.support.checkpoints import MemoryCheckpoints
from tests.support.cosmos import cosmos_server

APPS, OTHERS = Stream.of_resource(APP), Stream.of_resource(OTHER_APP)
SUBJECT, ORG = Stream.of_subject(PARTY), Stream.of_org("ttd")


class Publishing(Protocol):
    """The side of a store that fills the streams."""

    async def append(self, events: Sequence[CloudEvent]) -> object:
        """Publish events."""

    async def erase(self, event: CloudEvent) -> object:
        """Erase an event."""

    async def rows(self, stream: Stream) -> list[StoredEvent]:
        """The rows of a stream as readers see them."""


@dataclass
class Stage:
    """A checkpoint store, the store that fills its streams, and their clock."""

    checkpoints: CheckpointStore
    publishing: Publishing
    clock: Clock
    projected: ProjectedStreams | None = None

    @property
    def projection(self) -> ProjectedStreams:
        """The projected streams."""
        assert self.projected is not None
        return self.projected


@dataclass
class StorePublishing:
    """Publishing through an event store."""

    store: EventStore

    async def append(self, events: Sequence[CloudEvent]) -> object:
        """Publish events."""
        return await self.store.append(events)

    async def erase(self, event: CloudEvent) -> object:
        """Erase an event."""
        return await self.store.erase(event.resource, event.source, event.id)

    async def rows(self, stream: Stream) -> list[StoredEvent]:
        """The rows of a stream as readers see them."""
        return await everything(self.store, stream)


@asynccontextmanager
async def memory() -> AsyncIterator[Stage]:
    """The adapter in memory, which the tests of following up use."""
    clock = Clock()
    checkpoints = MemoryCheckpoints(clock)
    yield Stage(checkpoints, checkpoints, clock, checkpoints)


@asynccontextmanager
async def cosmos() -> AsyncIterator[Stage]:
    """Cosmos DB with small segments."""
    clock = Clock()
    async with cosmos_server() as server, server.database() as database:
        connection = CosmosConnection.of_string(server.connection_string)
        store = CosmosEventStore(connection, database, key=bytes(32), clock=clock, segment_size=8)
        yield Stage(store.checkpoints, StorePublishing(store), clock, store.projection)
        await store.close()


@asynccontextmanager
async def sqlite() -> AsyncIterator[Stage]:
    """A file, where one row of an event serves all of its streams."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteEventStore(Path(directory) / "events.db", clock=clock)
        yield Stage(SqliteCheckpoints(store), StorePublishing(store), clock)
        await store.close()


ADAPTERS: dict[str, Callable[[], AbstractAsyncContextManager[Stage]]] = {
    "memory": memory,
    "cosmos": cosmos,
    "sqlite": sqlite,
}
"""Every adapter of the port, by name."""
projecting = pytest.mark.parametrize("stage", ["memory", "cosmos"], indirect=True)
"""The adapters that project; on SQLite one row of an event serves all of its streams."""


@pytest.fixture(params=ADAPTERS)
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """Empty streams."""
    async with ADAPTERS[request.param]() as stage:
        yield stage


@pytest.fixture
def checkpoints(stage: Stage) -> CheckpointStore:
    """The checkpoint store."""
    return stage.checkpoints


# -- Checkpoints ------------------------------------------------------------------------------------------------------


async def test_the_checkpoint_of_an_unknown_stream_is_its_start(checkpoints: CheckpointStore) -> None:
    """It has no etag, since nothing is written."""
    assert await checkpoints.checkpoint(APPS) == Checkpoint()


async def test_a_stream_that_was_never_followed_is_at_its_start(stage: Stage) -> None:
    """Nothing is pending or quarantined."""
    await stage.publishing.append(events(3))
    seen = await stage.checkpoints.checkpoint(APPS)
    assert (seen.position, seen.catch_up_pending, list(seen.quarantined)) == (0, False, [])


async def test_a_checkpoint_is_stored_whole(stage: Stage) -> None:
    """Position, flag and quarantined events are read back."""
    await stage.publishing.append(events(3))
    quarantined = [
        Quarantined("projection", SUBJECT.name, 2, "ValueError"),
        Quarantined("projection", Stream.of_subject(PERSON).name, 3, "KeyError"),
    ]
    checkpoints = stage.checkpoints
    assert await checkpoints.advance(
        APPS, await checkpoints.checkpoint(APPS), {"projection": 3}, catch_up_pending=True, quarantined=quarantined
    )
    seen = await checkpoints.checkpoint(APPS)
    assert (seen.position, seen.catch_up_pending, list(seen.quarantined)) == (3, True, quarantined)


async def test_a_written_checkpoint_comes_back(stage: Stage) -> None:
    """It can be written again without being read."""
    await stage.publishing.append(events(3))
    seen = await stage.checkpoints.checkpoint(APPS)
    for position in (1, 2, 3):
        positions = {"projection": position, "deliveries": 1}
        moved = await stage.checkpoints.advance(APPS, seen, positions, catch_up_pending=False, quarantined=())
        assert moved == await stage.checkpoints.checkpoint(APPS)
        assert moved is not None
        seen = moved
    assert (dict(seen.positions), seen.position) == ({"projection": 3, "deliveries": 1}, 1)


async def test_a_stale_checkpoint_cannot_be_moved(stage: Stage) -> None:
    """Of two callers who read the same checkpoint, the second fails."""
    await stage.publishing.append(events(3))
    checkpoints = stage.checkpoints
    stale = await checkpoints.checkpoint(APPS)
    assert await checkpoints.advance(APPS, stale, {"projection": 1}, catch_up_pending=False, quarantined=())
    assert not await checkpoints.advance(APPS, stale, {"projection": 2}, catch_up_pending=True, quarantined=())
    seen = await checkpoints.checkpoint(APPS)
    assert (seen.position, seen.catch_up_pending) == (1, False)


async def test_an_unchanged_checkpoint_gets_a_new_etag(stage: Stage) -> None:
    """A caller who read it before fails, so that the flag can be renewed."""
    await stage.publishing.append(events(1))
    checkpoints = stage.checkpoints
    for _ in range(2):
        seen = await checkpoints.checkpoint(APPS)
        assert await checkpoints.advance(APPS, seen, {"projection": 0}, catch_up_pending=True, quarantined=())
    assert not await checkpoints.advance(APPS, seen, {"projection": 0}, catch_up_pending=False, quarantined=())


async def test_the_first_checkpoint_is_written_once(checkpoints: CheckpointStore) -> None:
    """The second caller fails, also for a stream without events."""
    assert await checkpoints.advance(APPS, Checkpoint(), {"projection": 0}, catch_up_pending=True, quarantined=())
    assert not await checkpoints.advance(APPS, Checkpoint(), {"projection": 0}, catch_up_pending=False, quarantined=())


async def test_one_of_many_callers_moves_the_checkpoint(stage: Stage) -> None:
    """Exactly one of six succeeds."""
    await stage.publishing.append(events(1))
    seen = await stage.checkpoints.checkpoint(APPS)
    moves = [
        stage.checkpoints.advance(APPS, seen, {"projection": 1}, catch_up_pending=False, quarantined=())
        for _ in range(6)
    ]
    assert [moved is None for moved in await asyncio.gather(*moves)].count(False) == 1


async def test_streams_with_pending_catch_up_are_listed(stage: Stage) -> None:
    """A stream is listed until its flag is cleared."""
    await stage.publishing.append([event(), event(resource=OTHER_APP)])
    checkpoints = stage.checkpoints
    await checkpoints.advance(
        APPS, await checkpoints.checkpoint(APPS), {"projection": 0}, catch_up_pending=True, quarantined=()
    )
    assert await checkpoints.catch_up_pending() == [APPS]
    await checkpoints.advance(
        APPS, await checkpoints.checkpoint(APPS), {"projection": 0}, catch_up_pending=False, quarantined=()
    )
    assert await checkpoints.catch_up_pending() == []


async def test_the_stream_written_longest_ago_is_listed_first(stage: Stage) -> None:
    """A sweep that ends early begins with the others next time, and the first suspects are those longest behind."""
    await stage.publishing.append([event(), event(resource=OTHER_APP)])
    checkpoints = stage.checkpoints

    async def mark(stream: Stream) -> None:
        seen = await checkpoints.checkpoint(stream)
        await checkpoints.advance(stream, seen, {}, catch_up_pending=True, quarantined=())

    for first, last in ((APPS, OTHERS), (OTHERS, APPS)):
        await mark(first)
        async with asyncio.timeout(10):
            while await checkpoints.catch_up_pending() != [first, last]:  # times of Cosmos DB are whole seconds
                await mark(last)
        assert [stream for stream, _ in await checkpoints.suspects(2)] == [first, last]


async def test_streams_behind_their_end_are_listed(stage: Stage) -> None:
    """A stream is listed from its first event on, whether or not its wake-up was lost."""
    checkpoints = stage.checkpoints
    await stage.publishing.append([event(), event(), event(resource=OTHER_APP)])
    assert set(await checkpoints.behind()) == {APPS, OTHERS}
    for stream in (APPS, OTHERS):
        end = (await checkpoints.read_after(stream, 0, 10)).rows[-1].position
        assert await checkpoints.end(stream) == end
        await checkpoints.advance(
            stream, await checkpoints.checkpoint(stream), {"projection": end}, catch_up_pending=False, quarantined=()
        )
    assert await checkpoints.behind() == []
    await stage.publishing.append([event()])
    assert await checkpoints.behind() == [APPS]


async def test_streams_with_quarantined_events_are_listed(stage: Stage) -> None:
    """A stream is listed until nothing is quarantined."""
    await stage.publishing.append([event(), event(resource=OTHER_APP)])
    checkpoints = stage.checkpoints
    await checkpoints.advance(
        APPS,
        await checkpoints.checkpoint(APPS),
        {"projection": 1},
        catch_up_pending=False,
        quarantined=[Quarantined("projection", ORG.name, 1, "ValueError")],
    )
    assert await checkpoints.quarantined() == [APPS]
    await checkpoints.advance(
        APPS, await checkpoints.checkpoint(APPS), {"projection": 1}, catch_up_pending=False, quarantined=()
    )
    assert await checkpoints.quarantined() == []


async def test_suspects_come_with_their_checkpoints(stage: Stage) -> None:
    """Streams with the flag come first, and every stream that is behind is among them."""
    checkpoints, resources = stage.checkpoints, [f"{APP}-{n}" for n in range(4)]
    await stage.publishing.append([event(resource=resource) for resource in resources])
    streams = [Stream.of_resource(resource) for resource in resources]
    catch_up_pending = streams[1]
    await checkpoints.advance(
        catch_up_pending,
        await checkpoints.checkpoint(catch_up_pending),
        {"projection": 0},
        catch_up_pending=True,
        quarantined=(),
    )
    found = await checkpoints.suspects(10)
    assert {stream for stream, _ in found} == {*streams}
    assert found[0][0] == catch_up_pending
    assert [await checkpoints.checkpoint(stream) for stream, _ in found] == [seen for _, seen in found]
    assert len(await checkpoints.suspects(2)) == 2


async def test_an_empty_stream_ends_at_position_0(checkpoints: CheckpointStore) -> None:
    """Position 0 is before the first event."""
    assert await checkpoints.end(OTHERS) == 0


# -- Reading ----------------------------------------------------------------------------------------------------------


async def test_rows_are_read_in_their_order_from_any_position(stage: Stage) -> None:
    """Pages neither repeat nor leave out a row."""
    some = events(30)
    await stage.publishing.append(some)
    read: list[StoredEvent] = []
    is_end = False
    while not is_end:
        page = await stage.checkpoints.read_after(APPS, read[-1].position if read else 0, 7)
        assert 0 < len(page.rows) <= 7
        read, is_end = [*read, *page.rows], page.is_end
    assert ids(read) == ids(some)
    assert [row.json for row in read] == [event.json for event in some]
    assert await stage.checkpoints.read_after(APPS, read[-1].position, 7) == RowsAfter([], is_end=True)


@pytest.mark.parametrize("stage", ["cosmos", "sqlite"], indirect=True)
async def test_a_page_of_large_events_is_not_the_end(stage: Stage) -> None:
    """It ends at 4 MiB, and says that more follows."""
    some = [event(data="x" * 200_000) for _ in range(30)]
    await stage.publishing.append(some)
    page = await stage.checkpoints.read_after(APPS, 0, 100)
    assert (page.is_end, len(page.rows) < 30) == (False, True)
    rest = await stage.checkpoints.read_after(APPS, page.rows[-1].position, 100)
    assert ids([*page.rows, *rest.rows]) == ids(some)
    assert rest.is_end


async def test_a_tombstone_keeps_its_position(stage: Stage) -> None:
    """It has no text, but id, resource and subject."""
    some = events(3)
    await stage.publishing.append(some)
    await stage.publishing.erase(some[1])
    rows = (await stage.checkpoints.read_after(APPS, 0, 10)).rows
    assert [row.json is None for row in rows] == [False, True, False]
    assert (rows[1].id, rows[1].resource, rows[1].subject) == (some[1].id, APP, PARTY)


# -- Projecting -------------------------------------------------------------------------------------------------------


async def rows_of(stage: Stage, some: Sequence[CloudEvent]) -> Sequence[StoredEvent]:
    """Publish events of one resource; return the rows of its stream."""
    await stage.publishing.append(some)
    return (await stage.checkpoints.read_after(Stream.of_resource(some[0].resource), 0, 1000)).rows


@projecting
@pytest.mark.parametrize("target", [SUBJECT, ORG, Stream.of_subject(PERSON)], ids=["party", "org", "person"])
async def test_projected_events_are_unchanged(stage: Stage, target: Stream) -> None:
    """Order and text are those of publication."""
    some = events(20)
    await stage.projection.project(target, await rows_of(stage, some))
    assert [row.json for row in await stage.publishing.rows(target)] == [event.json for event in some]


@projecting
async def test_projecting_again_changes_nothing(stage: Stage) -> None:
    """New events come after the stored ones, even if a page overlaps."""
    rows = await rows_of(stage, events(20))
    await stage.projection.project(SUBJECT, rows[:12])
    await stage.projection.project(SUBJECT, rows[5:])
    await stage.projection.project(SUBJECT, rows[:3])
    assert ids(await stage.publishing.rows(SUBJECT)) == ids(rows)


@projecting
async def test_concurrent_projections_keep_the_order(stage: Stage) -> None:
    """Each event is stored once."""
    rows = await rows_of(stage, events(20))
    await asyncio.gather(*(stage.projection.project(SUBJECT, rows[:end]) for end in (20, 5, 12, 20)))
    assert ids(await stage.publishing.rows(SUBJECT)) == ids(rows)


@projecting
async def test_a_stream_holds_events_of_several_resources(stage: Stage) -> None:
    """Events with the same source and id are different if their resources are."""
    for resource in (APP, OTHER_APP):
        rows = await rows_of(stage, [event("a", resource=resource)])
        await stage.projection.project(ORG, rows)
    assert [row.resource for row in await stage.publishing.rows(ORG)] == [APP, OTHER_APP]


@projecting
async def test_events_are_registered_at_their_projection(stage: Stage) -> None:
    """The time never decreases along the stream, whatever the clock."""
    rows = await rows_of(stage, events(2))
    projected = stage.clock.now = stage.clock.now + 60_000_000
    await stage.projection.project(SUBJECT, rows[:1])
    stage.clock.now -= 30_000_000
    await stage.projection.project(SUBJECT, rows[1:])
    assert [row.registered for row in await stage.publishing.rows(SUBJECT)] == [projected, projected]


@projecting
async def test_a_tombstone_is_projected_as_a_tombstone(stage: Stage) -> None:
    """A slow projection cannot bring the erased event back."""
    some = events(2)
    late = await rows_of(stage, some)
    await stage.publishing.erase(some[0])
    await stage.projection.project(SUBJECT, (await stage.checkpoints.read_after(APPS, 0, 10)).rows)
    await stage.projection.project(SUBJECT, late)
    texts = [row.json for row in await stage.publishing.rows(SUBJECT)]
    assert [text for text in texts if text is not None] == [some[1].json]


@projecting
async def test_an_empty_page_projects_nothing(stage: Stage) -> None:
    """The stream stays empty."""
    await stage.projection.project(SUBJECT, [])
    assert await stage.publishing.rows(SUBJECT) == []
