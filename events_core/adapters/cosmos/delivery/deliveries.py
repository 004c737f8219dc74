"""Deliveries in Cosmos DB, one document each. A delivery is in the segment of its event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from azure.cosmos.exceptions import CosmosBatchOperationError
from typing_extensions import override

from events_core.adapters.cosmos.client import Document
from events_core.adapters.cosmos.containers import LARGEST_TIME_TO_LIVE
from events_core.adapters.cosmos.delivery.lanes import (
    AT_ONCE,
    NEVER,
    CosmosLanes,
    CosmosLease,
    Ending,
    ToCome,
    replay_of,
    segments_of,
)
from events_core.adapters.cosmos.failures import failures_as_unavailable
from events_core.adapters.cosmos.streams.names import SEGMENT_SIZE, position_id, segment_of
from events_core.adapters.delivery_documents import delivery_of, document_of_delivery
from events_core.common import clock
from events_core.common.clock import SECOND
from events_core.common.texts import storable
from events_core.delivery.delivery import SETTLED_DAYS, Breaker, Delivery, Lane, Replay, State
from events_core.delivery.ports import ALL, DeliveryFilter, Lease, Ready, ReplayQuota
from events_core.feeds.stream import Stream

DELIVERIES = "deliveries"
_LANES_AT_ONCE = 32
_BATCH = 100
_DAY = 86_400
_BEGUN_AFTER = 60 * SECOND
"""When a replay is due whose beginning fails midway. It counts as unfinished, so it must come to an end.

