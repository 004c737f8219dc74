"""The queries on the container `streams`, each on one logical partition unless it says otherwise."""
# ruff: noqa: S608  statements are put together from constants; every value is a parameter

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from events_core.adapters.cosmos.client import CosmosDatabase
from events_core.adapters.cosmos.streams.documents import Document, storable
from events_core.adapters.cosmos.streams.filters import Condition
from events_core.adapters.cosmos.streams.names import partition

STREAMS = "streams"

_PLACE = "c.id, c.partition, c.seq, c.ukey, c.registered, c.kept"
_ROW = f"""{_PLACE}, c.stream, c.eventId, c.type, c.typeAs, c.source, c.sourceAs, c.subject, c.alternativesubject,
  c.resource, c.org, c.instance, c._ts"""

# The partition stands in every text too: not every emulator honours the header.
_NEWEST = f"SELECT TOP 1 {_PLACE} FROM c WHERE c.partition = @partition ORDER BY c.seq DESC"
_OLDEST = f"SELECT TOP 1 {_PLACE} FROM c WHERE c.partition = @partition ORDER BY c.seq"
_NEWEST_BEFORE = f"""SELECT TOP 1 {_PLACE} FROM c
WHERE c.partition = @partition AND c.registered < @registered
ORDER BY c.partition DESC, c.registered DESC, c.seq DESC"""
_SINCE = """SELECT c.seq, c.ukey, c.registered, c.writer FROM c
WHERE c.partition = @partition AND (c.seq > @head OR ARRAY_CONTAINS(@ukeys, c.ukey))"""
_STANDING = """SELECT c.seq, c.ukey, c.registered, c.writer FROM c
WHERE c.partition = @partition AND ARRAY_CONTAINS(@ukeys, c.ukey)"""
_STANDING_IN = "SELECT c.seq, c.ukey, c.registered, c.writer FROM c WHERE ARRAY_CONTAINS(@ukeys, c.ukey) AND"
_UKEYS = "SELECT VALUE c.ukey FROM c WHERE c.partition = @partition"
_PAGE = f"""SELECT TOP @top {_ROW}, (c.seq = @bare ? null : c.json) AS json FROM c
WHERE c.partition = @partition AND c.seq >= @first AND c.seq <= @last"""
_WITH_ID = f"""SELECT {_PLACE}, c.eventId FROM c
WHERE c.partition = @partition AND (c.eventId = @id OR ARRAY_CONTAINS(@places, c.seq))"""
_WITH_ID_ANYWHERE = f"SELECT {_PLACE} FROM c WHERE c.stream = @stream AND c.eventId = @id"
_COPIES = f"SELECT {_ROW}, IS_DEFINED(c.json) AS live FROM c WHERE c.ukey = @ukey"
_AT = f"""SELECT {_ROW}, c.json FROM c
WHERE c.partition = @partition AND ARRAY_CONTAINS(@positions, c.seq)"""
_FIND = f"SELECT {_ROW}, c.json FROM c WHERE c.eventId = @id AND c.source = @source"
_BEGUN = "SELECT VALUE c.stream FROM c WHERE c.seq = 1 AND c.registered < @registered"
_RANGE = f"""SELECT TOP @top {_ROW} FROM c
WHERE c.partition = @partition AND c.seq >= @first AND c.seq < @before ORDER BY c.seq"""


