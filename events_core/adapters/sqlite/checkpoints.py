"""How far the resource streams of the embedded store were followed, in its file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from events_core.adapters.sqlite.store import SqliteEventStore
from events_core.feeds.ports import Checkpoint, Quarantined, StoredEvent
from events_core.feeds.stream import Stream

_SEEN = "SELECT position, version, catch_up_pending, quarantined FROM followed WHERE stream = ?"
_FIRST = """INSERT OR IGNORE INTO followed (stream, position, version, catch_up_pending, quarantined)
VALUES (?1, ?2, 1, ?3, ?4)"""
_NEXT = """UPDATE followed SET position = ?2, catch_up_pending = ?3, quarantined = ?4, version = version + 1
WHERE stream = ?1 AND version = ?5"""
_NEWEST = "SELECT max(position) FROM events"
# One seek for each resource, and one for its newest event, however many events there are.
_BEHIND = """WITH RECURSIVE resources (resource) AS (
  SELECT min(resource) FROM events
  UNION ALL
  SELECT (SELECT min(resource) FROM events WHERE resource > resources.resource) FROM resources WHERE resource NOT NULL
)
SELECT 'resource:' || text AS stream FROM resources JOIN names ON id = resource
WHERE (SELECT max(position) FROM events INDEXED BY by_resource WHERE events.resource = resources.resource)
  > coalesce((SELECT position FROM followed WHERE stream = 'resource:' || text), 0)"""
_LOWERED = """UPDATE followed SET position = newest, catch_up_pending = 1, version = version + 1 FROM
  (SELECT coalesce(max(position), 0) AS newest FROM events) WHERE position > newest"""


@dataclass(slots=True)
class _Shortcut:
    """Where the file ended when nothing in it was behind; None when that is not known."""

    end: int | None = None


@dataclass(frozen=True, slots=True)
class SqliteCheckpoints:
    """A StreamLedger in the file of an event store; an etag is the number of a checkpoint's change."""

    file: SqliteEventStore
    _nothing_behind: _Shortcut = field(default_factory=_Shortcut)

    async def checkpoint(self, stream: Stream) -> Checkpoint:
        """How far a resource stream has been followed; see `StreamLedger.checkpoint`."""
        row = await self.file.query(lambda connection: connection.execute(_SEEN, (stream.name,)).fetchone())
        return Checkpoint() if row is None else Checkpoint(row[0], str(row[1]), bool(row[2]), _quarantined(row[3]))

    async def advance(
        self,
        stream: Stream,
        checkpoint: Checkpoint,
        position: int,
        *,
        catch_up_pending: bool,
        quarantined: Sequence[Quarantined],
    ) -> bool:
        """Replace the checkpoint that was read; see `StreamLedger.advance`."""
        if position < checkpoint.position:
            self._nothing_behind.end = None
        text = orjson.dumps(list(quarantined)).decode()
        values: tuple[Any, ...] = (stream.name, position, catch_up_pending, text)
        sql = _FIRST if checkpoint.etag is None else _NEXT
        if checkpoint.etag is not None:
            values = (*values, int(checkpoint.etag))
        return await self.file.write(lambda connection: connection.execute(sql, values).rowcount) > 0

    async def read_after(self, stream: Stream, position: int, limit: int) -> Sequence[StoredEvent]:
        """The next rows of a stream; see `StreamLedger.read_after`."""
        return await self.file.after(stream, position, limit)

    async def end(self, stream: Stream) -> int:
        """The newest position of a stream, 0 when it holds nothing."""
        return await self.file.head(stream)

    async def catch_up_pending(self) -> Sequence[Stream]:
        """The resource streams whose checkpoint is marked so."""
        return await self._streams("SELECT stream FROM followed WHERE catch_up_pending")

    async def behind(self) -> Sequence[Stream]:
        """The resource streams that hold more than their checkpoint says; at once when nothing was appended since."""
        (end,) = await self.file.query(lambda connection: connection.execute(_NEWEST).fetchone())
        if end is None or end == self._nothing_behind.end:
            return []
        streams = await self._streams(_BEHIND)
        if not streams:
            self._nothing_behind.end = end
        return streams

    async def suspects(self, most: int) -> Sequence[tuple[Stream, Checkpoint]]:
        """The resource streams that are behind; see `StreamLedger.suspects`."""
        found = [(stream, await self.checkpoint(stream)) for stream in await self.behind()]
        return sorted(found, key=lambda each: not each[1].catch_up_pending)[:most]

    async def quarantined(self) -> Sequence[Stream]:
        """The resource streams whose checkpoint holds deliveries back."""
        return await self._streams("SELECT stream FROM followed WHERE quarantined <> '[]'")

    async def restored(self) -> int:
        """Let no checkpoint be beyond the file's end; cursors prove themselves by their rows."""
        self._nothing_behind.end = None
        return await self.file.write(lambda connection: connection.execute(_LOWERED).rowcount)

    async def _streams(self, sql: str) -> Sequence[Stream]:
        def ask(connection: sqlite3.Connection) -> list[Stream]:
            return [Stream(row[0]) for row in connection.execute(sql).fetchall()]

        return await self.file.query(ask)


def _quarantined(text: str) -> list[Quarantined]:
    return [Quarantined(**each) for each in orjson.loads(text)]
