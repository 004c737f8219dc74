"""Reading from Cosmos DB: the requests of each page, the proofs of cursors, and holes."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from math import ceil, log2
from typing import Any

import pytest

from events_core.adapters.cosmos import CosmosEventStore
from events_core.common.errors import EventsError, Problem
from events_core.feeds.ports import ReadRequest
from events_core.feeds.read import FeedReader
from events_core.feeds.stream import START, Cursor, Filters, Stream
from events_core.feeds.wait import WaitingReaders
from tests.adapters.cosmos.database import RESOURCE, Database, follow, page_after
from tests.contract.event_store import PARTY, SECOND, event, events, everything, ids, walk

ALL = Filters(types=("app.%",))
RARE = Filters(types=("rare",))


async def _reader(database: Database, count: int, **options: Any) -> CosmosEventStore:
    """A store that has written nothing itself, over a stream of `count` events."""
    await database.open(**options).append(events(count))
    reader = database.open(**options)
    await reader.read(ReadRequest(RESOURCE, limit=1))
    await database.counts()
    return reader


async def _cost(database: Database) -> int:
    """The requests on documents since the last call."""
    return sum((await database.counts()).values())


async def _cursor(store: CosmosEventStore, database: Database, position: int) -> Cursor:
    """The cursor after a position."""
    cursor = (await page_after(store, limit=position)).end
    await database.counts()
    return cursor


@pytest.mark.parametrize(("after", "requests"), [(5, 1), (100, 1), (120, 1)])
async def test_a_page_by_next_is_one_request(database: Database, after: int, requests: int) -> None:
    """Also the last page and the empty one."""
    reader = await _reader(database, 120)
    cursor = await _cursor(reader, database, after)
    chunk = await page_after(reader, cursor)
    assert await _cost(database) == requests
    assert [row.position for row in chunk.rows] == list(range(after + 1, min(after + 50, 120) + 1))


@pytest.mark.parametrize(("after", "count"), [(80, 120), (99, 120), (100, 120), (99, 100), (100, 100)])
async def test_a_page_over_a_boundary_is_two_requests(database: Database, after: int, count: int) -> None:
    """A page over two segments asks both; an empty page at the end of a full segment asks the next."""
    reader = await _reader(database, count, segment_size=100)
    cursor = await _cursor(reader, database, after)
    chunk = await page_after(reader, cursor)
    assert await _cost(database) == 2
    assert [row.position for row in chunk.rows] == list(range(after + 1, min(after + 50, count) + 1))
    assert chunk.caught_up == (after + 50 >= count)


async def test_an_empty_stream_is_at_most_two_requests(database: Database) -> None:
    """Waiting for the first event of a stream is cheap."""
    store = database.open()
    await store.ping()
    await database.counts()
    await page_after(store)
    assert await _cost(database) <= 2


async def test_a_filtered_page_is_two_requests(database: Database) -> None:
    """The head first, then the rows up to it. If the head is the reader's own row, one request is enough."""
    reader = await _reader(database, 60)
    cursor = await _cursor(reader, database, 5)
    for start, requests in ((START, 2), (cursor, 2)):
        await page_after(reader, start, filters=ALL)
        assert await _cost(database) == requests
    end = (await page_after(reader, cursor, filters=ALL, limit=100)).end
    await database.counts()
    assert (await page_after(reader, end, filters=ALL)).caught_up
    assert await _cost(database) == 1


async def test_a_rare_filter_looks_at_eight_segments(database: Database) -> None:
    """A page without a match ends after eight segments, is not caught up, and continues from there."""
    store = database.open(segment_size=10)
    await store.append([*events(199), event("rare", type="rare")])
    await database.counts()
    chunk = await page_after(store, filters=RARE)
    assert await _cost(database) <= 8 + 2
    assert (chunk.rows, chunk.end.position, chunk.caught_up) == ([], 80, False)
    assert ids(await walk(store, ReadRequest(RESOURCE, filters=RARE))) == ["rare"]


async def test_a_feed_page_of_a_rare_filter_looks_at_eight_segments(database: Database) -> None:
    """The feed ends its page there too: neither earlier, nor with a second chunk."""
    store = database.open(segment_size=10)
    await store.append([*events(199), event("rare", type="rare")])
    await database.counts()
    page = await FeedReader(store, WaitingReaders(store, 0)).read(ReadRequest(RESOURCE, filters=RARE), None)
    assert await _cost(database) <= 8 + 2
    assert (page.events, page.end.position, page.caught_up) == ([], 80, False)
    assert database.open().scan_rows == 8 * 32_768


