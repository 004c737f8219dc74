"""Reading a page: chunks, the page's end, and the scan budget."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from events_core.access.authorization import EventsAhead, RequestBudget, Verdict
from events_core.access.ports import UndecidedError
from events_core.adapters.sqlite import SqliteEventStore
from events_core.cloudevent import CloudEvent
from events_core.common import errors
from events_core.common.errors import EventsError
from events_core.feeds import read
from events_core.feeds.ports import Chunk, ReadRequest, StoredEvent
from events_core.feeds.read import FeedPage, FeedReader, Verdicts
from events_core.feeds.stream import START, Filters, Stream
from events_core.feeds.wait import WaitingReaders
from tests.support.waiting import until_readers_wait

RESOURCE = "urn:altinn:resource:ttd-mail"
SOURCE = "https://mail.example/box"
ALL = ReadRequest(Stream.of_resource(RESOURCE), START)


def reader(store: SqliteEventStore, slots: int = 0) -> FeedReader:
    """The use case on a store."""
    return FeedReader(store, WaitingReaders(store, slots))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteEventStore]:
    """A new store."""
    store = SqliteEventStore(tmp_path / "events.db")
    yield store
    await store.close()


async def fill(store: SqliteEventStore, *names: str, padding: int = 0) -> None:
    """Store an event for each name, its text padded by some bytes."""
    await store.append([_event(name, padding) for name in names])


def _event(name: str, padding: int) -> CloudEvent:
    text = orjson.dumps({"id": name, "source": SOURCE, "resource": RESOURCE, "data": "x" * padding})
    return CloudEvent(name, SOURCE, name[:1], None, RESOURCE, None, None, text)


def names(page: FeedPage) -> list[str]:
    """The ids of a page's events."""
    return [orjson.loads(text)["id"] for text in page.events]


class Asked:
    """Permits the events whose ids begin with `v`, and remembers the number of events of each call.

    The events whose ids begin with `u` are undecided.
    """

    def __init__(self) -> None:
        self.chunks: list[int] = []
        self.ahead: list[list[str]] = []

    async def __call__(self, rows: Sequence[StoredEvent], budget: RequestBudget, ahead: EventsAhead) -> list[Verdict]:
        """The verdict on each event."""
        self.chunks.append(len(rows))
        verdicts = [_verdict(row.id) for row in rows]
        if Verdict.UNDECIDED in verdicts:
            self.ahead.append([row.id for row in await ahead()])
        return verdicts


def _verdict(event_id: str) -> Verdict:
    return {"v": Verdict.PERMITTED, "u": Verdict.UNDECIDED, "x": Verdict.UNDECIDABLE}.get(event_id[0], Verdict.DENIED)


async def test_a_full_page_has_the_requested_size(store: SqliteEventStore) -> None:
    """It names its last event and is not caught up."""
    await fill(store, "v1", "v2", "v3")
    page = await reader(store).read(replace(ALL, limit=2), None)
    assert (names(page), page.last_id, page.caught_up) == (["v1", "v2"], "v2", False)


async def test_a_page_that_ends_with_the_stream_is_caught_up(store: SqliteEventStore) -> None:
    """A page that is just full at the stream's end counts too."""
    await fill(store, "v1", "v2")
    page = await reader(store).read(replace(ALL, limit=2), None)
    assert (names(page), page.last_id, page.caught_up) == (["v1", "v2"], "v2", True)


async def test_the_page_of_an_empty_stream_is_caught_up(store: SqliteEventStore) -> None:
    """Its end is the start of the stream."""
    assert await reader(store).read(ALL, None) == FeedPage([], START, None, caught_up=True)


async def test_a_page_reads_on_over_denied_events(store: SqliteEventStore) -> None:
    """Denied events take no room in the page."""
    await fill(store, "v1", "h1", "h2", "h3", "v2", "h4", "v3")
    page = await reader(store).read(replace(ALL, limit=2), Asked())
    assert (names(page), page.last_id) == (["v1", "v2"], "v2")


async def test_a_page_that_ends_with_a_denied_event_names_no_event(store: SqliteEventStore) -> None:
    """Its cursor is that of the denied row, without an id."""
    await fill(store, "v1", "h1", "h2")
    page = await reader(store).read(ALL, Asked())
    assert (names(page), page.last_id, page.caught_up) == (["v1"], None, True)
    await fill(store, "v2")
    assert names(await reader(store).read(replace(ALL, cursor=page.end), Asked())) == ["v2"]


async def test_chunks_grow_over_denied_events(store: SqliteEventStore) -> None:
    """The first chunk has the page's size, later ones grow up to 500 rows."""
    await fill(store, *(f"h{number}" for number in range(1_500)))
    asked = Asked()
    await reader(store).read(replace(ALL, limit=10), asked)
    assert asked.chunks == [10, 40, 160, 500, 500, 290]


