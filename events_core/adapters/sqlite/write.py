"""Writes of events inside a transaction: append, erase and expire."""
# ruff: noqa: S608  statements are put together from constants; every value is bound

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from events_core.access.names import Resource, Subject
from events_core.adapters.sqlite.filters import NAMED
from events_core.adapters.sqlite.read import first_registered
from events_core.adapters.sqlite.rows import LONGEST_NAME_KEPT, Location, locate, proof, slice_at, text_sql
from events_core.adapters.sqlite.schema import Session
from events_core.cloudevent import CloudEvent
from events_core.common.texts import fitting, storable
from events_core.feeds.ports import Appended
from events_core.feeds.stream import Cursor

_NAMES_KEPT = 5_000
_EXPIRED_AT_ONCE = 1_000
_EXPIRED_BYTES = 4 * 1024 * 1024

_EXISTING = f"""
SELECT position, json, id_text, source_text, subject_text FROM events INDEXED BY by_identity
WHERE identity = ? AND resource = {NAMED} AND {text_sql("id_text")} = ? AND {text_sql("source_text")} = ? LIMIT 1
"""
_INSERT = """
INSERT INTO events (resource, type, org, subject, alternative, registered, identity,
  id_text, source_text, subject_text, alternative_text, instance_text, json)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_NEWEST = """
SELECT max(coalesce((SELECT registered FROM events ORDER BY position DESC LIMIT 1), 0),
  (SELECT value FROM store WHERE name = 'newest_removed'))
"""
_ERASE = """
UPDATE events SET erased = 1, json = ?, alternative = NULL, alternative_text = NULL, instance_text = NULL
WHERE position = ?
"""
_OLDEST = "SELECT position, registered, length(json) FROM events WHERE position < ? ORDER BY position LIMIT ?"
_FORGET_SUBJECT = "UPDATE events SET subject = NULL, subject_text = NULL WHERE position = ?"


class Transaction:
    """Writes on one connection. The writer begins and ends the transactions; every method runs inside one."""

    def __init__(self, session: Session, clock: Callable[[], int]) -> None:
        self.connection = session.connection
        self._hashes = session.hashes
        self._generation = session.generation
        self._clock = clock
        self._names: dict[str, int] = {}
        self._now = 0

    def begin(self) -> None:
        """Take the time at which this transaction registers events. It is never before the newest row's."""
        (newest,) = self.connection.execute(_NEWEST).fetchone()
        self._now = max(self._clock(), newest)

    def forget(self) -> None:
        """Forget the ids of names, since a rollback may have removed some of them."""
        self._names.clear()

    def append(self, events: Sequence[CloudEvent]) -> list[Appended]:
        """Store the events that do not exist yet; return the outcome for each event."""
        return [self._append(event) for event in events]

    def erase(self, resource: str, source: str, event_id: str) -> bool:
        """Replace an event by a tombstone; return False if there is no such event.

        The row keeps its size and position, so SQLite overwrites it in place and no copy of the event remains.
        """
        resource, source, event_id = storable(resource), storable(source), storable(event_id)
        identity = self._hashes.identity(resource, source, event_id)
        row = self._existing(identity, resource, source, event_id)
        if row is None:
            return False
        position, json, *kept, subject = row
        if Subject.parse(_text(json, subject)).party is not None:
            kept.append(subject)
        else:
            self.connection.execute(_FORGET_SUBJECT, (position,))
        self.connection.execute(_ERASE, (_blanked(json, kept), position))
        return True

    def expire(self, registered_before: int) -> int:
        """Remove some of the oldest rows that were registered before a time; return their number, 0 at the end."""
        first = first_registered(self.connection, registered_before)
        oldest = self.connection.execute(_OLDEST, (first, _EXPIRED_AT_ONCE)).fetchall()
        count = min(fitting((size for _, _, size in oldest), _EXPIRED_BYTES), len(oldest))
        if count:
            position, registered, _ = oldest[count - 1]
            self.connection.execute("UPDATE store SET value = ? WHERE name = 'newest_removed'", (registered,))
            self.connection.execute("DELETE FROM events WHERE position <= ?", (position,))
        return count

    def _append(self, event: CloudEvent) -> Appended:
        identity = self._hashes.identity(event.resource, event.source, event.id)
        existing = self._existing(identity, event.resource, event.source, event.id)
        if existing is not None:
            return Appended(Cursor(existing[0], proof(identity, self._generation)), duplicate=True)
        inserted = self.connection.execute(_INSERT, self._columns(event, identity))
        assert inserted.lastrowid is not None
        return Appended(Cursor(inserted.lastrowid, proof(identity, self._generation)), duplicate=False)

    def _existing(self, identity: int, resource: str, source: str, event_id: str) -> Any:
        """The row of this event, None if there is none. Other events may have the same identity."""
        return self.connection.execute(_EXISTING, (identity, resource, event_id, source)).fetchone()

    def _columns(self, event: CloudEvent, identity: int) -> tuple[Any, ...]:
        app = Resource.parse(event.resource).app
        return (
            self._name(event.resource),
            self._name(event.type),
            None if app is None else self._name(app.org),
            self._hash(event.subject),
            self._hash(event.alternative_subject),
            self._now,
            identity,
            locate(event.id, event.json),
            locate(event.source, event.json),
            locate(event.subject, event.json),
            locate(event.alternative_subject, event.json),
            locate(event.resource_instance, event.json),
            event.json,
        )

    def _hash(self, subject: str | None) -> int | None:
        return None if subject is None else self._hashes.subject(subject)

    def _name(self, text: str) -> int:
        """The id of an interned text, which is added to the file if necessary."""
        known = self._names.get(text)
        return self._learn(text) if known is None else known

    def _learn(self, text: str) -> int:
        self.connection.execute("INSERT OR IGNORE INTO names (text) VALUES (?)", (text,))
        (name,) = self.connection.execute(f"SELECT {NAMED}", (text,)).fetchone()
        if len(text) <= LONGEST_NAME_KEPT:
            if len(self._names) >= _NAMES_KEPT:
                self._names.clear()
            self._names[text] = name
        return int(name)


def _text(json: bytes, location: Location) -> str:
    return json[slice_at(location)].decode() if isinstance(location, int) else location or ""


def _blanked(json: bytes, kept: Sequence[Location]) -> bytes:
    """As many bytes, all of them zero but those at the locations to keep."""
    blank = bytearray(len(json))
    for location in kept:
        if isinstance(location, int):
            blank[slice_at(location)] = json[slice_at(location)]
    return bytes(blank)
