"""Reading pages of a stream: find the start, verify the cursor, and never read past a hole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from logging import getLogger

from events_core.adapters.cosmos.client import Document
from events_core.adapters.cosmos.streams.documents import CursorProof, Row, text_size
from events_core.adapters.cosmos.streams.filters import RowFilter, superset
from events_core.adapters.cosmos.streams.heads import Head, Heads
from events_core.adapters.cosmos.streams.names import LARGEST_POSITION, first_of, segment_of
from events_core.adapters.cosmos.streams.positions import PositionsByTime
from events_core.adapters.cosmos.streams.queries import StreamQueries
from events_core.adapters.cosmos.streams.retention import Retention
from events_core.common import errors
from events_core.common.slices import Slices
from events_core.common.texts import fitting
from events_core.feeds.ports import Chunk, ReadRequest, RowsAfter
from events_core.feeds.stream import PROOF_BYTES, START, Cursor, Stream

_log = getLogger(__name__)

SEGMENTS_AT_ONCE = 8
_TRIES = 4
_NOT_MATCHED = 3
"""Rows that a filtered query returns unmatched: the row of the cursor, and the first and the last of its range."""


@dataclass(frozen=True, slots=True)
class PageStart:
    """The start of a page: `first` is the position of its first row, `cursor` the cursor just before it.

    Unless `verified`, the query of the page also reads the cursor's own row, whose proof verifies the cursor.
    """

    cursor: Cursor
    first: int
    verified: bool

    @property
    def read_from(self) -> int:
        """The position to read from."""
        return self.first if self.verified or self.cursor == START else self.cursor.position

    @property
    def bare(self) -> int:
        """The position of a row that is read for its proof alone, without its text; 0 if there is none."""
        return self.read_from if self.read_from < self.first else 0


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads streams by their stored names. A missing document may be late for `hole_seconds`; then it is a hole."""

    queries: StreamQueries
    heads: Heads
    positions_by_time: PositionsByTime
    retention: Retention
    proof: CursorProof
    segment_size: int
    hole_seconds: float = 60.0

    async def read(self, name: str, request: ReadRequest) -> Chunk:
        """Read a page: from the request's cursor if it verifies, else from the start that is searched for.

        A search is repeated if the stream goes on elsewhere meanwhile.
        """
        reading = _Reading(self, name, request)
        start = reading.start_at_cursor()
        for _ in range(_TRIES):
            chunk = await reading.chunk(start) if start is not None else None
            if chunk is not None:
                return chunk
            start = await reading.find_start()
            if start is None:
                return Chunk([], START, caught_up=True)
        raise errors.unavailable("The stream changes too fast.")

    async def rows_after(self, name: str, position: int, limit: int) -> RowsAfter:
        """The next rows of a stream; from the oldest visible row if that comes later."""
        request = ReadRequest(Stream(name), limit=limit)
        start = PageStart(START, position + 1, verified=True)
        for _ in range(_TRIES):
            chunk = await _Reading(self, name, request).chunk(start)
            if chunk is not None and (chunk.rows or (chunk.caught_up and self._holds_head(name, start.first))):
                return RowsAfter(chunk.rows, is_end=chunk.caught_up)
            oldest = await self.positions_by_time.oldest(name)
            if chunk is not None and oldest <= start.first:
                return RowsAfter([], is_end=True)
            start = PageStart(START, max(oldest, start.first), verified=True)
        raise errors.unavailable("The stream changes too fast.")

    async def rows_at(self, name: str, positions: Sequence[int]) -> list[Row]:
        """The visible rows at positions of a stream, in order."""
        segments: dict[int, list[int]] = {}
        for position in positions:
            segments.setdefault(segment_of(position, self.segment_size), []).append(position)
        pages = await asyncio.gather(*(self.queries.at(name, segment, at) for segment, at in segments.items()))
        documents = [document for page in pages for document in page if self.retention.shows(document)]
        return sorted((Row(document, self.proof) for document in documents), key=lambda row: row.position)

    async def rows_of(self, source: str | None, event_id: str) -> list[Row]:
        """The visible rows of resource streams with this id, and this source if it is given."""
        found = await self.queries.find(source, event_id)
        rows = [Row(document, self.proof) for document in found if self.retention.shows(document)]
        return [row for row in rows if source in (None, row.source) and row.document["stream"].startswith("resource:")]

    def _holds_head(self, name: str, position: int) -> bool:
        """Whether the segment of a position is known to hold the stream's head, and readers see it."""
        known = self.heads.known(name)
        return (
            known is not None
            and self.heads.is_visible(known)
            and segment_of(known.position, self.segment_size) == segment_of(position, self.segment_size)
        )


