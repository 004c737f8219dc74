"""Bounds of positions: what is reserved, and where a stream goes on of which readers see nothing any more."""

from __future__ import annotations

import asyncio
import time

import pytest

from events_core.adapters.cosmos.delivery.deliveries import CosmosDeliveries
from events_core.adapters.cosmos.delivery.subscriptions import CosmosSubscriptions
from events_core.adapters.cosmos.restore import Restoration
from events_core.adapters.cosmos.streams.retention import Retention
from events_core.common import clock
from events_core.common.errors import EventsError
from events_core.feeds.ports import ReadRequest
from events_core.feeds.stream import Stream
from tests.adapters.cosmos.database import NAMES, RESOURCE, Database, follow, positions
from tests.contract.event_store import PARTY, SECOND, event, events, everything, ids
from tests.support.cosmos import Fault

SUBJECT = Stream.of_subject(PARTY)
STREAMS = (RESOURCE, Stream.of_org("ttd"), SUBJECT)
DAY = 86_400
LARGEST_TIME_TO_LIVE = 2**31 - 1


@pytest.mark.parametrize("count", [9, 10, 11, 20])
async def test_a_stream_that_ended_at_its_bound_goes_on(database: Database, count: int) -> None:
    """Its last event has the last position that was reserved, or the one before, or the one after."""
    store = database.open(segment_size=10, deadline=3.0)
    await store.append(events(count))
    await database.advance(90.5)
    other = database.open(segment_size=10, deadline=3.0)
    await other.append([event("a"), event("b")])
    await store.append([event("c")])
    assert ids(await everything(database.open(segment_size=10))) == ["a", "b", "c"]


async def test_no_position_beyond_the_bound_is_ever_used(database: Database) -> None:
    """A placeholder needs a reserved position too."""
    store = database.open(segment_size=10)
    for _ in range(4):
        await store.append(events(10))
        await database.advance(90.5)
        bounds = await store._states.bounds(RESOURCE.name)
        assert max(positions(await database.documents())) <= bounds.reserved


@pytest.mark.parametrize("size", [5, 8, 1_000])
async def test_a_follower_that_never_saw_the_stream_goes_on_at_its_floor(database: Database, size: int) -> None:
    """Its checkpoint is at the last event that has ended, and the floor may be in a later segment."""
    store = database.open(segment_size=size)
    await store.append(events(3))
    await follow(store)
    await database.advance(90.5)
    await store.append([event("a")])
    follower = database.open(segment_size=size)
    await follow(follower)
    assert ids(await everything(database.open(segment_size=size), SUBJECT)) == ["a"]


async def test_a_row_that_is_not_visible_wakes_no_waiting_reader(database: Database) -> None:
    """Such a reader would look, see nothing, and look again."""
    store = database.open()
    await store.append(events(3))
    await database.advance(90.5)
    assert await store.head(RESOURCE) == 0
    assert await store.changed({RESOURCE: 0}) == {}
    assert await database.open().changed({RESOURCE: 0}) == {}
    await database.open().append([event()])
    assert list(await store.changed({RESOURCE: 0})) == [RESOURCE]


async def test_a_slow_clock_registers_nothing_before_its_streams_floor(database: Database) -> None:
    """Else the row would end before what is known of its stream, and nobody could write in between."""
    behind = database.open(clock=lambda: database.clock.now - 3_600 * SECOND, deadline=3.0)
    await database.open().append([event("old")])
    await database.advance(91.5)
    await database.inject(Fault("create", "streams", database=database.name, status=400, skip=1))
    with pytest.raises(EventsError):
        await database.open().append([event("refused")])
    await behind.append([event("a")])
    await database.advance(90 - 1_800 / DAY)
    await database.open(deadline=3.0).append([event("b")])
    assert ids(await everything(database.open())) == ["a", "b"]


async def test_two_writers_agree_on_a_stream_that_was_reserved_and_never_used(database: Database) -> None:
    """To one its positions are fresh and to the other they are too old: the first position decides."""
    slow, fast = database.open(), database.open(clock=lambda: database.clock.now + 120 * SECOND)
    await database.inject(Fault("create", "streams", database=database.name, status=400))
    with pytest.raises(EventsError):
        await slow.append([event("refused")])
    slow = database.open()
    await database.advance(90 - 60 / DAY)
    await slow._heads.warm(RESOURCE.name)
    writer = asyncio.Event()
    write = slow._database.create

    async def late(*arguments: object) -> None:
        writer.set()
        await asyncio.sleep(0.5)
        await write(*arguments)  # type: ignore[arg-type]

    slow._database.create = late  # type: ignore[method-assign, assignment]
    appending = asyncio.ensure_future(slow.append([event("a")]))
    await writer.wait()
    await fast.append([event("b")])
    await appending
    assert sorted(ids(await everything(slow))) == ["a", "b"]
    await slow.append([event("c")])
    await database.advance(1 / 24)
    assert len(await everything(database.open(hole=-5))) == 3


