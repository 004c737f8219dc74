"""Reading from Cosmos DB: what each page costs, the proof of place, and holes."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from math import log2
from typing import Any

import pytest

from events_core.adapters.cosmos import CosmosEventStore
from events_core.adapters.cosmos.streams.filters import ALWAYS
from events_core.common.errors import EventsError, Problem
from events_core.feeds.ports import ReadRequest
from events_core.feeds.read import FeedReader
from events_core.feeds.stream import START, Cursor, Filters, Stream
from events_core.feeds.wait import WaitingReaders
from tests.adapters.cosmos.place import RESOURCE, Place, follow, page_after
from tests.contract.event_store import PARTY, SECOND, event, events, everything, ids, walk

ALL = Filters(types=("app.%",))
RARE = Filters(types=("rare",))


async def _reader(place: Place, count: int, **options: Any) -> CosmosEventStore:
    """A store that has written nothing itself, over a stream of `count` events."""
    await place.open(**options).append(events(count))
    reader = place.open(**options)
    await reader.read(ReadRequest(RESOURCE, limit=1))
    await place.counts()
    return reader


async def _cost(place: Place) -> int:
    """The requests on documents since this was last asked."""
    return sum((await place.counts()).values())


async def _cursor(store: CosmosEventStore, place: Place, position: int) -> Cursor:
    """The place after a position."""
    cursor = (await page_after(store, limit=position)).end
    await place.counts()
    return cursor


@pytest.mark.parametrize(("after", "requests"), [(5, 1), (100, 1), (120, 1)])
async def test_a_page_by_next_is_one_request(place: Place, after: int, requests: int) -> None:
    """A page of 50 after a cursor is one request, also the last and the empty one."""
    reader = await _reader(place, 120)
    cursor = await _cursor(reader, place, after)
    chunk = await page_after(reader, cursor)
    assert await _cost(place) == requests
    assert [row.position for row in chunk.rows] == list(range(after + 1, min(after + 50, 120) + 1))


@pytest.mark.parametrize(("after", "count"), [(80, 120), (99, 120), (100, 120), (99, 100), (100, 100)])
async def test_a_page_over_a_boundary_is_two_requests(place: Place, after: int, count: int) -> None:
    """A page that needs two segments asks both; an empty one at the end of a segment looks for the next."""
    reader = await _reader(place, count, segment_size=100)
    cursor = await _cursor(reader, place, after)
    chunk = await page_after(reader, cursor)
    assert await _cost(place) == 2
    assert [row.position for row in chunk.rows] == list(range(after + 1, min(after + 50, count) + 1))
    assert chunk.caught_up == (after + 50 >= count)


async def test_an_empty_stream_is_at_most_two_requests(place: Place) -> None:
    """Who waits for the first event of a stream costs little."""
    store = place.open()
    await store.ping()
    await place.counts()
    await page_after(store)
    assert await _cost(place) <= 2


async def test_a_filtered_page_is_two_requests(place: Place) -> None:
    """The head is asked first, then the rows up to it; when the head is the reader's own place, that is all."""
    reader = await _reader(place, 60)
    cursor = await _cursor(reader, place, 5)
    for start, requests in ((START, 2), (cursor, 2)):
        await page_after(reader, start, filters=ALL)
        assert await _cost(place) == requests
    end = (await page_after(reader, cursor, filters=ALL, limit=100)).end
    await place.counts()
    assert (await page_after(reader, end, filters=ALL)).caught_up
    assert await _cost(place) == 1


async def test_a_rare_filter_looks_at_eight_segments(place: Place) -> None:
    """A page without a match ends after eight segments, says so, and goes on where it ended."""
    store = place.open(segment_size=10)
    await store.append([*events(199), event("rare", type="rare")])
    await place.counts()
    chunk = await page_after(store, filters=RARE)
    assert await _cost(place) <= 8 + 2
    assert (chunk.rows, chunk.end.position, chunk.caught_up) == ([], 80, False)
    assert ids(await walk(store, ReadRequest(RESOURCE, filters=RARE))) == ["rare"]


async def test_a_request_for_what_is_rare_looks_at_eight_segments_and_hands_out_next(place: Place) -> None:
    """As many rows as that are: the feed does not end its page before, nor go on after."""
    store = place.open(segment_size=10)
    await store.append([*events(199), event("rare", type="rare")])
    await place.counts()
    page = await FeedReader(store, WaitingReaders(store, 0)).read(ReadRequest(RESOURCE, filters=RARE), None)
    assert await _cost(place) <= 8 + 2
    assert (page.events, page.end.position, page.caught_up) == ([], 80, False)
    assert place.open().scan_rows == 8 * 32_768


