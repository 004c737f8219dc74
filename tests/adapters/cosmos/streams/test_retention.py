"""Retention and erasure on Cosmos DB: floors, placeholders, tombstones wherever the event was projected."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from events_core.adapters.cosmos import CosmosEventStore
from events_core.common.errors import EventsError
from events_core.feeds.ports import Quarantined, ReadRequest
from events_core.feeds.stream import START, Cursor, Filters, Stream
from tests.adapters.cosmos.place import RESOURCE, Place, follow, page_after, positions
from tests.contract.event_store import APP, PARTY, PERSON, SECOND, event, events, everything, ids, walk
from tests.support.cosmos import Fault

ORG = Stream.of_org("ttd")
SUBJECT = Stream.of_subject(PARTY)


async def _aged(place: Place, store: CosmosEventStore, old: int, new: int) -> None:
    """Old events and new ones, all followed up; the clock stands where the new ones are."""
    await store.append([event(f"old {n}") for n in range(old)])
    await follow(store)
    place.clock.now += SECOND
    await store.append([event(f"new {n}") for n in range(new)])
    await follow(store)


async def test_the_floor_is_raised_an_hour_before_anything_is_deleted(place: Place) -> None:
    """Readers that began before may go on; a second call after the gap deletes."""
    store = place.open(retention_gap=3_600)
    await _aged(place, store, 3, 2)
    assert await store.expire(place.clock.now) == 0
    assert await store.expire(place.clock.now) == 0
    assert len(await place.documents()) == 5
    assert (await place.open(retention_gap=0).expire(place.clock.now)) == 3
    assert positions(await place.documents()) == [4, 5]


async def test_the_floor_never_passes_the_checkpoint(place: Place) -> None:
    """What was not followed up is kept, however old it is."""
    store = place.open()
    await store.append(events(2))
    await follow(store)
    await store.append([event("not followed")])
    place.clock.now += SECOND
    assert await store.expire(place.clock.now) == 2
    assert ids(await everything(store)) == ["not followed"]


async def test_the_newest_document_keeps_its_place(place: Place) -> None:
    """Of a stream that expired whole one document is left, which says nothing of its event, and goes when it may."""
    store = place.open()
    await _aged(place, store, 3, 0)
    assert await store.expire(place.clock.now) == 3
    (left,) = [{name: each[name] for name in each if name[0] != "_"} for each in await place.documents()]
    assert left.pop("ukey") not in {"", None}
    assert left == {
        "id": f"{3:020}",
        "partition": f"{RESOURCE.name}|00000000",
        "stream": RESOURCE.name,
        "seq": 3,
        "registered": place.clock.now - SECOND,
        "kept": True,
    }
    await store.append([event("next")])
    await follow(store)
    place.clock.now += SECOND
    await store.append([event("after")])
    await follow(store)
    assert await store.expire(place.clock.now) == 1
    assert positions(await place.documents()) == [5]


async def test_projected_streams_expire_by_their_own_moments(place: Place) -> None:
    """Subject and org streams lose what entered them before the moment; they count for nothing."""
    store = place.open()
    await _aged(place, store, 4, 1)
    assert await store.expire(place.clock.now) == 4
    for stream in (ORG, SUBJECT):
        assert positions(await place.documents(stream)) == [5]
        assert ids(await everything(store, stream)) == ["new 0"]


async def test_retention_over_segments(place: Place) -> None:
    """Whole segments go, and reading, heads, moments and appending find their way past them."""
    store = place.open(segment_size=5)
    await _aged(place, store, 20, 4)
    cursor = (await page_after(store, limit=7)).end
    assert await store.expire(place.clock.now) == 20
    for reader in (store, place.open(segment_size=5)):
        for start in (START, cursor):
            assert [row.position for row in (await page_after(reader, start)).rows] == [21, 22, 23, 24]
        assert await reader.head(RESOURCE) == 24
        request = ReadRequest(RESOURCE, registered_from=place.clock.now)
        assert [row.position for row in (await reader.read(request)).rows] == [21, 22, 23, 24]
        rows = await reader.checkpoints.read_after(RESOURCE, 3, 10)
        assert [row.position for row in rows] == [21, 22, 23, 24]
    await store.append([event()])
    assert positions(await place.documents())[-1] == 25


async def test_two_processes_may_remove_at_once(place: Place) -> None:
    """Whoever comes second finds it done."""
    stores = [place.open(segment_size=30), place.open(segment_size=30)]
    await _aged(place, stores[0], 100, 1)
    await asyncio.gather(*(store.expire(place.clock.now) for store in stores))
    assert positions(await place.documents()) == [101]
    assert ids(await everything(stores[1])) == ["new 0"]


async def test_a_reader_behind_the_floor_continues_at_the_oldest(place: Place) -> None:
    """A cursor whose row is gone goes on with the oldest row that is kept, in each kind of stream."""
    store = place.open()
    await _aged(place, store, 5, 2)
    old = {stream: (await store.read(ReadRequest(stream, limit=2))).end for stream in (RESOURCE, ORG, SUBJECT)}
    await store.expire(place.clock.now)
    for stream, cursor in old.items():
        assert ids((await store.read(ReadRequest(stream, cursor=cursor))).rows) == ["new 0", "new 1"]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("scan", [1, 5, 1_000])
async def test_a_filtered_reader_behind_the_floor_is_not_stuck(place: Place, scan: int, before: bool) -> None:  # noqa: FBT001
    """Where a request looks at fewer rows than were removed, and all in the segment of the head, it goes on too."""
    store = place.open()
    await _aged(place, store, 20, 2)
    cursor = (await page_after(store, limit=2)).end
    await store.expire(place.clock.now)
    start = Cursor(cursor.position, cursor.proof, before)
    request = ReadRequest(RESOURCE, start, filters=Filters(types=("app.%",)), scan=scan)
    assert ids(await walk(store, request)) == ["new 0", "new 1"]


async def test_a_process_that_was_away_for_longer_than_the_retention_leads_readers_on(place: Place) -> None:
    """What a process once saw in a segment may be gone with all of that segment."""
    away, busy = place.open(segment_size=5), place.open(segment_size=5)
    await busy.append(events(3))
    cursor = (await page_after(away, limit=1)).end
    await page_after(away)
    await _aged(place, busy, 9, 1)
    await busy.expire(place.clock.now)
    assert ids((await page_after(away, cursor)).rows) == ["new 0"]


async def test_a_head_is_found_whatever_a_checkpoint_says(place: Place) -> None:
    """A checkpoint of before a restore leads nobody past the placeholder that is left of a stream."""
    store = place.open(segment_size=5)
    await _aged(place, store, 10, 0)
    assert await store.expire(place.clock.now) == 10
    checkpoint = await store.checkpoints.checkpoint(RESOURCE)
    await store.checkpoints.advance(RESOURCE, checkpoint, 700, catch_up_pending=False, quarantined=[])
    await place.open(segment_size=5).append([event()])
    assert positions(await place.documents()) == [10, 11]


async def _texts(place: Place) -> str:
    return str([await place.documents(stream) for stream in (RESOURCE, ORG, SUBJECT, Stream.of_subject(PERSON))])


@pytest.mark.parametrize("followed", [True, False])
async def test_erasing_reaches_every_projection(place: Place, followed: bool) -> None:  # noqa: FBT001 - a parameter
    """Whether it was projected before or is projected later: nothing that the event said is left anywhere."""
    store = place.open()
    secret = event("a", subject=PERSON, alternativesubject=PERSON, resourceinstance="1/2", data="secret")
    await store.append([event("before"), secret, event("after")])
    if followed:
        await follow(store)
    assert await store.erase(APP, secret.source, "a")
    await follow(store)
    texts = await _texts(place)
    assert not any(each in texts for each in ("secret", PERSON, "1/2"))
    tombstones = [row for row in await everything(store, ORG) if row.json is None]
    assert ids(tombstones) == ["a"]


async def test_a_projector_that_read_the_event_before_writes_it_nowhere(place: Place) -> None:
    """What was read before the erasure and is projected after it finds the tombstone in its place."""
    store = place.open()
    await store.append([event("a", data="secret")])
    rows = await store.checkpoints.read_after(RESOURCE, 0, 10)
    assert await store.erase(APP, event().source, "a")
    for target in (ORG, SUBJECT):
        await store.projection.project(target, rows)
    assert "secret" not in await _texts(place)


async def test_erasing_completes_what_another_call_left(place: Place) -> None:
    """A call that ended midway is completed by the next one."""
    store = place.open()
    await store.append([event("a", data="secret")])
    await follow(store)
    await place.inject(Fault("replace", "streams", status=503, skip=1))
    with pytest.raises(EventsError):
        await store.erase(APP, event().source, "a")
    assert "secret" in await _texts(place)
    assert await store.erase(APP, event().source, "a")
    assert "secret" not in await _texts(place)


async def test_an_event_whose_original_has_expired_is_erased_where_it_still_stands(place: Place) -> None:
    """What entered its subject's stream later stays there longer, and is erased all the same."""
    store = place.open()
    await store.append([event("a", data="secret"), event("b")])
    place.clock.now += SECOND
    await follow(store)
    assert await store.expire(place.clock.now) == 2
    assert "secret" in await _texts(place)
    assert await store.erase(APP, event().source, "a")
    assert "secret" not in await _texts(place)