class _Reading:
    """One request for a page of one stream."""

    def __init__(self, reader: Reader, name: str, request: ReadRequest) -> None:
        self._reader = reader
        self._name = name
        self._request = request
        self._size = reader.segment_size
        self._limit = max(1, min(request.limit, request.scan))
        self._verified: PageStart | None = None
        """The start at the request's cursor, once the cursor has been verified."""
        self._tried_first = False

    def start_at_cursor(self) -> PageStart | None:
        """The start at the request's cursor, not verified yet; None if the start has to be searched for."""
        request, cursor = self._request, self._request.cursor
        if cursor is None:
            cursor = START if request.event_id is None else None
        if cursor is None or cursor.position > LARGEST_POSITION or len(cursor.proof) != PROOF_BYTES:
            return None
        if cursor.position == 0:
            self._tried_first = _is_start(cursor) and request.registered_from is None
            return PageStart(START, 1, verified=False) if self._tried_first else None
        return PageStart(cursor, cursor.position + (0 if cursor.before else 1), verified=False)

    async def find_start(self) -> PageStart | None:
        """Search for the start: the verified cursor, the event id, `registered_from`, or the oldest visible row.

        Returns None if there is no visible row. A cursor that does not verify makes the event id unknown too: it may
        be of a store before its restore.
        """
        start = self._verified
        if start is None and self._request.cursor is None and not self._tried_first:
            start = await self._start_after_id()
        if self._request.registered_from is None:
            if start is None and not self._tried_first:
                start = PageStart(START, 1, verified=False)  # most streams have no row that is not visible any more
            self._tried_first = True
            if start is not None:
                return start
            oldest = await self._reader.positions_by_time.oldest(self._name)
            return PageStart(START, oldest, verified=True) if oldest else None
        since = await self._start_since(self._request.registered_from)
        return start if start is not None and (since is None or start.first > since.first) else since

    async def _start_since(self, registered: int) -> PageStart | None:
        """The start at the first visible row that was registered at a time or later, else after the last row."""
        proof, heads = self._reader.proof, self._reader.heads
        found = await self._reader.positions_by_time.first_since(self._name, registered)
        if found is not None:
            return PageStart(replace(proof.cursor(found), before=True), found["seq"], verified=True)
        if registered < self._reader.retention.oldest() or not heads.is_visible(head := await heads.fresh(self._name)):
            return None
        return PageStart(Cursor(head.position, proof.of(head.ukey)), head.position + 1, verified=True)

    async def chunk(self, start: PageStart) -> Chunk | None:
        """The page from a start; None if the cursor does not verify, or if the start is before `registered_from`."""
        return await (self._unfiltered(start) if self._request.filters.empty else self._filtered(start))

    async def _start_after_id(self) -> PageStart | None:
        """The start just after the first event with the request's event id; None if there is no such event.

        Any segment may hold an event with this id. A stream that fits into its first segment needs one query, which
        also shows that there is no second segment: the position of the known head holds a document, and the last
        position of the segment does not.
        """
        event_id, queries = self._request.event_id, self._reader.queries
        if event_id is None:
            return None
        known, found, is_only_segment = self._reader.heads.known(self._name), None, False
        oldest = self._reader.retention.oldest()
        if known is not None and 0 < known.position < self._size:
            found, held = await queries.with_id(self._name, event_id, oldest, (known.position, self._size))
            is_only_segment = known.position in held and self._size not in held
        if found is None and not is_only_segment:
            found = await queries.with_id_anywhere(self._name, event_id, oldest)
        return PageStart(self._reader.proof.cursor(found), found["seq"] + 1, verified=True) if found else None

    async def _unfiltered(self, start: PageStart) -> Chunk | None:
        """A page of all rows, up to the first hole."""
        documents, more = await self._documents(start)
        if not start.verified and not documents:
            return await self._empty_at_unknown_row(start)
        rows = self._from_first(start, documents)
        if rows is None or self._begins_early(rows):
            return None
        dense = await self._before_hole(rows, start.first)
        if dense is None:
            self._verified = None
            return None
        is_dense = len(dense) == len(rows)
        if dense:
            self._reader.heads.see(self._name, dense[-1]["seq"])
            if is_dense and not more:
                self._reader.heads.learn(self._name, Head.of(dense[-1]))
        visible = [Row(document, self._reader.proof) for document in dense if self._reader.retention.shows(document)]
        return self._cut(start, visible, more=more and is_dense)

    async def _documents(self, start: PageStart) -> tuple[list[Document], bool]:
        """The documents of a page, with the cursor's own row; and whether there may be more."""
        documents: list[Document] = []
        top = self._limit + 1 + (1 if start.bare else 0)
        position, room = start.read_from, self._request.max_bytes
        for _ in range(SEGMENTS_AT_ONCE):
            segment = segment_of(position, self._size)
            last = first_of(segment + 1, self._size) - 1
            wanted = top - len(documents)
            found = await self._reader.queries.page(
                self._name, segment, first=position, last=last, top=wanted, max_bytes=room, bare=start.bare
            )
            documents += found
            room -= text_size(found)
            if len(found) == wanted or room < 0:
                return documents, True
            if not found or found[-1]["seq"] < last:
                return documents, False
            position = last + 1
        return documents, True

    async def _empty_at_unknown_row(self, start: PageStart) -> Chunk | None:
        """An empty page if the cursor's own row exists but this server does not show it yet; None if it may be gone."""
        position = start.cursor.position
        if position > self._reader.heads.seen(self._name):
            return None
        is_gone = await self._reader.positions_by_time.oldest(self._name) > max(position, 1)
        return None if is_gone else Chunk([], start.cursor, caught_up=True)

    def _from_first(self, start: PageStart, documents: list[Document]) -> list[Document] | None:
        """The documents from `start.first` on; None if they do not verify the start."""
        if start.verified or not documents:
            return documents
        first = documents[0]
        if not self._reader.retention.shows(first):
            return None
        if start.cursor == START:
            return documents if first["seq"] == 1 else None
        if first["seq"] != start.cursor.position or self._reader.proof.of(first["ukey"]) != start.cursor.proof:
            return None
        self._verified = PageStart(start.cursor, start.first, verified=True)
        return documents[1:] if start.bare else documents

    def _begins_early(self, documents: Sequence[Document]) -> bool:
        """Whether the first row was registered before `registered_from`."""
        earliest = self._request.registered_from
        return earliest is not None and bool(documents) and documents[0]["registered"] < earliest

    async def _before_hole(self, documents: Sequence[Document], first: int) -> Sequence[Document] | None:
        """The documents up to the first missing position; None if the oldest visible row comes after `first`.

        Raises:
            StreamHoleError: The row at `first` is missing for too long to be late.
        """
        missing = (n for n, document in enumerate(documents) if document["seq"] != first + n)
        hole = next(missing, None)
        if hole is None:
            return documents
        begins_there = all(document.get("placeholder") for document in documents[:hole])
        if begins_there and await self._reader.positions_by_time.oldest(self._name) > first:
            return None
        age = time.time() - min(int(document["_ts"]) for document in documents[hole:])
        if age > self._reader.hole_seconds:
            _log.error("A stream has a hole", extra={"stream": self._name, "position": first + hole})
            if hole == 0:
                raise errors.StreamHoleError
        return documents[:hole]

    def _cut(self, start: PageStart, rows: Sequence[Row], *, more: bool) -> Chunk:
        """As many of the rows as the request allows: by `registered_to`, `limit` and `max_bytes`."""
        latest = self._request.registered_to
        within = rows if latest is None else [row for row in rows if row.registered <= latest]
        more = more and len(within) == len(rows)
        sizes = (len(row.json or b"") for row in within)
        taken = within[: min(fitting(sizes, self._request.max_bytes), self._limit)]
        end = taken[-1].cursor if taken else start.cursor
        return Chunk(taken, end, caught_up=not more and len(taken) == len(within))

    async def _filtered(self, start: PageStart) -> Chunk | None:
        """A page of the rows that pass the filters, up to the head as it was when the page began."""
        upper = await self._upper()
        if start.first > upper.position or not self._reader.heads.is_visible(upper):
            return await self._empty_at_end(start, upper)
        window = _Window(self._reader, self._name, self._request, start, upper)
        await window.scan(self._limit)
        documents = window.documents
        if not documents:
            empty = Chunk([], start.cursor, caught_up=True)
            return empty if start.verified else await self._empty_at_unknown_row(start)
        if self._from_first(start, documents) is None or (start.bare and self._begins_early(documents)):
            return None
        if len(window.rows) > self._limit or window.size > self._request.max_bytes:
            return self._cut(start, window.rows, more=True)
        return Chunk(window.rows, self._reader.proof.cursor(documents[-1]), caught_up=window.position > upper.position)

    async def _upper(self) -> Head:
        """The newest row that a filtered page may look at."""
        latest = self._request.registered_to
        if latest is None:
            return await self._reader.heads.fresh(self._name)
        found = await self._reader.positions_by_time.newest_before(self._name, latest + 1)
        return Head() if found is None else Head.of(found)

    async def _empty_at_end(self, start: PageStart, upper: Head) -> Chunk | None:
        """The empty page of a start after which there is nothing to look at; None if the cursor does not verify."""
        cursor = start.cursor
        if start.verified or cursor == START:
            verifies = True
        elif upper.position == cursor.position:
            verifies = self._reader.proof.of(upper.ukey) == cursor.proof
        else:
            position = cursor.position
            segment = segment_of(position, self._size)
            found = await self._reader.queries.page(
                self._name, segment, first=position, last=position, top=1, max_bytes=0, bare=position
            )
            after = PageStart(cursor, position + 1, verified=False)
            verifies = bool(found) and self._from_first(after, found) is not None
        return Chunk([], cursor, caught_up=True) if verifies else None


