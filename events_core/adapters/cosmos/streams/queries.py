"""Queries on the container `streams`. Each asks one logical partition, unless its docstring says otherwise.

containers.py says which index serves each of them.
"""
# ruff: noqa: S608  statements are put together from constants; every value is a parameter

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from events_core.adapters.cosmos.client import CosmosDatabase, Document
from events_core.adapters.cosmos.streams.documents import text_size
from events_core.adapters.cosmos.streams.filters import ALWAYS, Condition
from events_core.adapters.cosmos.streams.names import partition, segment_of
from events_core.common.texts import storable
from events_core.feeds.ports import FOUND

STREAMS = "streams"
MANY = 1_000
"""So many documents are enough to tell which streams have grown."""

_HEAD = "c.id, c.partition, c.seq, c.ukey, c.registered, c.placeholder"
_BY_POSITION = "ORDER BY c.partition, c.seq"
_NEWEST_FIRST = "ORDER BY c.partition DESC, c.seq DESC"
_ROW = f"""{_HEAD}, c.stream, c.eventId, c.type, c.typeAs, c.source, c.sourceAs, c.subject, c.alternativesubject,
  c.resource, c.org, c.instance, c._ts"""
# A page needs neither where its rows are nor the names that all of them share: a sixth of its bytes.
_PAGED = _ROW.replace("c.id, c.partition, ", "").replace("c.stream, ", "")
_IDENTITY = "c.seq, c.ukey, c.registered, c.placeholder, c.writer"

# Every text names the partition too: not every emulator honours the header.
_NEWEST = f"SELECT TOP 1 {_HEAD} FROM c WHERE c.partition = @partition {_NEWEST_FIRST}"
_OLDEST = f"SELECT TOP 1 {_HEAD} FROM c WHERE c.partition = @partition {_BY_POSITION}"
_NEWEST_BEFORE = f"""SELECT TOP 1 {_HEAD} FROM c
WHERE c.partition = @partition AND c.registered < @registered
ORDER BY c.partition DESC, c.registered DESC, c.seq DESC"""
_FIRST_SINCE = f"""SELECT TOP 1 {_HEAD} FROM c
WHERE c.partition = @partition AND c.registered >= @registered AND NOT IS_DEFINED(c.placeholder)
ORDER BY c.partition, c.registered, c.seq"""
_SINCE = f"SELECT {_IDENTITY} FROM c WHERE c.partition = @partition AND (c.seq > @head OR c.ukey IN (@ukeys))"
_WITH_UKEYS = f"SELECT {_IDENTITY} FROM c WHERE c.partition IN (@partitions) AND c.ukey IN (@ukeys)"
_PAGE = f"""SELECT TOP @top {_PAGED}, (c.seq = @bare ? null : c.json) AS json FROM c
WHERE c.partition = @partition AND c.seq >= @first AND c.seq <= @last"""
_WITH_ID = f"""SELECT {_HEAD}, c.eventId FROM c
WHERE c.partition = @partition AND (c.eventId = @id OR c.seq IN (@positions))"""
_WITH_ID_ANYWHERE = f"SELECT {_HEAD} FROM c WHERE c.stream = @stream AND c.eventId = @id"
_COPIES = f"SELECT {_ROW}, c.ttl, IS_DEFINED(c.json) AS live FROM c WHERE c.ukey = @ukey"
_AT = f"SELECT {_ROW}, c.json FROM c WHERE c.partition = @partition AND c.seq IN (@positions)"
_FIND = f"SELECT {_ROW}, c.json FROM c WHERE c.eventId = @id AND c.source = @source"
_FIND_ANY = f"""SELECT TOP @top {_ROW}, c.json FROM c
WHERE c.eventId = @id AND STARTSWITH(c.stream, 'resource:')"""


