"""Reading chunks of a stream: the start, the proof of place, the page without a hole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from logging import getLogger

from events_core.adapters.cosmos.streams.cursors import CursorDocuments
from events_core.adapters.cosmos.streams.documents import CursorProof, Document, Row
from events_core.adapters.cosmos.streams.filters import ALWAYS, passes, superset
from events_core.adapters.cosmos.streams.heads import Head, Heads
from events_core.adapters.cosmos.streams.names import LARGEST_POSITION, first_of, segment_of
from events_core.adapters.cosmos.streams.positions import PositionsByTime
from events_core.adapters.cosmos.streams.queries import StreamQueries
from events_core.common import errors
from events_core.feeds.ports import Chunk, ReadRequest
from events_core.feeds.stream import PROOF_BYTES, START, Cursor, Stream

_log = getLogger(__name__)

SEGMENTS_AT_ONCE = 8
_TRIES = 3
_NOT_MATCHED = 3
"""Rows that a filtered query gives besides: the one before, the first, and the last of its window."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: just before `first`, which is `cursor`. It is proven by the page itself unless `proven`."""

    cursor: Cursor
    first: int
    proven: bool

    @property
    def start(self) -> int:
        """The position to read from, so that the place is proven along."""
        return self.first if self.proven or self.cursor == START else self.cursor.position

    @property
    def bare(self) -> int:
        """The position that is read for the proof alone, 0 when there is none."""
        return self.start if self.start < self.first else 0


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads streams by their stored names. `hole_seconds` is how long a missing document may be merely late."""

    queries: StreamQueries
    cursors: CursorDocuments
    heads: Heads
    positions_by_time: PositionsByTime
    proof: CursorProof
    segment_size: int
    hole_seconds: float = 60.0

    async def read(self, name: str, request: ReadRequest) -> Chunk:
        """Answer `EventStore.read`."""
        reading = _Reading(self, name, request)
        place = reading.given()
        for _ in range(_TRIES):
            chunk = await reading.chunk(place) if place is not None else None
            if chunk is not None:
                return chunk
            place = await reading.sought()
        raise errors.unavailable("The event store removes what is being read.")

    async def rows_after(self, name: str, position: int, limit: int) -> Sequence[Row]:
        """Answer `StreamLedger.read_after`."""
        request = ReadRequest(Stream(name), limit=limit)
        place = Place(START, position + 1, proven=True)
        for _ in range(_TRIES):
            chunk = await _Reading(self, name, request).chunk(place)
            if chunk is not None and (chunk.rows or self._ends_in(name, place.first)):
                return [row for row in chunk.rows if isinstance(row, Row)]
            floor = (await self.cursors.bounds(name)).floor
            if chunk is not None and floor <= place.first:
                return []
            place = Place(START, max(floor, place.first), proven=True)
        raise errors.unavailable("The event store removes what is being read.")

    async def rows_at(self, name: str, positions: Sequence[int]) -> list[Row]:
        """Answer `EventStore.at`."""
        segments: dict[int, list[int]] = {}
        for position in positions:
            segments.setdefault(segment_of(position, self.segment_size), []).append(position)
        found = await asyncio.gather(*(self.queries.at(name, each, some) for each, some in segments.items()))
        rows = [Row(document, self.proof) for some in found for document in some if not document.get("kept")]
        return sorted(rows, key=lambda row: row.position)

    async def rows_of(self, source: str, event_id: str) -> list[Row]:
        """Answer `EventStore.find`."""
        rows = [Row(document, self.proof) for document in await self.queries.find(source, event_id)]
        return [row for row in rows if row.source == source and row.document["stream"].startswith("resource:")]

    def _ends_in(self, name: str, position: int) -> bool:
        """Whether the stream's head is known to stand in the segment of a position."""
        known = self.heads.known(name)
        return known is not None and segment_of(known.position, self.segment_size) == segment_of(
            position, self.segment_size
        )