class StreamQueries:
    """Questions about segments of streams; every one raises EventsError UNAVAILABLE when it gets no answer."""

    def __init__(self, database: CosmosDatabase) -> None:
        self._database = database

    async def newest(self, name: str, segment: int) -> Document | None:
        """The place of a segment's newest document."""
        return _one(await self._ask("head", _NEWEST, name, segment))

    async def oldest(self, name: str, segment: int) -> Document | None:
        """The place of a segment's oldest document."""
        return _one(await self._ask("oldest", _OLDEST, name, segment))

    async def newest_before(self, name: str, segment: int, registered: int) -> Document | None:
        """The place of a segment's newest document that was registered before a moment."""
        return _one(await self._ask("moment", _NEWEST_BEFORE, name, segment, registered=registered))

    async def since(self, name: str, segment: int, head: int, ukeys: Sequence[str]) -> list[Document]:
        """What stands after `head`, and what stands under the keys, in no order."""
        return await self._ask("conflict", _SINCE, name, segment, head=head, ukeys=ukeys)

    async def standing(self, name: str, segment: int, ukeys: Sequence[str]) -> list[Document]:
        """What stands under the keys in a segment."""
        return await self._ask("duplicates", _STANDING, name, segment, ukeys=ukeys)

    async def ukeys(self, name: str, segment: int) -> list[str]:
        """Every unique key of a segment."""
        return [str(each) for each in await self._ask("keys", _UKEYS, name, segment)]

    async def standing_in(self, name: str, segments: Sequence[int], ukeys: Sequence[str]) -> list[Document]:
        """What stands under the keys in segments; asks their physical partitions, as far as Cosmos DB knows them."""
        places = {f"p{n}": partition(name, segment) for n, segment in enumerate(segments)}
        sql = f"{_STANDING_IN} c.partition IN ({', '.join(f'@{place}' for place in places)})"
        return await self._ask("duplicates", sql, None, None, ukeys=ukeys, **places)

    async def page(  # noqa: PLR0917 - the bounds of a page in their order
        self, name: str, segment: int, first: int, last: int, top: int, max_bytes: int, bare: int, passing: Condition
    ) -> list[Document]:
        """The rows from `first` to `last` in order, `bare` without its text; of those between the ones that pass.

        At most `top` rows; fewer once their texts exceed `max_bytes`, but one more than that at least.
        """
        sql = _PAGE if passing.always else f"{_PAGE} AND (c.seq IN (@first, @last) OR {passing.sql})"
        values = {"first": first, "last": last, "top": top, "bare": bare, **passing.values}
        return await self._database.query(
            "page",
            STREAMS,
            f"{sql} ORDER BY c.seq",
            {"partition": partition(name, segment), **values},
            partition(name, segment),
            lambda found: len(found) >= top or sum(len(each.get("json") or "") for each in found[:-1]) > max_bytes,
            page=top,
        )

    async def with_id(self, name: str, event_id: str, places: Sequence[int]) -> tuple[Document | None, set[int]]:
        """The place of the first event with this id in the first segment; and those of the places that stand."""
        wanted = storable(event_id)
        found = await self._ask("resolve", _WITH_ID, name, 0, id=wanted, places=places)
        named = (each for each in found if each.get("eventId") == wanted)
        return _first(named), {int(each["seq"]) for each in found}.intersection(places)

    async def with_id_anywhere(self, name: str, event_id: str) -> Document | None:
        """The place of the first event with this id in a stream; asks every physical partition."""
        return _first(await self._ask("resolve", _WITH_ID_ANYWHERE, None, None, id=storable(event_id), stream=name))

    async def at(self, name: str, segment: int, positions: Sequence[int]) -> list[Document]:
        """The rows of a segment at positions, in no order."""
        return await self._ask("at", _AT, name, segment, positions=positions)

    async def find(self, source: str, event_id: str) -> list[Document]:
        """The rows of events with this id, and a source that is the same but for case; asks everywhere."""
        return await self._ask("find", _FIND, None, None, id=storable(event_id), source=storable(source.lower()))

    async def copies(self, ukey: str) -> list[Document]:
        """The rows of an event in every stream, `live` unless they are tombstones; asks every physical partition."""
        return await self._ask("copies", _COPIES, None, None, ukey=ukey)

    async def begun(self, names: Sequence[str]) -> set[str]:
        """Those of the streams whose very first document stands; asks their partitions, as `standing_in` does."""
        first = {f"p{n}": partition(name, 0) for n, name in enumerate(names)}
        sql = f"SELECT VALUE c.stream FROM c WHERE c.seq = 1 AND c.partition IN ({', '.join(f'@{p}' for p in first)})"
        return {str(each) for each in await self._ask("begun", sql, None, None, **first)}

    async def begun_before(self, registered: int) -> list[str]:
        """The stored names of streams whose very first document stands, registered before a moment; asks everywhere."""
        names = await self._ask("begun", _BEGUN, None, None, registered=registered)
        return [str(each) for each in names]

    async def range(self, name: str, segment: int, first: int, before: int, top: int) -> list[Document]:
        """The rows of a segment from `first` to just before `before` in order, without their texts."""
        return await self._ask("range", _RANGE, name, segment, first=first, before=before, top=top)

    async def _ask(self, what: str, sql: str, name: str | None, segment: int | None, **values: Any) -> list[Document]:
        if name is None or segment is None:
            return await self._database.query(what, STREAMS, sql, values, None)
        place = partition(name, segment)
        return await self._database.query(what, STREAMS, sql, {"partition": place, **values}, place)


def _first(found: Iterable[Document]) -> Document | None:
    return min(found, key=lambda each: int(each["seq"]), default=None)


def _one(found: Sequence[Document]) -> Document | None:
    return found[0] if found else None
