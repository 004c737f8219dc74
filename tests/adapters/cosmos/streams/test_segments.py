"""Segments: positions go on over them, keys are known beyond them, heads are found in them."""

from __future__ import annotations

import asyncio

import pytest

from events_core.adapters.cosmos.streams.duplicates import ASKED_ENOUGH
from tests.adapters.cosmos.place import RESOURCE, Place, page_after, positions
from tests.contract.event_store import SECOND, event, events, everything, ids

HOUR = 3_600 * SECOND


async def test_positions_go_on_over_segments(place: Place) -> None:
    """A batch that does not fit into its segment is continued in the next one, in order and without a gap."""
    store = place.open(segment_size=10)
    batch = events(37)
    await store.append(batch)
    documents = await place.documents()
    assert positions(documents) == list(range(1, 38))
    assert [str(each["partition"])[-8:] for each in documents] == [f"{n // 10:08}" for n in range(37)]
    assert ids(await everything(store)) == ids(batch)


async def test_events_of_the_previous_segment_are_recognised(place: Place) -> None:
    """An event that comes again after its segment was closed is a duplicate at its own place."""
    store = place.open(segment_size=10)
    outcomes = await store.append([event(f"{n}") for n in range(10)])
    again = await store.append([event("3"), event("new")])
    assert [outcome.duplicate for outcome in again] == [True, False]
    assert again[0].cursor == outcomes[3].cursor


async def test_events_of_the_last_hour_are_recognised_in_any_segment(place: Place) -> None:
    """However many segments were closed since, an event is known for an hour."""
    store = place.open(segment_size=10)
    await store.append([event(f"{n}") for n in range(65)])
    place.clock.now += HOUR - 1
    assert [outcome.duplicate for outcome in await store.append([event(f"{n}") for n in range(65)])] == [True] * 65


async def test_later_only_the_previous_segment_is_asked(place: Place) -> None:
    """After an hour an event is known as long as its segment is the previous one."""
    store = place.open(segment_size=10)
    await store.append([event(f"{n}") for n in range(25)])
    place.clock.now += HOUR
    outcomes = await store.append([event("5"), event("15")])
    assert [outcome.duplicate for outcome in outcomes] == [False, True]


async def test_publishing_after_a_segment_was_closed_is_two_requests(place: Place) -> None:
    """The keys are asked for once a group, in one request however many segments that takes."""
    store = place.open(segment_size=10)
    for closed in (1, 3):
        await store.append(events(closed * 10 + 1 - len(await place.documents())))
        await store.append([event()])
        await place.counts()
        await store.append([event()])
        assert await place.counts() == {"create": 1, "query": 1}


async def test_an_hour_later_publishing_is_one_request_again(place: Place) -> None:
    """The keys of the previous segment are learnt by heart, and its events recognised all the same."""
    store = place.open(segment_size=100)
    await store.append([event(f"{n}") for n in range(120)])
    place.clock.now += HOUR
    for _ in range(ASKED_ENOUGH):
        await store.append([event()])
    await place.counts()
    await store.append([event()])
    assert await place.counts() == {"create": 1}
    outcomes = await store.append([event("99"), event("0"), event("new")])
    assert [outcome.duplicate for outcome in outcomes] == [True, True, False]


async def test_racing_over_a_boundary_repeats_nothing(place: Place) -> None:
    """The same events from four processes at once, over many boundaries: each is stored once."""
    stores = [place.open(segment_size=7) for _ in range(4)]
    some = [event(f"{n}") for n in range(60)]
    results = await asyncio.gather(
        *(store.append(some[start : start + 6]) for start in range(0, 60, 6) for store in stores)
    )
    documents = await place.documents()
    assert positions(documents) == list(range(1, 61))
    assert len({each["eventId"] for each in documents}) == 60
    assert [outcome.duplicate for outcomes in results for outcome in outcomes].count(False) == 60


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 20, 35, 100, 110])
async def test_a_cold_head_is_found(place: Place, count: int) -> None:
    """A process that knows nothing finds the newest document, whether segments are full or not."""
    if count:
        await place.open(segment_size=10).append(events(count))
    assert await place.open(segment_size=10).head(RESOURCE) == count


async def test_a_cold_head_costs_no_walk(place: Place) -> None:
    """Finding the head takes about twice the logarithm of the segments, and with a checkpoint next to nothing."""
    store = place.open(segment_size=4)
    await store.append(events(4 * 60 + 1))
    cold = place.open(segment_size=4)
    await cold.ping()
    await place.counts()
    assert await cold.head(RESOURCE) == 241
    assert (await place.counts())["query"] <= 2 + 2 * 6
    checkpoint = await store.checkpoints.checkpoint(RESOURCE)
    await store.checkpoints.advance(RESOURCE, checkpoint, 239, catch_up_pending=False, quarantined=[])
    another = place.open(segment_size=4)
    await another.ping()
    await place.counts()
    assert await another.head(RESOURCE) == 241
    assert sum((await place.counts()).values()) <= 4


async def test_a_warm_head_is_not_asked_for(place: Place) -> None:
    """For a minute after it was learnt the head costs publishers nothing; then it is asked once."""
    now = 0.0
    store = place.open()
    store._heads._clock = lambda: now
    await store.append([event()])
    await place.counts()
    for now, requests in ((59.0, {"create": 1}), (120.0, {"create": 1, "query": 1})):  # noqa: B007 - the clock's time
        await store.append([event()])
        assert await place.counts() == requests


@pytest.mark.parametrize("size", [1, 3, 10, 25, 1000])
async def test_pages_go_over_segments(place: Place, size: int) -> None:
    """Walks of any page size over any boundary read every row once, in order."""
    store = place.open(segment_size=10)
    await store.append(events(45))
    seen, chunk = [], await page_after(store, limit=size)
    while True:
        seen += [row.position for row in chunk.rows]
        if chunk.caught_up:
            break
        chunk = await page_after(store, chunk.end, limit=size)
    assert seen == list(range(1, 46))
