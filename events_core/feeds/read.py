"""Read a page of a feed, each event authorized for its reader (docs/architecture.md, "Reading")."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from events_core.access.authorization import EventsAhead, RequestBudget, Verdict
from events_core.access.ports import UndecidedError
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

ROWS_AHEAD = 1_000
"""Rows after a chunk that may help the decision point to decide (`EventsAhead`)."""

Verdicts = Callable[[Sequence[StoredEvent], RequestBudget, EventsAhead], Awaitable[Sequence[Verdict]]]
"""Says which events the reader may see."""


@dataclass(frozen=True, slots=True)
class FeedPage:
    """A page: the texts of its events in order, and where it ends.

    `end` is the cursor of the last row that was read. `last_id` is the id of the last event if the page ends with it,
    else None: an event that the reader may not see is never named. `undecided`: the next row is not decided yet.
    """

    events: Sequence[bytes]
    end: Cursor
    last_id: str | None
    caught_up: bool
    undecided: bool = False


@dataclass(frozen=True, slots=True)
class FeedReader:
    """Reads pages of feeds."""

    store: EventStore
    waiting: WaitingReaders

    async def read_or_wait(
        self, request: ReadRequest, verdicts: Verdicts | None, seconds: float, caller: str
    ) -> tuple[FeedPage, bool]:
        """Read a page; if it is empty, wait up to `seconds` for an event that the reader may see.

        The flag says whether the wait was granted. When too many wait already, the empty page comes at once. `caller`
        is the consumer string whose requests share the slots (`WaitingReaders.slot`).

        Raises:
            EventsError: UNAVAILABLE when the store or the decision point does not answer.
        """
        asking = RequestBudget()
        with self.waiting.watching(request.stream) as watch:
            changed = watch.changed
            page = await self.read(request, verdicts, asking)
            if page.events or seconds <= 0:
                return page, bool(page.events)
            with self.waiting.slot(caller) as slot:
                if slot is None:
                    return page, False
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds) as slot.deadline:
                        while not (page.events or page.undecided or asking.is_spent or self.waiting.closed):
                            if page.caught_up:
                                await self.waiting.until(changed, watch, page.end.position)
                            changed, asking = watch.changed, asking.for_another_page()
                            page = await self.read(replace(request, cursor=page.end, event_id=None), verdicts, asking)
                return page, bool(page.events) or not slot.displaced

    async def read(
        self, request: ReadRequest, verdicts: Verdicts | None, asking: RequestBudget | None = None
    ) -> FeedPage:
        """Read the page that begins where `request` says and holds at most `request.limit` events.

        Reads on over rows that the reader may not see until the page is full, the stream ends, the budget (rows,
        seconds and questions) is spent, or a row is not decided. The page's end always moves on, so a reader never gets
        stuck.

        Raises:
            UndecidedError: The decision point does not decide the first row.
            EventsError: UNAVAILABLE when the store or the decision point does not answer; never an unfiltered page.
        """
        page = _Page(request.limit)
        if not request.filters.empty:
            request = replace(request, scan=_rows_to_scan(request.filters, self.store.scan_rows))
        to_scan, asking = 1.0, asking or RequestBudget()
        deadline = time.monotonic() + SCAN_SECONDS
        while True:
            chunk = await self.store.read(request)
            rows, end = await self._readable(request, chunk, verdicts, asking)
            if not page.take(rows):
                assert page.last is not None  # an empty page has room for one event
                return page.close(page.last.cursor)
            if end != chunk.end:
                return page.close_before_undecided(end)
            page.end = end
            to_scan -= _spent(request, chunk, self.store.scan_rows)
            is_spent = to_scan <= 0 or asking.is_spent or time.monotonic() > deadline
            if chunk.caught_up or page.full or is_spent:
                return page.close(chunk.end, caught_up=chunk.caught_up)
            # The fewer rows were readable, the larger the next chunk: a long run of hidden rows is crossed quickly.
            limit = min(max(page.size - len(page.events), request.limit * CHUNK_GROWTH), LARGEST_CHUNK)
            request = replace(request, cursor=chunk.end, event_id=None, limit=limit)

    async def _readable(
        self, request: ReadRequest, chunk: Chunk, verdicts: Verdicts | None, budget: RequestBudget
    ) -> tuple[Sequence[StoredEvent], Cursor | None]:
        """The events of a chunk that the reader may see, and the end of what is decided: None if that is nothing."""
        rows = [row for row in chunk.rows if row.json is not None]
        if verdicts is None or not rows:
            return rows, chunk.end
        found = await verdicts(rows, budget, partial(self._rows_after, request, chunk.end))
        readable = [row for row, verdict in zip(rows, found, strict=True) if verdict is Verdict.PERMITTED]
        if Verdict.UNDECIDED not in found:
            return readable, chunk.end
        decided = found.index(Verdict.UNDECIDED)
        readable = [row for row in readable if row.position < rows[decided].position]
        return readable, rows[decided - 1].cursor if decided else None

    async def _rows_after(self, request: ReadRequest, end: Cursor) -> Sequence[StoredEvent]:
        chunk = await self.store.read(replace(request, cursor=end, event_id=None, limit=ROWS_AHEAD))
        return [row for row in chunk.rows if row.json is not None]


class _Page:
    """A page while it fills. `end` is the end of the last chunk that was taken whole."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.events: list[bytes] = []
        self.bytes = 0
        self.last: StoredEvent | None = None
        self.end: Cursor | None = None

    @property
    def full(self) -> bool:
        return len(self.events) >= self.size or self.bytes >= MAX_PAGE_BYTES

    def take(self, rows: Sequence[StoredEvent]) -> bool:
        """Add events in order, as many as the page has room for. False when some were left out."""
        texts = [text for row in rows if (text := row.json) is not None]
        count = len(rows)
        if len(self.events) + count > self.size or self.bytes + sum(map(len, texts)) > MAX_PAGE_BYTES:
            sizes = map(len, texts[: self.size - len(self.events)])
            count = fitting(sizes, MAX_PAGE_BYTES - self.bytes, least=0 if self.events else 1)
        if count:
            self.events += texts[:count]
            self.bytes += sum(map(len, texts[:count]))
            self.last = rows[count - 1]
        return count == len(rows)

    def close_before_undecided(self, decided: Cursor | None) -> FeedPage:
        """Close the page after the last decided row. `decided` is None if that is the end of the chunk before."""
        end = decided or self.end
        if end is None:
            raise UndecidedError
        return self.close(end, undecided=True)

    def close(self, end: Cursor, *, caught_up: bool = False, undecided: bool = False) -> FeedPage:
        last_id = self.last.id if self.last is not None and self.last.cursor == end else None
        return FeedPage(self.events, end, last_id, caught_up, undecided)


def _rows_to_scan(filters: Filters, rows: int) -> int:
    """Rows to scan before the clock is looked at: fewer where long patterns take longer to match."""
    characters = sum(map(len, filters.types + filters.sources))
    return rows * FREE_PATTERN_CHARACTERS // max(FREE_PATTERN_CHARACTERS, characters) or 1


def _spent(request: ReadRequest, chunk: Chunk, scan_rows: int) -> float:
    """The part of the budget that a chunk took, by the rows that were read or that the store scanned for them."""
    if not request.filters.empty and len(chunk.rows) < request.limit:
        return request.scan / scan_rows
    return len(chunk.rows) / SCAN_ROWS
