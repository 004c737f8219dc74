"""Checkpoints of resource streams in the SQLite file."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from typing_extensions import override

from events_core.adapters.sqlite.store import SqliteEventStore
from events_core.feeds.ports import Checkpoint, CheckpointStore, Quarantined, StoredEvent
from events_core.feeds.stream import Stream

_CHECKPOINT = "SELECT position, version, catch_up_pending, quarantined FROM followed WHERE stream = ?"
_FIRST = """INSERT OR IGNORE INTO followed (stream, position, version, catch_up_pending, quarantined)
VALUES (?1, ?2, 1, ?3, ?4)"""
_NEXT = """UPDATE followed SET position = ?2, catch_up_pending = ?3, quarantined = ?4, version = version + 1
WHERE stream = ?1 AND version = ?5"""
# For each resource one seek finds it and one finds its newest event, however many events there are.
_BEHIND = """WITH RECURSIVE resources (resource) AS (
  SELECT min(resource) FROM events
  UNION ALL
  SELECT (SELECT min(resource) FROM events WHERE resource > resources.resource) FROM resources WHERE resource NOT NULL
)
SELECT 'resource:' || text AS stream FROM resources JOIN names ON id = resource
WHERE (SELECT max(position) FROM events INDEXED BY by_resource WHERE events.resource = resources.resource)
  > coalesce((SELECT position FROM followed WHERE stream = 'resource:' || text), 0)"""
_LOWER = """UPDATE followed SET position = newest, catch_up_pending = 1, version = version + 1 FROM
  (SELECT coalesce(max(position), 0) AS newest FROM events) WHERE position > newest"""


class SqliteCheckpoints(CheckpointStore):
    """Checkpoints in the file of an event store. A checkpoint's etag is its version, which counts its changes."""

    def __init__(self, file: SqliteEventStore) -> None:
        self._file = file
        self._caught_up_at: int | None = None
        """The newest position in the file when no stream was behind. It saves the search until an event is added."""

    @override
    async def checkpoint(self, stream: Stream) -> Checkpoint:
        rows = await self._file.fetch(_CHECKPOINT, stream.name)
        if not rows:
            return Checkpoint()
        [(position, version, catch_up_pending, quarantined)] = rows
        entries = [Quarantined(**entry) for entry in orjson.loads(quarantined)]
        return Checkpoint(position, str(version), bool(catch_up_pending), entries)

    @override
    async def advance(
        self,
        stream: Stream,
        checkpoint: Checkpoint,
        position: int,
        *,
        catch_up_pending: bool,
        quarantined: Sequence[Quarantined],
    ) -> bool:
        if position < checkpoint.position:
            self._caught_up_at = None
        values = (stream.name, position, catch_up_pending, orjson.dumps(list(quarantined)).decode())
        if checkpoint.etag is None:
            return await self._file.execute(_FIRST, *values) > 0
        return await self._file.execute(_NEXT, *values, int(checkpoint.etag)) > 0

    @override
    async def read_after(self, stream: Stream, position: int, limit: int) -> Sequence[StoredEvent]:
        return await self._file.read_after(stream, position, limit)

    @override
    async def end(self, stream: Stream) -> int:
        return await self._file.head(stream)

    @override
    async def catch_up_pending(self) -> Sequence[Stream]:
        return await self._streams("SELECT stream FROM followed WHERE catch_up_pending")

    @override
    async def behind(self) -> Sequence[Stream]:
        [(newest,)] = await self._file.fetch("SELECT max(position) FROM events")
        if newest is None or newest == self._caught_up_at:
            return []
        streams = await self._streams(_BEHIND)
        if not streams:
            self._caught_up_at = newest
        return streams

    @override
    async def suspects(self, most: int) -> Sequence[tuple[Stream, Checkpoint]]:
        found = [(stream, await self.checkpoint(stream)) for stream in await self.behind()]
        return sorted(found, key=lambda suspect: not suspect[1].catch_up_pending)[:most]

    @override
    async def quarantined(self) -> Sequence[Stream]:
        return await self._streams("SELECT stream FROM followed WHERE quarantined <> '[]'")

    @override
    async def restored(self) -> int:
        # Cursors need no change: each is verified by the row that it names.
        self._caught_up_at = None
        return await self._file.execute(_LOWER)

    async def _streams(self, sql: str) -> Sequence[Stream]:
        return [Stream(name) for (name,) in await self._file.fetch(sql)]
