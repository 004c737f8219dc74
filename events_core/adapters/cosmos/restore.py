"""After a restore: containers that are as of slightly different times become one store again.

A backup restores each container as of about the same time. So any of them may know what another one does not: a
checkpoint of events that are gone, a delivery of such an event, a subscription without its lane.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from events_core.adapters.cosmos.client import CosmosDatabase, Document
from events_core.adapters.cosmos.delivery.deliveries import DELIVERIES, CosmosDeliveries
from events_core.adapters.cosmos.delivery.subscriptions import CosmosSubscriptions
from events_core.adapters.cosmos.streams.checkpoints import CosmosCheckpoints
from events_core.adapters.cosmos.streams.names import position_id
from events_core.adapters.cosmos.streams.queries import STREAMS
from events_core.common.clock import SECOND, now
from events_core.delivery.delivery import Lane
from events_core.feeds.stream import Stream

APART = 600 * SECOND
"""How far apart the times of two containers may be. What was registered in this time is followed up again."""
CREATED_IN_BETWEEN = 1_000
"""More subscriptions than are created between the times of two containers."""
_AT_ONCE = 32
_FIRST_EVENTS = "SELECT VALUE c.resource FROM c WHERE c.id = @id AND STARTSWITH(c.stream, 'resource:')"
_BEYOND = "SELECT c.id, c.partition FROM c WHERE c.stream = @stream AND c.position > @head"
_TO_COME = "SELECT c.partition, c.replay FROM c WHERE c.next >= 0"


@dataclass(frozen=True, slots=True)
class Restoration:
    """Sets a restored database right. No other process may use it meanwhile; the same call again completes it."""

    database: CosmosDatabase
    checkpoints: CosmosCheckpoints
    subscriptions: CosmosSubscriptions
    deliveries: CosmosDeliveries

    async def restored(self) -> int:
        """Begin a new store generation, and set right what one container knows and another does not.

        Return how many resource streams are followed up again, from some minutes before their end.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        await self.checkpoints.ready()
        await self.checkpoints.states.renew_generation()
        await _together(map(self._lower_bound, await self.checkpoints.states.names()))
        streams = await self._streams()
        ends = dict(zip(streams, await _together(self.checkpoints.end(stream) for stream in streams), strict=True))
        await _together(self._drop_beyond(stream, end) for stream, end in ends.items())
        await _together(self._set_back(stream) for stream in streams)
        await self._restore_subscriptions(ends)
        return len(streams)

    async def _streams(self) -> list[Stream]:
        """Every resource stream: those with a checkpoint, and those of which only events are left."""
        known = await self.checkpoints.states.of_resources()
        resources = await self.database.query("restore", STREAMS, _FIRST_EVENTS, {"id": position_id(1)}, None)
        names = [str(state["stream"]) for state in known]
        return list(dict.fromkeys([*map(Stream, names), *map(Stream.of_resource, map(str, resources))]))

    async def _lower_bound(self, name: str) -> None:
        """Lower a bound that is far beyond the end of its stream: the stream would go on after it, beyond a gap."""
        head = await self.checkpoints.heads.search(name)
        if head.position > 0:
            await self.checkpoints.states.lower(name, head.position + self.checkpoints.heads.block)

    async def _set_back(self, stream: Stream) -> None:
        """Set the checkpoints of a stream back, since what they count as done may be gone from another container."""
        name, seen = self.checkpoints.names.of(stream), await self.checkpoints.checkpoint(stream)
        head = await self.checkpoints.heads.fresh(name)
        first = await self.checkpoints.reader.positions_by_time.first_since(name, head.registered - APART)
        most = head.position if first is None else int(first["seq"]) - 1
        positions = {follower: min(position, most) for follower, position in seen.positions.items()}
        quarantined = [each for each in seen.quarantined if each.position <= head.position]
        await self.checkpoints.advance(stream, seen, positions, catch_up_pending=True, quarantined=quarantined)

    async def _drop_beyond(self, stream: Stream, end: int) -> None:
        """Remove the deliveries of events that are gone: other events get their positions."""
        values = {"stream": stream.name, "head": end}
        found = await self.database.query("restore", DELIVERIES, _BEYOND, values, None)
        await _together(
            self.database.delete("restore", DELIVERIES, document["id"], document["partition"]) for document in found
        )

    async def _restore_subscriptions(self, ends: Mapping[Stream, int]) -> None:
        """Make lanes of subscriptions and deliveries, and let no new subscription have the id of one that is gone."""
        await self.subscriptions.use_up(CREATED_IN_BETWEEN)
        to_come = await self.database.query("restore", DELIVERIES, _TO_COME, {}, None)
        await _together(self.deliveries.recover(*each, now()) for each in set(map(_lane_and_segment, to_come)))
        for subscription in (await self.subscriptions.changes()).subscriptions:
            end = ends.get(subscription.filter.stream, 0)
            if subscription.start > end:
                await self.subscriptions.change(replace(subscription, start=end))
            await self.deliveries.wake(Lane(subscription.id))


async def _together(work: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Run some at once. Return the results in order."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def run(each: Coroutine[Any, Any, Any]) -> Any:
        async with slots:
            return await each

    return await asyncio.gather(*map(run, work))


def _lane_and_segment(document: Document) -> tuple[Lane, int]:
    subscription, segment = document["partition"].split("|")
    return Lane(int(subscription), int(document["replay"])), int(segment)
