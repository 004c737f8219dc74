"""Reading chunks of a stream: the start, the bounds, the page."""
# ruff: noqa: S608  statements are put together from constants; every value is bound

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from itertools import accumulate, repeat
from operator import itemgetter
from typing import Any

from events_core.adapters.sqlite.filters import NAMED, all_of, index_for, index_of, narrowing, passing, rows_of
from events_core.adapters.sqlite.hashes import storable
from events_core.adapters.sqlite.rows import (
    COLUMNS,
    IDENTITY,
    JSON,
    REGISTERED,
    RESOURCE,
    TYPE,
    Names,
    Row,
    proof,
    text_sql,
)
from events_core.adapters.sqlite.schema import LARGEST, SAMPLED, Session
from events_core.feeds.ports import Chunk, ReadRequest
from events_core.feeds.stream import PROOF_BYTES, START, Cursor, Stream

_FIRST_REGISTERED = f"""
SELECT position FROM events WHERE registered >= ?1 AND position > coalesce((
  SELECT position FROM events INDEXED BY by_registered WHERE position % {SAMPLED} = 0 AND registered < ?1
  ORDER BY registered DESC, position DESC LIMIT 1), 0)
ORDER BY position LIMIT 1
"""

_FETCHED_AT_ONCE = 64
_resource, _type, _json = itemgetter(RESOURCE), itemgetter(TYPE), itemgetter(JSON)

Columns = tuple[Any, ...]


def read(session: Session, names: Names, request: ReadRequest) -> Chunk:
    """Answer `EventStore.read` from one snapshot of the file."""
    reading = _Reading(session, names, request)
    chunk = reading.straight()
    if chunk is not None:
        return chunk
    session.connection.execute("BEGIN")
    try:
        return reading.bounded()
    finally:
        session.connection.execute("COMMIT")


def head(session: Session, stream: Stream) -> int:
    """Answer `EventStore.head`."""
    rows = rows_of(stream, session.hashes)
    sql = f"SELECT position FROM events INDEXED BY {index_of(stream)} WHERE {rows.sql} ORDER BY position DESC LIMIT 1"
    found = session.connection.execute(sql, rows.values).fetchone()
    return int(found[0]) if found else 0


def at(session: Session, names: Names, stream: Stream, positions: Sequence[int]) -> list[Row]:
    """Answer `EventStore.at`."""
    rows = rows_of(stream, session.hashes)
    wanted = ", ".join("?" * len(positions))
    sql = f"SELECT {COLUMNS} FROM events WHERE position IN ({wanted}) AND {rows.sql} ORDER BY position"
    return _decoded(session, names, session.connection.execute(sql, (*positions, *rows.values)).fetchall())


def after(session: Session, names: Names, stream: Stream, position: int, limit: int) -> list[Row]:
    """Answer `StreamLedger.read_after`."""
    rows = rows_of(stream, session.hashes)
    sql = f"""SELECT {COLUMNS} FROM events INDEXED BY {index_of(stream)} WHERE {rows.sql} AND position > ?
        ORDER BY position LIMIT ?"""
    return _decoded(session, names, session.connection.execute(sql, (*rows.values, position, limit)).fetchall())


def find(session: Session, names: Names, source: str, event_id: str) -> list[Row]:
    """Answer `EventStore.find`."""
    source, event_id = storable(source), storable(event_id)
    sql = f"""SELECT {COLUMNS} FROM events INDEXED BY by_identity WHERE identity BETWEEN ? AND ?
        AND {text_sql("id_text")} = ? AND {text_sql("source_text")} = ? ORDER BY position"""
    values = (*session.hashes.identities_of_id(event_id), event_id, source)
    return _decoded(session, names, session.connection.execute(sql, values).fetchall())


def _decoded(session: Session, names: Names, taken: list[Columns]) -> list[Row]:
    texts = names.texts(session.connection, {*map(_resource, taken), *map(_type, taken)})
    return list(map(Row, taken, repeat(texts)))


