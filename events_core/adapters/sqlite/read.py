"""Reads of streams: chunks from a cursor or a time, and rows by position or id."""
# ruff: noqa: S608  statements are put together from constants; every value is bound

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import repeat
from operator import itemgetter
from typing import Any

from events_core.adapters.sqlite.filters import (
    NAMED,
    all_of,
    index_for,
    index_of,
    narrowing,
    passing,
    patterns_of,
    rows_of,
)
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
from events_core.common.texts import fitting, storable
from events_core.feeds.ports import FOUND, PAGE_BYTES, Chunk, ReadRequest, RowsAfter
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
    """The chunk that `EventStore.read` returns, from one snapshot of the file."""
    reading = _Reading(session, names, request)
    chunk = reading.after_cursor()
    if chunk is not None:
        return chunk
    session.connection.execute("BEGIN")
    try:
        return reading.of_any_request()
    finally:
        session.connection.execute("COMMIT")


def head(session: Session, stream: Stream) -> int:
    """The newest position of the stream, 0 for an empty stream."""
    rows = rows_of(stream, session.hashes)
    sql = f"SELECT position FROM events INDEXED BY {index_of(stream)} WHERE {rows.sql} ORDER BY position DESC LIMIT 1"
    found = session.connection.execute(sql, rows.values).fetchone()
    return int(found[0]) if found else 0


def changed(session: Session, heads: Mapping[Stream, int]) -> dict[Stream, int]:
    """The newest positions of the streams that have grown."""
    newest = {stream: head(session, stream) for stream in heads}
    return {stream: position for stream, position in newest.items() if position > heads[stream]}


def at(session: Session, names: Names, stream: Stream, positions: Sequence[int]) -> list[Row]:
    """The rows of the stream at these positions, in order."""
    rows = rows_of(stream, session.hashes)
    wanted = ", ".join("?" * len(positions))
    sql = f"SELECT {COLUMNS} FROM events WHERE position IN ({wanted}) AND {rows.sql} ORDER BY position"
    return _decoded(session, names, session.connection.execute(sql, (*positions, *rows.values)).fetchall())


def read_after(session: Session, names: Names, stream: Stream, position: int, limit: int) -> RowsAfter:
    """The next rows of the stream after a position, in order, as many as fit into `PAGE_BYTES`."""
    rows = rows_of(stream, session.hashes)
    sql = f"""SELECT {COLUMNS} FROM events INDEXED BY {index_of(stream)} WHERE {rows.sql} AND position > ?
        ORDER BY position LIMIT ?"""
    page: list[Columns] = []
    left = PAGE_BYTES
    with closing(session.connection.execute(sql, (*rows.values, position, limit + 1))) as found:
        while (row := found.fetchone()) is not None and left > 0 and len(page) < limit:
            page.append(row)
            left -= len(_json(row) or b"")
    return RowsAfter(_decoded(session, names, page), is_end=row is None)


def find(session: Session, names: Names, source: str | None, event_id: str) -> list[Row]:
    """The rows with this id, in order; those with this source, or at most `FOUND` of any source."""
    event_id = storable(event_id)
    condition, values = (f"AND {text_sql('source_text')} = ?", [storable(source)]) if source is not None else ("", [])
    sql = f"""SELECT {COLUMNS} FROM events INDEXED BY by_identity WHERE identity BETWEEN ? AND ?
        AND {text_sql("id_text")} = ? {condition} ORDER BY position LIMIT ?"""
    limit = FOUND if source is None else LARGEST
    bound = (*session.hashes.identities_of_id(event_id), event_id, *values, limit)
    return _decoded(session, names, session.connection.execute(sql, bound).fetchall())


def first_registered(connection: sqlite3.Connection, registered: int) -> int:
    """The first position that was registered at or after a time, LARGEST if there is none.

    Registration never decreases along positions, so every 16th row in the index is enough.
    """
    found = connection.execute(_FIRST_REGISTERED, (max(0, min(registered, LARGEST)),)).fetchone()
    return int(found[0]) if found else LARGEST


