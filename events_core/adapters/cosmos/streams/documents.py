"""Documents of the container `streams`: how an event becomes a document, and how a document is read as a row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from typing_extensions import override

from events_core.access.names import Resource, Subject
from events_core.adapters.cosmos.client import Document
from events_core.cloudevent import CloudEvent
from events_core.feeds.ports import StoredEvent
from events_core.feeds.stream import PROOF_BYTES, Cursor

_PROOF_DIGITS = PROOF_BYTES * 2
_ADDED_BYTES = 400
"""What position, time, name and identity add to a document. A name may have 900 bytes, and mostly has a tenth."""

_PLACEHOLDER = ("id", "partition", "stream", "seq", "registered")
_TOMBSTONE = (*_PLACEHOLDER, "ukey", "eventId", "type", "typeAs", "source", "sourceAs", "resource", "org")
_OF_ONE_STREAM = (*_PLACEHOLDER, "writer", "ukey", "ttl")


def ukey_of(resource: str, source: str, event_id: str) -> str:
    """The unique key of an event: SHA-256 of its identity in hex. No part of it can hold the separator."""
    return hashlib.sha256(f"{resource}\0{source}\0{event_id}".encode(errors="replace")).hexdigest()


class CursorProof:
    """Makes the proofs in cursors: 8 bytes of the row's unique key, mixed with the store generation.

    A cursor of another generation therefore fails its proof, even if the database holds the same events again.
    """

    def __init__(self) -> None:
        self.generation = 0

    def of(self, ukey: str) -> bytes:
        """The proof of a row with this unique key."""
        return (int(ukey[:_PROOF_DIGITS], 16) ^ self.generation).to_bytes(PROOF_BYTES)

    def cursor(self, document: Mapping[str, Any]) -> Cursor:
        """The cursor just after a document's row."""
        return Cursor(document["seq"], self.of(document["ukey"]))


@dataclass(frozen=True)
class Draft:
    """An event that has no position yet: its unique key, and the properties that follow from the event alone."""

    ukey: str
    properties: Mapping[str, Any]

    @classmethod
    def of_event(cls, event: CloudEvent) -> Draft:
        """The draft of a published event."""
        app = Resource.parse(event.resource).app
        properties = {
            "eventId": event.id,
            **_folded("type", event.type),
            **_folded("source", event.source),
            "subject": event.subject,
            "alternativesubject": event.alternative_subject,
            "resource": event.resource,
            "org": app.org if app else None,
            "instance": event.resource_instance,
            "json": event.json.decode(),
        }
        ukey = ukey_of(event.resource, event.source, event.id)
        return cls(ukey, {name: value for name, value in properties.items() if value is not None})

    @classmethod
    def of_row(cls, row: Row) -> Draft:
        """The draft of an event, or of a tombstone, that another stream holds."""
        properties = {
            name: value
            for name, value in row.document.items()
            if name not in _OF_ONE_STREAM and not name.startswith("_")
        }
        return cls(row.document["ukey"], properties)

    @cached_property
    def size(self) -> int:
        """An upper bound of the document's bytes in a request."""
        return len(json.dumps(self.properties)) + len(self.ukey) + _ADDED_BYTES


def tombstone(document: Mapping[str, Any]) -> Document:
    """What is left of an erased event: position and identity, and its subject if that is a party."""
    left = {name: document[name] for name in _TOMBSTONE if name in document}
    if Subject.parse(str(document.get("subject", ""))).party is not None:
        left["subject"] = document["subject"]
    return left


def placeholder(document: Mapping[str, Any]) -> Document:
    """A document with the position and time of another one, which readers do not see."""
    left = {name: document[name] for name in _PLACEHOLDER}
    key = hashlib.sha256(f"placeholder\0{document['partition']}\0{document['id']}".encode(errors="replace")).hexdigest()
    return left | {"ukey": key, "placeholder": True}


def text_size(documents: Iterable[Mapping[str, Any]]) -> int:
    """How many characters the JSON texts of documents have."""
    return sum(len(document.get("json") or "") for document in documents)


def _folded(name: str, text: str) -> Document:
    """An attribute in lower case, as filters compare it, and as published if that differs."""
    lowered = text.lower()
    return {name: lowered} if lowered == text else {name: lowered, f"{name}As": text}


class Row(StoredEvent):
    """A StoredEvent that reads its document."""

    __slots__ = ("_proof", "document")

    def __init__(self, document: Document, proof: CursorProof) -> None:
        self.document = document
        self._proof = proof

    @property
    @override
    def position(self) -> int:
        return int(self.document["seq"])

    @property
    @override
    def registered(self) -> int:
        return int(self.document["registered"])

    @property
    @override
    def json(self) -> bytes | None:
        text: str | None = self.document.get("json")
        return None if text is None else text.encode()

    @property
    @override
    def cursor(self) -> Cursor:
        return self._proof.cursor(self.document)

    @property
    @override
    def id(self) -> str:
        return str(self.document["eventId"])

    @property
    @override
    def source(self) -> str:
        return str(self.document.get("sourceAs") or self.document["source"])

    @property
    @override
    def type(self) -> str:
        return str(self.document.get("typeAs") or self.document["type"])

    @property
    @override
    def subject(self) -> str | None:
        return self.document.get("subject")

    @property
    @override
    def alternative_subject(self) -> str | None:
        return self.document.get("alternativesubject")

    @property
    @override
    def resource(self) -> str:
        return str(self.document["resource"])

    @property
    @override
    def resource_instance(self) -> str | None:
        return self.document.get("instance")


def rows_of(events: Sequence[StoredEvent]) -> list[Row]:
    """The events as rows of this store.

    Raises:
        TypeError: Another store has read one of them.
    """
    rows = [event for event in events if isinstance(event, Row)]
    if len(rows) != len(events):
        raise TypeError("only rows that this store has read can be projected")
    return rows