async def test_a_bare_id_is_at_most_two_requests_more(place: Place) -> None:
    """An id is found by one request while there is one segment, else by one that asks everywhere."""
    store = place.open()
    await store.append([event(f"{n}") for n in range(6)])
    await place.counts()
    for event_id, rest in (("2", "345"), ("unknown", "012345")):
        chunk = await store.read(ReadRequest(RESOURCE, event_id=event_id))
        assert ids(chunk.rows) == list(rest)
        assert await _cost(place) <= 1 + 2


async def test_an_unknown_id_starts_at_the_floor_of_what_retention_has_left(place: Place) -> None:
    """Where the first event is gone the floor is asked for, and nothing is read from before it."""
    store = place.open()
    await store.append([event(f"{n}") for n in range(6)])
    await follow(store)
    place.clock.now += SECOND
    await store.append([event("6")])
    assert await store.expire(place.clock.now) == 6
    for filters, page in ((Filters(), 1), (ALL, 2)):
        await place.counts()
        assert ids((await store.read(ReadRequest(RESOURCE, event_id="unknown", filters=filters))).rows) == ["6"]
        assert await _cost(place) <= page + 2


@pytest.mark.parametrize("count", [1, 9, 10, 11, 35])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("event_id", "rows"), [("0", [2]), ("last", []), ("unknown", [1])])
async def test_any_bare_id_is_at_most_two_requests_more(
    place: Place,
    count: int,
    known: bool,  # noqa: FBT001 - a parameter
    event_id: str,
    rows: list[int],
) -> None:
    """However many segments there are, wherever the event stands, and whether or not the process knows the head."""
    await place.open(segment_size=10).append([*(event(f"{n}") for n in range(count)), event("last")])
    store = place.open(segment_size=10)
    await (store.head(RESOURCE) if known else store.ping())
    await place.counts()
    chunk = await store.read(ReadRequest(RESOURCE, event_id=event_id, limit=1))
    assert await _cost(place) <= 1 + 2
    assert [row.position for row in chunk.rows] == rows


async def test_an_id_beyond_the_segment_that_a_process_knows_is_found(place: Place) -> None:
    """A stream that has left its first segment since a process last saw it is asked as a whole."""
    store, busy = place.open(segment_size=10), place.open(segment_size=10)
    await busy.append(events(3))
    await store.head(RESOURCE)
    await busy.append([*events(9), event("a"), event("b")])
    assert ids((await store.read(ReadRequest(RESOURCE, event_id="a"))).rows) == ["b"]


async def test_a_bare_id_of_another_segment_is_at_most_two_requests_more(place: Place) -> None:
    """However many segments there are, an id is found at once, and an unknown one is no walk."""
    store = place.open(segment_size=10)
    await store.append([event(f"{n}") for n in range(95)])
    for event_id, first, requests in (("3", "4", 3), ("93", "94", 3), ("unknown", "0", 3)):
        await place.counts()
        chunk = await store.read(ReadRequest(RESOURCE, event_id=event_id, limit=1))
        assert ids(chunk.rows) == [first]
        assert await _cost(place) <= requests


