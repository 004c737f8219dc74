"""Retention on Cosmos DB: documents expire by themselves, no position is used twice, and readers meet no hole."""

from __future__ import annotations

import asyncio

import pytest

from events_core.adapters.cosmos import CosmosEventStore
from events_core.feeds.ports import ReadRequest
from events_core.feeds.stream import START, Cursor, Filters, Stream
from tests.adapters.cosmos.database import RESOURCE, Database, follow, page_after, positions
from tests.contract.event_store import PARTY, SECOND, event, events, everything, ids, walk

ORG = Stream.of_org("ttd")
SUBJECT = Stream.of_subject(PARTY)
BLOCK = 1_024


async def _aged(database: Database, store: CosmosEventStore, old: int, new: int, days: float = 90.5) -> None:
    """Append and follow up old events, and new ones some days later."""
    await store.append([event(f"old {n}") for n in range(old)])
    await follow(store)
    await database.advance(days)
    await store.append([event(f"new {n}") for n in range(new)])
    await follow(store)


async def test_a_document_outlives_its_visibility_by_a_day(database: Database) -> None:
    """What a reader may see cannot expire while it reads."""
    store = database.open()
    await store.append(events(3))
    for days, seen, kept in ((89.9, 3, 3), (0.2, 0, 3), (0.8, 0, 3), (0.2, 0, 0)):
        await database.advance(days)
        assert len(await everything(store)) == seen
        assert len(await database.documents()) == kept
        assert await store.head(RESOURCE) == seen


async def test_an_invisible_event_is_found_in_no_way(database: Database) -> None:
    """By position, id, time, filter or cursor."""
    store = database.open()
    await _aged(database, store, 2, 0)
    assert await store.at(RESOURCE, [1, 2]) == []
    assert await store.find(None, "old 1") == []
    for request in (
        ReadRequest(RESOURCE, event_id="old 0"),
        ReadRequest(RESOURCE, registered_from=1),
        ReadRequest(RESOURCE, registered_to=database.clock.now),
        ReadRequest(RESOURCE, filters=Filters(types=("app.%",))),
    ):
        assert (await store.read(request)).rows == []


async def test_no_position_is_used_twice(database: Database) -> None:
    """A stream of which nothing is left goes on after its bound, in every kind of stream and from any process."""
    store = database.open()
    await _aged(database, store, 3, 0, days=92)
    assert await database.documents() == []
    await database.open().append([event("a")])
    await follow(store)
    for stream in (RESOURCE, ORG, SUBJECT):
        assert positions(await database.rows(stream)) == [BLOCK + 1]
        assert ids(await everything(database.open(), stream)) == ["a"]
    await store.append([event("b")])
    assert positions(await database.rows()) == [BLOCK + 1, BLOCK + 2]


async def test_the_newest_document_may_expire_before_the_one_before_it(database: Database) -> None:
    """Times to live count whole seconds, by the clocks of several machines."""
    store = database.open()
    await _aged(database, store, 3, 0)
    await database.remove(3)
    other = database.open()
    await other.append([event("a")])
    assert ids(await everything(other)) == ["a"]
    visible = (await everything(other))[0]
    assert visible.position == BLOCK + 1


@pytest.mark.parametrize("first", [0, 1])
async def test_two_writers_at_the_end_of_a_streams_visibility_agree(database: Database, first: int) -> None:
    """To one the head is visible and to the other it is not: the next position decides."""
    slow, fast = database.open(), database.open(clock=lambda: database.clock.now + 120 * SECOND)
    await slow.append(events(3))
    await database.advance(90 - 60 / 86_400)  # a minute before the end
    order = [slow, fast] if first else [fast, slow]
    await order[0].append([event("a")])
    await order[1].append([event("b")])
    await asyncio.gather(*(store.append([event(f"{n}")]) for n, store in enumerate([slow, fast, slow, fast])))
    await database.advance(1 / 24)
    read = ids(await everything(database.open()))
    assert read[:2] == ["a", "b"]
    assert sorted(read[2:]) == ["0", "1", "2", "3"]