class _Reading:
    """One request on one connection."""

    def __init__(self, session: Session, names: Names, request: ReadRequest) -> None:
        self._session = session
        self._connection = session.connection
        self._hashes = session.hashes
        self._names = names
        self._request = request
        self._stream = rows_of(request.stream, session.hashes)
        self._index, self._covered = index_for(request.stream, request.filters)
        self._limit = max(1, min(request.limit, request.scan))

    def after_cursor(self) -> Chunk | None:
        """Fast path: one statement reads the page and the cursor's own row, which verifies the cursor.

        Returns None if the request needs more than that, if the cursor does not verify, or if the rows of a filtering
        index end, since the stream may go on.
        """
        request, cursor = self._request, self._request.cursor
        if (
            cursor is None
            or cursor.position == 0
            or request.registered_to is not None
            or self._covered != request.filters
        ):
            return None
        with closing(self._page(cursor.position, LARGEST, self._limit + 2)) as rows:
            own = rows.fetchone()
            if own is None or self._cursor([(own[0], own[IDENTITY])]) != replace(cursor, before=False):
                return None
            if request.registered_from is not None and own[REGISTERED] < request.registered_from:
                return None
            page, more = self._take(rows, [own] if cursor.before else [])
        return self._chunk(page, cursor, more=more) if more or request.filters.empty else None

    def of_any_request(self) -> Chunk:
        """The chunk of any request. The connection must be in a transaction."""
        request = self._request
        end, lower = self._start()
        upper = LARGEST - 1
        if request.registered_to is not None:
            upper = first_registered(self._connection, request.registered_to + 1) - 1
        if request.registered_from is not None:
            first = first_registered(self._connection, request.registered_from)
            end = self._newest(lower, min(first - 1, upper)) or end
            lower = max(lower, first)
        if not request.filters.empty:
            return self._filtered(end, lower, upper)
        with closing(self._page(lower, upper, self._limit + 1)) as rows:
            page, more = self._take(rows, [])
        return self._chunk(page, end, more=more)

    def _start(self) -> tuple[Cursor, int]:
        """The cursor that the request starts from, and the first position after it.

        A cursor that does not verify makes the event id unknown too: it may be of a store before its restore.
        """
        cursor, event_id = self._request.cursor, self._request.event_id
        if cursor is not None and self._verifies(cursor):
            return cursor, cursor.position + (0 if cursor.before else 1)
        found = self._first_with_id(event_id) if cursor is None and event_id is not None else None
        return (found, found.position + 1) if found else (START, 0)

    def _verifies(self, cursor: Cursor) -> bool:
        if cursor.position == 0:
            return cursor.proof == START.proof
        if cursor.position > LARGEST or len(cursor.proof) != PROOF_BYTES:
            return False
        identity = int.from_bytes(cursor.proof, signed=True) ^ self._session.generation
        sql = f"SELECT 1 FROM events WHERE position = ? AND identity = ? AND {self._stream.sql}"
        return bool(self._fetch(sql, cursor.position, identity, *self._stream.values))

    def _first_with_id(self, event_id: str) -> Cursor | None:
        event_id = storable(event_id)
        sql = f"""SELECT position, identity FROM events INDEXED BY by_identity
            WHERE identity BETWEEN ? AND ? AND {self._stream.sql} AND {text_sql("id_text")} = ?
            ORDER BY position LIMIT 1"""
        bounds = self._hashes.identities_of_id(event_id)
        return self._cursor(self._fetch(sql, *bounds, *self._stream.values, event_id))

    def _newest(self, lower: int, upper: int) -> Cursor | None:
        """The stream's newest row between two positions, both included."""
        sql = f"""SELECT position, identity FROM events INDEXED BY {index_of(self._request.stream)}
            WHERE {self._stream.sql} AND position BETWEEN ? AND ? ORDER BY position DESC LIMIT 1"""
        return self._cursor(self._fetch(sql, *self._stream.values, lower, upper))

    def _page(self, lower: int, upper: int, limit: int) -> sqlite3.Cursor:
        """The rows in the order of the index, for a request whose filters the index covers."""
        picked = self._stream
        if not self._covered.empty:
            picked = all_of([picked, passing(self._covered, self._hashes)])
        sql = _page_sql(self._index, picked.sql)
        return self._connection.execute(sql, (*picked.values, min(lower, LARGEST), upper, limit))

    def _filtered(self, start: Cursor, lower: int, upper: int) -> Chunk:
        """The chunk of rows that match the filters, among at most `scan` rows.

        The outer query drives the inner one, so a page that fills early scans few rows.
        """
        if self._names_something_unknown():
            return Chunk([], self._newest(lower, upper) or start, caught_up=True)
        window = all_of([self._stream, narrowing(self._covered, self._hashes)])
        inner = (
            f"FROM events INDEXED BY {self._index} WHERE {window.sql} AND position BETWEEN ? AND ? ORDER BY position"
        )
        bounds = (*window.values, lower, upper)
        scan = max(1, self._request.scan)
        matching = passing(self._request.filters, self._hashes)
        self._session.patterns.update(patterns_of(self._request.filters))
        sql = f"""SELECT {COLUMNS} FROM (SELECT position AS scanned {inner} LIMIT ?)
            CROSS JOIN events ON position = scanned WHERE {matching.sql} LIMIT ?"""
        values = (*bounds, scan, *matching.values, self._limit + 1)
        with closing(self._connection.execute(sql, values)) as rows:
            page, more = self._take(rows, [])
        if more:
            return self._chunk(page, start, more=True)
        last = self._fetch(f"SELECT position, identity {inner} LIMIT 2 OFFSET ?", *bounds, scan - 1)
        more = len(last) == 2
        end = self._cursor(last) if more else self._newest(lower, upper)
        return Chunk(self._decode(page), end or start, caught_up=not more)

    def _names_something_unknown(self) -> bool:
        """Whether a filter names an org or a resource that the file does not have."""
        wanted = (self._request.filters.org, self._request.filters.resource)
        return any(self._fetch(f"SELECT {NAMED}", storable(n)) == [(None,)] for n in wanted if n is not None)

    def _take(self, rows: sqlite3.Cursor, page: list[Columns]) -> tuple[list[Columns], bool]:
        """The page that these rows complete, and whether there was one more row."""
        size = sum(map(len, map(_json, page)))
        while len(page) <= self._limit:
            fetched = rows.fetchmany(_FETCHED_AT_ONCE)
            size += sum(map(len, map(_json, fetched)))
            page += fetched
            if size > self._request.max_bytes:
                return self._cut(page)
            if len(fetched) < _FETCHED_AT_ONCE:
                break
        return page[: self._limit], len(page) > self._limit

    def _cut(self, page: list[Columns]) -> tuple[list[Columns], bool]:
        """The rows of a page whose texts fit into `max_bytes`, at least one of them."""
        count = min(fitting(map(len, map(_json, page)), self._request.max_bytes), self._limit)
        return page[:count], len(page) > count

    def _chunk(self, page: list[Columns], start: Cursor, *, more: bool) -> Chunk:
        rows = self._decode(page)
        return Chunk(rows, rows[-1].cursor if rows else start, caught_up=not more)

    def _decode(self, page: list[Columns]) -> list[Row]:
        return _decoded(self._session, self._names, page)

    def _cursor(self, rows: list[Columns]) -> Cursor | None:
        """The cursor of the first of some rows of position and identity."""
        return Cursor(rows[0][0], proof(rows[0][1], self._session.generation)) if rows else None

    def _fetch(self, sql: str, *values: int | str) -> list[Columns]:
        return self._connection.execute(sql, values).fetchall()


def _page_sql(index: str, condition: str) -> str:
    return f"""SELECT {COLUMNS} FROM events INDEXED BY {index}
        WHERE {condition} AND position BETWEEN ? AND ? ORDER BY position LIMIT ?"""


def _decoded(session: Session, names: Names, page: list[Columns]) -> list[Row]:
    texts = names.texts(session.connection, {*map(_resource, page), *map(_type, page)})
    return list(map(Row, page, repeat(texts), repeat(session.generation)))