async def test_a_bare_id_is_at_most_two_requests_more(database: Database) -> None:
    """One query finds an id in a stream of one segment, else a second one that asks everywhere."""
    store = database.open()
    await store.append([event(f"{n}") for n in range(6)])
    await database.counts()
    for event_id, rest in (("2", "345"), ("unknown", "012345")):
        chunk = await store.read(ReadRequest(RESOURCE, event_id=event_id))
        assert ids(chunk.rows) == list(rest)
        assert await _cost(database) <= 1 + 2


async def test_an_unknown_id_starts_at_the_floor(database: Database) -> None:
    """If the first event is not visible any more, the oldest visible one is searched for."""
    store = database.open()
    await store.append([event(f"{n}") for n in range(6)])
    await database.advance(50)
    await store.append([event("6")])
    await database.advance(45)
    for filters, page in ((Filters(), 1), (ALL, 2)):
        await database.counts()
        assert ids((await store.read(ReadRequest(RESOURCE, event_id="unknown", filters=filters))).rows) == ["6"]
        assert await _cost(database) <= 2 * page + 3


@pytest.mark.parametrize("count", [1, 9, 10, 11, 35])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("event_id", "rows"), [("0", [2]), ("last", []), ("unknown", [1])])
async def test_any_bare_id_is_at_most_two_requests_more(
    database: Database,
    count: int,
    known: bool,  # noqa: FBT001 - a parameter
    event_id: str,
    rows: list[int],
) -> None:
    """For any number of segments, any position of the event, and whether or not the process knows the head."""
    await database.open(segment_size=10).append([*(event(f"{n}") for n in range(count)), event("last")])
    store = database.open(segment_size=10)
    await (store.head(RESOURCE) if known else store.ping())
    await database.counts()
    chunk = await store.read(ReadRequest(RESOURCE, event_id=event_id, limit=1))
    assert await _cost(database) <= 1 + 2
    assert [row.position for row in chunk.rows] == rows


async def test_an_id_beyond_the_known_segment_is_found(database: Database) -> None:
    """The stream has left its first segment since this process last saw it."""
    store, busy = database.open(segment_size=10), database.open(segment_size=10)
    await busy.append(events(3))
    await store.head(RESOURCE)
    await busy.append([*events(9), event("a"), event("b")])
    assert ids((await store.read(ReadRequest(RESOURCE, event_id="a"))).rows) == ["b"]


async def test_an_id_costs_the_same_in_any_segment(database: Database) -> None:
    """The segments are not walked, also for an unknown id."""
    store = database.open(segment_size=10)
    await store.append([event(f"{n}") for n in range(95)])
    for event_id, first, requests in (("3", "4", 3), ("93", "94", 3), ("unknown", "0", 3)):
        await database.counts()
        chunk = await store.read(ReadRequest(RESOURCE, event_id=event_id, limit=1))
        assert ids(chunk.rows) == [first]
        assert await _cost(database) <= requests


