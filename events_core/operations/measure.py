"""Use case: measure what an operator has to know of the service; whatever is above zero for long is somebody's work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from events_core.common.clock import SECOND
from events_core.common.errors import StreamHoleError
from events_core.delivery.cache import SubscriptionCache
from events_core.delivery.ports import DeliveryStore, Overdue
from events_core.delivery.subscription import Subscription
from events_core.feeds.ports import Checkpoint, CheckpointStore
from events_core.feeds.stream import Stream
from events_core.operations.gauges import Gauges

STREAMS_LOOKED_AT = 100
"""Each costs a request; what stops only a stream that is not among them is found at night (`FollowUp.compare`)."""
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Of one stream: when the oldest event was registered that was not followed, or that there is a hole before it."""

    since: int | None = None
    hole: bool = False


@dataclass(frozen=True, slots=True)
class Measure:
    """Measures the service; `clock` gives microseconds since the epoch."""

    checkpoints: CheckpointStore
    deliveries: DeliveryStore
    cache: SubscriptionCache
    clock: Callable[[], int]

    async def __call__(self) -> Gauges:
        """Measure.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        waiting, parked, undelivered, dead = await asyncio.gather(
            self._waiting(), self._parked(), self._undelivered(), self.deliveries.dead()
        )
        return Gauges(
            oldest_unprojected_seconds=self._age([each.since for each in waiting if each.since is not None]),
            oldest_undelivered_seconds=self._age(undelivered),
            dead_letters=dead,
            parked=parked,
            stream_holes=sum(each.hole for each in waiting),
        )

    def _age(self, moments: list[int]) -> float:
        """Seconds since the earliest of moments, 0 when there are none; a clock that was set back makes nothing old."""
        now = self.clock()
        return round(max(0, now - min(moments, default=now)) / SECOND, 3)

    async def _waiting(self) -> list[_Waiting]:
        places = asyncio.Semaphore(_AT_ONCE)
        suspects = await self.checkpoints.suspects(STREAMS_LOOKED_AT)
        return await asyncio.gather(*(self._after(stream, seen, places) for stream, seen in suspects))

    async def _after(self, stream: Stream, seen: Checkpoint, places: asyncio.Semaphore) -> _Waiting:
        async with places:
            try:
                rows = await self.checkpoints.read_after(stream, seen.position, 1)
            except StreamHoleError:
                return _Waiting(hole=True)
        return _Waiting(rows[0].registered if rows else None)

    async def _parked(self) -> int:
        return sum(
            [
                len((await self.checkpoints.checkpoint(each)).quarantined)
                for each in await self.checkpoints.quarantined()
            ]
        )

    async def _undelivered(self) -> list[int]:
        """Since when attempts are due that nothing but ourselves keeps from being made."""
        overdue = await self.deliveries.overdue(self.clock())
        subscriptions = await self.cache.recent()
        return [each.since for each in overdue if _is_ours(each, subscriptions.get(each.lane.subscription))]


def _is_ours(overdue: Overdue, subscription: Subscription | None) -> bool:
    """Whether neither the subscriber nor the endpoint is what the delivery waits for."""
    return subscription is not None and subscription.sends and not overdue.breaker.probing