def test_the_longest_retention_has_a_time_to_live() -> None:
    """Cosmos DB takes 31 bits of seconds."""
    retention = Retention(36_500, clock.now)
    assert retention.time_to_live(clock.now()) == LARGEST_TIME_TO_LIVE


async def test_a_clock_that_is_far_ahead_does_not_poison_a_stream(database: Database) -> None:
    """Every later event would get its time: registration never decreases."""
    real = int(time.time() * SECOND)
    store = database.open(clock=lambda: real + DAY * SECOND)
    await store.append([event()])
    (row,) = await everything(store)
    assert row.registered < real + 60 * SECOND


async def test_a_request_of_many_groups_has_one_deadline(database: Database) -> None:
    """If the store hangs, 16 groups of one request fail together, and the next request is served."""
    store = database.open(deadline=1.0)
    await store.append([event()])
    await database.inject(Fault("batch", "streams", database=database.name, delay_ms=20_000, times=1))
    (writer,) = store._appender._writers.values()
    began = time.monotonic()
    with pytest.raises(EventsError):
        await store.append(events(1_600))
    assert time.monotonic() - began < 2.0
    await database.server.heal()
    await store.append([event("next")])
    assert ids(await everything(store))[-1] == "next"
    assert list(store._appender._writers.values()) == [writer]


async def test_an_event_late_in_another_requests_group_has_its_own_deadline(database: Database) -> None:
    """Nobody waits longer than the deadline of its own request."""
    store = database.open(deadline=1.0)
    await store.append([event()])
    await database.inject(Fault("create", "streams", database=database.name, delay_ms=20_000, times=1))
    await database.inject(Fault("batch", "streams", database=database.name, delay_ms=20_000, times=1))
    began = time.monotonic()
    first = asyncio.ensure_future(store.append([event()]))
    await asyncio.sleep(0.8)
    rest = [asyncio.ensure_future(store.append([event()])) for _ in range(5)]
    with pytest.raises(EventsError):
        await first
    assert time.monotonic() - began < 1.5
    await asyncio.wait(rest)
    assert time.monotonic() - began < 2.5
    await database.server.heal()
    await store.append([event("next")])


async def test_a_writer_that_begins_anew_reserves_nothing_again(database: Database) -> None:
    """Most streams get an event now and then: each costs one request, and one more after a minute."""
    store = database.open(idle=0.01)
    await store.append([event()])
    (writer,) = store._appender._writers.values()
    assert writer._task is not None
    await writer._task
    await database.counts()
    await store.append([event()])
    assert await database.counts() == {"create": 1}


async def test_an_id_of_an_event_that_is_not_visible_is_another_events(database: Database) -> None:
    """Two sources may use one id, and only one of the two events is visible."""
    store = database.open()
    await store.append([event("a", source="urn:one")])
    await database.advance(90.5)
    await database.open().append([event("a", source="urn:other"), event("b")])
    for reader in (store, database.open()):
        assert ids((await reader.read(ReadRequest(RESOURCE, event_id="a"))).rows) == ["b"]


async def test_a_bound_far_beyond_a_restored_stream_is_set_back(database: Database) -> None:
    """`streams` is as of an earlier time than `cursors`, and the first segments have expired: no gap opens."""
    store = database.open(segment_size=4)
    await store.append(events(10))
    await follow(store)
    for stream in STREAMS:
        state = NAMES.of(stream).replace("/", "~2f")
        changes = [{"op": "set", "path": "/reserved", "value": 40}, {"op": "set", "path": "/floorSet", "value": 1}]
        await database.container("cursors").patch_item(state, state, changes)
        for position in range(1, 7):
            await database.remove(position, stream, segment_size=4)
    other = database.open(segment_size=4)
    subscriptions, deliveries = CosmosSubscriptions(other.database), CosmosDeliveries(other.database, 90)
    await Restoration(other.database, other.checkpoints, subscriptions, deliveries).restored()
    store = database.open(segment_size=4, hole=-5)
    assert [await store.head(stream) for stream in STREAMS] == [10, 10, 10]
    await store.append([event("a")])
    await follow(store)
    for stream in STREAMS:
        assert [row.position for row in await everything(store, stream)] == [7, 8, 9, 10, 11]


async def test_a_writer_that_conflicts_with_a_placeholder_goes_on_at_the_floor(database: Database) -> None:
    """The head is still visible to it, and the position that it wanted was taken to tell it otherwise."""
    slow = database.open(segment_size=8)
    fast = database.open(segment_size=8, clock=lambda: database.clock.now + 120 * SECOND)
    await slow.append(events(3))
    await database.advance(90 - 60 / DAY)
    assert await slow.head(RESOURCE) == 3
    await fast.append([event("a")])
    await slow.append([event("b")])
    rows = [document for document in await database.rows() if document["seq"] > 3]
    assert [(document["seq"], document["eventId"]) for document in rows] == [(9, "a"), (10, "b")]
