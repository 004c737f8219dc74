"""Rows of the file as events. The texts of an event are cut from its JSON only when they are needed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from typing_extensions import override

from events_core.feeds.ports import StoredEvent
from events_core.feeds.stream import PROOF_BYTES, Cursor

_LENGTH_BITS = 14
_LENGTH_MASK = (1 << _LENGTH_BITS) - 1
_NAMES_KEPT = 10_000
LONGEST_NAME_KEPT = 200
"""How many characters an interned text may have that a process keeps in memory."""

COLUMNS = (
    "position, registered, identity, resource, type, erased, id_text, source_text, subject_text, instance_text, json, "
    "alternative_text"
)
"""The columns of a Row, in its order."""
REGISTERED, IDENTITY, RESOURCE, TYPE, JSON = 1, 2, 3, 4, 10

Location = int | str | None
"""Where a text is in an event's JSON, its offset and length in one integer; or the text itself if it is not there."""


def locate(text: str | None, json: bytes) -> Location:
    """Where a text is in an event's JSON, at any of its occurrences. JSON may escape the text: then the text itself."""
    if text is None:
        return None
    spelled = text.encode()
    at = json.find(spelled)
    return text if at < 0 or len(spelled) > _LENGTH_MASK else at << _LENGTH_BITS | len(spelled)


def slice_at(location: int) -> slice:
    """The bytes of the JSON at which `locate` found a text."""
    at = location >> _LENGTH_BITS
    return slice(at, at + (location & _LENGTH_MASK))


def text_sql(column: str) -> str:
    """The text of one of the `_text` columns as an SQL expression."""
    located = f"CAST(substr(json, ({column} >> {_LENGTH_BITS}) + 1, {column} & {_LENGTH_MASK}) AS TEXT)"
    return f"CASE typeof({column}) WHEN 'integer' THEN {located} ELSE {column} END"


def proof(identity: int, generation: int) -> bytes:
    """The proof in a cursor of the row with this identity, in a store of this generation."""
    return (identity ^ generation).to_bytes(PROOF_BYTES, signed=True)


class Names:
    """The interned texts of one file by id. An id never changes its text, so a process may keep what it has read."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def texts(self, connection: sqlite3.Connection, ids: Iterable[int]) -> dict[int, str]:
        """The texts of these ids."""
        known = self._known
        return {name: known.get(name) or self._learn(connection, name) for name in ids}

    def _learn(self, connection: sqlite3.Connection, name: int) -> str:
        (text,) = connection.execute("SELECT text FROM names WHERE id = ?", (name,)).fetchone()
        if len(text) <= LONGEST_NAME_KEPT:
            if len(self._known) >= _NAMES_KEPT:
                self._known = {}
            self._known[name] = text
        return str(text)


class Row(StoredEvent):
    """A StoredEvent on the columns that SQLite returned."""

    __slots__ = ("_columns", "_generation", "_names")

    def __init__(self, columns: tuple[Any, ...], names: Mapping[int, str], generation: int) -> None:
        self._columns = columns
        self._names = names
        self._generation = generation

    @property
    @override
    def position(self) -> int:
        return int(self._columns[0])

    @property
    @override
    def registered(self) -> int:
        return int(self._columns[REGISTERED])

    @property
    @override
    def json(self) -> bytes | None:
        json: bytes = self._columns[JSON]
        return None if self._columns[5] else json

    @property
    @override
    def cursor(self) -> Cursor:
        return Cursor(self._columns[0], proof(self._columns[IDENTITY], self._generation))

    @property
    @override
    def id(self) -> str:
        return str(self._text(6))

    @property
    @override
    def source(self) -> str:
        return str(self._text(7))

    @property
    @override
    def type(self) -> str:
        return self._names[self._columns[TYPE]]

    @property
    @override
    def subject(self) -> str | None:
        return self._text(8)

    @property
    @override
    def alternative_subject(self) -> str | None:
        return self._text(11)

    @property
    @override
    def resource(self) -> str:
        return self._names[self._columns[RESOURCE]]

    @property
    @override
    def resource_instance(self) -> str | None:
        return self._text(9)

    def _text(self, column: int) -> str | None:
        location: Location = self._columns[column]
        if isinstance(location, int):
            json: bytes = self._columns[JSON]
            return json[slice_at(location)].decode()
        return location