def _is_start(cursor: Cursor | None) -> bool:
    """Whether a cursor is at the start of the stream, `before` or not."""
    return cursor is not None and (cursor.position, cursor.proof) == (START.position, START.proof)


class _Window:
    """The rows that one filtered page looks at: at most `scan` rows, and at most 8 segments."""

    def __init__(self, reader: Reader, name: str, request: ReadRequest, start: PageStart, upper: Head) -> None:
        self._reader = reader
        self._name = name
        self._request = request
        self._start = start
        self._condition, self._filter, self._slices = superset(request.filters), RowFilter(request.filters), Slices()
        segment = segment_of(start.first, reader.segment_size)
        reach = first_of(segment + SEGMENTS_AT_ONCE, reader.segment_size) - 1
        self._last = min(upper.position, start.first - 1 + request.scan, reach)
        self.position = start.read_from
        self.documents: list[Document] = []
        self.rows: list[Row] = []
        self.size = 0

    async def scan(self, limit: int) -> None:
        """Look at rows until more than `limit` pass, their texts exceed `max_bytes`, or the window ends."""
        for _ in range(2 * SEGMENTS_AT_ONCE):
            if self.position > self._last or len(self.rows) > limit or self.size > self._request.max_bytes:
                return
            await self._query(limit + 1 + _NOT_MATCHED)

    async def _query(self, top: int) -> None:
        segment = segment_of(self.position, self._reader.segment_size)
        last = min(self._last, first_of(segment + 1, self._reader.segment_size) - 1)
        found = await self._reader.queries.page(
            self._name,
            segment,
            first=self.position,
            last=last,
            top=top,
            max_bytes=max(0, self._request.max_bytes - self.size),
            bare=self._start.bare,
            condition=self._condition,
        )
        self.documents += found
        for row in (Row(document, self._reader.proof) for document in found):
            await self._slices.pause()
            if self._passes(row):
                self.rows.append(row)
                self.size += text_size([row.document])
        is_whole = not found or found[-1]["seq"] == last
        self.position = last + 1 if is_whole else found[-1]["seq"] + 1

    def _passes(self, row: Row) -> bool:
        if row.position < self._start.first or not self._reader.retention.shows(row.document):
            return False
        earliest = self._request.registered_from
        return (earliest is None or row.registered >= earliest) and self._filter.passes(row)
