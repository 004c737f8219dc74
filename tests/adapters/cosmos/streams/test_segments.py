"""Segments: positions continue over them, and duplicates and heads are found in them."""

from __future__ import annotations

import asyncio

import pytest

from tests.adapters.cosmos.database import RESOURCE, Database, page_after, positions
from tests.contract.event_store import SECOND, event, events, everything, ids

HOUR = 3_600 * SECOND


async def test_positions_continue_over_segments(database: Database) -> None:
    """A batch that does not fit into its segment continues in the next one, in order and without a gap."""
    store = database.open(segment_size=10)
    batch = events(37)
    await store.append(batch)
    documents = await database.documents()
    assert positions(documents) == list(range(1, 38))
    assert [str(document["partition"])[-8:] for document in documents] == [f"{n // 10:08}" for n in range(37)]
    assert ids(await everything(store)) == ids(batch)


async def test_duplicates_in_the_previous_segment_are_recognised(database: Database) -> None:
    """An event that comes again after its segment was closed gets its first position's cursor."""
    store = database.open(segment_size=10)
    outcomes = await store.append([event(f"{n}") for n in range(10)])
    again = await store.append([event("3"), event("new")])
    assert [outcome.duplicate for outcome in again] == [True, False]
    assert again[0].cursor == outcomes[3].cursor


async def test_duplicates_are_recognised_for_an_hour_in_any_segment(database: Database) -> None:
    """However many segments were closed since."""
    store = database.open(segment_size=10)
    await store.append([event(f"{n}") for n in range(65)])
    database.clock.now += HOUR - 1
    assert [outcome.duplicate for outcome in await store.append([event(f"{n}") for n in range(65)])] == [True] * 65


async def test_after_an_hour_only_the_previous_segment_is_searched(database: Database) -> None:
    """An event of an older segment is stored again."""
    store = database.open(segment_size=10)
    await store.append([event(f"{n}") for n in range(25)])
    database.clock.now += HOUR
    outcomes = await store.append([event("5"), event("15")])
    assert [outcome.duplicate for outcome in outcomes] == [False, True]


async def test_publishing_after_a_segment_was_closed_is_two_requests(database: Database) -> None:
    """One query per group searches any number of closed segments."""
    store = database.open(segment_size=10)
    for closed in (1, 3):
        await store.append(events(closed * 10 + 1 - len(await database.documents())))
        await store.append([event()])
        await database.counts()
        await store.append([event()])
        assert await database.counts() == {"create": 1, "query": 1}


async def test_the_keys_of_a_segment_are_asked_by_the_events_keys_for_ever(database: Database) -> None:
    """An hour after the segment closed and later: one query a group, of the keys of its events alone."""
    store = database.open(segment_size=100)
    await store.append([event(f"{n}") for n in range(120)])
    database.clock.now += HOUR
    await store.append([event()])
    await database.counts()
    for _ in range(30):
        await store.append([event()])
    assert await database.counts() == {"create": 30, "query": 30}
    outcomes = await store.append([event("99"), event("0"), event("new")])
    assert [outcome.duplicate for outcome in outcomes] == [True, True, False]


async def test_races_over_a_segment_boundary_store_each_event_once(database: Database) -> None:
    """Four processes publish the same events at once, over many boundaries."""
    stores = [database.open(segment_size=7) for _ in range(4)]
    batch = [event(f"{n}") for n in range(60)]
    results = await asyncio.gather(
        *(store.append(batch[start : start + 6]) for start in range(0, 60, 6) for store in stores)
    )
    documents = await database.documents()
    assert positions(documents) == list(range(1, 61))
    assert len({document["eventId"] for document in documents}) == 60
    assert [outcome.duplicate for outcomes in results for outcome in outcomes].count(False) == 60


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 20, 35, 100, 110])
async def test_a_cold_head_is_found(database: Database, count: int) -> None:
    """A process that knows nothing finds the newest document, whether segments are full or not."""
    if count:
        await database.open(segment_size=10).append(events(count))
    assert await database.open(segment_size=10).head(RESOURCE) == count


async def test_a_cold_head_is_found_at_the_bound_of_positions(database: Database) -> None:
    """The bound and at most three documents are read, however long the stream is."""
    await database.open(segment_size=4).append(events(4 * 60 + 1))
    cold = database.open(segment_size=4)
    await cold.ping()
    await database.counts()
    assert await cold.head(RESOURCE) == 241
    assert sum((await database.counts()).values()) <= 4


async def test_a_head_beyond_its_bound_is_found(database: Database) -> None:
    """After a restore the bound may be behind the stream."""
    store = database.open(segment_size=4)
    await store.append(events(30))
    await database.container("cursors").patch_item(
        "resource:urn:altinn:resource:app_ttd_apps-test",
        "resource:urn:altinn:resource:app_ttd_apps-test",
        [{"op": "set", "path": "/reserved", "value": 9}],
    )
    other = database.open(segment_size=4)
    assert await other.head(RESOURCE) == 30
    await other.append(events(10))
    assert positions(await database.documents()) == list(range(1, 41))


async def test_a_warm_head_costs_no_request(database: Database) -> None:
    """For a minute the head costs publishers nothing; then one query."""
    now = 0.0
    store = database.open()
    store._heads._clock = lambda: now
    await store.append([event()])
    await database.counts()
    for now, requests in ((59.0, {"create": 1}), (120.0, {"create": 1, "query": 1})):  # noqa: B007 - the clock's time
        await store.append([event()])
        assert await database.counts() == requests


@pytest.mark.parametrize("size", [1, 3, 10, 25, 1000])
async def test_pages_continue_over_segments(database: Database, size: int) -> None:
    """Walks of any page size read every row once, in order."""
    store = database.open(segment_size=10)
    await store.append(events(45))
    seen, chunk = [], await page_after(store, limit=size)
    while True:
        seen += [row.position for row in chunk.rows]
        if chunk.caught_up:
            break
        chunk = await page_after(store, chunk.end, limit=size)
    assert seen == list(range(1, 46))
