"""Retention and erasure on Cosmos DB: floors, placeholders and tombstones, in projected streams too."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from events_core.adapters.cosmos import CosmosEventStore
from events_core.common.errors import EventsError
from events_core.feeds.ports import Quarantined, ReadRequest
from events_core.feeds.stream import START, Cursor, Filters, Stream
from tests.adapters.cosmos.database import RESOURCE, Database, follow, page_after, positions
from tests.contract.event_store import APP, PARTY, PERSON, SECOND, event, events, everything, ids, walk
from tests.support.cosmos import Fault

ORG = Stream.of_org("ttd")
SUBJECT = Stream.of_subject(PARTY)


async def _aged(database: Database, store: CosmosEventStore, old: int, new: int) -> None:
    """Append and follow up old events and then new ones. The clock stays at the time of the new ones."""
    await store.append([event(f"old {n}") for n in range(old)])
    await follow(store)
    database.clock.now += SECOND
    await store.append([event(f"new {n}") for n in range(new)])
    await follow(store)


async def test_the_floor_is_raised_an_hour_before_anything_is_deleted(database: Database) -> None:
    """Readers that began before may finish; a call after the gap deletes."""
    store = database.open(retention_gap=3_600)
    await _aged(database, store, 3, 2)
    assert await store.expire(database.clock.now) == 0
    assert await store.expire(database.clock.now) == 0
    assert len(await database.documents()) == 5
    assert (await database.open(retention_gap=0).expire(database.clock.now)) == 3
    assert positions(await database.documents()) == [4, 5]


async def test_the_floor_never_passes_the_checkpoint(database: Database) -> None:
    """Events that were not followed up are kept, however old they are."""
    store = database.open()
    await store.append(events(2))
    await follow(store)
    await store.append([event("not followed")])
    database.clock.now += SECOND
    assert await store.expire(database.clock.now) == 2
    assert ids(await everything(store)) == ["not followed"]


async def test_a_placeholder_keeps_the_newest_position(database: Database) -> None:
    """It holds nothing of the event, and goes once a newer document expires."""
    store = database.open()
    await _aged(database, store, 3, 0)
    assert await store.expire(database.clock.now) == 3
    (document,) = await database.documents()
    left = {name: value for name, value in document.items() if name[0] != "_"}
    assert left.pop("ukey") not in {"", None}
    assert left == {
        "id": f"{3:020}",
        "partition": f"{RESOURCE.name}|00000000",
        "stream": RESOURCE.name,
        "seq": 3,
        "registered": database.clock.now - SECOND,
        "placeholder": True,
    }
    await store.append([event("next")])
    await follow(store)
    database.clock.now += SECOND
    await store.append([event("after")])
    await follow(store)
    assert await store.expire(database.clock.now) == 1
    assert positions(await database.documents()) == [5]


async def test_projected_streams_expire_by_their_own_times(database: Database) -> None:
    """Rows of subject and org streams expire by the time of their projection, and are not counted."""
    store = database.open()
    await _aged(database, store, 4, 1)
    assert await store.expire(database.clock.now) == 4
    for stream in (ORG, SUBJECT):
        assert positions(await database.documents(stream)) == [5]
        assert ids(await everything(store, stream)) == ["new 0"]


async def test_reading_and_appending_go_past_removed_segments(database: Database) -> None:
    """Pages, heads, times and appends skip segments that retention has emptied."""
    store = database.open(segment_size=5)
    await _aged(database, store, 20, 4)
    cursor = (await page_after(store, limit=7)).end
    assert await store.expire(database.clock.now) == 20
    for reader in (store, database.open(segment_size=5)):
        for start in (START, cursor):
            assert [row.position for row in (await page_after(reader, start)).rows] == [21, 22, 23, 24]
        assert await reader.head(RESOURCE) == 24
        request = ReadRequest(RESOURCE, registered_from=database.clock.now)
        assert [row.position for row in (await reader.read(request)).rows] == [21, 22, 23, 24]
        rows = (await reader.checkpoints.read_after(RESOURCE, 3, 10)).rows
        assert [row.position for row in rows] == [21, 22, 23, 24]
    await store.append([event()])
    assert positions(await database.documents())[-1] == 25


async def test_two_processes_may_remove_at_once(database: Database) -> None:
    """The second process finds the documents deleted."""
    stores = [database.open(segment_size=30), database.open(segment_size=30)]
    await _aged(database, stores[0], 100, 1)
    await asyncio.gather(*(store.expire(database.clock.now) for store in stores))
    assert positions(await database.documents()) == [101]
    assert ids(await everything(stores[1])) == ["new 0"]


async def test_a_reader_behind_the_floor_continues_at_the_oldest(database: Database) -> None:
    """In each kind of stream a cursor whose row is gone continues with the oldest kept row."""
    store = database.open()
    await _aged(database, store, 5, 2)
    old = {stream: (await store.read(ReadRequest(stream, limit=2))).end for stream in (RESOURCE, ORG, SUBJECT)}
    await store.expire(database.clock.now)
    for stream, cursor in old.items():
        assert ids((await store.read(ReadRequest(stream, cursor=cursor))).rows) == ["new 0", "new 1"]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("scan", [1, 5, 1_000])
async def test_a_filtered_reader_behind_the_floor_is_not_stuck(database: Database, scan: int, before: bool) -> None:  # noqa: FBT001
    """Also if a request looks at fewer rows than were removed, all in the segment of the head."""
    store = database.open()
    await _aged(database, store, 20, 2)
    cursor = (await page_after(store, limit=2)).end
    await store.expire(database.clock.now)
    start = Cursor(cursor.position, cursor.proof, before)
    request = ReadRequest(RESOURCE, start, filters=Filters(types=("app.%",)), scan=scan)
    assert ids(await walk(store, request)) == ["new 0", "new 1"]


async def test_a_process_whose_known_segment_is_gone_leads_readers_on(database: Database) -> None:
    """Retention has removed the whole segment that held the head when this process last looked."""
    away, busy = database.open(segment_size=5), database.open(segment_size=5)
    await busy.append(events(3))
    cursor = (await page_after(away, limit=1)).end
    await page_after(away)
    await _aged(database, busy, 9, 1)
    await busy.expire(database.clock.now)
    assert ids((await page_after(away, cursor)).rows) == ["new 0"]


async def test_a_checkpoint_beyond_the_stream_does_not_hide_the_head(database: Database) -> None:
    """After a restore a checkpoint may be beyond the placeholder that is left of a stream."""
    store = database.open(segment_size=5)
    await _aged(database, store, 10, 0)
    assert await store.expire(database.clock.now) == 10
    checkpoint = await store.checkpoints.checkpoint(RESOURCE)
    await store.checkpoints.advance(RESOURCE, checkpoint, {"projection": 700}, catch_up_pending=False, quarantined=[])
    await database.open(segment_size=5).append([event()])
    assert positions(await database.documents()) == [10, 11]


async def _texts(database: Database) -> str:
    return str([await database.documents(stream) for stream in (RESOURCE, ORG, SUBJECT, Stream.of_subject(PERSON))])


@pytest.mark.parametrize("followed", [True, False])
async def test_erasing_reaches_every_projection(database: Database, followed: bool) -> None:  # noqa: FBT001 - a parameter
    """Whether the event is projected before or after: no stream holds its content."""
    store = database.open()
    secret = event("a", subject=PERSON, alternativesubject=PERSON, resourceinstance="1/2", data="secret")
    await store.append([event("before"), secret, event("after")])
    if followed:
        await follow(store)
    assert await store.erase(APP, secret.source, "a")
    await follow(store)
    texts = await _texts(database)
    assert not any(text in texts for text in ("secret", PERSON, "1/2"))
    tombstones = [row for row in await everything(store, ORG) if row.json is None]
    assert ids(tombstones) == ["a"]


async def test_an_event_read_before_its_erasure_is_not_projected_after_it(database: Database) -> None:
    """The tombstone has taken its unique key in every target."""
    store = database.open()
    await store.append([event("a", data="secret")])
    rows = (await store.checkpoints.read_after(RESOURCE, 0, 10)).rows
    assert await store.erase(APP, event().source, "a")
    for target in (ORG, SUBJECT):
        await store.projection.project(target, rows)
    assert "secret" not in await _texts(database)


async def test_erasing_again_completes_an_interrupted_erasure(database: Database) -> None:
    """The second call replaces the copies that the first one did not reach."""
    store = database.open()
    await store.append([event("a", data="secret")])
    await follow(store)
    await database.inject(Fault("replace", "streams", status=503, skip=1))
    with pytest.raises(EventsError):
        await store.erase(APP, event().source, "a")
    assert "secret" in await _texts(database)
    assert await store.erase(APP, event().source, "a")
    assert "secret" not in await _texts(database)


async def test_copies_are_erased_though_the_original_has_expired(database: Database) -> None:
    """A subject's stream keeps an event longer if it was projected later."""
    store = database.open()
    await store.append([event("a", data="secret"), event("b")])
    database.clock.now += SECOND
    await follow(store)
    assert await store.expire(database.clock.now) == 2
    assert "secret" in await _texts(database)
    assert await store.erase(APP, event().source, "a")
    assert "secret" not in await _texts(database)


