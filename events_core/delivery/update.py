"""Updates of a stored subscription."""

from __future__ import annotations

from collections.abc import Callable

from events_core.common.errors import unavailable
from events_core.delivery.ports import SubscriptionStore
from events_core.delivery.subscription import Subscription

_TRIES = 20


async def update_subscription(
    store: SubscriptionStore, subscription_id: int, change: Callable[[Subscription], Subscription | None]
) -> Subscription | None:
    """Update with optimistic concurrency. Return None if the subscription is gone or `change` declines.

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