async def test_erasing_again_keeps_a_late_projector_out_of_a_persons_stream(place: Place) -> None:
    """A call that ended midway has not forgotten whose stream the event is on its way to."""
    store = place.open(deadline=0.5)
    secret = event("a", subject=PERSON, data="secret")
    await store.append([secret])
    rows = await store.checkpoints.read_after(RESOURCE, 0, 10)
    await place.inject(Fault("create", "streams", database=place.database, status=503, times=1_000))
    with pytest.raises(EventsError):
        await store.erase(APP, secret.source, "a")
    await place.server.heal()
    assert await store.erase(APP, secret.source, "a")
    for target in (ORG, Stream.of_subject(PERSON)):
        await store.projection.project(target, rows)
    assert "secret" not in await _texts(place)


async def test_what_is_projected_while_it_is_erased_is_erased(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when its projector is done, checkpoint and all, before the first tombstone is written."""
    store, projector = place.open(), place.open()
    await store.append([event("a", data="secret")])
    replace = store._database.replace

    async def replace_late(*arguments: Any) -> bool:
        monkeypatch.undo()
        await follow(projector)
        return await replace(*arguments)

    monkeypatch.setattr(store._database, "replace", replace_late)
    assert await store.erase(APP, event().source, "a")
    assert "secret" not in await _texts(place)


async def test_what_is_parked_and_replayed_while_it_is_erased_is_erased(place: Place) -> None:
    """Who replays it has read it before, and finds the tombstone in its place."""
    store = place.open()
    await store.append([event("a", data="secret")])
    rows = await store.checkpoints.read_after(RESOURCE, 0, 10)
    await store.projection.project(ORG, rows)
    checkpoint, quarantined = (
        await store.checkpoints.checkpoint(RESOURCE),
        [Quarantined("projection", SUBJECT.name, 1, "ValueError")],
    )
    await store.checkpoints.advance(RESOURCE, checkpoint, 1, catch_up_pending=False, quarantined=quarantined)
    assert await store.erase(APP, event().source, "a")
    await store.projection.project(SUBJECT, rows)
    assert "secret" not in await _texts(place)


async def test_a_stream_that_refuses_even_the_tombstone_holds_up_no_erasure(place: Place) -> None:
    """The event itself is erased, and cannot come where its tombstone could not."""
    store = place.open()
    await store.append([event("a", data="secret")])
    await place.inject(Fault("create", "streams", database=place.database, status=400, times=2))
    assert await store.erase(APP, event().source, "a")
    assert "secret" not in await _texts(place)


async def test_registration_never_decreases_over_retention(place: Place) -> None:
    """A clock that steps back after everything expired registers no event earlier than the one that is gone."""
    store = place.open()
    await _aged(place, store, 1, 0)
    await store.expire(place.clock.now)
    newest = (await place.documents())[0]["registered"]
    place.clock.now -= 100 * SECOND
    await place.open().append([event()])
    assert [each["registered"] for each in await place.documents()] == [newest, newest]
