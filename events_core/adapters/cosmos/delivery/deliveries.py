"""Deliveries in Cosmos DB: a document each, beside those of the same segment of their stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from azure.cosmos.exceptions import CosmosBatchOperationError

from events_core.adapters.cosmos.client import CosmosDatabase
from events_core.adapters.cosmos.containers import THIRTY_DAYS
from events_core.adapters.cosmos.delivery.lanes import (
    DUE,
    NEVER,
    CosmosLanes,
    document_of_replay,
    new_lane,
    segments_of,
)
from events_core.adapters.cosmos.failures import failures_as_unavailable
from events_core.adapters.cosmos.streams.documents import Document
from events_core.adapters.cosmos.streams.names import SEGMENT_SIZE, position_id, segment_of
from events_core.adapters.delivery_documents import delivery_of, document_of_delivery
from events_core.common.clock import SECOND
from events_core.delivery.delivery import Breaker, Delivery, Lane, Replay, State
from events_core.delivery.ports import Lease, Overdue
from events_core.feeds.stream import Stream

DELIVERIES = "deliveries"
_AT_ONCE = 32
_BATCH = 100
_IN = "FROM c WHERE c.partition = @partition AND c.replay = @replay AND c.state = @state"
_READY = f"SELECT TOP @top * {_IN} AND c.nextAttempt <= @now"
_NEXT = f"SELECT TOP 1 c.nextAttempt {_IN} ORDER BY c.nextAttempt"
_PAGE = "SELECT TOP @top * FROM c WHERE c.partition = @partition AND c.position >= @position"
_OF_EVENT = "SELECT * FROM c WHERE c.stream = @stream AND c.position = @position"
_DEAD = "SELECT * FROM c WHERE c.partition = @partition AND c.state = 'dead'"
_OPEN = (State.PENDING, State.FAILING)


@dataclass(frozen=True, slots=True)
class CosmosDeliveries:
    """A DeliveryStore; a version is a document's etag.

    Documents go by themselves: those that came to their end after 30 days, dead and open ones with their event, which
    is kept for `retention_days`. The segment of a delivery is that of its event.
    """

    database: CosmosDatabase
    lanes: CosmosLanes
    retention_days: int = 90
    segment_size: int = SEGMENT_SIZE

    async def record(self, deliveries: Sequence[Delivery], now: int) -> None:
        """Store deliveries, then make their lanes due; see `DeliveryStore.record`."""
        lanes: dict[Lane, list[Delivery]] = {}
        for each in deliveries:
            lanes.setdefault(each.lane, []).append(each)
        places = asyncio.Semaphore(_AT_ONCE)

        async def record(lane: Lane, some: Sequence[Delivery]) -> None:
            async with places:
                await self._record(some)
                to_come = {self._segment(each) for each in some if each.state.open}
                if settled := {self._segment(each) for each in some} - to_come:
                    await self.lanes.touch(lane, now, settled, is_due=False)
                if to_come:
                    await self.lanes.touch(lane, now, to_come, is_due=True)

        await asyncio.gather(*(record(lane, some) for lane, some in lanes.items()))

    async def wake(self, lane: Lane, at: int) -> None:
        """Make a lane due; see `DeliveryStore.wake`."""
        await self.lanes.wake(lane, at)

    async def wake_all(self, subscription: int, at: int) -> Sequence[Lane]:
        """Make every lane of a subscription due; see `DeliveryStore.wake_all`."""
        return await self.lanes.wake_all(subscription, at)

    async def due(self, now: int, limit: int) -> Sequence[Lane]:
        """Lanes that are due; see `DeliveryStore.due`."""
        return await self.lanes.due(now, limit)

    async def overdue(self, now: int) -> Sequence[Overdue]:
        """Lanes in which an attempt is due; see `DeliveryStore.overdue`."""
        return await self.lanes.overdue(now)

    async def dead(self) -> int:
        """How many deliveries are dead; asks everywhere, and an index answers."""
        sql = "SELECT VALUE COUNT(1) FROM c WHERE c.state = 'dead'"
        counts: Sequence[Any] = await self.database.query("dead", DELIVERIES, sql, {}, None)
        return sum(counts)

    async def take(self, lane: Lane, now: int, until: int) -> Lease | None:
        """Lease a lane; see `DeliveryStore.take`."""
        return await self.lanes.take(lane, now, until)

    async def keep(self, lease: Lease, until: int) -> Lease | None:
        """Prolong a lease; see `DeliveryStore.keep`."""
        return await self.lanes.keep(lease, until)

    async def drop(self, lease: Lease) -> None:
        """End a lease and its lane."""
        await self.lanes.drop(lease)

    async def give_back(self, lease: Lease, breaker: Breaker, *, now: int, at: int | None = None) -> bool:
        """End a lease; see `DeliveryStore.give_back`.

        What is to come is asked for between reading the lane and replacing it: whoever records meanwhile touches it
        after, and then it is asked again.
        """
        while True:
            document = await self.lanes.get(lease.lane)
            if document is None or document["lease"] != lease.version:
                return False
            coming = await self._coming(lease.lane, segments_of(document, "segments"), now)
            times = [*coming.values(), *([document["woken"]] if document["woken"] < NEVER else [])]
            due = min(times, default=NEVER)
            document.update(
                segments={f"s{segment}": each for segment, each in coming.items()},
                at=max(due, at or 0) if times else NEVER,
                woken=NEVER,
                until=0,
                lease="",
                failures=breaker.failures,
                openUntil=breaker.open_until,
            )
            if await self.database.replace_if("lane", DUE, document, document["_etag"]) is not None:
                return bool(document["at"] <= now)

    async def ready(self, lease: Lease, now: int, firsts: int, retries: int) -> Sequence[Delivery]:
        """Deliveries that are due; see `DeliveryStore.ready`."""
        document = await self.lanes.get(lease.lane)
        if document is None:
            return []
        segments = segments_of(document, "segments")
        due = [segment for segment, at in segments.items() if at <= now]
        first = await self._some(lease.lane, [*segments], State.PENDING, "position", NEVER, firsts)
        again = await self._some(lease.lane, due, State.FAILING, "nextAttempt", now, retries)
        return [*first, *again]

    async def save(self, delivery: Delivery) -> Delivery | None:
        """Replace a delivery; see `DeliveryStore.save`."""
        etag = await self.database.replace_if("delivery", DELIVERIES, self._document(delivery), delivery.version)
        return None if etag is None else replace(delivery, version=etag)

    async def remove(self, delivery: Delivery) -> None:
        """Take a delivery away."""
        document = self._document(delivery)
        await self.database.delete("delivery", DELIVERIES, document["id"], document["partition"])

    async def page(
        self, subscription: int, after: tuple[int, int], limit: int, state: State | None = None
    ) -> Sequence[Delivery]:
        """Deliveries of a subscription; see `DeliveryStore.page`."""
        document = await self.lanes.get(Lane(subscription))
        found: list[Delivery] = []
        sql = f"{_PAGE} AND c.state = @state ORDER BY c.position" if state else f"{_PAGE} ORDER BY c.position"
        values = {"state": state.value} if state else {}
        for segment in segments_of(document, "all") if document else ():
            if segment < segment_of(after[0], self.segment_size) or len(found) >= limit:
                continue
            place = _partition(subscription, segment)
            top = limit + 1 + after[1]  # those of the first position that were given already
            some = await self._ask(sql, place, top=top, position=after[0], **values)
            found += [each for each in some if (each.position, each.lane.replay) > after]
        return sorted(found, key=lambda each: (each.position, each.lane.replay))[:limit]

    async def of_event(self, stream: Stream, position: int) -> Sequence[Delivery]:
        """The deliveries of one event; see `DeliveryStore.of_event`."""
        found = await self._ask(_OF_EVENT, None, stream=stream.name, position=position)
        return sorted(found, key=lambda each: (each.lane.subscription, each.lane.replay))

    async def revive(self, subscription: int, now: int) -> int:
        """Let dead deliveries begin anew; see `DeliveryStore.revive`."""
        document = await self.lanes.get(Lane(subscription))
        count = 0
        for segment in segments_of(document, "all") if document else ():
            dead = await self._ask(_DEAD, _partition(subscription, segment))
            saved = [each for each in dead if await self.save(each.revived(now)) is not None]
            count += len(saved)
            for lane in dict.fromkeys(each.lane for each in saved):
                await self.lanes.touch(lane, now, [segment], is_due=True)
        return count

    async def begin_replay(self, replay: Replay, now: int) -> Replay:
        """Store a replay; see `DeliveryStore.begin_replay`."""
        live = Lane(replay.lane.subscription)
        await self.database.create_if_absent("lane", DUE, new_lane(live))

        def count(document: Document) -> bool:
            document["jobs"] += 1
            return True

        counted = await self.lanes.changed(live, count)
        assert counted is not None  # it was made above
        begun = replace(replay, lane=Lane(live.subscription, counted["jobs"]))
        lane = new_lane(begun.lane, begun) | {"at": now, "woken": now}
        await self.database.create_if_absent("lane", DUE, lane)
        return begun

    async def replay(self, lane: Lane) -> Replay | None:
        """The replay of a lane; see `DeliveryStore.replay`."""
        document = await self.lanes.get(lane)
        values = document.get("replay") if document else None
        return Replay(lane, values["after"], values["until"], values["done"]) if values else None

    async def move_replay(self, lease: Lease, replay: Replay) -> None:
        """Note how far a replay has come; see `DeliveryStore.move_replay`."""

        def move(document: Document) -> bool:
            document["replay"] = document_of_replay(replay)
            return bool(document["lease"] == lease.version)

        await self.lanes.changed(lease.lane, move)

    async def expire(self, settled_before: int, registered_before: int) -> int:  # noqa: ARG002 - they go by themselves
        """Nothing has to be removed."""
        return 0

    # -- Documents ----------------------------------------------------------------------------------------------------

    def _segment(self, delivery: Delivery) -> int:
        return segment_of(delivery.position, self.segment_size)

    def _document(self, delivery: Delivery) -> Document:
        lane = delivery.lane
        document = document_of_delivery(delivery) | {
            "id": position_id(delivery.position) + (f"r{lane.replay}" if lane.replay else ""),
            "partition": _partition(lane.subscription, self._segment(delivery)),
            "replay": lane.replay,
        }
        return document | {"ttl": max(1, self._kept_seconds(delivery))}

    def _kept_seconds(self, delivery: Delivery) -> int:
        """How long the document stands from when it is written: one that came to its end well for 30 days."""
        if delivery.state in (State.DELIVERED, State.WITHHELD):
            return THIRTY_DAYS
        ends = delivery.registered + self.retention_days * 86_400 * SECOND
        return (ends - (delivery.settled or delivery.recorded)) // SECOND

    async def _record(self, deliveries: Sequence[Delivery]) -> None:
        """Create documents of one lane in their order, a segment after the other; what stands stays."""
        documents = [self._document(each) for each in deliveries]
        for at in range(0, len(documents), _BATCH):
            some = documents[at : at + _BATCH]
            if len({each["partition"] for each in some}) > 1 or len(some) == 1 or not await self._batch(some):
                for each in some:
                    await self.database.create_if_absent("record", DELIVERIES, each)

    async def _batch(self, documents: Sequence[Document]) -> bool:
        """Create documents of one partition at once; False when one of them stands."""
        operations = [("create", (each,)) for each in documents]
        with failures_as_unavailable():
            try:
                await self.database.batch("record", DELIVERIES, operations, documents[0]["partition"])
            except CosmosBatchOperationError as error:
                if any(int(each["statusCode"]) == 409 for each in error.operation_responses or ()):
                    return False
                raise
        return True

    async def _some(  # noqa: PLR0917 - what is due of which lane, and where
        self, lane: Lane, segments: Sequence[int], state: State, order: str, now: int, most: int
    ) -> list[Delivery]:
        found: list[Delivery] = []
        for segment in segments:
            if len(found) >= most:
                break
            place = _partition(lane.subscription, segment)
            sql, values = f"{_READY} ORDER BY c.{order}", {"replay": lane.replay, "state": state.value, "now": now}
            found += await self._ask(sql, place, top=most - len(found), **values)
        return found

    async def _coming(self, lane: Lane, segments: dict[int, Any], now: int) -> dict[int, int]:
        """When the next attempt of each segment is, of those that have one to come.

        A first one is due now, whatever the clock says that it was recorded by.
        """
        coming: dict[int, int] = {}
        for segment in segments:
            place = _partition(lane.subscription, segment)
            for state in _OPEN:
                values = {"partition": place, "replay": lane.replay, "state": state.value}
                found = await self.database.query("delivery", DELIVERIES, _NEXT, values, place)
                if found and found[0].get("nextAttempt") is not None:
                    latest = now if state is State.PENDING else NEVER
                    coming[segment] = min(coming.get(segment, latest), int(found[0]["nextAttempt"]), latest)
        return coming

    async def _ask(self, sql: str, partition: str | None, **values: Any) -> list[Delivery]:
        scoped = values if partition is None else {"partition": partition, **values}
        found = await self.database.query("delivery", DELIVERIES, sql, scoped, partition)
        return [delivery_of(each, each["_etag"]) for each in found]


def _partition(subscription: int, segment: int) -> str:
    return f"{subscription}|{segment:08d}"
