"""Read a page of a feed, each event authorized for its reader (docs/architecture.md, "Reading")."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import compress

from events_core.common.texts import fitting
from events_core.feeds.ports import Chunk, EventStore, ReadRequest, StoredEvent
from events_core.feeds.stream import Cursor, Filters
from events_core.feeds.wait import WaitingReaders

MAX_PAGE_BYTES = 4 * 1024 * 1024
SCAN_ROWS = 10_000
SCAN_SECONDS = 3.0
LARGEST_CHUNK = 500
CHUNK_GROWTH = 4
FREE_PATTERN_CHARACTERS = 50
"""Patterns of so many characters together are matched fast enough to scan the store's full number of rows."""

Permitted = Callable[[Sequence[StoredEvent]], Awaitable[Sequence[bool]]]
"""Says which events the reader may see."""


@dataclass(frozen=True, slots=True)
class FeedPage:
    """A page: the texts of its events in order, and where it ends.

    `end` is the cursor of the last row that was read. `last_id` is the id of the last event if the page ends with it,
    else None: an event that the reader may not see is never named.
    """

    events: Sequence[bytes]
    end: Cursor
    last_id: str | None
    caught_up: bool


@dataclass(frozen=True, slots=True)
class FeedReader:
    """Reads pages of feeds."""

    store: EventStore
    waiting: WaitingReaders

    async def read_or_wait(
        self, request: ReadRequest, permitted: Permitted | None, seconds: float
    ) -> tuple[FeedPage, bool]:
        """Read a page; if it is empty, wait up to `seconds` for an event that the reader may see.

        The flag says whether the wait was granted; when every slot is taken, the empty page comes at once.

        Raises:
            EventsError: UNAVAILABLE when the store or the decision point does not answer.
        """
        page = await self.read(request, permitted)
        if page.events or seconds <= 0 or self.waiting.full:
            return page, bool(page.events)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self.waiting.watching(request.stream) as watch:
                while not page.events and not self.waiting.closed:
                    changed = watch.changed
                    page = await self.read(replace(request, cursor=page.end, event_id=None), permitted)
                    if not page.events and page.caught_up:
                        await changed.wait()
        return page, True

    async def read(self, request: ReadRequest, permitted: Permitted | None) -> FeedPage:
        """Read the page that begins where `request` says and holds at most `request.limit` events.

        Reads on over rows that the reader may not see until the page is full, the stream ends, or the scan budget
        (rows and seconds) is spent. The page's end always moves on, so a reader never gets stuck.

        Raises:
            EventsError: UNAVAILABLE when the store or the decision point does not answer; never an unfiltered page.
        """
        page = _Page(request.limit)
        if not request.filters.empty:
            request = replace(request, scan=_rows_to_scan(request.filters, self.store.scan_rows))
        budget = 1.0
        deadline = time.monotonic() + SCAN_SECONDS
        while True:
            chunk = await self.store.read(request)
            cut = await _fill(page, chunk, permitted)
            if cut is not None:
                return page.close(cut, caught_up=False)
            budget -= _spent(request, chunk, self.store.scan_rows)
            if chunk.caught_up or page.full or budget <= 0 or time.monotonic() > deadline:
                return page.close(chunk.end, caught_up=chunk.caught_up)
            # The fewer rows were readable, the larger the next chunk: a long run of hidden rows is crossed quickly.
            limit = min(max(page.size - len(page.events), request.limit * CHUNK_GROWTH), LARGEST_CHUNK)
            request = replace(request, cursor=chunk.end, event_id=None, limit=limit)


class _Page:
    """A page while it fills."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.events: list[bytes] = []
        self.bytes = 0
        self.last: StoredEvent | None = None

    @property
    def full(self) -> bool:
        return len(self.events) >= self.size or self.bytes >= MAX_PAGE_BYTES

    def take(self, rows: Sequence[StoredEvent], texts: Sequence[bytes]) -> bool:
        """Add events in order, as many as the page has room for. False when some were left out."""
        count = len(rows)
        if len(self.events) + count > self.size or self.bytes + sum(map(len, texts)) > MAX_PAGE_BYTES:
            sizes = map(len, texts[: self.size - len(self.events)])
            count = fitting(sizes, MAX_PAGE_BYTES - self.bytes, least=0 if self.events else 1)
        if count:
            self.events += texts[:count]
            self.bytes += sum(map(len, texts[:count]))
            self.last = rows[count - 1]
        return count == len(rows)

    def close(self, end: Cursor, *, caught_up: bool) -> FeedPage:
        last_id = self.last.id if self.last is not None and self.last.cursor == end else None
        return FeedPage(self.events, end, last_id, caught_up)


def _rows_to_scan(filters: Filters, rows: int) -> int:
    """Rows to scan before the clock is looked at: fewer where long patterns take longer to match."""
    characters = sum(map(len, filters.types + filters.sources))
    return rows * FREE_PATTERN_CHARACTERS // max(FREE_PATTERN_CHARACTERS, characters) or 1


def _spent(request: ReadRequest, chunk: Chunk, scan_rows: int) -> float:
    """The part of the budget that a chunk took, by the rows that were read or that the store scanned for them."""
    if not request.filters.empty and len(chunk.rows) < request.limit:
        return request.scan / scan_rows
    return len(chunk.rows) / SCAN_ROWS


async def _fill(page: _Page, chunk: Chunk, permitted: Permitted | None) -> Cursor | None:
    """Take the permitted rows of a chunk. Return the cursor of the last row taken when the page had no room for all."""
    rows, texts = _without_tombstones(chunk.rows)
    if permitted is not None and rows:
        allowed = await permitted(rows)
        rows, texts = list(compress(rows, allowed)), list(compress(texts, allowed))
    if page.take(rows, texts):
        return None
    assert page.last is not None  # an empty page has room for one event
    return page.last.cursor


def _without_tombstones(rows: Sequence[StoredEvent]) -> tuple[Sequence[StoredEvent], list[bytes]]:
    texts = [text for row in rows if (text := row.json) is not None]
    return (rows if len(texts) == len(rows) else [row for row in rows if row.json is not None]), texts