async def test_erasing_again_still_knows_the_persons_stream(database: Database) -> None:
    """An interrupted call keeps the original, which names the stream that the event may still be projected to."""
    store = database.open(deadline=0.5)
    secret = event("a", subject=PERSON, data="secret")
    await store.append([secret])
    rows = (await store.checkpoints.read_after(RESOURCE, 0, 10)).rows
    await database.inject(Fault("create", "streams", database=database.name, status=503, times=1_000))
    with pytest.raises(EventsError):
        await store.erase(APP, secret.source, "a")
    await database.server.heal()
    assert await store.erase(APP, secret.source, "a")
    for target in (ORG, Stream.of_subject(PERSON)):
        await store.projection.project(target, rows)
    assert "secret" not in await _texts(database)


async def test_an_event_projected_during_its_erasure_is_erased(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if its checkpoint moves before the first tombstone is written."""
    store, projector = database.open(), database.open()
    await store.append([event("a", data="secret")])
    replace = store._database.replace

    async def replace_late(*arguments: Any) -> None:
        monkeypatch.undo()
        await follow(projector)
        await replace(*arguments)

    monkeypatch.setattr(store._database, "replace", replace_late)
    assert await store.erase(APP, event().source, "a")
    assert "secret" not in await _texts(database)


async def test_a_quarantined_event_replayed_after_its_erasure_is_not_projected(database: Database) -> None:
    """The replay has read the event before, and finds the tombstone in its target."""
    store = database.open()
    await store.append([event("a", data="secret")])
    rows = (await store.checkpoints.read_after(RESOURCE, 0, 10)).rows
    await store.projection.project(ORG, rows)
    checkpoint, quarantined = (
        await store.checkpoints.checkpoint(RESOURCE),
        [Quarantined("projection", SUBJECT.name, 1, "ValueError")],
    )
    await store.checkpoints.advance(
        RESOURCE, checkpoint, {"projection": 1}, catch_up_pending=False, quarantined=quarantined
    )
    assert await store.erase(APP, event().source, "a")
    await store.projection.project(SUBJECT, rows)
    assert "secret" not in await _texts(database)


async def test_a_stream_that_refuses_the_tombstone_does_not_stop_the_erasure(database: Database) -> None:
    """A stream that refuses the tombstone refuses the event too."""
    store = database.open()
    await store.append([event("a", data="secret")])
    await database.inject(Fault("create", "streams", database=database.name, status=400, times=2))
    assert await store.erase(APP, event().source, "a")
    assert "secret" not in await _texts(database)


async def test_registration_never_decreases_over_retention(database: Database) -> None:
    """The placeholder keeps the newest time of registration, so a clock that steps back does no harm."""
    store = database.open()
    await _aged(database, store, 1, 0)
    await store.expire(database.clock.now)
    newest = (await database.documents())[0]["registered"]
    database.clock.now -= 100 * SECOND
    await database.open().append([event()])
    assert [document["registered"] for document in await database.documents()] == [newest, newest]