class _Reading:
    """One request."""

    def __init__(self, reader: Reader, name: str, request: ReadRequest) -> None:
        self._reader = reader
        self._name = name
        self._request = request
        self._size = reader.segment_size
        self._limit = max(1, min(request.limit, request.scan))
        self._proven: Place | None = None
        self._whole = False
        """Whether the very first row stands: then nothing below a floor has been removed yet."""

    def given(self) -> Place | None:
        """The place that the request names, unproven; None when it has to be sought."""
        request, cursor = self._request, self._request.cursor
        if cursor is None:
            cursor = START if request.event_id is None else None
        if cursor is None or cursor.position > LARGEST_POSITION or len(cursor.proof) != PROOF_BYTES:
            return None
        if cursor.position == 0:
            return Place(START, 1, proven=False) if _is_start(cursor) and request.registered_from is None else None
        return Place(cursor, cursor.position + (0 if cursor.before else 1), proven=False)

    async def sought(self) -> Place:
        """The place that the request means, when the one that it names is none or not all that it asks for."""
        place, floor = self._proven or await self._with_id(), None
        if self._request.registered_from is not None:
            found, floor = await self._reader.positions_by_time.newest_before(self._name, self._request.registered_from)
            if found is not None and (place is None or found["seq"] >= place.first):
                return Place(self._reader.proof.cursor(found), found["seq"] + 1, proven=True)
        if place is None and floor is None and self._whole:
            return Place(START, 1, proven=False)
        if place is None:
            floor = floor or (await self._reader.cursors.bounds(self._name)).floor
            place = Place(START, floor, proven=True)
        return place

    async def chunk(self, place: Place) -> Chunk | None:
        """The page from a place on; None when that is not the place after all, or earlier than the request asks for."""
        return await (self._page(place) if self._request.filters.empty else self._filtered(place))

    async def _with_id(self) -> Place | None:
        """The place just after the first event with the id that the request names.

        A namesake may stand in any segment. While there is but one, it alone is asked, and tells that there is no
        other: what this process knew as the head stands there still, and the segment's last row does not.
        """
        event_id, queries = self._request.event_id, self._reader.queries
        if event_id is None or _is_start(self._request.cursor):
            return None
        known, found, is_alone = self._reader.heads.known(self._name), None, False
        if known is not None and 0 < known.position < self._size:
            places = (1, known.position, self._size)
            found, standing = await queries.with_id(self._name, event_id, places)
            self._whole = 1 in standing
            is_alone = known.position in standing and self._size not in standing
        if found is None and not is_alone:
            found = await queries.with_id_anywhere(self._name, event_id)
        return Place(self._reader.proof.cursor(found), found["seq"] + 1, proven=True) if found else None

    async def _page(self, place: Place) -> Chunk | None:
        """The page of all rows."""
        documents, more = await self._documents(place)
        if not place.proven and not documents:
            return await self._nothing(place)
        rows = self._proved(place, documents)
        if rows is None or self._is_early(rows):
            return None
        dense = await self._dense(rows, place.first)
        if dense is None:
            self._proven = None
            return None
        if dense:
            self._reader.heads.see(self._name, dense[-1]["seq"])
        if not more and len(dense) == len(rows) and dense:
            self._reader.heads.learn(self._name, Head.of(dense[-1]))
        visible = [Row(each, self._reader.proof) for each in dense if not each.get("kept")]
        return self._chunk(place, visible, more=more and len(dense) == len(rows))

    async def _documents(self, place: Place) -> tuple[list[Document], bool]:
        """The documents of a page and of its proof; and whether there may be more."""
        documents: list[Document] = []
        top = self._limit + 1 + (1 if place.bare else 0)
        position, room = place.start, self._request.max_bytes
        for _ in range(SEGMENTS_AT_ONCE):
            segment = segment_of(position, self._size)
            last = first_of(segment + 1, self._size) - 1
            wanted = top - len(documents)
            found = await self._reader.queries.page(
                self._name, segment, position, last, wanted, room, place.bare, ALWAYS
            )
            documents += found
            room -= sum(len(each.get("json") or "") for each in found)
            if len(found) == wanted or room < 0:
                return documents, True
            if not found or found[-1]["seq"] < last:
                return documents, False
            position = last + 1
        return documents, True

    async def _nothing(self, place: Place) -> Chunk | None:
        """The chunk when not even the proof of the place is there, because there is none yet, or it is late."""
        position = place.cursor.position
        if position > self._reader.heads.seen(self._name):
            return None
        floor = (await self._reader.cursors.bounds(self._name)).floor
        is_late = floor <= max(position, 1)  # else retention has removed it
        return Chunk([], place.cursor, caught_up=True) if is_late else None

    def _proved(self, place: Place, documents: list[Document]) -> list[Document] | None:
        """The documents from `place.first` on, once they prove the place; None when they do not."""
        if place.proven or not documents:
            return documents
        first = documents[0]
        if place.cursor == START:
            return documents if first["seq"] == 1 else None
        if first["seq"] == place.cursor.position:
            if self._reader.proof.of(first["ukey"]) != place.cursor.proof:
                return None
            self._proven = Place(place.cursor, place.first, proven=True)
            return documents[1:] if place.bare else documents
        # What retention has removed up to here is gone for whoever starts over, too.
        is_oldest = first["seq"] == place.first and place.bare and self._request.event_id is None
        return documents if is_oldest else None

    def _is_early(self, documents: Sequence[Document]) -> bool:
        """Whether rows come first that were registered before the request's moment."""
        moment = self._request.registered_from
        return moment is not None and bool(documents) and documents[0]["registered"] < moment

    async def _dense(self, documents: Sequence[Document], first: int) -> Sequence[Document] | None:
        """The documents up to the first hole; None when it is at the very beginning, and retention's.

        Raises:
            StreamHoleError: when the hole is at the very beginning and too old to be filled.
        """
        holes = (n for n, each in enumerate(documents) if each["seq"] != first + n)
        hole = next(holes, None)
        if hole is None:
            return documents
        if hole == 0 and (await self._reader.cursors.bounds(self._name)).floor > first:
            return None
        age = time.time() - min(int(each["_ts"]) for each in documents[hole:])
        if age > self._reader.hole_seconds:
            _log.error("A stream has a hole", extra={"stream": self._name, "position": first + hole})
            if hole == 0:
                raise errors.StreamHoleError
        return documents[:hole]

    def _chunk(self, place: Place, rows: Sequence[Row], *, more: bool) -> Chunk:
        """As many of the rows as the request asks for."""
        last = self._request.registered_to
        within = rows if last is None else [row for row in rows if row.registered <= last]
        more = more and len(within) == len(rows)
        sizes = accumulate(len(row.json or b"") for row in within)
        fitting = sum(size <= self._request.max_bytes for size in sizes)
        taken = within[: max(1, min(fitting, self._limit))]
        end = taken[-1].cursor if taken else place.cursor
        return Chunk(taken, end, caught_up=not more and len(taken) == len(within))

    async def _filtered(self, place: Place) -> Chunk | None:
        """The page of the rows that pass the filters, of those that stand when it begins."""
        upper = await self._upper()
        if place.first > upper.position or upper.kept:
            return await self._beyond(place, upper)
        window = _Window(self._reader, self._name, self._request, place, upper)
        await window.scan(self._limit)
        documents = window.documents
        if not documents:
            return Chunk([], place.cursor, caught_up=True) if place.proven else await self._nothing(place)
        if self._proved(place, documents) is None or (place.bare and self._is_early(documents)):
            return None
        if len(window.rows) > self._limit or window.size > self._request.max_bytes:
            return self._chunk(place, window.rows, more=True)
        return Chunk(window.rows, self._reader.proof.cursor(documents[-1]), caught_up=window.position > upper.position)

    async def _upper(self) -> Head:
        """The last row that a filtered page may look at."""
        last = self._request.registered_to
        if last is None:
            return await self._reader.heads.fresh(self._name)
        found, _ = await self._reader.positions_by_time.newest_before(self._name, last + 1)
        return Head() if found is None else Head.of(found)

    async def _beyond(self, place: Place, upper: Head) -> Chunk | None:
        """The empty page of a place that has nothing after it, once that is proven."""
        if upper.kept:
            return Chunk([], START, caught_up=True)
        if place.proven or place.cursor == START:
            return Chunk([], place.cursor, caught_up=True)
        if upper.position == place.cursor.position:
            return (
                Chunk([], place.cursor, caught_up=True)
                if self._reader.proof.of(upper.ukey) == place.cursor.proof
                else None
            )
        position = place.cursor.position
        found = await self._reader.queries.page(
            self._name, segment_of(position, self._size), position, position, 1, 0, position, ALWAYS
        )
        proved = bool(found) and self._proved(Place(place.cursor, position + 1, proven=False), found) is not None
        return Chunk([], place.cursor, caught_up=True) if proved else None


