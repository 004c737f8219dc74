"""Checkpoints and projected streams, which followers need of the store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from events_core.common.errors import EventsError, Problem
from events_core.feeds.ports import Checkpoint, Quarantined, RowsAfter
from events_core.feeds.stream import Stream
from tests.adapters.cosmos.database import NAMES, RESOURCE, Database, follow, positions
from tests.contract.event_store import ANY, PARTY, PERSON, SECOND, event, events, everything, ids
from tests.support.cosmos import Fault

ORG = Stream.of_org("ttd")
OTHER = Stream.of_resource(ANY)


async def test_one_of_two_concurrent_advances_succeeds(database: Database) -> None:
    """Of two processes that have read the same checkpoint, the second gets False."""
    checkpoints = database.open().checkpoints
    assert await checkpoints.checkpoint(RESOURCE) == Checkpoint()
    for position in (5, 9):
        before = await checkpoints.checkpoint(RESOURCE)
        assert await checkpoints.advance(
            RESOURCE, before, {"projection": position}, catch_up_pending=position == 5, quarantined=[]
        )
        assert not await checkpoints.advance(
            RESOURCE, before, {"projection": 99}, catch_up_pending=False, quarantined=[]
        )
        after = await checkpoints.checkpoint(RESOURCE)
        assert (after.position, after.catch_up_pending) == (position, position == 5)


async def test_advancing_to_the_same_position_gives_a_new_etag(database: Database) -> None:
    """Every write of a checkpoint stops the processes that have read it before, even if nothing changes."""
    checkpoints = database.open().checkpoints
    await checkpoints.advance(RESOURCE, Checkpoint(), {"projection": 5}, catch_up_pending=False, quarantined=[])
    before = await checkpoints.checkpoint(RESOURCE)
    assert await checkpoints.advance(RESOURCE, before, {"projection": 5}, catch_up_pending=False, quarantined=[])
    assert not await checkpoints.advance(RESOURCE, before, {"projection": 6}, catch_up_pending=False, quarantined=[])


async def test_advancing_is_one_request(database: Database) -> None:
    """A checkpoint costs one write."""
    store = database.open()
    await store.append([event()])
    checkpoint = await store.checkpoints.checkpoint(RESOURCE)
    await database.counts()
    await store.checkpoints.advance(RESOURCE, checkpoint, {"projection": 1}, catch_up_pending=False, quarantined=[])
    assert await database.counts() == {"patch": 1}


async def test_pending_lagging_and_quarantined_streams_are_listed(database: Database) -> None:
    """Each list names the streams that need that kind of work."""
    store, checkpoints = database.open(), database.open().checkpoints
    await store.append([event(), event(resource=ANY)])
    assert {stream.name for stream in await checkpoints.behind()} == {RESOURCE.name, OTHER.name}
    assert (await checkpoints.catch_up_pending(), await checkpoints.quarantined()) == ([], [])
    held = Quarantined("projection", Stream.of_subject(PERSON).name, 1, "it does not fit")
    await checkpoints.advance(
        RESOURCE, await checkpoints.checkpoint(RESOURCE), {"projection": 1}, catch_up_pending=True, quarantined=[held]
    )
    assert await checkpoints.behind() == [OTHER]
    assert (await checkpoints.catch_up_pending(), await checkpoints.quarantined()) == ([RESOURCE], [RESOURCE])
    assert (await checkpoints.checkpoint(RESOURCE)).quarantined == [held]


@pytest.mark.parametrize(("follower", "projects"), [("projection", False), ("deliveries", True)])
async def test_erasure_asks_how_far_projections_have_come(database: Database, follower: str, *, projects: bool) -> None:
    """A tombstone is projected first if projections may still reach the event, however far deliveries are."""
    store = database.open()
    await store.append([event("a")])
    checkpoint = await store.checkpoints.checkpoint(RESOURCE)
    await store.checkpoints.advance(RESOURCE, checkpoint, {follower: 1}, catch_up_pending=False, quarantined=())
    assert await store.erase(RESOURCE.key, event().source, "a")
    assert bool(await everything(store, ORG)) is projects


async def test_read_after_returns_every_row_once(database: Database) -> None:
    """Page by page, over segments, tombstones among them, and nothing at the end."""
    store = database.open(segment_size=10)
    await store.append([event(f"{n}") for n in range(35)])
    await store.erase(RESOURCE.key, event().source, "7")
    seen: list[int] = []
    while rows := (await store.checkpoints.read_after(RESOURCE, seen[-1] if seen else 0, 8)).rows:
        seen += [row.position for row in rows]
    assert seen == list(range(1, 36))
    assert await database.open(segment_size=10).checkpoints.read_after(OTHER, 0, 10) == RowsAfter([], is_end=True)


async def test_projecting_keeps_order_and_repeats_nothing(database: Database) -> None:
    """However often, and by however many processes at once, the same rows are projected."""
    stores = [database.open(segment_size=20) for _ in range(3)]
    await stores[0].append([event(f"{n:02}") for n in range(50)])
    rows = (await stores[0].checkpoints.read_after(RESOURCE, 0, 100)).rows
    await asyncio.gather(*(store.projection.project(ORG, rows) for store in stores))
    await stores[0].projection.project(ORG, rows[10:30])
    documents = await database.documents(ORG)
    assert positions(documents) == list(range(1, 51))
    assert [document["eventId"] for document in documents] == [f"{n:02}" for n in range(50)]


async def test_a_projected_row_is_registered_when_it_is_projected(database: Database) -> None:
    """Its time is never before the time of the row in front of it, even if the clock steps back."""
    store = database.open()
    await store.append([event("a")])
    database.clock.now += SECOND
    await follow(store)
    assert (await everything(store, ORG))[0].registered == database.clock.now
    database.clock.now -= 10 * SECOND
    await store.append([event("b")])
    await follow(store)
    registered = [row.registered for row in await everything(store, ORG)]
    assert registered == [database.clock.now + 10 * SECOND] * 2


async def test_a_projected_row_equals_its_original(database: Database) -> None:
    """Attributes and text are the same, byte for byte."""
    store = database.open()
    original = event(type="Æ.B", source="urn:X", resourceinstance="1/2", alternativesubject=PERSON, data='"\\ø')
    await store.append([original])
    await follow(store)
    (row,) = await everything(store, Stream.of_subject(PARTY))
    assert (row.json, row.type, row.source) == (original.json, "Æ.B", "urn:X")
    assert (row.resource, row.resource_instance, row.subject) == (original.resource, "1/2", PARTY)


async def test_nothing_is_projected_past_a_refused_row(database: Database) -> None:
    """The rows before the refused row are stored, the rows after it are not."""
    store = database.open()
    await store.append(events(8))
    rows = (await store.checkpoints.read_after(RESOURCE, 0, 10)).rows
    await store.projection.project(ORG, rows[:1])
    # Seven rows are refused. The first three are stored then, but not the other four, nor the first two of these, nor
    # the first of the two.
    refused = Fault("batch", "streams", status=400)
    await database.inject(
        refused, replace(refused, skip=1), replace(refused, skip=1), replace(refused, operation="create")
    )
    with pytest.raises(EventsError) as caught:
        await store.projection.project(ORG, rows[1:])
    assert caught.value.problem is Problem.BAD_REQUEST
    assert ids(await everything(store, ORG)) == ids(rows[:4])
    await store.projection.project(ORG, rows)
    assert ids(await everything(store, ORG)) == ids(rows)


async def test_new_streams_are_found_in_one_request(database: Database) -> None:
    """Fifty streams without events cost one request together, and two writes each: the bound, then the event."""
    store = database.open()
    subjects = [f"/party/{n}" for n in range(50)]
    await store.append([event(subject=subject) for subject in subjects])
    rows = (await store.checkpoints.read_after(RESOURCE, 0, 100)).rows
    await database.counts()
    await store.projection.prepare(list(map(Stream.of_subject, subjects)))
    assert await database.counts() == {"query": 1}
    for subject, row in zip(subjects, rows, strict=True):
        await store.projection.project(Stream.of_subject(subject), [row])
    assert await database.counts() == {"create": 100}
    await store.projection.prepare(list(map(Stream.of_subject, subjects)))
    assert await database.counts() == {}


async def test_a_stream_with_events_is_not_taken_for_new(database: Database) -> None:
    """Neither if another process has written to it, nor if nothing of it is left."""
    store, other = database.open(), database.open()
    gone, kept = Stream.of_subject("/party/1"), Stream.of_subject("/party/2")
    await store.append([event(subject=gone.key), event(subject=gone.key)])
    await follow(store)
    await database.advance(95)
    await store.append([event("a", subject=gone.key), event("b", subject=kept.key)])
    await store.projection.project(kept, (await store.checkpoints.read_after(RESOURCE, 2, 100)).rows[1:])
    await other.projection.prepare([gone, kept, ORG])
    for row in (await other.checkpoints.read_after(RESOURCE, 2, 100)).rows:
        target = Stream.of_subject(row.subject or "")
        await other.projection.project(target, [row])
        assert ids(await everything(other, target)) == [row.id]
    assert positions(await database.rows(gone)) == [1_025]


async def test_projecting_one_row_is_one_request(database: Database) -> None:
    """In a stream that this process has written to before."""
    store = database.open()
    await store.append(events(3))
    rows = (await store.checkpoints.read_after(RESOURCE, 0, 10)).rows
    await store.projection.project(ORG, rows[:1])
    await database.counts()
    await store.projection.project(ORG, rows[1:2])
    assert await database.counts() == {"create": 1}


async def test_no_name_holds_a_person(database: Database) -> None:
    """No partition key, id or stream name holds a person's number."""
    store = database.open()
    await store.append([event(subject=PERSON)])
    await follow(store)
    person = Stream.of_subject(PERSON)
    (document,) = await database.documents(person)
    assert "01899699552" not in document["partition"] + document["id"] + document["stream"]
    assert NAMES.of(person) == document["stream"]
    assert len(await everything(store, person)) == 1
