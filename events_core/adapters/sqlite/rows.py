"""Rows of the file: how an event becomes one, and how it is read back, each part only when it is asked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from events_core.feeds.stream import PROOF_BYTES, Cursor

_LENGTH_BITS = 14
_LENGTH_MASK = (1 << _LENGTH_BITS) - 1
_NAMES_KEPT = 10_000

COLUMNS = (
    "position, registered, identity, resource, type, erased, id_text, source_text, subject_text, instance_text, json, "
    "alternative_text"
)
"""What a Row is made from, in its order."""
REGISTERED, IDENTITY, RESOURCE, TYPE, JSON = 1, 2, 3, 4, 10

Where = int | str | None
"""Where a text stands in an event's JSON (offset and length in one integer); the text itself when it does not."""


def where(text: str | None, json: bytes) -> Where:
    """Where `text` stands in `json`; any occurrence serves. A text that JSON spells with escapes is kept itself."""
    if text is None:
        return None
    spelled = text.encode()
    at = json.find(spelled)
    return text if at < 0 or len(spelled) > _LENGTH_MASK else at << _LENGTH_BITS | len(spelled)


def span(place: int) -> slice:
    """The bytes of the JSON at which `where` found a text."""
    at = place >> _LENGTH_BITS
    return slice(at, at + (place & _LENGTH_MASK))


def text_sql(column: str) -> str:
    """The text of one of the `_text` columns as an expression of SQL."""
    located = f"CAST(substr(json, ({column} >> {_LENGTH_BITS}) + 1, {column} & {_LENGTH_MASK}) AS TEXT)"
    return f"CASE typeof({column}) WHEN 'integer' THEN {located} ELSE {column} END"


def proof(identity: int) -> bytes:
    """A row's identity as a cursor carries it."""
    return identity.to_bytes(PROOF_BYTES, signed=True)


class Names:
    """The interned texts of one file by their ids, as far as this process knows them; ids never change meaning."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def texts(self, connection: sqlite3.Connection, ids: Iterable[int]) -> dict[int, str]:
        """The texts of `ids`; asks the file for those not known yet."""
        known = self._known
        return {each: known.get(each) or self._learn(connection, each) for each in ids}

    def _learn(self, connection: sqlite3.Connection, name: int) -> str:
        (text,) = connection.execute("SELECT text FROM names WHERE id = ?", (name,)).fetchone()
        if len(self._known) >= _NAMES_KEPT:
            self._known = {}
        self._known[name] = text
        return str(text)


class Row:
    """A StoredEvent over the columns as SQLite gave them; texts are cut from the JSON when asked for."""

    __slots__ = ("_columns", "_names")

    def __init__(self, columns: tuple[Any, ...], names: Mapping[int, str]) -> None:
        self._columns = columns
        self._names = names

    @property
    def position(self) -> int:
        """Where the row stands."""
        return int(self._columns[0])

    @property
    def registered(self) -> int:
        """When it was stored, microseconds since the epoch."""
        return int(self._columns[REGISTERED])

    @property
    def json(self) -> bytes | None:
        """The event's own JSON text; None for a tombstone."""
        json: bytes = self._columns[JSON]
        return None if self._columns[5] else json

    @property
    def cursor(self) -> Cursor:
        """The place just after this row."""
        return Cursor(self._columns[0], proof(self._columns[IDENTITY]))

    @property
    def id(self) -> str:
        """The event's `id`."""
        return str(self._text(6))

    @property
    def source(self) -> str:
        """The event's `source`."""
        return str(self._text(7))

    @property
    def type(self) -> str:
        """The event's `type`."""
        return self._names[self._columns[TYPE]]

    @property
    def subject(self) -> str | None:
        """The event's `subject`."""
        return self._text(8)

    @property
    def alternative_subject(self) -> str | None:
        """The event's `alternativesubject`."""
        return self._text(11)

    @property
    def resource(self) -> str:
        """The event's `resource`."""
        return self._names[self._columns[RESOURCE]]

    @property
    def resource_instance(self) -> str | None:
        """The event's `resourceinstance`."""
        return self._text(9)

    def _text(self, column: int) -> str | None:
        place: Where = self._columns[column]
        if isinstance(place, int):
            json: bytes = self._columns[JSON]
            return json[span(place)].decode()
        return place
