"""Documents of the container `cursors`: the state of each stream, and what all processes must agree on."""
# ruff: noqa: S608  statements are put together from constants

from __future__ import annotations

import secrets
from collections.abc import Sequence
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
_LAYOUT = 2


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of the positions in a stream.

    Nobody has used a position beyond `reserved`. Rows before `floor` were not visible any more at `floor_set`
    (microseconds since the epoch), when the stream went on at the floor. `etag` is None if the stream has no state.
    """

    reserved: int = 0
    floor: int = 1
    floor_set: int = 0
    etag: str | None = None


class StreamStates:
    """One document per stream, by the stream's stored name. A stream has it before its first event."""

    def __init__(self, database: CosmosDatabase) -> None:
        self._database = database
        self._reserved: LRUCache[bytes, int] = LRUCache(_STREAMS_KEPT)

    async def get(self, name: str) -> Document | None:
        """The state of a stream; None if it has none."""
        key = document_id(name)
        return await self._database.read("state", CURSORS, key, key)

    async def bounds(self, name: str) -> Bounds:
        """The bounds of a stream."""
        document = await self.get(name)
        if document is None:
            return Bounds()
        self._reserved[digest(name)] = document["reserved"]
        return Bounds(document["reserved"], document["floor"], document["floorSet"], document["_etag"])

    async def reserved(self, name: str) -> int:
        """A bound of the stream's positions. The stored one may be higher."""
        return self._reserved.get(digest(name)) or (await self.bounds(name)).reserved

    async def begin(self, stream: Stream, name: str, reserved: int, *, now: int) -> bool:
        """Create the state of a new stream, with positions reserved and the floor set `now`. False if it exists.

        Once this has returned, every list of streams includes the stream, if it is a resource stream.
        """
        state = new_state(name, stream if stream.kind == "resource" else None)
        is_new = await self.create(state | {"reserved": reserved, "floorSet": now})
        if is_new:
            self._reserved[digest(name)] = reserved
        return is_new

    async def reserve(self, stream: Stream, name: str, bound: int, *, now: int) -> None:
        """Raise the bound of a stream's positions, unless it is as high."""
        unless = f"c.reserved >= {bound}"
        if not await self._database.change("reserve", CURSORS, document_id(name), {"reserved": bound}, unless=unless):
            await self.begin(stream, name, bound, now=now)  # after a restore it may be missing
        self._reserved[digest(name)] = bound

    async def lower(self, name: str, bound: int) -> None:
        """Lower the bound of a stream's positions, unless it is as low. No other process may use it meanwhile."""
        unless = f"c.reserved <= {bound}"
        await self._database.change("reserve", CURSORS, document_id(name), {"reserved": bound}, unless=unless)
        self._reserved.pop(digest(name), None)

    async def go_on_after(self, name: str, last: int, bounds: Bounds, *, size: int, now: int) -> bool:
        """Set the floor after a position, and reserve `size` positions. False if the bounds have changed."""
        changes = {"floor": last + 1, "floorSet": now, "reserved": last + size}
        return await self._database.change("floor", CURSORS, document_id(name), changes, etag=bounds.etag)

    async def create(self, document: Document) -> bool:
        """Create a document; return False if it exists."""
        return await self._database.create_if_absent("state", CURSORS, document)

    async def advance(self, name: str, etag: str, **changes: Any) -> Document | None:
        """Change the checkpoint and what belongs to it; None if the document no longer has `etag`."""
        return await self._database.changed("checkpoint", CURSORS, document_id(name), changes, etag=etag)

    async def listed(self, names: Sequence[str]) -> set[str]:
        """Those of the streams that have a state; asks every physical partition."""
        values = {f"n{n}": name for n, name in enumerate(names)}
        sql = f"SELECT VALUE c.name FROM c WHERE c.name IN ({', '.join(f'@{n}' for n in values)})"
        return {str(name) for name in await self._database.query("states", CURSORS, sql, values, None)}

    async def names(self) -> list[str]:
        """The names of all streams that have a state; asks every physical partition."""
        sql = "SELECT VALUE c.name FROM c WHERE IS_DEFINED(c.name)"
        return [str(name) for name in await self._database.query("states", CURSORS, sql, {}, None)]

    async def of_resources(self, condition: str = "true") -> list[Document]:
        """The states of resource streams that meet a condition; asks every physical partition."""
        sql = f"SELECT * FROM c WHERE IS_DEFINED(c.stream) AND {condition}"
        return await self._database.query("states", CURSORS, sql, {}, None)

    async def renew_generation(self) -> None:
        """Give the store another generation. Running processes keep the one that they have read."""
        await self._database.change("open", CURSORS, _DATABASE, {"generation": _new_generation()})

    async def agree_on(self, segment_size: int, key_check: str) -> int:
        """Check that the database uses this segment size and subject key. Return its store generation.

        The first process writes all of it.

        Raises:
            EventsError: UNAVAILABLE if segment size or key differ.
        """
        while (found := await self._database.read("open", CURSORS, _DATABASE, _DATABASE)) is None:
            generation = _new_generation()
            await self.create(
                {
                    "id": _DATABASE,
                    "layout": _LAYOUT,
                    "segmentSize": segment_size,
                    "key": key_check,
                    "generation": generation,
                }
            )
        if found.get("layout") != _LAYOUT:
            raise errors.unavailable("The event store is of another version of this service.", retry_after=60)
        if found["segmentSize"] != segment_size:
            raise errors.unavailable("The event store was made with another segment size.", retry_after=60)
        if found["key"] != key_check:
            raise errors.unavailable("The event store was made with another EVENTS_SUBJECT_KEY.", retry_after=60)
        return int(found["generation"], 16)


def new_state(name: str, stream: Stream | None = None) -> Document:
    """The state of a new stream. `stream` is given for resource streams only: they are followed up."""
    document: Document = {
        "id": document_id(name),
        "name": name,
        "reserved": 0,
        "floor": 1,
        "floorSet": 0,
        "checkpoints": {},
        "catchUpPending": False,
    }
    return document if stream is None else document | {"stream": stream.name}


def _new_generation() -> str:
    return secrets.token_hex(PROOF_BYTES)