async def test_a_readable_page_takes_one_chunk(store: SqliteEventStore) -> None:
    """The decision point is asked once, about the page's rows."""
    await fill(store, *(f"v{number}" for number in range(100)))
    asked = Asked()
    await reader(store).read(replace(ALL, limit=30), asked)
    assert asked.chunks == [30]


async def test_tombstones_are_neither_shown_nor_decided(store: SqliteEventStore) -> None:
    """The page moves past them."""
    await fill(store, "v1", "v2", "v3")
    for name in ("v1", "v3"):
        await store.erase(RESOURCE, SOURCE, name)
    asked = Asked()
    page = await reader(store).read(ALL, asked)
    assert (names(page), page.last_id, asked.chunks) == (["v2"], None, [1])


async def test_a_page_of_tombstones_needs_no_decision(store: SqliteEventStore) -> None:
    """The decision point is not asked about nothing."""
    await fill(store, "v1")
    await store.erase(RESOURCE, SOURCE, "v1")
    page = await reader(store).read(ALL, asked := Asked())
    assert (page.events, page.caught_up, asked.chunks) == ([], True, [])


async def test_a_scan_ends_when_its_rows_are_spent(store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is empty and says that there is more."""
    monkeypatch.setattr(read, "SCAN_ROWS", 100)
    await fill(store, *(f"h{number}" for number in range(300)), "v1")
    page = await reader(store).read(replace(ALL, limit=10), asked := Asked())
    assert (page.events, page.last_id, page.caught_up) == ([], None, False)
    assert 100 <= sum(asked.chunks) < 300
    assert await walk(store, 10, Asked()) == ["v1"]


async def test_a_scan_ends_when_its_time_is_spent(store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page ends after the current chunk, and its cursor has moved on."""
    monkeypatch.setattr(read, "SCAN_SECONDS", -1)
    await fill(store, *(f"h{number}" for number in range(25)), "v1")
    request, ends = replace(ALL, limit=10), []
    while not (page := await reader(store).read(request, Asked())).events:
        ends.append(page.end)
        request = replace(request, cursor=page.end)
    assert (names(page), len(set(ends))) == (["v1"], 2)


async def test_rows_that_a_filter_leaves_out_count_as_scanned(
    store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page ends though no event was decided."""
    monkeypatch.setattr(SqliteEventStore, "scan_rows", 100)
    await fill(store, *(f"h{number}" for number in range(300)), "v1")
    page = await reader(store).read(replace(ALL, filters=Filters(types=("v",))), None)
    assert (page.events, page.last_id, page.caught_up) == ([], None, False)


async def test_longer_patterns_scan_fewer_rows_per_chunk(
    store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the clock is looked at often enough."""
    monkeypatch.setattr(read, "SCAN_SECONDS", -1)
    await fill(store, *(f"h{number}" for number in range(300)))
    slow = Filters(sources=("%" + "a" * 2_000,) * 10)
    page = await reader(store).read(replace(ALL, filters=slow), None)
    assert (page.caught_up, 0 < page.end.position < 100) == (False, True)


async def test_a_page_ends_before_its_texts_are_too_large(
    store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next page begins with the event that did not fit."""
    monkeypatch.setattr(read, "MAX_PAGE_BYTES", 1_000)
    await fill(store, "v1", "v2", "v3", padding=300)
    page = await reader(store).read(ALL, None)
    assert (names(page), page.last_id, page.caught_up) == (["v1", "v2"], "v2", False)
    assert names(await reader(store).read(replace(ALL, cursor=page.end), None)) == ["v3"]


async def test_an_event_larger_than_a_page_is_a_page_of_its_own(
    store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a reader would never get past it."""
    monkeypatch.setattr(read, "MAX_PAGE_BYTES", 1_000)
    await fill(store, "h1", "v1", "v2", padding=2_000)
    page = await reader(store).read(ALL, Asked())
    assert (names(page), page.last_id) == (["v1"], "v1")


async def test_without_a_decision_the_request_fails(store: SqliteEventStore) -> None:
    """There is no page, filtered or not."""

    async def down(*_: object) -> list[Verdict]:
        raise errors.unavailable("down")

    await fill(store, "v1")
    with pytest.raises(EventsError, match="503"):
        await reader(store).read(ALL, down)


async def test_a_page_ends_before_the_first_undecided_event(store: SqliteEventStore) -> None:
    """The events before it are shown, and the next page begins with it."""
    await fill(store, "v1", "d2", "v3", "x4", "u5", "v6")
    page = await reader(store).read(ALL, Asked())
    assert (names(page), page.caught_up, page.undecided, page.last_id) == (["v1", "v3"], False, True, None)
    with pytest.raises(UndecidedError):
        await reader(store).read(replace(ALL, cursor=page.end), Asked())


async def test_a_page_ends_with_the_chunk_before_an_undecided_event(store: SqliteEventStore) -> None:
    """A chunk that begins with an undecided event gives the page nothing."""
    await fill(store, "d1", "d2", "u3")
    page = await reader(store).read(replace(ALL, limit=2), Asked())
    assert (names(page), page.undecided) == ([], True)
    with pytest.raises(UndecidedError):
        await reader(store).read(replace(ALL, cursor=page.end), Asked())


async def test_the_rows_after_the_chunk_are_read_for_the_decision_point(store: SqliteEventStore) -> None:
    """At most a thousand, and none of the chunk itself."""
    await fill(store, "v1", "u2", *(f"d{number}" for number in range(3, 1100)))
    await reader(store).read(replace(ALL, limit=2), asked := Asked())
    assert asked.ahead == [[f"d{number}" for number in range(3, 1003)]]


async def test_a_waiting_reader_gets_the_page_before_an_undecided_event(store: SqliteEventStore) -> None:
    """Waiting would not decide it."""
    await fill(store, "d1", "u2")
    page, _ = await reader(store, 1).read_or_wait(ALL, Asked(), 60, "/org/ttd")
    assert page.undecided


async def walk(store: SqliteEventStore, size: int, verdicts: Verdicts) -> list[str]:
    """Read page after page to the stream's end."""
    seen: list[str] = []
    request = replace(ALL, limit=size)
    while True:
        page = await reader(store).read(request, verdicts)
        seen += names(page)
        if page.caught_up and not page.events:
            return seen
        assert page.end != request.cursor
        request = replace(request, cursor=page.end)


@pytest.mark.parametrize("seed", range(12))
async def test_a_walk_returns_every_readable_event_once(
    store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The mixture of readable, denied and erased events and the limits are random."""
    chance = random.Random(seed)
    monkeypatch.setattr(read, "SCAN_ROWS", chance.choice([1, 7, 100]))
    monkeypatch.setattr(read, "MAX_PAGE_BYTES", chance.choice([1, 500, 10_000]))
    rows = [f"{chance.choice('vvhe')}{number}" for number in range(120)]
    await fill(store, *rows)
    for name in rows:
        if name.startswith("e"):
            await store.erase(RESOURCE, SOURCE, name)
    for size in (1, 2, 3, 7, 50):
        assert await walk(store, size, Asked()) == [name for name in rows if name.startswith("v")]


async def test_a_reader_gets_existing_events_at_once(store: SqliteEventStore) -> None:
    """The wait counts as granted."""
    await fill(store, "v1")
    page, met = await reader(store, 1).read_or_wait(ALL, None, 60, "/org/ttd")
    assert (names(page), met) == (["v1"], True)


@pytest.mark.parametrize(("places", "seconds"), [(0, 60), (1, 0)])
async def test_a_reader_that_cannot_wait_gets_the_empty_page(
    store: SqliteEventStore, places: int, seconds: float
) -> None:
    """Without a slot or without seconds the page comes at once, and the wait is not granted."""
    page, met = await reader(store, places).read_or_wait(ALL, None, seconds, "/org/ttd")
    assert (page.events, met) == ([], False)


async def test_an_event_stored_before_the_wait_begins_ends_it(tmp_path: Path) -> None:
    """It comes between the first read and the wait."""

    class Late(SqliteEventStore):
        async def read(self, request: ReadRequest) -> Chunk:
            chunk = await super().read(request)
            if not chunk.rows:
                await fill(self, "v1")
            return chunk

    store = Late(tmp_path / "events.db")
    page, met = await reader(store, 1).read_or_wait(ALL, None, 60, "/org/ttd")
    assert (names(page), met) == (["v1"], True)
    await store.close()


async def test_waiting_costs_one_read_of_the_page(tmp_path: Path) -> None:
    """A reader that begins to wait asks the store nothing else, and reads again when it wakes."""

    class Counting(SqliteEventStore):
        reads = 0

        async def read(self, request: ReadRequest) -> Chunk:
            self.reads += 1
            return await super().read(request)

    store = Counting(tmp_path / "events.db")
    begins = reader(store, 1)
    waits = asyncio.create_task(begins.read_or_wait(ALL, None, 60, "/org/ttd"))
    await until_readers_wait(begins.waiting, 1)
    assert store.reads == 1
    await fill(store, "v1")
    begins.waiting.wake([ALL.stream])
    page, _ = await waits
    assert (names(page), store.reads) == (["v1"], 2)
    await store.close()
