"""Reading a page: chunks, what ends a page, where it ends, and the budget of its scan."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from events_core.adapters.sqlite import SqliteEventStore
from events_core.cloudevent import CloudEvent
from events_core.common import errors
from events_core.common.errors import EventsError
from events_core.feeds import read
from events_core.feeds.ports import ReadRequest, StoredEvent
from events_core.feeds.read import FeedPage, FeedReader
from events_core.feeds.stream import START, Filters, Stream
from events_core.feeds.wait import WaitingReaders

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
    """Permits the events whose ids begin with `v`, and remembers how many it was asked about each time."""

    def __init__(self) -> None:
        self.chunks: list[int] = []

    async def __call__(self, rows: Sequence[StoredEvent]) -> list[bool]:
        """Decide."""
        self.chunks.append(len(rows))
        return [row.id.startswith("v") for row in rows]


async def test_a_page_is_full_at_its_size(store: SqliteEventStore) -> None:
    """A page ends at its size, names its last event, and says that more is there."""
    await fill(store, "v1", "v2", "v3")
    page = await reader(store).read(replace(ALL, limit=2), None)
    assert (names(page), page.last_id, page.caught_up) == (["v1", "v2"], "v2", False)


async def test_a_page_that_ends_with_the_stream_says_so(store: SqliteEventStore) -> None:
    """A page that is just full at the stream's end is caught up."""
    await fill(store, "v1", "v2")
    page = await reader(store).read(replace(ALL, limit=2), None)
    assert (names(page), page.last_id, page.caught_up) == (["v1", "v2"], "v2", True)


async def test_an_empty_stream_ends_where_it_began(store: SqliteEventStore) -> None:
    """Of nothing the page is empty, caught up, and at the start."""
    assert await reader(store).read(ALL, None) == FeedPage([], START, None, caught_up=True)


async def test_a_page_reads_on_over_what_is_denied(store: SqliteEventStore) -> None:
    """Denied rows take no room in the page."""
    await fill(store, "v1", "h1", "h2", "h3", "v2", "h4", "v3")
    page = await reader(store).read(replace(ALL, limit=2), Asked())
    assert (names(page), page.last_id) == (["v1", "v2"], "v2")


async def test_a_page_that_ends_with_a_denied_row_names_nothing(store: SqliteEventStore) -> None:
    """The place is that of the denied row, and no id stands beside it."""
    await fill(store, "v1", "h1", "h2")
    page = await reader(store).read(ALL, Asked())
    assert (names(page), page.last_id, page.caught_up) == (["v1"], None, True)
    await fill(store, "v2")
    assert names(await reader(store).read(replace(ALL, cursor=page.end), Asked())) == ["v2"]


async def test_chunks_grow_over_denied_rows(store: SqliteEventStore) -> None:
    """The first chunk is the page's size; each further one is larger, 500 rows at most."""
    await fill(store, *(f"h{number}" for number in range(1_500)))
    asked = Asked()
    await reader(store).read(replace(ALL, limit=10), asked)
    assert asked.chunks == [10, 40, 160, 500, 500, 290]


async def test_a_readable_page_is_one_chunk(store: SqliteEventStore) -> None:
    """Where everything may be read the decision is asked for once, about the page's rows."""
    await fill(store, *(f"v{number}" for number in range(100)))
    asked = Asked()
    await reader(store).read(replace(ALL, limit=30), asked)
    assert asked.chunks == [30]


async def test_erased_rows_are_put_to_nobody(store: SqliteEventStore) -> None:
    """A tombstone is neither shown nor asked about, and the page moves past it."""
    await fill(store, "v1", "v2", "v3")
    for name in ("v1", "v3"):
        await store.erase(RESOURCE, SOURCE, name)
    asked = Asked()
    page = await reader(store).read(ALL, asked)
    assert (names(page), page.last_id, asked.chunks) == (["v2"], None, [1])


async def test_a_page_of_tombstones_asks_nobody(store: SqliteEventStore) -> None:
    """Where nothing is left to decide nothing is asked."""
    await fill(store, "v1")
    await store.erase(RESOURCE, SOURCE, "v1")
    page = await reader(store).read(ALL, asked := Asked())
    assert (page.events, page.caught_up, asked.chunks) == ([], True, [])


