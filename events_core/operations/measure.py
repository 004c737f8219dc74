"""Measure what an operator has to know. A gauge that stays above zero needs somebody's attention."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from events_core.common.clock import SECOND
from events_core.common.errors import StreamHoleError
from events_core.delivery.cache import SubscriptionCache
from events_core.delivery.ports import DeliveryStore, Overdue
from events_core.delivery.subscription import SubscriptionIndex
from events_core.feeds.ports import Checkpoint, CheckpointStore
from events_core.feeds.stream import Stream
from events_core.operations.gauges import Gauges

STREAMS_MEASURED = 100
"""Measuring a stream costs a request. Faults in other streams are found at night (`FollowUp.compare`)."""
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class _Lag:
    """A stream's oldest event that was not followed up: when it was registered, or that a hole comes before it."""

    since: int | None = None
    hole: bool = False


@dataclass(frozen=True, slots=True)
class Measure:
    """Measures the service.

    `clock` gives microseconds since the epoch. `certificate_ends` is the end of the platform certificate, in seconds.
    """

    checkpoints: CheckpointStore
    deliveries: DeliveryStore
    cache: SubscriptionCache
    clock: Callable[[], int]
    certificate_ends: float | None

    async def gauges(self) -> Gauges:
        """Measure every gauge.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        lags, parked, undelivered, dead = await asyncio.gather(
            self._lags(), self._parked(), self._undelivered(), self.deliveries.dead()
        )
        return Gauges(
            oldest_unprojected_seconds=self._age([lag.since for lag in lags if lag.since is not None]),
            oldest_undelivered_seconds=self._age(undelivered),
            dead_letters=dead,
            parked=parked,
            stream_holes=sum(lag.hole for lag in lags),
            certificate_days_left=self._days_left(),
        )

    def _age(self, times: list[int]) -> float:
        """Seconds since the earliest time, 0 if there is none or if the clock was set back."""
        now = self.clock()
        return round(max(0, now - min(times, default=now)) / SECOND, 3)

    def _days_left(self) -> float | None:
        ends = self.certificate_ends
        return None if ends is None else round((ends - self.clock() / SECOND) / 86_400, 3)

    async def _lags(self) -> list[_Lag]:
        slots = asyncio.Semaphore(_AT_ONCE)
        suspects = await self.checkpoints.suspects(STREAMS_MEASURED)
        return await asyncio.gather(*(self._lag(stream, seen, slots) for stream, seen in suspects))

    async def _lag(self, stream: Stream, seen: Checkpoint, slots: asyncio.Semaphore) -> _Lag:
        async with slots:
            try:
                rows = (await self.checkpoints.read_after(stream, seen.position, 1)).rows
            except StreamHoleError:
                return _Lag(hole=True)
        return _Lag(rows[0].registered if rows else None)

    async def _parked(self) -> int:
        streams = await self.checkpoints.quarantined()
        return sum([len((await self.checkpoints.checkpoint(stream)).quarantined) for stream in streams])

    async def _undelivered(self) -> list[int]:
        """When attempts became due that only the service itself holds up."""
        overdue = await self.deliveries.overdue(self.clock())
        subscriptions = await self.cache.recent()
        now = self.clock()
        return [each.since for each in overdue if _is_ours(each, subscriptions, now)]


def _is_ours(overdue: Overdue, subscriptions: SubscriptionIndex, now: int) -> bool:
    """Whether the delivery waits neither for the subscriber nor for a failing or paused endpoint."""
    subscription = subscriptions.get(overdue.lane.subscription)
    if subscription is None or not subscription.sends or overdue.breaker.probing:
        return False
    return subscriptions.paused_until(subscription) <= now