def first_registered(connection: sqlite3.Connection, registered: int) -> int:
    """The first position whose row was registered at or after a moment; LARGEST when there is none.

    Registration never decreases along positions, so every 16th row in the index suffices.
    """
    found = connection.execute(_FIRST_REGISTERED, (max(0, min(registered, LARGEST)),)).fetchone()
    return int(found[0]) if found else LARGEST


class _Reading:
    """One request against one connection."""

    def __init__(self, session: Session, names: Names, request: ReadRequest) -> None:
        self._session = session
        self._connection = session.connection
        self._hashes = session.hashes
        self._names = names
        self._request = request
        self._stream = rows_of(request.stream, session.hashes)
        self._index, self._answered = index_for(request.stream, request.filters)
        self._limit = max(1, min(request.limit, request.scan))

    def straight(self) -> Chunk | None:
        """The page just after the cursor, whose row is read along to prove it: one statement.

        None when the request asks for more than that, the cursor does not verify, or the rows that an index has
        picked end while the stream may go on.
        """
        request, cursor = self._request, self._request.cursor
        if (
            cursor is None
            or cursor.position == 0
            or request.registered_to is not None
            or self._answered != request.filters
        ):
            return None
        with closing(self._page(cursor.position, LARGEST, self._limit + 2)) as rows:
            proof = rows.fetchone()
            if proof is None or not _proves(proof, cursor):
                return None
            if request.registered_from is not None and proof[REGISTERED] < request.registered_from:
                return None
            page = self._take(rows, [proof] if cursor.before else [])
        return self._chunk(page, cursor) if page[1] or request.filters.empty else None

    def bounded(self) -> Chunk:
        """The page of any request; the connection is in a transaction."""
        request = self._request
        place, lower = self._start()
        upper = LARGEST - 1
        if request.registered_to is not None:
            upper = first_registered(self._connection, request.registered_to + 1) - 1
        if request.registered_from is not None:
            first = first_registered(self._connection, request.registered_from)
            place = self._newest(lower, min(first - 1, upper)) or place
            lower = max(lower, first)
        if not request.filters.empty:
            return self._filtered(place, lower, upper)
        with closing(self._page(lower, upper, self._limit + 1)) as rows:
            return self._chunk(self._take(rows, []), place)

    def _start(self) -> tuple[Cursor, int]:
        """The place that the request starts from, and the first position after it."""
        cursor, event_id = self._request.cursor, self._request.event_id
        if cursor is not None and self._verifies(cursor):
            return cursor, cursor.position + (0 if cursor.before else 1)
        found = self._first_with_id(event_id) if event_id is not None else None
        return (found, found.position + 1) if found else (START, 0)

    def _verifies(self, cursor: Cursor) -> bool:
        if cursor.position == 0:
            return cursor.proof == START.proof
        if cursor.position > LARGEST or len(cursor.proof) != PROOF_BYTES:
            return False
        identity = int.from_bytes(cursor.proof, signed=True)
        sql = f"SELECT 1 FROM events WHERE position = ? AND identity = ? AND {self._stream.sql}"
        return bool(self._rows(sql, cursor.position, identity, *self._stream.values))

    def _first_with_id(self, event_id: str) -> Cursor | None:
        event_id = storable(event_id)
        sql = f"""SELECT position, identity FROM events INDEXED BY by_identity
            WHERE identity BETWEEN ? AND ? AND {self._stream.sql} AND {text_sql("id_text")} = ?
            ORDER BY position LIMIT 1"""
        bounds = self._hashes.identities_of_id(event_id)
        return _cursor(self._rows(sql, *bounds, *self._stream.values, event_id))

    def _newest(self, lower: int, upper: int) -> Cursor | None:
        """The stream's newest row between two positions, both included."""
        sql = f"""SELECT position, identity FROM events INDEXED BY {index_of(self._request.stream)}
            WHERE {self._stream.sql} AND position BETWEEN ? AND ? ORDER BY position DESC LIMIT 1"""
        return _cursor(self._rows(sql, *self._stream.values, lower, upper))

    def _page(self, lower: int, upper: int, limit: int) -> sqlite3.Cursor:
        """The rows along the index, which answers all the filters."""
        picked = self._stream
        if not self._answered.empty:
            picked = all_of([picked, passing(self._answered, self._hashes)])
        sql = _page_sql(self._index, picked.sql)
        return self._connection.execute(sql, (*picked.values, min(lower, LARGEST), upper, limit))

    def _filtered(self, place: Cursor, lower: int, upper: int) -> Chunk:
        """The page of the rows that pass the filters, `scan` rows examined at most.

        The inner query runs as far as the outer one asks it to, so a page that fills soon examines few rows.
        """
        if self._nothing_passes():
            return Chunk([], self._newest(lower, upper) or place, caught_up=True)
        window = all_of([self._stream, narrowing(self._answered, self._hashes)])
        inner = (
            f"FROM events INDEXED BY {self._index} WHERE {window.sql} AND position BETWEEN ? AND ? ORDER BY position"
        )
        bounds = (*window.values, lower, upper)
        scan = max(1, self._request.scan)
        passing_ = passing(self._request.filters, self._hashes)
        sql = f"""SELECT {COLUMNS} FROM (SELECT position AS place {inner} LIMIT ?)
            CROSS JOIN events ON position = place WHERE {passing_.sql} LIMIT ?"""
        values = (*bounds, scan, *passing_.values, self._limit + 1)
        with closing(self._connection.execute(sql, values)) as rows:
            taken, more = self._take(rows, [])
        if more:
            return self._chunk((taken, more), place)
        last = self._rows(f"SELECT position, identity {inner} LIMIT 2 OFFSET ?", *bounds, scan - 1)
        more = len(last) == 2
        end = _cursor(last) if more else self._newest(lower, upper)
        return Chunk(self._decoded(taken), end or place, caught_up=not more)

    def _nothing_passes(self) -> bool:
        """Whether a filter names an org or resource of which the file has never heard."""
        wanted = (self._request.filters.org, self._request.filters.resource)
        return any(self._rows(f"SELECT {NAMED}", storable(n)) == [(None,)] for n in wanted if n is not None)

    def _take(self, rows: sqlite3.Cursor, taken: list[Columns]) -> tuple[list[Columns], bool]:
        """The rows of one page, after those taken already, and whether there was one more."""
        size = sum(map(len, map(_json, taken)))
        while len(taken) <= self._limit:
            some = rows.fetchmany(_FETCHED_AT_ONCE)
            size += sum(map(len, map(_json, some)))
            taken += some
            if size > self._request.max_bytes:
                return self._cut(taken)
            if len(some) < _FETCHED_AT_ONCE:
                break
        return taken[: self._limit], len(taken) > self._limit

    def _cut(self, taken: list[Columns]) -> tuple[list[Columns], bool]:
        """The rows of a page of large events: as many as have their texts within `max_bytes`, one at least."""
        fitting = sum(size <= self._request.max_bytes for size in accumulate(map(len, map(_json, taken))))
        count = max(1, min(fitting, self._limit))
        return taken[:count], len(taken) > count

    def _chunk(self, page: tuple[list[Columns], bool], place: Cursor) -> Chunk:
        taken, more = page
        rows = self._decoded(taken)
        return Chunk(rows, rows[-1].cursor if rows else place, caught_up=not more)

    def _decoded(self, taken: list[Columns]) -> list[Row]:
        return _decoded(self._session, self._names, taken)

    def _rows(self, sql: str, *values: int | str) -> list[Columns]:
        return self._connection.execute(sql, values).fetchall()


@cache
def _page_sql(index: str, condition: str) -> str:
    return f"""SELECT {COLUMNS} FROM events INDEXED BY {index}
        WHERE {condition} AND position BETWEEN ? AND ? ORDER BY position LIMIT ?"""


def _proves(row: Columns, cursor: Cursor) -> bool:
    return bool(row[0] == cursor.position) and proof(row[IDENTITY]) == cursor.proof


def _cursor(rows: list[Columns]) -> Cursor | None:
    return Cursor(rows[0][0], proof(rows[0][1])) if rows else None