async def test_the_scan_ends_after_so_many_rows(store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the rows of the budget are read the page ends where it is, empty, with more to come."""
    monkeypatch.setattr(read, "SCAN_ROWS", 100)
    await fill(store, *(f"h{number}" for number in range(300)), "v1")
    page = await reader(store).read(replace(ALL, limit=10), asked := Asked())
    assert (page.events, page.last_id, page.caught_up) == ([], None, False)
    assert 100 <= sum(asked.chunks) < 300
    assert await walk(store, 10, Asked()) == ["v1"]


async def test_the_scan_ends_after_so_much_time(store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the time of the budget is spent the page ends after the chunk at hand, and has moved on."""
    monkeypatch.setattr(read, "SCAN_SECONDS", -1)
    await fill(store, *(f"h{number}" for number in range(25)), "v1")
    request, ends = replace(ALL, limit=10), []
    while not (page := await reader(store).read(request, Asked())).events:
        ends.append(page.end)
        request = replace(request, cursor=page.end)
    assert (names(page), len(set(ends))) == (["v1"], 2)


async def test_a_filter_that_matches_little_spends_the_budget_too(
    store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that a filter leaves out count as read: the page ends though none of them was asked about."""
    monkeypatch.setattr(SqliteEventStore, "scan_rows", 100)
    await fill(store, *(f"h{number}" for number in range(300)), "v1")
    page = await reader(store).read(replace(ALL, filters=Filters(types=("v",))), None)
    assert (page.events, page.last_id, page.caught_up) == ([], None, False)


async def test_slow_patterns_do_not_keep_the_clock_waiting(
    store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longer the patterns are together, the fewer rows are examined before the time is looked at."""
    monkeypatch.setattr(read, "SCAN_SECONDS", -1)
    await fill(store, *(f"h{number}" for number in range(300)))
    slow = Filters(sources=("%" + "a" * 2_000,) * 10)
    page = await reader(store).read(replace(ALL, filters=slow), None)
    assert (page.caught_up, 0 < page.end.position < 100) == (False, True)


async def test_a_page_ends_when_its_texts_are_too_large_together(
    store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page ends before the event that would make it too large, and goes on with that one."""
    monkeypatch.setattr(read, "MAX_PAGE_BYTES", 1_000)
    await fill(store, "v1", "v2", "v3", padding=300)
    page = await reader(store).read(ALL, None)
    assert (names(page), page.last_id, page.caught_up) == (["v1", "v2"], "v2", False)
    assert names(await reader(store).read(replace(ALL, cursor=page.end), None)) == ["v3"]


async def test_one_event_always_fits(store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event larger than a whole page may be is a page of its own."""
    monkeypatch.setattr(read, "MAX_PAGE_BYTES", 1_000)
    await fill(store, "h1", "v1", "v2", padding=2_000)
    page = await reader(store).read(ALL, Asked())
    assert (names(page), page.last_id) == (["v1"], "v1")


async def test_a_decision_that_fails_fails_the_page(store: SqliteEventStore) -> None:
    """Without a decision there is no page, filtered or not."""

    async def down(_: Sequence[StoredEvent]) -> list[bool]:
        raise errors.unavailable("down")

    await fill(store, "v1")
    with pytest.raises(EventsError, match="503"):
        await reader(store).read(ALL, down)


async def walk(
    store: SqliteEventStore, size: int, permitted: Callable[[Sequence[StoredEvent]], Awaitable[list[bool]]]
) -> list[str]:
    """Read page after page to the stream's end."""
    seen: list[str] = []
    request = replace(ALL, limit=size)
    while True:
        page = await reader(store).read(request, permitted)
        seen += names(page)
        if page.caught_up and not page.events:
            return seen
        assert page.end != request.cursor
        request = replace(request, cursor=page.end)


@pytest.mark.parametrize("seed", range(12))
async def test_any_mixture_is_walked_once(store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Whatever is readable, denied or erased, in any order, with any limits, a walk returns what may be read, once."""
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


async def test_who_wants_to_wait_for_what_is_there_gets_it_at_once(store: SqliteEventStore) -> None:
    """Something to read is the page, and the wish is met."""
    await fill(store, "v1")
    page, met = await reader(store, 1).read_or_wait(ALL, None, 60)
    assert (names(page), met) == (["v1"], True)


@pytest.mark.parametrize(("places", "seconds"), [(0, 60), (1, 0)])
async def test_who_cannot_or_will_not_wait_gets_the_empty_page(
    store: SqliteEventStore, places: int, seconds: float
) -> None:
    """Without a place, or without seconds, the page comes at once and the wish is not met."""
    page, met = await reader(store, places).read_or_wait(ALL, None, seconds)
    assert (page.events, met) == ([], False)


async def test_what_is_stored_before_the_wait_begins_is_not_missed(tmp_path: Path) -> None:
    """An event that comes after the first look and before the wait ends the wait, though nobody was woken."""

    class Late(SqliteEventStore):
        async def head(self, stream: Stream) -> int:
            await fill(self, "v1")
            return await super().head(stream)

    store = Late(tmp_path / "events.db")
    page, met = await reader(store, 1).read_or_wait(ALL, None, 60)
    assert (names(page), met) == (["v1"], True)
    await store.close()