def _is_start(cursor: Cursor | None) -> bool:
    """Whether a cursor is the place before the first row, from whichever side."""
    return cursor is not None and (cursor.position, cursor.proof) == (START.position, START.proof)


class _Window:
    """The rows that one filtered page looks at: `scan` of them, in 8 segments at most."""

    def __init__(self, reader: Reader, name: str, request: ReadRequest, place: Place, upper: Head) -> None:
        self._reader = reader
        self._name = name
        self._request = request
        self._place = place
        self._passing = superset(request.filters)
        segment = segment_of(place.first, reader.segment_size)
        reach = first_of(segment + SEGMENTS_AT_ONCE, reader.segment_size) - 1
        self._last = min(upper.position, place.first - 1 + request.scan, reach)
        self.position = place.start
        self.documents: list[Document] = []
        self.rows: list[Row] = []
        self.size = 0

    async def scan(self, limit: int) -> None:
        """Look at rows until more than `limit` pass, their texts are too large, or the window ends."""
        for _ in range(2 * SEGMENTS_AT_ONCE):
            if self.position > self._last or len(self.rows) > limit or self.size > self._request.max_bytes:
                return
            await self._step(limit + 1 + _NOT_MATCHED)

    async def _step(self, top: int) -> None:
        segment = segment_of(self.position, self._reader.segment_size)
        last = min(self._last, first_of(segment + 1, self._reader.segment_size) - 1)
        room = max(0, self._request.max_bytes - self.size)
        found = await self._reader.queries.page(
            self._name, segment, self.position, last, top, room, self._place.bare, self._passing
        )
        self.documents += found
        for document in found:
            row = Row(document, self._reader.proof)
            if self._is_wanted(row):
                self.rows.append(row)
                self.size += len(document.get("json") or "")
        whole = not found or found[-1]["seq"] == last
        self.position = last + 1 if whole else found[-1]["seq"] + 1

    def _is_wanted(self, row: Row) -> bool:
        if row.position < self._place.first or row.document.get("kept"):
            return False
        moment = self._request.registered_from
        return (moment is None or row.registered >= moment) and passes(self._request.filters, row)