@pytest.mark.parametrize("segments", [1, 4, 16])
async def test_a_moment_is_found_by_halving(place: Place, segments: int) -> None:
    """`from` takes at most three requests and the logarithm of the number of segments."""
    store = place.open(segment_size=5)
    began = place.clock.now
    for n in range(segments * 5 - 1):
        place.clock.now = began + n * SECOND
        await store.append([event(f"{n}")])
    checkpoint = await store.checkpoints.checkpoint(RESOURCE)
    await store.checkpoints.advance(RESOURCE, checkpoint, segments * 5 - 2, catch_up_pending=False, quarantined=[])
    reader = place.open(segment_size=5)
    await reader.ping()
    for n in (0, 2, segments * 5 // 2, segments * 5 - 2):
        await place.counts()
        chunk = await reader.read(ReadRequest(RESOURCE, registered_from=began + n * SECOND, limit=2))
        assert chunk.rows[0].id == f"{n}"
        over = 1 if chunk.rows[0].position % 5 in {0, 4} else 0  # the page itself goes over a boundary
        assert await _cost(place) <= 3 + log2(segments) + over


async def test_a_moment_of_a_stream_whose_head_is_unknown_is_found(place: Place) -> None:
    """Without a checkpoint the search goes on past what was known."""
    store = place.open(segment_size=4)
    began = place.clock.now
    for n in range(30):
        place.clock.now = began + n * SECOND
        await store.append([event(f"{n}")])
    for n in range(30):
        chunk = await place.open(segment_size=4).read(ReadRequest(RESOURCE, registered_from=began + n * SECOND))
        assert chunk.rows[0].id == f"{n}"


async def test_a_page_ends_at_a_hole(place: Place) -> None:
    """While a document is missing nothing beyond it is shown, and the reader goes on when it comes."""
    reader = await _reader(place, 9)
    missing = (await place.documents())[4]
    await place.remove(5)
    chunk = await page_after(reader)
    assert [row.position for row in chunk.rows] == [1, 2, 3, 4]
    chunk = await page_after(reader, chunk.end)
    assert (chunk.rows, chunk.caught_up) == ([], True)
    await place.container().create_item(missing)
    assert [row.position for row in (await page_after(reader, chunk.end)).rows] == [5, 6, 7, 8, 9]


async def test_an_old_hole_is_an_alert_and_503(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """What does not come in a minute is lost: the reader is told, never served an empty page."""
    await place.open().append(events(9))
    await place.remove(5)
    reader = place.open(hole=-5)
    chunk = await page_after(reader)
    with pytest.raises(EventsError) as caught:
        await page_after(reader, chunk.end)
    assert caught.value.problem is Problem.UNAVAILABLE
    assert "A stream has a hole" in caplog.messages


async def test_a_hole_at_a_boundary_is_a_hole(place: Place) -> None:
    """A segment whose first document is missing is not read."""
    reader = await _reader(place, 25, segment_size=10)
    await place.remove(11, segment_size=10)
    assert [row.position for row in (await page_after(reader)).rows] == list(range(1, 11))


async def test_the_body_of_the_proving_row_is_not_sent(place: Place) -> None:
    """The row that proves a place is read without its text."""
    store = place.open()
    await store.append([event("large", data="x" * 100_000), event("a")])
    first = (await page_after(store, limit=1)).end
    found = await store._reader.queries.page(RESOURCE.name, 0, 1, 10, 10, 1_000, 1, ALWAYS)
    assert [each.get("json") is None for each in found] == [True, False]
    assert ids((await page_after(store, first)).rows) == ["a"]


@pytest.mark.parametrize("filters", [Filters(), ALL])
async def test_a_forged_place_is_found_out(place: Place, filters: Filters) -> None:
    """A cursor whose row is another, or beyond the head, starts over."""
    reader = await _reader(place, 5)
    (third,) = [row.cursor for row in await everything(reader)][2:3]
    for forged in (replace(third, proof=b"forged!!"), replace(third, position=4), replace(third, position=77)):
        chunk = await page_after(reader, forged, filters=filters)
        assert [row.position for row in chunk.rows] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("limit", [1, 50])
@pytest.mark.parametrize("place", ["lagging"], indirect=True)
async def test_a_server_that_lags_behind_starts_nobody_over(place: Place, limit: int) -> None:
    """Readers whose server shows less than they have seen wait for it: nothing is repeated and nothing missed."""
    writer, reader = place.open(), place.open()
    cursor, seen = START, Counter[str]()

    async def write() -> None:
        for n in range(60):
            await writer.append([event(f"{n}")])

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(write())
        while len(seen) < 60:
            chunk = await page_after(reader, cursor, limit=limit)
            seen.update(ids(chunk.rows))
            cursor = chunk.end
    assert seen == Counter(f"{n}" for n in range(60))


async def test_many_patterns_are_compared_in_the_process(place: Place) -> None:
    """What is too much for the server is asked of it less exactly; the page is the same."""
    store = place.open()
    await store.append([event("a", type="wanted.Type"), *events(30), event("b", type="x.middle.y")])
    for filters in (
        Filters(types=("%middle%", *(f"t{n}%" for n in range(60)))),
        Filters(types=("%mid%le%",)),
        Filters(types=("X.%.Y",)),
    ):
        assert ids(await walk(store, ReadRequest(RESOURCE, filters=filters, limit=2))) == ["b"]
    assert await walk(store, ReadRequest(RESOURCE, filters=Filters(types=("x" * 3_000,)))) == []


async def test_a_party_stream_reads_as_its_resource_does(place: Place) -> None:
    """A projected stream is read with the same proof and at the same cost."""
    store = place.open()
    await store.append(events(10))
    await follow(store)
    party = ReadRequest(Stream.of_subject(PARTY))
    chunk = await store.read(replace(party, limit=4))
    await place.counts()
    chunk = await store.read(replace(party, cursor=chunk.end))
    assert [row.position for row in chunk.rows] == [5, 6, 7, 8, 9, 10]
    assert await _cost(place) == 1