With another clock it is due as much earlier or later, which changes nothing else."""
_OF_LANE = "FROM c WHERE c.partition = @partition AND c.replay = @replay"
_BY_ATTEMPT = "ORDER BY c.partition, c.replay, c.next, c.position"
_TO_COME = f"SELECT TOP @top * {_OF_LANE} AND c.next >= 0 AND c.position <= @last {_BY_ATTEMPT}"
_RETRIES = f"SELECT TOP @top * {_OF_LANE} AND c.next > 0 AND c.next <= @now AND c.position <= @last {_BY_ATTEMPT}"
_NEXT = f"SELECT TOP 1 c.next, c.nextAttempt {_OF_LANE} AND c.next >= 0 {_BY_ATTEMPT}"
_AWAITING = f"SELECT TOP 1 * {_OF_LANE} AND c.state = 'pending'"
_PAGE = "SELECT TOP @top * FROM c WHERE c.partition = @partition"
_SHOWN = " AND c.permit = true"
_TIED = "SELECT * FROM c WHERE c.partition = @partition AND c.position = @position"
_OF_EVENT = "SELECT * FROM c WHERE c.stream = @stream AND c.position = @position"
_DEAD = "SELECT * FROM c WHERE c.partition = @partition AND c.state = 'dead'"
_COUNT_DEAD = "SELECT VALUE COUNT(1) FROM c WHERE c.state = 'dead'"


@dataclass(frozen=True, slots=True)
class CosmosDeliveries(CosmosLanes):
    """Deliveries in the container `deliveries`, and their lanes in `due`. A version is a document's etag.

    Documents expire by time to live: delivered and withheld ones after 30 days, the others with their event, which is
    readable for `retention_days` and stored for a day more. `clock` gives microseconds since the epoch.
    """

    retention_days: int = 90
    segment_size: int = SEGMENT_SIZE
    clock: Callable[[], int] = clock.now

    @override
    async def record(self, deliveries: Sequence[Delivery], now: int) -> None:
        lanes: dict[Lane, list[Delivery]] = {}
        for delivery in deliveries:
            lanes.setdefault(delivery.lane, []).append(delivery)
        slots = asyncio.Semaphore(_LANES_AT_ONCE)

        async def record(lane: Lane, of_lane: Sequence[Delivery]) -> None:
            async with slots:
                stored_before = await self._create(of_lane)
                may_be_due = [delivery for delivery in of_lane if delivery.state.open or delivery in stored_before]
                segments, due = self._segments(of_lane), self._segments(may_be_due)
                await self._note(lane, now, segments, due)

        await asyncio.gather(*(record(lane, of_lane) for lane, of_lane in lanes.items()))

    @override
    async def dead(self) -> int:
        counts: Sequence[Any] = await self.database.query("dead", DELIVERIES, _COUNT_DEAD, {}, None)
        return sum(counts)  # one count per physical partition

    @override
    async def release(
        self,
        lease: Lease,
        breaker: Breaker,
        *,
        now: int,
        at: int | None = None,
        latest: int | None = None,
        to_come: Sequence[Delivery] | None = None,
    ) -> int | None:
        if to_come is not None:
            known = [ToCome(self._segment(item), _next(item), item.next_attempt or AT_ONCE) for item in to_come]
            ending = Ending(breaker, now, at, latest, known)
            if await self._end(lease, ending):
                return ending.due
        while True:
            document = await self._lane(lease.lane)
            if document is None or document["lease"] != lease.version:
                return None
            if document["at"] == AT_ONCE:  # the lane was made due: the next worker looks into the segments
                noted = [ToCome(*noted, document["since"]) for noted in segments_of(document).items()]
                ending = Ending(breaker, now, at, now, noted)
            else:
                ending = Ending(breaker, now, at, latest, await self._to_come(lease.lane, document, now))
            if await self._end(lease, ending, document["_etag"]):
                return ending.due

    @override
    async def ready(self, lease: Lease, now: int, firsts: int, retries: int) -> Ready:
        assert isinstance(lease, CosmosLease)
        last = lease.replay.after if lease.replay is not None and lease.is_replaying else NEVER
        values = {"replay": lease.lane.replay, "last": last}
        to_come: list[Delivery] = []
        first: list[Delivery] = []
        retry: list[Delivery] = []
        is_whole = not lease.is_replaying
        for segment, at in lease.segments.items():
            if at > now or (len(first) >= firsts and len(retry) >= retries):
                is_whole = False
                continue
            partition, top = _partition(lease.lane.subscription, segment), firsts + retries
            found = await self._query(_TO_COME, partition, top=top, **values)
            to_come += found
            first += [delivery for delivery in found if not delivery.is_retry]
            if len(found) == top:
                is_whole = False
                found = await self._query(_RETRIES, partition, top=retries, now=now, **values)
            retry += [delivery for delivery in found if _is_due_retry(delivery, now)]
        due = [*first[:firsts], *retry[:retries]]
        return Ready(due, [delivery for delivery in to_come if delivery not in due] if is_whole else None)

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
        document = await self._lane(Lane(subscription))
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
        sql = f"{_PAGE} AND c.position {beyond} @position{fits} ORDER BY c.partition{order}, c.position{order}"
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
        document = await self._lane(Lane(subscription))
        count = 0
        for segment in segments_of(document, "all") if document else ():
            dead = await self._query(_DEAD, _partition(subscription, segment))
            revived = [delivery for delivery in dead if await self.save(delivery.revived(now)) is not None]
            count += len(revived)
            for lane in dict.fromkeys(delivery.lane for delivery in revived):
                await self._note(lane, now, [segment], [segment])
        return count

    @override
    async def begin_replay(self, replay: Replay, now: int, quota: ReplayQuota | None = None) -> Replay:
        begun = await self._add_replay(replay, now + _BEGUN_AFTER)
        # It is stored first, so that concurrent calls count each other.
        if quota is not None:
            lanes = await self._replays_to_come(quota.subscriptions)
            if sum([await self._is_unfinished(lane) for lane in lanes]) > quota.most:
                await self._delete(begun.lane)
                raise quota.exceeded()
        await self.wake(begun.lane)
        return begun

    @override
    async def expire(self, settled_before: int, registered_before: int) -> int:
        return 0  # documents expire by time to live

    # -- Documents ----------------------------------------------------------------------------------------------------

    def _segments(self, deliveries: Iterable[Delivery]) -> list[int]:
        return sorted({self._segment(delivery) for delivery in deliveries})

    def _segment(self, delivery: Delivery) -> int:
        return segment_of(delivery.position, self.segment_size)

    def _document(self, delivery: Delivery) -> Document:
        lane = delivery.lane
        document = document_of_delivery(delivery) | {
            "id": position_id(delivery.position) + (f"r{lane.replay}" if lane.replay else ""),
            "partition": _partition(lane.subscription, self._segment(delivery)),
            "replay": lane.replay,
            "ttl": self._time_to_live(delivery),
        }
        return document | {"next": _next(delivery)} if delivery.state.open else document

    def _time_to_live(self, delivery: Delivery) -> int:
        """For how many seconds a document is kept after it is written: as long as its event's, and at least a day.

        Another clock than that of the event's writer makes it as much shorter or longer.
        """
        if delivery.state in (State.DELIVERED, State.WITHHELD):
            return SETTLED_DAYS * _DAY
        left = (delivery.registered - self.clock()) // SECOND + (self.retention_days + 1) * _DAY
        return max(_DAY, min(left, LARGEST_TIME_TO_LIVE))

    async def _is_unfinished(self, document: Document) -> bool:
        """Whether a replay is not done, or a delivery awaits its first attempt."""
        lane = Lane(document["subscription"], document["number"])
        replay = replay_of(lane, document)
        if replay is not None and not replay.done:
            return True
        for segment in segments_of(document):
            if await self._query(_AWAITING, _partition(lane.subscription, segment), replay=lane.replay):
                return True
        return False

    async def _create(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Create the documents of one lane's deliveries, in their order. Return those that are stored already."""
        existing: list[Delivery] = []
        for start in range(0, len(deliveries), _BATCH):
            batch = deliveries[start : start + _BATCH]
            if len(batch) == 1 or len(self._segments(batch)) > 1 or not await self._create_together(batch):
                existing += [delivery for delivery in batch if not await self._create_one(delivery)]
        return existing

    async def _create_one(self, delivery: Delivery) -> bool:
        return await self.database.create_if_absent("record", DELIVERIES, self._document(delivery))

    async def _create_together(self, deliveries: Sequence[Delivery]) -> bool:
        """Create documents of one segment in one request; return False if one of them exists."""
        documents = [self._document(delivery) for delivery in deliveries]
        operations = [("create", (document,)) for document in documents]
        with failures_as_unavailable():
            try:
                await self.database.batch("record", DELIVERIES, operations, documents[0]["partition"])
            except CosmosBatchOperationError as error:
                if any(int(response["statusCode"]) == 409 for response in error.operation_responses or ()):
                    return False
                raise
        return True

    async def _to_come(self, lane: Lane, document: Document, now: int) -> list[ToCome]:
        """The first attempt of a lane in each segment, asked for where something may be due."""
        found = []
        for segment, at in segments_of(document).items():
            if at > now:
                found.append(ToCome(segment, at, at))
                continue
            partition = _partition(lane.subscription, segment)
            values = {"partition": partition, "replay": lane.replay}
            rows = await self.database.query("delivery", DELIVERIES, _NEXT, values, partition)
            found += [ToCome(segment, row["next"], row["nextAttempt"]) for row in rows]
        return found

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


def _next(delivery: Delivery) -> int:
    """When an open delivery is due: a first attempt is AT_ONCE, whatever the clock of the process that recorded it."""
    return delivery.next_attempt or AT_ONCE if delivery.is_retry else AT_ONCE


def _is_due_retry(delivery: Delivery, now: int) -> bool:
    return delivery.is_retry and _next(delivery) <= now
