"""Documents of the container `cursors`: the state of each stream, and what all processes must agree on."""
# ruff: noqa: S608  statements are put together from constants

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache

from events_core.adapters.cosmos.client import CosmosDatabase, Document
from events_core.adapters.cosmos.streams.names import document_id
from events_core.common import errors
from events_core.common.texts import digest
from events_core.feeds.stream import PROOF_BYTES, Stream

CURSORS = "cursors"

_DATABASE = "~database"
_STREAMS_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """The checkpoint of a stream, and its floor: the oldest position that readers may see."""

    checkpoint: int = 0
    floor: int = 1

    @property
    def held(self) -> int:
        """A position at which the stream holds a document, 0 if none is known."""
        return max(self.checkpoint, self.floor - 1)


class StreamStates:
    """One document per stream, by the stream's stored name. A resource stream has it before its first event."""

    def __init__(self, database: CosmosDatabase) -> None:
        self._database = database
        self._begun: LRUCache[bytes, None] = LRUCache(_STREAMS_KEPT)

    async def get(self, name: str) -> Document | None:
        """The state of a stream; None if it has none."""
        key = document_id(name)
        return await self._database.read("state", CURSORS, key, key)

    async def bounds(self, name: str) -> Bounds:
        """The checkpoint and floor of a stream."""
        document = await self.get(name)
        return Bounds() if document is None else bounds_of(document)

    async def begin(self, stream: Stream, name: str) -> bool:
        """Create the state of a resource stream unless it exists. Return whether it was created.

        Once this has returned, every list of streams includes the stream. A process looks once for each stream.
        """
        if stream.kind != "resource" or digest(name) in self._begun:
            return False
        new = await self.get(name) is None and await self._database.create_if_absent(
            "begin", CURSORS, new_state(name, stream)
        )
        self._begun[digest(name)] = None
        return new

    async def create(self, document: Document) -> bool:
        """Create a document; return False if it exists."""
        return await self._database.create_if_absent("state", CURSORS, document)

    async def advance(self, name: str, etag: str, **changes: Any) -> Document | None:
        """Change the checkpoint and what belongs to it; None if the document no longer has `etag`."""
        return await self._database.changed("checkpoint", CURSORS, document_id(name), changes, etag=etag)

    async def raise_floor(self, name: str, floor: int, raised_at: float) -> bool:
        """Raise the floor; return False if it is as high already. The checkpoint may change meanwhile."""
        changes = {"floor": floor, "raisedAt": raised_at}
        unless = f"c.floor >= {floor}"
        return await self._database.change("floor", CURSORS, document_id(name), changes, unless=unless)

    async def note_deleted(self, name: str, before: int) -> None:
        """Note that no document before a position is left, except a placeholder."""
        await self._database.change("floor", CURSORS, document_id(name), {"deleted": before})

    async def listed(self, names: Sequence[str]) -> set[str]:
        """Those of the streams that have a state; asks every physical partition."""
        values = {f"n{n}": name for n, name in enumerate(names)}
        sql = f"SELECT VALUE c.name FROM c WHERE c.name IN ({', '.join(f'@{n}' for n in values)})"
        return {str(name) for name in await self._database.query("states", CURSORS, sql, values, None)}

    async def where(self, condition: str) -> list[Document]:
        """The states that meet a condition; asks every physical partition."""
        sql = f"SELECT * FROM c WHERE IS_DEFINED(c.name) AND {condition}"
        return await self._database.query("states", CURSORS, sql, {}, None)

    async def renew_generation(self) -> None:
        """Give the store another generation. Running processes keep the one that they have read."""
        await self._database.change("open", CURSORS, _DATABASE, {"generation": _new_generation()})

    async def agree_on(self, segment_size: int, key_check: str) -> int:
        """Check that the database uses this segment size and subject key. Return its store generation.

        The first process writes all three.

        Raises:
            EventsError: UNAVAILABLE if segment size or key differ.
        """
        while (found := await self._database.read("open", CURSORS, _DATABASE, _DATABASE)) is None:
            generation = _new_generation()
            await self.create(
                {"id": _DATABASE, "segmentSize": segment_size, "key": key_check, "generation": generation}
            )
        if not {"segmentSize", "key", "generation"} <= found.keys():
            raise errors.unavailable("The event store is of another version of this service.", retry_after=60)
        if found["segmentSize"] != segment_size:
            raise errors.unavailable("The event store was made with another segment size.", retry_after=60)
        if found["key"] != key_check:
            raise errors.unavailable("The event store was made with another EVENTS_SUBJECT_KEY.", retry_after=60)
        return int(found["generation"], 16)


def new_state(name: str, stream: Stream | None = None) -> Document:
    """The state of a new stream. `stream` is given for resource streams only: they are followed up."""
    document: Document = {"id": document_id(name), "name": name, "checkpoints": {}, "floor": 1, "catchUpPending": False}
    return document if stream is None else document | {"stream": stream.name}


def bounds_of(document: Mapping[str, Any]) -> Bounds:
    """The checkpoint and floor in a stream's state."""
    return Bounds(min(document["checkpoints"].values(), default=0), int(document["floor"]))


def _new_generation() -> str:
    return secrets.token_hex(PROOF_BYTES)
