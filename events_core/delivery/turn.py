"""A turn of a worker at a lane. It owns the lane's lease: take, renew, release."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from events_core.access.authorization import RequestBudget
from events_core.common.clock import SECOND
from events_core.delivery.delivery import Breaker, Delivery, Lane, Replay
from events_core.delivery.ports import DeliveryStore, Lease

FIRST_READ = 8
"""How many deliveries a turn reads first. Many lanes may become due at once, and an endpoint may be slow."""
LEASE_MARGIN = 5 * SECOND
"""A lease outlasts the longest attempt by this much when the attempt begins."""


@dataclass(slots=True)
class Turn:
    """A turn at a lane. Times are microseconds since the epoch, durations microseconds.

    No attempt begins at `ends` or later. `held` is False once the lease is lost or the lane dropped. The lane rests
    until `rests_until`; unless that is `timed`, the sweep ends it, which wakes few lanes of a consumer at once.
    `asleep_by` is the version of the subscription because of which nothing may be sent. `longest` is how long the
    longest attempt took, in milliseconds; None before the first one. The next read is of at most `reads` deliveries.
    `to_come` are all deliveries of the lane with an attempt to come, by position; None if the turn does not know them.
    `budget` is left for questions about these, renewed after a read of which everything was decided.
    """

    deliveries: DeliveryStore
    clock: Callable[[], int]
    longest_attempt: int
    lease: Lease
    ends: int
    breaker: Breaker
    held: bool = True
    rests_until: int = 0
    timed: bool = True
    asleep_by: str | None = None
    longest: int | None = None
    reads: int = FIRST_READ
    to_come: dict[int, Delivery] | None = None
    budget: RequestBudget = field(default_factory=RequestBudget)
    _renewing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    async def take(
        cls, deliveries: DeliveryStore, lane: Lane, *, length: int, longest_attempt: int, clock: Callable[[], int]
    ) -> Turn | None:
        """Lease a lane for a turn. Return None if another worker serves the lane, or there is no such lane."""
        now = clock()
        lease = await deliveries.take(lane, now, now + lease_length(longest_attempt))
        return None if lease is None else cls(deliveries, clock, longest_attempt, lease, now + length, lease.breaker)

    @property
    def lane(self) -> Lane:
        """The lane."""
        return self.lease.lane

    @property
    def has_not_begun(self) -> bool:
        """Whether this is a live lane whose subscription has not begun yet."""
        return self.lane.replay == 0 and self.lease.replay is None

    @property
    def seconds_left(self) -> float:
        """How long attempts may still begin."""
        return max(0, self.ends - self.clock()) / SECOND

    @property
    def is_over(self) -> bool:
        """Whether nothing may begin any more."""
        return not self.held or self.clock() >= self.ends

    async def may_begin(self) -> bool:
        """Whether an attempt may begin now. Renew the lease if the attempt could outlast it."""
        return not self.is_over and self.breaker.allows(self.clock()) and await self._outlasts_attempt()

    async def _outlasts_attempt(self) -> bool:
        async with self._renewing:
            now = self.clock()
            if self.lease.until - now >= self.longest_attempt + LEASE_MARGIN:
                return True
            renewed = await self.deliveries.renew(self.lease, now + lease_length(self.longest_attempt))
            self.held = renewed is not None
            self.lease = renewed or self.lease
            return self.held

    def rest(self, until: int, *, timed: bool = True) -> None:
        """Begin nothing more, and have no worker serve the lane before `until`."""
        self.ends, self.rests_until, self.timed = 0, max(self.rests_until, until), timed

    def sleep(self, until: int, version: str) -> None:
        """Rest because nothing may be sent while the subscription has this version."""
        self.rest(until)
        self.asleep_by = version

    async def ready(self, firsts: int, retries: int) -> Sequence[Delivery]:
        """Read deliveries that are due. Ask the store for none if the turn knows that nothing is."""
        now = self.clock()
        if self.to_come is not None and not any(_is_due(delivery, now) for delivery in self.to_come.values()):
            return []
        read = await self.deliveries.ready(self.lease, now, firsts, retries)
        self.to_come = None
        if read.rest is not None:
            self.to_come = {delivery.position: delivery for delivery in (*read.deliveries, *read.rest)}
        return read.deliveries

    async def save(self, delivery: Delivery) -> bool:
        """Store a delivery that the turn has read. Return False if it has changed since."""
        saved = await self.deliveries.save(delivery)
        if saved is None:
            self.to_come = None
        elif self.to_come is not None:
            self.to_come.pop(delivery.position, None)
            self.to_come |= {delivery.position: saved} if saved.state.open else {}
        return saved is not None

    async def remove(self, delivery: Delivery) -> None:
        """Remove a delivery of the lane."""
        await self.deliveries.remove(delivery)
        if self.to_come is not None:
            self.to_come.pop(delivery.position, None)

    async def move_replay(self, replay: Replay) -> None:
        """Store a replay of the lane. What the turn knew of the lane is old then."""
        moved = await self.deliveries.move_replay(self.lease, replay)
        self.held, self.lease, self.to_come = moved is not None, moved or self.lease, None

    async def release(self, latest: int | None = None) -> int | None:
        """End the lease. The lane is due at `latest` at the latest. Return when it is due, None for never."""
        return await self.deliveries.release(
            self.lease,
            self.breaker,
            now=self.clock(),
            at=self.rests_until or None,
            latest=latest,
            to_come=None if self.to_come is None else list(self.to_come.values()),
        )

    async def drop_lane(self) -> None:
        """End the lease, and remove the lane with it."""
        await self.deliveries.drop(self.lease)
        self.held = False


def lease_length(longest_attempt: int) -> int:
    """How long a lease lasts, in microseconds: two attempts."""
    return 2 * (longest_attempt + LEASE_MARGIN)


def _is_due(delivery: Delivery, now: int) -> bool:
    return not delivery.is_retry or (delivery.next_attempt is not None and delivery.next_attempt <= now)
