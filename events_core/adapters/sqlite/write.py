"""What the writer does inside its transaction: append, erase, expire."""
# ruff: noqa: S608  statements are put together from constants; every value is bound

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from events_core.access.names import Resource, Subject
from events_core.adapters.sqlite.filters import NAMED
from events_core.adapters.sqlite.hashes import storable
from events_core.adapters.sqlite.read import first_registered
from events_core.adapters.sqlite.rows import proof, span, text_sql, where
from events_core.adapters.sqlite.schema import Session
from events_core.cloudevent import CloudEvent
from events_core.feeds.ports import Appended
from events_core.feeds.stream import Cursor

_NAMES_KEPT = 20_000
_EXPIRED_AT_ONCE = 1_000
_EXPIRED_BYTES = 4 * 1024 * 1024

_STANDING = f"""
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
    """The writing side of the file, for one connection; every method is called inside a transaction."""

    def __init__(self, session: Session, clock: Callable[[], int]) -> None:
        self.connection = session.connection
        self._hashes = session.hashes
        self._clock = clock
        self._names: dict[str, int] = {}
        self._now = 0

    def begin(self) -> None:
        """Take the moment at which everything in this transaction is registered: never before what stands."""
        (newest,) = self.connection.execute(_NEWEST).fetchone()
        self._now = max(self._clock(), newest)

    def forget(self) -> None:
        """Forget what a transaction that is rolled back has made known."""
        self._names.clear()

    def append(self, events: Sequence[CloudEvent]) -> list[Appended]:
        """Answer `EventStore.append`."""
        return [self._append(event) for event in events]

    def erase(self, resource: str, source: str, event_id: str) -> bool:
        """Answer `EventStore.erase`.

        The row keeps its size and place, so that SQLite overwrites it where it stands and no copy of it is made.
        """
        resource, source, event_id = storable(resource), storable(source), storable(event_id)
        identity = self._hashes.identity(resource, source, event_id)
        row = self._standing(identity, resource, source, event_id)
        if row is None:
            return False
        position, json, *kept, subject = row
        if self._is_party(json, subject):
            kept.append(subject)
        else:
            self.connection.execute(_FORGET_SUBJECT, (position,))
        self.connection.execute(_ERASE, (_blanked(json, kept), position))
        return True

    def expire(self, registered_before: int) -> int:
        """Remove some of the oldest rows, registered before a moment; return how many, 0 when none is left."""
        first = first_registered(self.connection, registered_before)
        oldest = self.connection.execute(_OLDEST, (first, _EXPIRED_AT_ONCE)).fetchall()
        sizes = accumulate(size for _, _, size in oldest)
        count = sum(size <= _EXPIRED_BYTES for size in sizes) or len(oldest[:1])
        if count:
            position, registered, _ = oldest[count - 1]
            self.connection.execute("UPDATE store SET value = ? WHERE name = 'newest_removed'", (registered,))
            self.connection.execute("DELETE FROM events WHERE position <= ?", (position,))
        return count

    def _append(self, event: CloudEvent) -> Appended:
        identity = self._hashes.identity(event.resource, event.source, event.id)
        standing = self._standing(identity, event.resource, event.source, event.id)
        if standing is not None:
            return Appended(Cursor(standing[0], proof(identity)), duplicate=True)
        inserted = self.connection.execute(_INSERT, self._columns(event, identity))
        assert inserted.lastrowid is not None
        return Appended(Cursor(inserted.lastrowid, proof(identity)), duplicate=False)

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
            where(event.id, event.json),
            where(event.source, event.json),
            where(event.subject, event.json),
            where(event.alternative_subject, event.json),
            where(event.resource_instance, event.json),
            event.json,
        )

    def _hash(self, subject: str | None) -> int | None:
        return None if subject is None else self._hashes.subject(subject)

    def _name(self, text: str) -> int:
        known = self._names.get(text)
        return self._learn(text) if known is None else known

    def _learn(self, text: str) -> int:
        if len(self._names) >= _NAMES_KEPT:
            self._names.clear()
        self.connection.execute("INSERT OR IGNORE INTO names (text) VALUES (?)", (text,))
        (name,) = self.connection.execute(f"SELECT {NAMED}", (text,)).fetchone()
        self._names[text] = name
        return int(name)

    def _standing(self, identity: int, resource: str, source: str, event_id: str) -> Any:
        """The row that is this very event, among those whose identities hash alike."""
        return self.connection.execute(_STANDING, (identity, resource, event_id, source)).fetchone()

    @staticmethod
    def _is_party(json: bytes, subject: int | str | None) -> bool:
        text = json[span(subject)].decode() if isinstance(subject, int) else subject or ""
        return Subject.parse(text).party is not None


def _blanked(json: bytes, kept: Sequence[int | str | None]) -> bytes:
    """As many bytes, of which only the places that are kept say something still."""
    blank = bytearray(len(json))
    for place in kept:
        if isinstance(place, int):
            blank[span(place)] = json[span(place)]
    return bytes(blank)
