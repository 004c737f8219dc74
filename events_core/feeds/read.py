"""Use case: read a page of a feed, each event authorized for its reader (docs/architecture.md, "Reading")."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate, compress

from events_core.feeds.ports import Chunk, EventStore, ReadRequest, StoredEvent
from events_core.feeds.stream import Cursor, Filters
from events_core.feeds.wait import WaitingReaders

MAX_PAGE_BYTES = 4 * 1024 * 1024
SCAN_ROWS = 10_000
SCAN_SECONDS = 3.0
LARGEST_CHUNK = 500
CHUNK_GROWTH = 4
FREE_PATTERN_CHARACTERS = 50

Permitted = Callable[[Sequence[StoredEvent]], Awaitable[Sequence[bool]]]


@dataclass(frozen=True, slots=True)
class FeedPage:
    """A page: the texts of its events in order, and where it ends.

    `last_id` is the id of the last event when the page ends with it, else None: an event that the reader may not
    see is never named. `end` is the place of the last row that was read.
    """

    events: Sequence[bytes]
    end: Cursor
    last_id: str | None
    caught_up: bool


class _Page:
    """A page while it fills."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.events: list[bytes] = []
        self.bytes = 0
        self.last: StoredEvent | None = None

    def take(self, rows: Sequence[StoredEvent], texts: Sequence[bytes]) -> bool:
        """Add events in order, as many as the page has room for; False when that is not all of them."""
        fitting = len(rows)
        if len(self.events) + fitting > self.size or self.bytes + sum(map(len, texts)) > MAX_PAGE_BYTES:
            fitting = self._fitting(texts)
        if fitting:
            self.events += texts[:fitting]
            self.bytes += sum(map(len, texts[:fitting]))
            self.last = rows[fitting - 1]
        return fitting == len(rows)

    def _fitting(self, texts: Sequence[bytes]) -> int:
        """How many of the texts fit; into an empty page one always does."""
        room = self.size - len(self.events)
        sizes = accumulate(map(len, texts[:room]), initial=self.bytes)
        fitting = sum(size <= MAX_PAGE_BYTES for size in sizes) - 1
        return max(fitting, 0 if self.events else 1)

    def close(self, end: Cursor, *, caught_up: bool) -> FeedPage:
        last_id = self.last.id if self.last is not None and self.last.cursor == end else None
        return FeedPage(self.events, end, last_id, caught_up)


async def read_feed(store: EventStore, request: ReadRequest, permitted: Permitted | None) -> FeedPage:
    """Read the page that `request` starts and `request.limit` sizes, of events that `permitted` lets through.

    Reads on over rows that the reader may not see until the page is full, the stream ends, or the scan budget
    (rows and seconds) is spent, and never stops at a place that it does not move from. Without `permitted`
    everything may be read.

    Raises:
        EventsError: UNAVAILABLE when the store or the decision point does not answer; never an unfiltered page.
    """
    page = _Page(request.limit)
    if not request.filters.empty:
        request = replace(request, scan=_scan(request.filters, store.scan_rows))
    budget = 1.0
    deadline = time.monotonic() + SCAN_SECONDS
    while True:
        chunk = await store.read(request)
        cut = await _fill(page, chunk, permitted)
        if cut is not None:
            return page.close(cut, caught_up=False)
        budget -= _spent(request, chunk, store.scan_rows)
        if chunk.caught_up or _full(page) or budget <= 0 or time.monotonic() > deadline:
            return page.close(chunk.end, caught_up=chunk.caught_up)
        request = _continued(request, chunk, page)


def _scan(filters: Filters, rows: int) -> int:
    """Rows to examine before the clock is looked at: the fewer, the longer it may take to match one of them."""
    characters = sum(map(len, filters.types + filters.sources))
    return rows * FREE_PATTERN_CHARACTERS // max(FREE_PATTERN_CHARACTERS, characters) or 1


def _spent(request: ReadRequest, chunk: Chunk, scan_rows: int) -> float:
    """The part of the budget that a chunk took: of rows that were read, or of what the store looked at for them."""
    if not request.filters.empty and len(chunk.rows) < request.limit:
        return request.scan / scan_rows
    return len(chunk.rows) / SCAN_ROWS


def _full(page: _Page) -> bool:
    return len(page.events) >= page.size or page.bytes >= MAX_PAGE_BYTES


async def _fill(page: _Page, chunk: Chunk, permitted: Permitted | None) -> Cursor | None:
    """Take the permitted rows of a chunk; the place of the last row taken when the page could not take them all."""
    rows, texts = _shown(chunk.rows)
    if permitted is not None and rows:
        allowed = await permitted(rows)
        rows, texts = list(compress(rows, allowed)), list(compress(texts, allowed))
    if page.take(rows, texts):
        return None
    assert page.last is not None  # an empty page has room for one event
    return page.last.cursor


def _shown(rows: Sequence[StoredEvent]) -> tuple[Sequence[StoredEvent], list[bytes]]:
    """The rows that are no tombstones, and their texts."""
    texts = [text for row in rows if (text := row.json) is not None]
    return (rows if len(texts) == len(rows) else [row for row in rows if row.json is not None]), texts


def _continued(request: ReadRequest, chunk: Chunk, page: _Page) -> ReadRequest:
    """The next chunk: larger the fewer rows were readable, so that a long run of hidden rows is crossed quickly."""
    limit = min(max(page.size - len(page.events), request.limit * CHUNK_GROWTH), LARGEST_CHUNK)
    return replace(request, cursor=chunk.end, event_id=None, limit=limit)


async def read_or_wait(
    store: EventStore, waiting: WaitingReaders, request: ReadRequest, permitted: Permitted | None, seconds: float
) -> tuple[FeedPage, bool]:
    """Read a page; when nothing readable is there, wait up to `seconds` for an event that the reader may read.

    Says too whether the wish to wait was met: not when too many wait already, and then the page comes at once.

    Raises:
        EventsError: UNAVAILABLE when the store or the decision point does not answer.
    """
    page = await read_feed(store, request, permitted)
    if page.events or seconds <= 0 or waiting.full:
        return page, bool(page.events)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), waiting.watching(request.stream) as watch:
            while not page.events and not waiting.closed:
                changed = watch.changed
                page = await read_feed(store, replace(request, cursor=page.end, event_id=None), permitted)
                if not page.events and page.caught_up:
                    await changed.wait()
    return page, True
