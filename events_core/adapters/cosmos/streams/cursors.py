"""Documents of the container `cursors`: of each stream how far it was followed up and where it begins."""
# ruff: noqa: S608  statements are put together from constants

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache

from events_core.adapters.cosmos.client import CosmosDatabase
from events_core.adapters.cosmos.streams.documents import Document
from events_core.adapters.cosmos.streams.names import document_id
from events_core.common import errors
from events_core.feeds.stream import PROOF_BYTES, Stream

CURSORS = "cursors"

_DATABASE = "~database"
_STREAMS_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of a stream: the position that was followed up to, and the oldest one that readers may see."""

    checkpoint: int = 0
    floor: int = 1

    @property
    def standing(self) -> int:
        """A position that some document stands at for sure, 0 when nothing is known."""
        return max(self.checkpoint, self.floor - 1)


class CursorDocuments:
    """One document a stream; those of resource streams stand before their first event does."""

    def __init__(self, database: CosmosDatabase) -> None:
        self._database = database
        self._begun: LRUCache[str, None] = LRUCache(_STREAMS_KEPT)

    async def get(self, name: str) -> Document | None:
        """The document of a stream, by its stored name."""
        key = document_id(name)
        return await self._database.read("cursor", CURSORS, key, key)

    async def bounds(self, name: str) -> Bounds:
        """What is known of a stream."""
        document = await self.get(name)
        return Bounds() if document is None else bounds_of(document)

    async def begin(self, stream: Stream, name: str) -> bool:
        """Make sure that the document of a resource stream stands; whether the stream is new.

        Asks once a process: what lists the streams finds every one that holds an event.
        """
        if stream.kind != "resource" or name in self._begun:
            return False
        new = await self.get(name) is None and await self._database.create_if_absent(
            "begin", CURSORS, new_document(name, stream)
        )
        self._begun[name] = None
        return new

    async def advance(self, name: str, etag: str, **changes: Any) -> bool:
        """Change what was followed up; False when the document is no longer that of `etag`."""
        return await self._database.change("checkpoint", CURSORS, document_id(name), changes, etag)

    async def raise_floor(self, name: str, floor: int, raised_at: float) -> bool:
        """Raise the floor; False when it is as high already. What is followed up meanwhile does not matter."""
        changes = {"floor": floor, "raisedAt": raised_at}
        return await self._database.change("floor", CURSORS, document_id(name), changes, None, f"c.floor >= {floor}")

    async def note_deleted(self, name: str, before: int) -> None:
        """Note that no document but a placeholder is left before a position."""
        await self._database.change("floor", CURSORS, document_id(name), {"deleted": before}, None)

    async def create(self, document: Document) -> bool:
        """Create a document; False when it stands already."""
        return await self._database.create_if_absent("cursor", CURSORS, document)

    async def listed(self, names: Sequence[str]) -> set[str]:
        """Those of the streams that have a document; asks everywhere."""
        wanted = {f"n{n}": name for n, name in enumerate(names)}
        sql = f"SELECT VALUE c.name FROM c WHERE c.name IN ({', '.join(f'@{n}' for n in wanted)})"
        return {str(each) for each in await self._database.query("cursors", CURSORS, sql, wanted, None)}

    async def where(self, condition: str) -> list[Document]:
        """The documents of streams that hold a condition; asks everywhere."""
        sql = f"SELECT * FROM c WHERE IS_DEFINED(c.name) AND {condition}"
        return await self._database.query("cursors", CURSORS, sql, {}, None)

    async def renew_generation(self) -> None:
        """Give the database another random number; processes that are running go on with the one that they know."""
        await self._database.change("open", CURSORS, _DATABASE, {"generation": _new_generation()}, None)

    async def agree_on(self, segment_size: int, key: str) -> int:
        """Check that the database is written with this segment size and key; return the database's own random number.

        The first process says all three. `key` tells keys apart and nothing else of them.

        Raises:
            EventsError: UNAVAILABLE when it was another of either.
        """
        while True:
            found = await self._database.read("open", CURSORS, _DATABASE, _DATABASE)
            if found is None:
                await self.create(
                    {"id": _DATABASE, "segmentSize": segment_size, "key": key, "generation": _new_generation()}
                )
            elif "key" in found or await self._say_key(found, key):
                break
        if found["segmentSize"] != segment_size:
            raise errors.unavailable("The event store was made with another segment size.", retry_after=60)
        if found.get("key", key) != key:
            raise errors.unavailable("The event store was made with another EVENTS_SUBJECT_KEY.", retry_after=60)
        return int(found["generation"], 16)

    async def _say_key(self, found: Document, key: str) -> bool:
        """Note the key of a database that was made before keys were noted; False when another process was first."""
        return await self._database.change("open", CURSORS, _DATABASE, {"key": key}, found["_etag"])


def _new_generation() -> str:
    return secrets.token_hex(PROOF_BYTES)


def new_document(name: str, stream: Stream | None = None) -> Document:
    """The document of a stream, `stream` being given for those of resources alone."""
    document: Document = {"id": document_id(name), "name": name, "checkpoint": 0, "floor": 1, "catchUpPending": False}
    return document if stream is None else document | {"stream": stream.name}


def bounds_of(document: Mapping[str, Any]) -> Bounds:
    """What a stream's document says of it."""
    return Bounds(int(document["checkpoint"]), int(document["floor"]))
