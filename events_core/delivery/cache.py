"""The subscriptions as a process knows them: all in memory, a few seconds old at most."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from events_core.common.coalesce import CoalescedRuns
from events_core.delivery.ports import SubscriptionStore
from events_core.delivery.subscription import Subscription, SubscriptionIndex

KEPT_SECONDS = 2.0
"""How old what is known may be; a change has to take effect within 5 s everywhere."""


class SubscriptionCache:
    """Every subscription that stands, refreshed by what changed since; who asks at the same time shares a refresh."""

    def __init__(self, store: SubscriptionStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._index = SubscriptionIndex()
        self._token: str | None = None
        self._refreshed = -math.inf
        self._refreshes = CoalescedRuns()

    async def fresh(self) -> SubscriptionIndex:
        """The subscriptions, every one of them that was acknowledged before this call.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        await self._refreshes.run(self._refresh)
        return self._index

    async def recent(self) -> SubscriptionIndex:
        """The subscriptions as they stood at most two seconds ago.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        if self._clock() - self._refreshed > KEPT_SECONDS:
            await self._refreshes.run(self._refresh)
        return self._index

    async def find(self, subscription_id: int) -> Subscription | None:
        """A subscription as it stood at most two seconds ago, or as it stands, if it is newer; None when there is none.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        known = (await self.recent()).get(subscription_id)
        return known if known is not None else await self._store.get(subscription_id)

    async def _refresh(self) -> None:
        began = self._clock()
        changes = await self._store.changes(self._token)
        for each in changes.subscriptions:
            self._index.put(each)
        self._token, self._refreshed = changes.token, began
