"""The cache of subscriptions: every process holds all of them in memory, a few seconds old at most."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from events_core.common.coalesce import CoalescedRuns
from events_core.delivery.ports import SubscriptionStore
from events_core.delivery.subscription import EndpointPause, Subscription, SubscriptionIndex

KEPT_SECONDS = 2.0
"""How old the cache may be. A change of a subscription must take effect within 5 s in every process."""


class SubscriptionCache:
    """Every subscription. A refresh asks the store for the changes since the last one; concurrent calls share it.

    Each method raises EventsError UNAVAILABLE when the store does not answer.
    """

    def __init__(self, store: SubscriptionStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._index = SubscriptionIndex()
        self._token: str | None = None
        self._refreshed = -math.inf
        self._refreshes = CoalescedRuns()

    async def fresh(self) -> SubscriptionIndex:
        """Return the subscriptions, with every change that was acknowledged before this call."""
        await self._refreshes.run(self._refresh)
        return self._index

    async def recent(self) -> SubscriptionIndex:
        """Return the subscriptions as they were at most two seconds ago."""
        if self._clock() - self._refreshed > KEPT_SECONDS:
            await self._refreshes.run(self._refresh)
        return self._index

    async def find(self, subscription_id: int) -> Subscription | None:
        """Return a subscription as it was at most two seconds ago, None if it is unknown.

        A subscription that is not in the cache is looked up in the store: it may be newer than the cache.
        """
        known = (await self.recent()).get(subscription_id)
        return known if known is not None else await self._store.get(subscription_id)

    async def known(self, subscription_id: int) -> Subscription | None:
        """Return a subscription as it was at any time, None if it is unknown. Look up one that is not in the cache."""
        known = self._index.get(subscription_id)
        return known if known is not None else await self.find(subscription_id)

    def pause(self, pause: EndpointPause) -> None:
        """Pause an endpoint in this process, before the store says so to every process."""
        self._index.pause(pause)

    def paused_until(self, subscription: Subscription) -> int:
        """When the pause of a subscription's endpoint ends or ended, as of the last refresh; 0 if there was none."""
        return self._index.paused_until(subscription)

    async def _refresh(self) -> None:
        began = self._clock()
        changes = await self._store.changes(self._token)
        for subscription in changes.subscriptions:
            self._index.put(subscription)
        self._token, self._refreshed = changes.token, began
