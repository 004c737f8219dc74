"""Updates of a stored subscription, and how often they may happen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from events_core.common.clock import SECOND
from events_core.common.errors import too_many_requests, unavailable
from events_core.delivery.ports import SubscriptionStore
from events_core.delivery.subscription import Subscription

_TRIES = 20


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `most` times within `seconds`. `detail` tells a caller so."""

    most: int
    seconds: int
    detail: str

    def counted(self, times: Sequence[int], now: int) -> tuple[int, ...]:
        """Add `now` to the recent times. A write whose answer was lost and that is repeated counts twice.

        All are microseconds since the epoch. A time of a process with another clock counts for as much longer or
        shorter, and not at all if the clocks differ by more than `seconds`. So no clock refuses a caller for long.

        Raises:
            EventsError: TOO_MANY_REQUESTS beyond the limit.
        """
        recent = tuple(time for time in times if abs(now - time) < self.seconds * SECOND)
        if len(recent) >= self.most:
            wait = self.seconds - max(0, now - min(recent)) // SECOND
            raise too_many_requests(self.detail, max(1, wait))
        return (*recent, now)


async def update_subscription(
    store: SubscriptionStore, subscription_id: int, change: Callable[[Subscription], Subscription | None]
) -> Subscription | None:
    """Update with optimistic concurrency. Return None if the subscription is gone or `change` declines.

    A write whose answer is lost is stored, and looks like another's change: then `change` meets what it made before,
    and must make the same of it.

    Raises:
        EventsError: UNAVAILABLE when the store does not answer, or others change the subscription all the time.
    """
    for _ in range(_TRIES):
        current = await store.get(subscription_id)
        wanted = None if current is None else change(current)
        if current is None or wanted is None:
            return None
        if wanted == current:
            return current
        if (stored := await store.change(wanted)) is not None:
            return stored
    raise unavailable("The subscription changes too often.")
