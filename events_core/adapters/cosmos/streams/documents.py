"""Documents of the container `streams`: how an event becomes one, and how it is read back."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from events_core.access.names import Resource, Subject
from events_core.cloudevent import CloudEvent
from events_core.feeds.ports import StoredEvent
from events_core.feeds.stream import PROOF_BYTES, Cursor

Document = dict[str, Any]

_SURROGATES = re.compile("[\ud800-\udfff]")
_MARK_DIGITS = PROOF_BYTES * 2
_ADDED_BYTES = 400
"""What a place, a moment, a name and an identity add to a document; names are at most 900 bytes, mostly a tenth."""

_PLACEHOLDER = ("id", "partition", "stream", "seq", "registered")
_TOMBSTONE = (*_PLACEHOLDER, "ukey", "eventId", "type", "typeAs", "source", "sourceAs", "resource", "org")


def ukey_of(resource: str, source: str, event_id: str) -> str:
    """The identity of an event as its unique key: SHA-256 in hex; the parts cannot hold the separator."""
    return hashlib.sha256(f"{resource}\0{source}\0{event_id}".encode(errors="replace")).hexdigest()


class CursorProof:
    """What cursors carry of a row's identity: of its key, differently in every database that was ever made.

    So the places of a database that was lost are found out in the one that is filled with the same events again.
    """

    def __init__(self) -> None:
        self.database = 0

    def of(self, ukey: str) -> bytes:
        """The mark of a row."""
        return (int(ukey[:_MARK_DIGITS], 16) ^ self.database).to_bytes(PROOF_BYTES)

    def cursor(self, document: Mapping[str, Any]) -> Cursor:
        """The place just after a document."""
        return Cursor(document["seq"], self.of(document["ukey"]))


def storable(text: str) -> str:
    """`text` as a parameter; lone surrogates become a noncharacter, which no CloudEvents string holds."""
    return _SURROGATES.sub("\uffff", text)


@dataclass(frozen=True)
class Draft:
    """An event without a place yet: the properties that follow from the event alone."""

    ukey: str
    properties: Mapping[str, Any]

    @classmethod
    def of_event(cls, event: CloudEvent) -> Draft:
        """A published event."""
        app = Resource.parse(event.resource).app
        return cls(
            ukey_of(event.resource, event.source, event.id),
            _without_none(
                eventId=event.id,
                **_folded("type", event.type),
                **_folded("source", event.source),
                subject=event.subject,
                alternativesubject=event.alternative_subject,
                resource=event.resource,
                org=app.org if app else None,
                instance=event.resource_instance,
                json=event.json.decode(),
            ),
        )

    @classmethod
    def of_row(cls, row: Row) -> Draft:
        """An event of another stream, a tombstone too."""
        dropped = ("id", "partition", "stream", "seq", "registered", "writer", "ukey")
        kept = {name: value for name, value in row.document.items() if name not in dropped and not name.startswith("_")}
        return cls(row.document["ukey"], kept)

    @cached_property
    def size(self) -> int:
        """At most so many bytes the document has in a request."""
        return len(json.dumps(self.properties)) + len(self.ukey) + _ADDED_BYTES


def tombstone(document: Mapping[str, Any]) -> Document:
    """What is left of an erased event: its place and identity; of its subject a party only."""
    left = {name: document[name] for name in _TOMBSTONE if name in document}
    if Subject.parse(str(document.get("subject", ""))).party is not None:
        left["subject"] = document["subject"]
    return left


def placeholder(document: Mapping[str, Any]) -> Document:
    """What retention leaves of a stream's newest event: its place, which readers do not see, under a key of its own."""
    left = {name: document[name] for name in _PLACEHOLDER}
    key = hashlib.sha256(f"kept\0{document['partition']}\0{document['id']}".encode(errors="replace")).hexdigest()
    return left | {"ukey": key, "kept": True}


def _folded(name: str, text: str) -> Document:
    """An attribute as filters compare it, and as it was published where that differs."""
    lowered = text.lower()
    return {name: lowered} if lowered == text else {name: lowered, f"{name}As": text}


def _without_none(**properties: Any) -> Document:
    return {name: value for name, value in properties.items() if value is not None}


class Row:
    """A StoredEvent over its document."""

    __slots__ = ("_proof", "document")

    def __init__(self, document: Document, proof: CursorProof) -> None:
        self.document = document
        self._proof = proof

    @property
    def position(self) -> int:
        """Where the row stands."""
        return int(self.document["seq"])

    @property
    def registered(self) -> int:
        """When it entered the stream, microseconds since the epoch."""
        return int(self.document["registered"])

    @property
    def json(self) -> bytes | None:
        """The event's own JSON text; None for a tombstone."""
        text: str | None = self.document.get("json")
        return None if text is None else text.encode()

    @property
    def cursor(self) -> Cursor:
        """The place just after this row."""
        return self._proof.cursor(self.document)

    @property
    def id(self) -> str:
        """The event's `id`."""
        return str(self.document["eventId"])

    @property
    def source(self) -> str:
        """The event's `source`."""
        return str(self.document.get("sourceAs") or self.document["source"])

    @property
    def type(self) -> str:
        """The event's `type`."""
        return str(self.document.get("typeAs") or self.document["type"])

    @property
    def subject(self) -> str | None:
        """The event's `subject`."""
        return self.document.get("subject")

    @property
    def alternative_subject(self) -> str | None:
        """The event's `alternativesubject`."""
        return self.document.get("alternativesubject")

    @property
    def resource(self) -> str:
        """The event's `resource`."""
        return str(self.document["resource"])

    @property
    def resource_instance(self) -> str | None:
        """The event's `resourceinstance`."""
        return self.document.get("instance")


def rows_of(events: Sequence[StoredEvent]) -> list[Row]:
    """Rows of this store, as which they were handed out.

    Raises:
        TypeError: one of them is another store's.
    """
    rows = [event for event in events if isinstance(event, Row)]
    if len(rows) != len(events):
        raise TypeError("only rows that this store has read can be projected")
    return rows
