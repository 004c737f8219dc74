"""What following up needs of the store: checkpoints, and projected streams."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from events_core.common.errors import EventsError, Problem
from events_core.feeds.ports import Checkpoint, Quarantined
from events_core.feeds.stream import Stream
from tests.adapters.cosmos.place import NAMES, RESOURCE, Place, follow, positions
from tests.contract.event_store import ANY, PARTY, PERSON, SECOND, event, events, everything, ids
from tests.support.cosmos import Fault

ORG = Stream.of_org("ttd")
OTHER = Stream.of_resource(ANY)


async def test_a_checkpoint_is_moved_by_one(place: Place) -> None:
    """Of two that read the same checkpoint the first moves it, and the other is told."""
    checkpoints = place.open().checkpoints
    assert await checkpoints.checkpoint(RESOURCE) == Checkpoint()
    for position in (5, 9):
        before = await checkpoints.checkpoint(RESOURCE)
        assert await checkpoints.advance(RESOURCE, before, position, catch_up_pending=position == 5, quarantined=[])
        assert not await checkpoints.advance(RESOURCE, before, 99, catch_up_pending=False, quarantined=[])
        after = await checkpoints.checkpoint(RESOURCE)
        assert (after.position, after.catch_up_pending) == (position, position == 5)


async def test_advancing_to_the_same_place_gives_a_new_etag(place: Place) -> None:
    """Whoever writes the checkpoint stops everybody who read it before, even when nothing changes."""
    checkpoints = place.open().checkpoints
    await checkpoints.advance(RESOURCE, Checkpoint(), 5, catch_up_pending=False, quarantined=[])
    before = await checkpoints.checkpoint(RESOURCE)
    assert await checkpoints.advance(RESOURCE, before, 5, catch_up_pending=False, quarantined=[])
    assert not await checkpoints.advance(RESOURCE, before, 6, catch_up_pending=False, quarantined=[])


async def test_advancing_is_one_request(place: Place) -> None:
    """A checkpoint costs one write."""
    store = place.open()
    await store.append([event()])
    checkpoint = await store.checkpoints.checkpoint(RESOURCE)
    await place.counts()
    await store.checkpoints.advance(RESOURCE, checkpoint, 1, catch_up_pending=False, quarantined=[])
    assert await place.counts() == {"patch": 1}


async def test_what_is_owed_behind_and_parked_is_found(place: Place) -> None:
    """Streams are listed by what is left to do for them."""
    store, checkpoints = place.open(), place.open().checkpoints
    await store.append([event(), event(resource=ANY)])
    assert {each.name for each in await checkpoints.behind()} == {RESOURCE.name, OTHER.name}
    assert (await checkpoints.catch_up_pending(), await checkpoints.quarantined()) == ([], [])
    held = Quarantined("projection", Stream.of_subject(PERSON).name, 1, "it does not fit")
    await checkpoints.advance(
        RESOURCE, await checkpoints.checkpoint(RESOURCE), 1, catch_up_pending=True, quarantined=[held]
    )
    assert await checkpoints.behind() == [OTHER]
    assert (await checkpoints.catch_up_pending(), await checkpoints.quarantined()) == ([RESOURCE], [RESOURCE])
    assert (await checkpoints.checkpoint(RESOURCE)).quarantined == [held]


async def test_reading_on_takes_every_row(place: Place) -> None:
    """Page by page every row comes once, over segments, tombstones among them, and nothing at the end."""
    store = place.open(segment_size=10)
    await store.append([event(f"{n}") for n in range(35)])
    await store.erase(RESOURCE.key, event().source, "7")
    seen: list[int] = []
    while rows := await store.checkpoints.read_after(RESOURCE, seen[-1] if seen else 0, 8):
        seen += [row.position for row in rows]
    assert seen == list(range(1, 36))
    assert await place.open(segment_size=10).checkpoints.read_after(OTHER, 0, 10) == []


async def test_projecting_keeps_order_and_repeats_nothing(place: Place) -> None:
    """However often and by how many at once the same rows are projected, they stand once, in their order."""
    stores = [place.open(segment_size=20) for _ in range(3)]
    await stores[0].append([event(f"{n:02}") for n in range(50)])
    rows = await stores[0].checkpoints.read_after(RESOURCE, 0, 100)
    await asyncio.gather(*(store.projection.project(ORG, rows) for store in stores))
    await stores[0].projection.project(ORG, rows[10:30])
    documents = await place.documents(ORG)
    assert positions(documents) == list(range(1, 51))
    assert [each["eventId"] for each in documents] == [f"{n:02}" for n in range(50)]


async def test_projecting_registers_at_its_own_moment(place: Place) -> None:
    """A row enters a projected stream when it is projected, and never before the row in front of it."""
    store = place.open()
    await store.append([event("a")])
    place.clock.now += SECOND
    await follow(store)
    assert (await everything(store, ORG))[0].registered == place.clock.now
    place.clock.now -= 10 * SECOND
    await store.append([event("b")])
    await follow(store)
    registered = [row.registered for row in await everything(store, ORG)]
    assert registered == [place.clock.now + 10 * SECOND] * 2


async def test_a_projected_row_is_the_event(place: Place) -> None:
    """A projected row gives all that its original does, byte for byte."""
    store = place.open()
    original = event(type="Æ.B", source="urn:X", resourceinstance="1/2", alternativesubject=PERSON, data='"\\ø')
    await store.append([original])
    await follow(store)
    (row,) = await everything(store, Stream.of_subject(PARTY))
    assert (row.json, row.type, row.source) == (original.json, "Æ.B", "urn:X")
    assert (row.resource, row.resource_instance, row.subject) == (original.resource, "1/2", PARTY)


async def test_nothing_is_projected_past_what_failed(place: Place) -> None:
    """When the server refuses one of the rows, those before it stand, and none after it."""
    store = place.open()
    await store.append(events(8))
    rows = await store.checkpoints.read_after(RESOURCE, 0, 10)
    await store.projection.project(ORG, rows[:1])
    # Seven are refused, the first three of them taken, the next four refused, two of those, and of the two the first.
    refused = Fault("batch", "streams", status=400)
    await place.inject(
        refused, replace(refused, skip=1), replace(refused, skip=1), replace(refused, operation="create")
    )
    with pytest.raises(EventsError) as caught:
        await store.projection.project(ORG, rows[1:])
    assert caught.value.problem is Problem.BAD_REQUEST
    assert ids(await everything(store, ORG)) == ids(rows[:4])
    await store.projection.project(ORG, rows)
    assert ids(await everything(store, ORG)) == ids(rows)


async def test_new_streams_are_found_at_once(place: Place) -> None:
    """Streams that nobody has written to cost two requests together, and one write each."""
    store = place.open()
    subjects = [f"/party/{n}" for n in range(50)]
    await store.append([event(subject=subject) for subject in subjects])
    rows = await store.checkpoints.read_after(RESOURCE, 0, 100)
    await place.counts()
    await store.projection.prepare(list(map(Stream.of_subject, subjects)))
    assert await place.counts() == {"query": 2}
    for subject, row in zip(subjects, rows, strict=True):
        await store.projection.project(Stream.of_subject(subject), [row])
    assert await place.counts() == {"create": 50}
    await store.projection.prepare(list(map(Stream.of_subject, subjects)))
    assert await place.counts() == {}


async def test_streams_that_are_not_new_are_taken_for_none(place: Place) -> None:
    """One that another process has written to, and one of which retention has left the newest row's place alone."""
    store, other = place.open(), place.open()
    gone, standing = Stream.of_subject("/party/1"), Stream.of_subject("/party/2")
    await store.append([event(subject=gone.key), event(subject=gone.key), event(subject=standing.key)])
    await follow(store)
    place.clock.now += SECOND
    await store.expire(place.clock.now)
    await store.append([event("a", subject=gone.key), event("b", subject=standing.key)])
    await other.projection.prepare([gone, standing, ORG])
    rows = await other.checkpoints.read_after(RESOURCE, 3, 100)
    for target, row in zip((gone, standing), rows, strict=True):
        await other.projection.project(target, [row])
        assert (await everything(other, target))[-1].id == row.id
    assert positions(await place.documents(gone))[-1] == 3


async def test_projecting_one_row_is_one_request(place: Place) -> None:
    """A stream that the process has written to before takes a row at the price of one write."""
    store = place.open()
    await store.append(events(3))
    rows = await store.checkpoints.read_after(RESOURCE, 0, 10)
    await store.projection.project(ORG, rows[:1])
    await place.counts()
    await store.projection.project(ORG, rows[1:2])
    assert await place.counts() == {"create": 1}


async def test_no_name_holds_a_person(place: Place) -> None:
    """No partition key, id or stream name of anything that was stored holds a person's number."""
    store = place.open()
    await store.append([event(subject=PERSON)])
    await follow(store)
    person = Stream.of_subject(PERSON)
    (document,) = await place.documents(person)
    assert "01899699552" not in document["partition"] + document["id"] + document["stream"]
    assert NAMES.of(person) == document["stream"]
    assert len(await everything(store, person)) == 1
