"""Checkpoints of resource streams in the SQLite file."""
# ruff: noqa: S608  statements are put together from constants; every value is bound

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson
from typing_extensions import override

from events_core.adapters.sqlite.schema import RENEW_GENERATION
from events_core.adapters.sqlite.store import SqliteEventStore
from events_core.feeds.ports import Checkpoint, CheckpointStore, Quarantined, RowsAfter
from events_core.feeds.stream import Stream

# Versions count the changes of all checkpoints together, so they also say which checkpoint was written longest ago.
_VERSION = "(SELECT coalesce(max(version), 0) + 1 FROM followed)"
_CHECKPOINT = "SELECT positions, version, catch_up_pending, quarantined FROM followed WHERE stream = ?"
_FIRST = f"""INSERT OR IGNORE INTO followed (stream, positions, version, catch_up_pending, quarantined)
VALUES (?1, ?2, {_VERSION}, ?3, ?4) RETURNING version"""
_NEXT = f"""UPDATE followed SET positions = ?2, catch_up_pending = ?3, quarantined = ?4, version = {_VERSION}
WHERE stream = ?1 AND version = ?5 RETURNING version"""
# For each resource one seek finds it and one finds its newest event, however many events there are.
_BEHIND = """WITH RECURSIVE resources (resource) AS (
  SELECT min(resource) FROM events
  UNION ALL
  SELECT (SELECT min(resource) FROM events WHERE resource > resources.resource) FROM resources WHERE resource NOT NULL
)
SELECT 'resource:' || text AS stream FROM resources JOIN names ON id = resource
WHERE (SELECT max(position) FROM events INDEXED BY by_resource WHERE events.resource = resources.resource)
  > coalesce((SELECT min(value) FROM followed, json_each(positions) WHERE stream = 'resource:' || text), 0)"""
_LOWER = f"""UPDATE followed SET catch_up_pending = 1, version = {_VERSION},
  positions = (SELECT json_group_object(key, min(value, newest)) FROM json_each(positions))
FROM (SELECT coalesce(max(position), 0) AS newest FROM events)
WHERE newest < (SELECT max(value) FROM json_each(positions))"""


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
        [(positions, version, catch_up_pending, quarantined)] = rows
        entries = [Quarantined(**entry) for entry in orjson.loads(quarantined)]
        return Checkpoint(orjson.loads(positions), str(version), bool(catch_up_pending), entries)

    @override
    async def advance(
        self,
        stream: Stream,
        checkpoint: Checkpoint,
        positions: Mapping[str, int],
        *,
        catch_up_pending: bool,
        quarantined: Sequence[Quarantined],
    ) -> Checkpoint | None:
        if min(positions.values(), default=0) < checkpoint.position:
            self._caught_up_at = None
        texts = [orjson.dumps(each).decode() for each in (dict(positions), list(quarantined))]
        values = (stream.name, texts[0], catch_up_pending, texts[1])
        sql, known = (_FIRST, ()) if checkpoint.etag is None else (_NEXT, (int(checkpoint.etag),))
        written = await self._file.write(lambda connection: connection.execute(sql, (*values, *known)).fetchall())
        return Checkpoint(positions, str(written[0][0]), catch_up_pending, list(quarantined)) if written else None

    @override
    async def read_after(self, stream: Stream, position: int, limit: int) -> RowsAfter:
        return await self._file.read_after(stream, position, limit)

    @override
    async def end(self, stream: Stream) -> int:
        return await self._file.head(stream)

    @override
    async def catch_up_pending(self) -> Sequence[Stream]:
        return await self._streams("SELECT stream FROM followed WHERE catch_up_pending ORDER BY version")

    @override
    async def behind(self, seconds: float = 60.0) -> Sequence[Stream]:
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
        found.sort(key=lambda suspect: (not suspect[1].catch_up_pending, int(suspect[1].etag or 0)))
        return found[:most]

    @override
    async def quarantined(self) -> Sequence[Stream]:
        return await self._streams("SELECT stream FROM followed WHERE quarantined <> '[]'")

    async def restored(self) -> int:
        """Begin a new generation, and lower the checkpoints that are beyond their streams. Return how many."""
        self._caught_up_at = None
        await self._file.execute(RENEW_GENERATION)
        return await self._file.execute(_LOWER)

    async def _streams(self, sql: str) -> Sequence[Stream]:
        return [Stream(name) for (name,) in await self._file.fetch(sql)]
