"""Queries on the container `streams`. Each asks one logical partition, unless its docstring says otherwise.

containers.py says which index serves each of them.
"""
# ruff: noqa: S608  statements are put together from constants; every value is a parameter

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from events_core.adapters.cosmos.client import CosmosDatabase, Document
from events_core.adapters.cosmos.streams.documents import text_size
from events_core.adapters.cosmos.streams.filters import ALWAYS, Condition
from events_core.adapters.cosmos.streams.names import partition
from events_core.common.texts import storable
from events_core.feeds.ports import FOUND

STREAMS = "streams"

_HEAD = "c.id, c.partition, c.seq, c.ukey, c.registered, c.placeholder"
_ROW = f"""{_HEAD}, c.stream, c.eventId, c.type, c.typeAs, c.source, c.sourceAs, c.subject, c.alternativesubject,
  c.resource, c.org, c.instance, c._ts"""
# A page needs neither where its rows are nor the names that all of them share: a sixth of its bytes.
_PAGED = _ROW.replace("c.id, c.partition, ", "").replace("c.stream, ", "")
_IDENTITY = "c.seq, c.ukey, c.registered, c.writer"

# Every text names the partition too: not every emulator honours the header.
_NEWEST = f"SELECT TOP 1 {_HEAD} FROM c WHERE c.partition = @partition ORDER BY c.seq DESC"
_OLDEST = f"SELECT TOP 1 {_HEAD} FROM c WHERE c.partition = @partition ORDER BY c.seq"
_NEWEST_BEFORE = f"""SELECT TOP 1 {_HEAD} FROM c
WHERE c.partition = @partition AND c.registered < @registered
ORDER BY c.partition DESC, c.registered DESC, c.seq DESC"""
_SINCE = f"""SELECT {_IDENTITY} FROM c
WHERE c.partition = @partition AND (c.seq > @head OR ARRAY_CONTAINS(@ukeys, c.ukey))"""
_WITH_UKEYS = f"SELECT {_IDENTITY} FROM c WHERE c.partition = @partition AND ARRAY_CONTAINS(@ukeys, c.ukey)"
_WITH_UKEYS_IN = f"SELECT {_IDENTITY} FROM c WHERE ARRAY_CONTAINS(@ukeys, c.ukey) AND c.partition"
_UKEYS = "SELECT VALUE c.ukey FROM c WHERE c.partition = @partition"
_PAGE = f"""SELECT TOP @top {_PAGED}, (c.seq = @bare ? null : c.json) AS json FROM c
WHERE c.partition = @partition AND c.seq >= @first AND c.seq <= @last"""
_WITH_ID = f"""SELECT {_HEAD}, c.eventId FROM c
WHERE c.partition = @partition AND (c.eventId = @id OR ARRAY_CONTAINS(@positions, c.seq))"""
_WITH_ID_ANYWHERE = f"SELECT {_HEAD} FROM c WHERE c.stream = @stream AND c.eventId = @id"
_COPIES = f"SELECT {_ROW}, IS_DEFINED(c.json) AS live FROM c WHERE c.ukey = @ukey"
_AT = f"SELECT {_ROW}, c.json FROM c WHERE c.partition = @partition AND ARRAY_CONTAINS(@positions, c.seq)"
_FIND = f"SELECT {_ROW}, c.json FROM c WHERE c.eventId = @id AND c.source = @source"
_FIND_ANY = f"""SELECT TOP @top {_ROW}, c.json FROM c
WHERE c.eventId = @id AND STARTSWITH(c.stream, 'resource:')"""
_BEGUN_BEFORE = "SELECT VALUE c.stream FROM c WHERE c.seq = 1 AND c.registered < @registered"
_BEGUN = "SELECT VALUE c.stream FROM c WHERE c.seq = 1 AND c.partition"
_RANGE = f"""SELECT TOP @top {_ROW} FROM c
WHERE c.partition = @partition AND c.seq >= @first AND c.seq < @before ORDER BY c.seq"""


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
            f"{sql} ORDER BY c.seq",
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

    async def since(self, name: str, segment: int, head: int, ukeys: Sequence[str]) -> list[Document]:
        """The documents of a segment after position `head`, and those with one of the unique keys, in no order."""
        return await self._in_segment("conflict", _SINCE, name, segment, head=head, ukeys=ukeys)

    async def with_ukeys(self, name: str, segment: int, ukeys: Sequence[str]) -> list[Document]:
        """The documents of a segment with one of the unique keys."""
        return await self._in_segment("duplicates", _WITH_UKEYS, name, segment, ukeys=ukeys)

    async def with_ukeys_in(self, name: str, segments: Sequence[int], ukeys: Sequence[str]) -> list[Document]:
        """The documents of several segments with one of the unique keys; asks the segments' physical partitions."""
        partitions = _partitions((name, segment) for segment in segments)
        sql = f"{_WITH_UKEYS_IN} IN ({', '.join(f'@{parameter}' for parameter in partitions)})"
        return await self._everywhere("duplicates", sql, ukeys=ukeys, **partitions)

    async def ukeys(self, name: str, segment: int) -> list[str]:
        """Every unique key of a segment."""
        return [str(ukey) for ukey in await self._in_segment("keys", _UKEYS, name, segment)]

    async def with_id(self, name: str, event_id: str, positions: Sequence[int]) -> tuple[Document | None, set[int]]:
        """The first event of the first segment with this id; and those of `positions` that hold a document."""
        wanted = storable(event_id)
        found = await self._in_segment("resolve", _WITH_ID, name, 0, id=wanted, positions=positions)
        with_id = (document for document in found if document.get("eventId") == wanted)
        return _oldest_of(with_id), {int(document["seq"]) for document in found}.intersection(positions)

    async def with_id_anywhere(self, name: str, event_id: str) -> Document | None:
        """The first event of a stream with this id; asks every physical partition."""
        found = await self._everywhere("resolve", _WITH_ID_ANYWHERE, id=storable(event_id), stream=name)
        return _oldest_of(found)

    async def at(self, name: str, segment: int, positions: Sequence[int]) -> list[Document]:
        """The rows of a segment at these positions, in no order."""
        return await self._in_segment("at", _AT, name, segment, positions=positions)

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

    async def begun(self, names: Sequence[str]) -> set[str]:
        """Those of the streams that hold their very first document; asks the streams' physical partitions."""
        partitions = _partitions((name, 0) for name in names)
        sql = f"{_BEGUN} IN ({', '.join(f'@{parameter}' for parameter in partitions)})"
        return {str(name) for name in await self._everywhere("begun", sql, **partitions)}

    async def begun_before(self, registered: int) -> list[str]:
        """The streams that hold their very first document, registered before a time; asks every physical partition."""
        return [str(name) for name in await self._everywhere("begun", _BEGUN_BEFORE, registered=registered)]

    async def range(self, name: str, segment: int, first: int, before: int, top: int) -> list[Document]:
        """The rows of a segment from `first` to just before `before`, in order, without their texts."""
        return await self._in_segment("range", _RANGE, name, segment, first=first, before=before, top=top)

    async def _in_segment(self, what: str, sql: str, name: str, segment: int, **values: Any) -> list[Document]:
        segment_key = partition(name, segment)
        return await self._database.query(what, STREAMS, sql, {"partition": segment_key, **values}, segment_key)

    async def _everywhere(self, what: str, sql: str, **values: Any) -> list[Document]:
        return await self._database.query(what, STREAMS, sql, values, None)


def _partitions(segments: Iterable[tuple[str, int]]) -> dict[str, str]:
    """The partitions of segments, by names of parameters."""
    return {f"p{n}": partition(name, segment) for n, (name, segment) in enumerate(segments)}


def _first(found: Sequence[Document]) -> Document | None:
    return found[0] if found else None


def _oldest_of(found: Iterable[Document]) -> Document | None:
    return min(found, key=lambda document: int(document["seq"]), default=None)