@pytest.mark.parametrize("segments", [1, 4, 16])
async def test_a_time_is_found_by_halving(database: Database, segments: int) -> None:
    """`from` takes at most three requests and the logarithm of the number of segments, the reserved one included."""
    store = database.open(segment_size=5)
    began = database.clock.now
    for n in range(segments * 5 - 1):
        database.clock.now = began + n * SECOND
        await store.append([event(f"{n}")])
    reader = database.open(segment_size=5)
    await reader.ping()
    for n in (0, 2, segments * 5 // 2, segments * 5 - 2):
        await database.counts()
        chunk = await reader.read(ReadRequest(RESOURCE, registered_from=began + n * SECOND, limit=2))
        assert chunk.rows[0].id == f"{n}"
        over = 1 if chunk.rows[0].position % 5 in {0, 4} else 0  # the page itself goes over a boundary
        assert await _cost(database) <= 3 + ceil(log2(segments + 1)) + over


async def test_a_time_is_found_though_the_head_is_unknown(database: Database) -> None:
    """Without a checkpoint the search goes on past the known segments."""
    store = database.open(segment_size=4)
    began = database.clock.now
    for n in range(30):
        database.clock.now = began + n * SECOND
        await store.append([event(f"{n}")])
    for n in range(30):
        chunk = await database.open(segment_size=4).read(ReadRequest(RESOURCE, registered_from=began + n * SECOND))
        assert chunk.rows[0].id == f"{n}"


async def test_a_page_ends_at_a_hole(database: Database) -> None:
    """No row beyond a missing document is shown, and the reader continues once the document comes."""
    reader = await _reader(database, 9)
    missing = (await database.documents())[4]
    await database.remove(5)
    chunk = await page_after(reader)
    assert [row.position for row in chunk.rows] == [1, 2, 3, 4]
    chunk = await page_after(reader, chunk.end)
    assert (chunk.rows, chunk.caught_up) == ([], True)
    await database.container().create_item(missing)
    assert [row.position for row in (await page_after(reader, chunk.end)).rows] == [5, 6, 7, 8, 9]


async def test_an_old_hole_is_an_alert_and_503(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """A document that is missing for a minute is lost. The reader gets an error, never an empty page."""
    await database.open().append(events(9))
    await database.remove(5)
    reader = database.open(hole=-5)
    chunk = await page_after(reader)
    with pytest.raises(EventsError) as caught:
        await page_after(reader, chunk.end)
    assert caught.value.problem is Problem.UNAVAILABLE
    assert "A stream has a hole" in caplog.messages


async def test_a_hole_at_a_boundary_is_a_hole(database: Database) -> None:
    """A segment is not read if its first document is missing."""
    reader = await _reader(database, 25, segment_size=10)
    await database.remove(11, segment_size=10)
    assert [row.position for row in (await page_after(reader)).rows] == list(range(1, 11))


async def test_the_row_of_the_cursor_comes_without_its_text(database: Database) -> None:
    """The row is read for its proof alone."""
    store = database.open()
    await store.append([event("large", data="x" * 100_000), event("a")])
    first = (await page_after(store, limit=1)).end
    found = await store._reader.queries.page(RESOURCE.name, 0, first=1, last=10, top=10, max_bytes=1_000, bare=1)
    assert [document.get("json") is None for document in found] == [True, False]
    assert ids((await page_after(store, first)).rows) == ["a"]


@pytest.mark.parametrize("filters", [Filters(), ALL])
async def test_a_forged_cursor_starts_over(database: Database, filters: Filters) -> None:
    """The proof fails, or the position is beyond the head."""
    reader = await _reader(database, 5)
    (third,) = [row.cursor for row in await everything(reader)][2:3]
    for forged in (replace(third, proof=b"forged!!"), replace(third, position=4), replace(third, position=77)):
        chunk = await page_after(reader, forged, filters=filters)
        assert [row.position for row in chunk.rows] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("limit", [1, 50])
@pytest.mark.parametrize("database", ["lagging"], indirect=True)
async def test_a_lagging_server_starts_no_reader_over(database: Database, limit: int) -> None:
    """Readers that have seen more than the server shows wait for it: nothing is repeated or missed."""
    writer, reader = database.open(), database.open()
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


async def test_many_patterns_are_compared_in_the_process(database: Database) -> None:
    """The server gets a weaker condition than too many or too long patterns; the page is the same."""
    store = database.open()
    await store.append([event("a", type="wanted.Type"), *events(30), event("b", type="x.middle.y")])
    for filters in (
        Filters(types=("%middle%", *(f"t{n}%" for n in range(60)))),
        Filters(types=("%mid%le%",)),
        Filters(types=("X.%.Y",)),
    ):
        assert ids(await walk(store, ReadRequest(RESOURCE, filters=filters, limit=2))) == ["b"]
    assert await walk(store, ReadRequest(RESOURCE, filters=Filters(types=("x" * 3_000,)))) == []


async def test_a_projected_stream_is_read_like_a_resource_stream(database: Database) -> None:
    """With the same proof, and at the same cost."""
    store = database.open()
    await store.append(events(10))
    await follow(store)
    party = ReadRequest(Stream.of_subject(PARTY))
    chunk = await store.read(replace(party, limit=4))
    await database.counts()
    chunk = await store.read(replace(party, cursor=chunk.end))
    assert [row.position for row in chunk.rows] == [5, 6, 7, 8, 9, 10]
    assert await _cost(database) == 1