class StreamQueries:
    """Queries on segments of streams, by the stream's stored name. Each raises EventsError UNAVAILABLE if it fails."""

    def __init__(self, database: CosmosDatabase) -> None:
        self._database = database

    async def page(
        self,
        name: str,
        segment: int,
        *,
        first: int,
        last: int,
        top: int,
        max_bytes: int,
        bare: int = 0,
        condition: Condition = ALWAYS,
    ) -> list[Document]:
        """The rows from `first` to `last`, in order. Between these two only the rows that meet the condition.

        At most `top` rows; fewer if the texts of all rows but the newest exceed `max_bytes`. The row at `bare` comes
        without its text: it only proves a cursor.
        """
        sql = _PAGE if condition.always else f"{_PAGE} AND (c.seq IN (@first, @last) OR {condition.sql})"
        segment_key = partition(name, segment)
        return await self._database.query(
            "page",
            STREAMS,
            f"{sql} {_BY_POSITION}",
            {"partition": segment_key, "first": first, "last": last, "top": top, "bare": bare, **condition.values},
            segment_key,
            enough=lambda found: len(found) >= top or text_size(found[:-1]) > max_bytes,
            page_size=top,
        )

    async def newest(self, name: str, segment: int) -> Document | None:
        """The newest document of a segment."""
        return _first(await self._in_segment("head", _NEWEST, name, segment))

    async def oldest(self, name: str, segment: int) -> Document | None:
        """The oldest document of a segment."""
        return _first(await self._in_segment("oldest", _OLDEST, name, segment))

    async def newest_before(self, name: str, segment: int, registered: int) -> Document | None:
        """The newest document of a segment that was registered before a time."""
        return _first(await self._in_segment("time", _NEWEST_BEFORE, name, segment, registered=registered))

    async def first_since(self, name: str, segment: int, registered: int) -> Document | None:
        """The first row of a segment that was registered at a time or later."""
        return _first(await self._in_segment("time", _FIRST_SINCE, name, segment, registered=registered))

    async def since(self, name: str, segment: int, head: int, ukeys: Sequence[str]) -> list[Document]:
        """The documents of a segment after position `head`, and those with one of the unique keys, in no order."""
        sql, values = listed(_SINCE, ukeys=ukeys)
        return await self._in_segment("conflict", sql, name, segment, head=head, **values)

    async def with_ukeys(self, name: str, segments: Sequence[int], ukeys: Sequence[str]) -> list[Document]:
        """The documents of some segments with one of the unique keys; asks the segments' physical partitions."""
        partitions = [partition(name, segment) for segment in segments]
        sql, values = listed(_WITH_UKEYS, partitions=partitions, ukeys=ukeys)
        scope = partitions[0] if len(partitions) == 1 else None
        return await self._database.query("duplicates", STREAMS, sql, values, scope)

    async def with_id(
        self, name: str, event_id: str, since: int, positions: Sequence[int]
    ) -> tuple[Document | None, set[int]]:
        """The first event of the first segment with this id; and those of `positions` that hold a document.

        Events that were registered before the time `since` do not count.
        """
        wanted = storable(event_id)
        sql, values = listed(_WITH_ID, positions=positions)
        found = await self._in_segment("resolve", sql, name, 0, id=wanted, **values)
        with_id = (document for document in found if document.get("eventId") == wanted)
        return _oldest_of(with_id, since), {int(document["seq"]) for document in found}.intersection(positions)

    async def with_id_anywhere(self, name: str, event_id: str, since: int) -> Document | None:
        """The first event of a stream with this id, registered at a time or later; asks every physical partition."""
        found = await self._everywhere("resolve", _WITH_ID_ANYWHERE, id=storable(event_id), stream=name)
        return _oldest_of(found, since)

    async def at(self, name: str, segment: int, positions: Sequence[int]) -> list[Document]:
        """The rows of a segment at these positions, in no order."""
        sql, values = listed(_AT, positions=positions)
        return await self._in_segment("at", sql, name, segment, **values)

    async def find(self, source: str | None, event_id: str) -> list[Document]:
        """The rows with this id and, apart from case, this source; asks every physical partition.

        Without a source, some rows of resource streams.
        """
        if source is None:
            return (await self._everywhere("find", _FIND_ANY, id=storable(event_id), top=FOUND))[:FOUND]
        return await self._everywhere("find", _FIND, id=storable(event_id), source=storable(source.lower()))

    async def copies(self, ukey: str) -> list[Document]:
        """The rows of an event in every stream, not `live` if they are tombstones; asks every physical partition."""
        return await self._everywhere("copies", _COPIES, ukey=ukey)

    async def newest_after(self, positions: Mapping[str, int], size: int) -> dict[str, Document]:
        """The newest documents after a position of each stream; asks the streams' physical partitions.

        A stream goes on in the segment of its next position. After a time without visible rows it goes on up to a
        segment later, at its floor. Of very many documents some are left for the next call.
        """
        values: dict[str, Any] = {}
        names: dict[str, str] = {}
        conditions: list[str] = []
        for n, (name, position) in enumerate(positions.items()):
            segment = segment_of(position + 1, size)
            values |= {f"h{n}": position, f"p{n}": partition(name, segment), f"q{n}": partition(name, segment + 1)}
            names |= {values[f"p{n}"]: name, values[f"q{n}"]: name}
            conditions.append(f"c.partition IN (@p{n}, @q{n}) AND c.seq > @h{n}")
        sql = f"SELECT {_HEAD} FROM c WHERE ({') OR ('.join(conditions)})"
        found = await self._database.query("changed", STREAMS, sql, values, None, enough=lambda page: len(page) >= MANY)
        newest = sorted(found, key=lambda document: int(document["seq"]))
        return {names[document["partition"]]: document for document in newest}

    async def _in_segment(self, what: str, sql: str, name: str, segment: int, **values: Any) -> list[Document]:
        segment_key = partition(name, segment)
        return await self._database.query(what, STREAMS, sql, {"partition": segment_key, **values}, segment_key)

    async def _everywhere(self, what: str, sql: str, **values: Any) -> list[Document]:
        return await self._database.query(what, STREAMS, sql, values, None)


def listed(sql: str, **lists: Sequence[Any]) -> tuple[str, dict[str, Any]]:
    """A statement with a parameter for each item of its lists, `IN (@name)` for the list `name`; and the values.

    `ARRAY_CONTAINS` of one parameter would not always seek in the index.
    """
    values: dict[str, Any] = {}
    for name, items in lists.items():
        numbered = {f"{name}{n}": item for n, item in enumerate(items)}
        sql = sql.replace(f"(@{name})", f"({', '.join(f'@{each}' for each in numbered)})")
        values |= numbered
    return sql, values


def _first(found: Sequence[Document]) -> Document | None:
    return found[0] if found else None


def _oldest_of(found: Iterable[Document], since: int) -> Document | None:
    kept = (document for document in found if document["registered"] >= since)
    return min(kept, key=lambda document: int(document["seq"]), default=None)