async def test_a_new_stream_begins_at_one_for_every_writer(database: Database) -> None:
    """One process has reserved positions, and has used none of them yet."""
    stores = [database.open() for _ in range(4)]
    await asyncio.gather(*(store.append([event()]) for store in stores))
    assert positions(await database.documents()) == [1, 2, 3, 4]


async def test_a_position_is_reserved_before_it_is_used(database: Database) -> None:
    """One request for 1,024 positions."""
    store = database.open()
    await store.append([event()])
    await database.counts()
    for _ in range(13):
        await store.append(events(100))
    assert await database.counts() == {"batch": 13, "patch": 1}
    bounds = await store._states.bounds("resource:urn:altinn:resource:app_ttd_apps-test")
    assert bounds.reserved >= 1_301


async def test_a_reader_behind_the_floor_continues_at_the_oldest(database: Database) -> None:
    """In each kind of stream a cursor whose row is not visible any more continues with the oldest visible row."""
    store = database.open()
    await store.append([event("old")])
    await follow(store)
    await database.advance(50)
    await _aged(database, store, 5, 2, days=41)
    for stream in (RESOURCE, ORG, SUBJECT):
        old = store._proof.cursor((await database.documents(stream))[0])
        assert ids((await store.read(ReadRequest(stream, cursor=old))).rows)[0] == "old 0"


async def test_a_reader_in_the_middle_meets_no_hole_while_the_beginning_expires(database: Database) -> None:
    """Each page is read later than the one before, and at last the cursor's own row has expired."""
    store = database.open(segment_size=10)
    for n in range(40):
        await store.append([event(f"{n}")])
        await database.advance(1)
    cursor, read = START, []
    for _ in range(13):
        page = await page_after(store, cursor, limit=3)
        cursor = page.end
        read += [int(row.id) for row in page.rows]
        await database.advance(7)
    assert read == list(range(39))


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("scan", [1, 5, 1_000])
async def test_a_filtered_reader_behind_the_floor_is_not_stuck(database: Database, scan: int, before: bool) -> None:  # noqa: FBT001
    """Also if a request looks at fewer rows than are gone."""
    store = database.open()
    await _aged(database, store, 20, 2)
    gone = store._proof.cursor((await database.documents())[2])
    start = Cursor(gone.position, gone.proof, before)
    request = ReadRequest(RESOURCE, start, filters=Filters(types=("app.%",)), scan=scan)
    assert ids(await walk(store, request)) == ["new 0", "new 1"]


@pytest.mark.parametrize("size", [5, 10, 1_000])
async def test_a_process_whose_known_segment_is_gone_leads_readers_on(database: Database, size: int) -> None:
    """Everything that this process knew has expired."""
    away, busy = database.open(segment_size=size), database.open(segment_size=size)
    await busy.append(events(3))
    cursor = (await page_after(away, limit=1)).end
    await page_after(away)
    await _aged(database, busy, 9, 1, days=95)
    assert ids((await page_after(away, cursor)).rows) == ["new 0"]
    assert ids((await page_after(away)).rows) == ["new 0"]
    await away.append([event("newer")])
    assert ids(await everything(busy)) == ["new 0", "newer"]


async def test_a_follower_goes_on_after_what_has_expired(database: Database) -> None:
    """It cannot follow what is gone, and must not wait for it."""
    store = database.open()
    await store.append(events(3))
    await _aged(database, store, 0, 0, days=95)
    await store.append([event("a"), event("b")])
    await follow(store)
    assert ids(await everything(store, SUBJECT)) == ["a", "b"]


async def test_a_quiet_stream_goes_on_for_many_rounds(database: Database) -> None:
    """Each time after everything has expired."""
    for n in range(5):
        store = database.open(segment_size=100)
        await store.append([event(f"{n}")])
        assert ids(await everything(database.open(segment_size=100))) == [f"{n}"]
        await database.advance(120)


async def test_a_feed_without_visible_events_costs_few_requests(database: Database) -> None:
    """Most parties have no recent event."""
    store = database.open()
    await _aged(database, store, 3, 0)
    end = (await page_after(store)).end
    await database.counts()
    assert (await page_after(store, end)).rows == []
    assert sum((await database.counts()).values()) <= 4
