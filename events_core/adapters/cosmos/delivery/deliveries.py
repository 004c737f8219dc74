"""Deliveries in Cosmos DB, one document each. A delivery is in the segment of its event."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from azure.cosmos.exceptions import CosmosBatchOperationError
from typing_extensions import override

from events_core.adapters.cosmos.client import CosmosDatabase, Document
from events_core.adapters.cosmos.delivery.lanes import (
    DUE,
    NEVER,
    CosmosLanes,
    document_of_replay,
    new_lane,
    segments_of,
)
from events_core.adapters.cosmos.failures import failures_as_unavailable
from events_core.adapters.cosmos.streams.names import SEGMENT_SIZE, position_id, segment_of
from events_core.adapters.delivery_documents import delivery_of, document_of_delivery
from events_core.common.clock import SECOND
from events_core.common.texts import storable
from events_core.delivery.delivery import SETTLED_DAYS, Breaker, Delivery, Lane, Replay, State
from events_core.delivery.ports import ALL, DeliveryFilter, DeliveryStore, Lease, Overdue, ReplayQuota
from events_core.feeds.stream import Stream

DELIVERIES = "deliveries"
_AT_ONCE = 32
_BATCH = 100
_BEGUN_AFTER = 60 * SECOND
"""When a replay is due whose beginning fails midway. It counts as unfinished, so it must come to an end."""
_OF_LANE = "FROM c WHERE c.partition = @partition AND c.replay = @replay"
_FIRSTS = f"{_OF_LANE} AND c.state = 'pending' AND NOT IS_DEFINED(c.undecidable)"
_RETRIES = f"{_OF_LANE} AND (c.state = 'failing' OR c.undecidable > 0)"
_AWAITING = f"SELECT TOP 1 * {_OF_LANE} AND c.state = 'pending'"
_PAGE = "SELECT TOP @top * FROM c WHERE c.partition = @partition"
_SHOWN = """ AND c.state <> 'withheld'
AND NOT ((c.state = 'pending' OR c.state = 'failing') AND (IS_NULL(c.permit) OR NOT IS_DEFINED(c.permit)))"""
_TIED = "SELECT * FROM c WHERE c.partition = @partition AND c.position = @position"
_OF_EVENT = "SELECT * FROM c WHERE c.stream = @stream AND c.position = @position"
_DEAD = "SELECT * FROM c WHERE c.partition = @partition AND c.state = 'dead'"
_COUNT_DEAD = "SELECT VALUE COUNT(1) FROM c WHERE c.state = 'dead'"


@dataclass(frozen=True, slots=True)
class CosmosDeliveries(DeliveryStore):
    """Deliveries in the containers `deliveries` and `due`. A version is a document's etag.

    Documents expire by time to live: delivered and withheld ones after 30 days, the others with their event, which is
    kept for `retention_days`.
    """

    database: CosmosDatabase
    lanes: CosmosLanes
    retention_days: int = 90
    segment_size: int = SEGMENT_SIZE

    @override
    async def record(self, deliveries: Sequence[Delivery], now: int) -> None:
        lanes: dict[Lane, list[Delivery]] = {}
        for delivery in deliveries:
            lanes.setdefault(delivery.lane, []).append(delivery)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def record(lane: Lane, of_lane: Sequence[Delivery]) -> None:
            async with slots:
                await self._create(of_lane)
                due = {self._segment(delivery) for delivery in of_lane if delivery.state.open}
                if settled := {self._segment(delivery) for delivery in of_lane} - due:
                    await self.lanes.touch(lane, now, settled, is_due=False)
                if due:
                    await self.lanes.touch(lane, now, due, is_due=True)

        await asyncio.gather(*(record(lane, of_lane) for lane, of_lane in lanes.items()))

    @override
    async def wake(self, lane: Lane, at: int) -> None:
        await self.lanes.wake(lane, at)

    @override
    async def wake_all(self, subscription: int, at: int) -> Sequence[Lane]:
        return await self.lanes.wake_all(subscription, at)

    @override
    async def due(self, now: int, limit: int) -> Sequence[Lane]:
        return await self.lanes.due(now, limit)

    @override
    async def overdue(self, now: int) -> Sequence[Overdue]:
        return await self.lanes.overdue(now)

    @override
    async def dead(self) -> int:
        counts: Sequence[Any] = await self.database.query("dead", DELIVERIES, _COUNT_DEAD, {}, None)
        return sum(counts)  # one count per physical partition

    @override
    async def take(self, lane: Lane, now: int, until: int) -> Lease | None:
        return await self.lanes.take(lane, now, until)

    @override
    async def renew(self, lease: Lease, until: int) -> Lease | None:
        return await self.lanes.renew(lease, until)

    @override
    async def drop(self, lease: Lease) -> None:
        await self.lanes.drop(lease)

    @override
    async def release(self, lease: Lease, breaker: Breaker, *, now: int, at: int | None = None) -> int | None:
        # Between reading and replacing the lane, its next attempts are queried. If deliveries are recorded meanwhile,
        # the lane's etag changes and the loop queries again.
        while True:
            document = await self.lanes.get(lease.lane)
            if document is None or document["lease"] != lease.version:
                return None
            attempts = await self._next_attempts(lease.lane, segments_of(document, "segments"), now)
            times = [*attempts.values(), *([document["woken"]] if document["woken"] < NEVER else [])]
            due = min(times, default=NEVER)
            document.update(
                segments={f"s{segment}": time for segment, time in attempts.items()},
                at=max(due, at or 0) if times else NEVER,
                woken=NEVER,
                until=0,
                lease="",
                failures=breaker.failures,
                openUntil=breaker.open_until,
            )
            if await self.database.replace_if("lane", DUE, document, document["_etag"]) is not None:
                return max(due, at or 0) if times else None

    @override
    async def ready(self, lease: Lease, now: int, firsts: int, retries: int) -> Sequence[Delivery]:
        document = await self.lanes.get(lease.lane)
        if document is None:
            return []
        segments = segments_of(document, "segments")
        due = [segment for segment, at in segments.items() if at <= now]
        first = await self._ready(lease.lane, segments, f"{_FIRSTS} ORDER BY c.position", most=firsts)
        wanted = f"{_RETRIES} AND c.nextAttempt <= @now ORDER BY c.nextAttempt"
        return [*first, *await self._ready(lease.lane, due, wanted, now=now, most=retries)]

    @override
    async def save(self, delivery: Delivery) -> Delivery | None:
        etag = await self.database.replace_if("delivery", DELIVERIES, self._document(delivery), delivery.version)
        return None if etag is None else replace(delivery, version=etag)

    @override
    async def remove(self, delivery: Delivery) -> None:
        document = self._document(delivery)
        await self.database.delete("delivery", DELIVERIES, document["id"], document["partition"])

    @override
    async def page(
        self, subscription: int, after: tuple[int, int] | None, limit: int, wanted: DeliveryFilter = ALL
    ) -> Sequence[Delivery]:
        document = await self.lanes.get(Lane(subscription))
        newest_first = wanted.newest_first
        start = after or ((NEVER, 0) if newest_first else (0, 0))
        first = segment_of(start[0], self.segment_size)
        page: dict[tuple[int, int], Delivery] = {}
        for segment in sorted(segments_of(document, "all") if document else (), reverse=newest_first):
            is_before = segment > first if newest_first else segment < first
            if is_before or len(page) >= limit:
                continue
            found = await self._page_of_segment(subscription, segment, start, limit, wanted)
            page |= {(delivery.position, delivery.lane.replay): delivery for delivery in found}
        return [page[key] for key in sorted(page, reverse=newest_first)][:limit]

    async def _page_of_segment(
        self, subscription: int, segment: int, start: tuple[int, int], limit: int, wanted: DeliveryFilter
    ) -> list[Delivery]:
        """The deliveries of a segment beyond `start`: at least `limit` if there are as many, and whole events."""
        fits, values = _fits(wanted)
        partition = _partition(subscription, segment)
        order, beyond = (" DESC", "<") if wanted.newest_first else ("", ">")
        sql = f"{_PAGE} AND c.position {beyond} @position{fits} ORDER BY c.position{order}"
        found = await self._query(sql, partition, top=limit, position=start[0], **values)
        tied = {found[-1].position} if len(found) == limit else set()
        if segment == segment_of(start[0], self.segment_size):
            tied.add(start[0])  # the last page ended among the deliveries of this event
        for position in tied:
            found += await self._query(f"{_TIED}{fits}", partition, position=position, **values)
        return [
            delivery
            for delivery in found
            if (key := (delivery.position, delivery.lane.replay)) != start and (key < start) is wanted.newest_first
        ]

    @override
    async def of_event(self, stream: Stream, position: int) -> Sequence[Delivery]:
        found = await self._query(_OF_EVENT, None, stream=stream.name, position=position)
        return sorted(found, key=lambda delivery: (delivery.lane.subscription, delivery.lane.replay))

    @override
    async def revive(self, subscription: int, now: int) -> int:
        document = await self.lanes.get(Lane(subscription))
        count = 0
        for segment in segments_of(document, "all") if document else ():
            dead = await self._query(_DEAD, _partition(subscription, segment))
            revived = [delivery for delivery in dead if await self.save(delivery.revived(now)) is not None]
            count += len(revived)
            for lane in dict.fromkeys(delivery.lane for delivery in revived):
                await self.lanes.touch(lane, now, [segment], is_due=True)
        return count

    @override
    async def begin_replay(self, replay: Replay, now: int, quota: ReplayQuota | None = None) -> Replay:
        lane = await self.lanes.next_replay(replay.lane.subscription)
        begun = replace(replay, lane=lane)
        await self.database.create_if_absent("lane", DUE, new_lane(lane, begun) | {"at": now + _BEGUN_AFTER})
        if quota is not None:  # added first, so that concurrent calls count each other
            await self.lanes.note_unfinished(lane, is_unfinished=True)
            if await self._unfinished(quota.subscriptions) > quota.most:
                await self.database.delete("lane", DUE, str(lane), str(lane))
                await self.lanes.note_unfinished(lane, is_unfinished=False)
                raise quota.exceeded()
        await self.lanes.wake(lane, now)
        return begun

    @override
    async def replay(self, lane: Lane) -> Replay | None:
        document = await self.lanes.get(lane)
        values = document.get("replay") if document else None
        return Replay(lane, values["after"], values["until"], values["done"]) if values else None

    @override
    async def move_replay(self, lease: Lease, replay: Replay) -> None:
        def move(document: Document) -> bool:
            document["replay"] = document_of_replay(replay)
            return bool(document["lease"] == lease.version)

        await self.lanes.changed(lease.lane, move)

    @override
    async def expire(self, settled_before: int, registered_before: int) -> int:
        return 0  # documents expire by time to live

    # -- Documents ----------------------------------------------------------------------------------------------------

    def _segment(self, delivery: Delivery) -> int:
        return segment_of(delivery.position, self.segment_size)

    def _document(self, delivery: Delivery) -> Document:
        lane = delivery.lane
        return document_of_delivery(delivery) | {
            "id": position_id(delivery.position) + (f"r{lane.replay}" if lane.replay else ""),
            "partition": _partition(lane.subscription, self._segment(delivery)),
            "replay": lane.replay,
            "ttl": max(1, self._time_to_live(delivery)),
        }

    def _time_to_live(self, delivery: Delivery) -> int:
        """For how many seconds a document is kept after it is written."""
        if delivery.state in (State.DELIVERED, State.WITHHELD):
            return SETTLED_DAYS * 86_400
        ends = delivery.registered + self.retention_days * 86_400 * SECOND
        return (ends - (delivery.settled or delivery.recorded)) // SECOND

    async def _unfinished(self, subscriptions: Sequence[int]) -> int:
        """Count the unfinished replays of subscriptions, and forget those that are finished."""
        count = 0
        for lane in await self.lanes.unfinished(subscriptions):
            if await self._is_unfinished(lane):
                count += 1
            else:
                await self.lanes.note_unfinished(lane, is_unfinished=False)
        return count

    async def _is_unfinished(self, lane: Lane) -> bool:
        document = await self.lanes.get(lane)
        if document is None:
            return False
        if not document["replay"]["done"]:
            return True
        for segment in segments_of(document, "segments"):
            partition = _partition(lane.subscription, segment)
            if await self._query(_AWAITING, partition, replay=lane.replay):
                return True
        return False

    async def _create(self, deliveries: Sequence[Delivery]) -> None:
        """Create the documents of one lane's deliveries, in their order. Documents that exist stay as they are."""
        documents = [self._document(delivery) for delivery in deliveries]
        for start in range(0, len(documents), _BATCH):
            batch = documents[start : start + _BATCH]
            of_one_segment = len({document["partition"] for document in batch}) == 1
            if len(batch) == 1 or not of_one_segment or not await self._create_together(batch):
                for document in batch:
                    await self.database.create_if_absent("record", DELIVERIES, document)

    async def _create_together(self, documents: Sequence[Document]) -> bool:
        """Create documents of one segment in one request; return False if one of them exists."""
        operations = [("create", (document,)) for document in documents]
        with failures_as_unavailable():
            try:
                await self.database.batch("record", DELIVERIES, operations, documents[0]["partition"])
            except CosmosBatchOperationError as error:
                if any(int(response["statusCode"]) == 409 for response in error.operation_responses or ()):
                    return False
                raise
        return True

    async def _ready(
        self, lane: Lane, segments: Iterable[int], wanted: str, *, most: int, **values: Any
    ) -> list[Delivery]:
        """At most `most` of the wanted deliveries of a lane, segment by segment."""
        ready: list[Delivery] = []
        for segment in segments:
            if len(ready) >= most:
                break
            values |= {"replay": lane.replay, "top": most - len(ready)}
            ready += await self._query(f"SELECT TOP @top * {wanted}", _partition(lane.subscription, segment), **values)
        return ready

    async def _next_attempts(self, lane: Lane, segments: Iterable[int], now: int) -> dict[int, int]:
        """The time of the next attempt in each segment that has one.

        A first attempt is due now at the latest, whatever the clock of the process that recorded it says.
        """
        attempts: dict[int, int] = {}
        for segment in segments:
            partition = _partition(lane.subscription, segment)
            values = {"partition": partition, "replay": lane.replay}
            for wanted, latest in ((_FIRSTS, now), (_RETRIES, NEVER)):
                sql = f"SELECT TOP 1 c.nextAttempt {wanted} ORDER BY c.nextAttempt"
                found = await self.database.query("delivery", DELIVERIES, sql, values, partition)
                if found and found[0].get("nextAttempt") is not None:
                    attempts[segment] = min(attempts.get(segment, latest), int(found[0]["nextAttempt"]), latest)
        return attempts

    async def _query(self, sql: str, partition: str | None, **values: Any) -> list[Delivery]:
        """Query deliveries of one segment, or of all if `partition` is None."""
        scoped = values if partition is None else {"partition": partition, **values}
        found = await self.database.query("delivery", DELIVERIES, sql, scoped, partition)
        return [delivery_of(document, document["_etag"]) for document in found]


def _fits(wanted: DeliveryFilter) -> tuple[str, dict[str, Any]]:
    """The conditions of a list, and their values."""
    state = wanted.state.value if wanted.state else None
    values = {"deliveryId": wanted.id, "state": state, "eventId": wanted.event_id, "source": wanted.source}
    given = {name: storable(value) for name, value in values.items() if value is not None}
    conditions = "".join(f" AND c.{name} = @{name}" for name in given)
    return conditions + (_SHOWN if given.keys() & {"eventId", "source"} else ""), given


def _partition(subscription: int, segment: int) -> str:
    return f"{subscription}|{segment:08d}"
