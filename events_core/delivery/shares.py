"""What one consumer may hold of a process at once, so that no consumer's endpoints hold up another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from cachetools import LRUCache

from events_core.common.fair_slots import FairSlots
from events_core.delivery.endpoint import canonical_origin
from events_core.delivery.subscription import Subscription

CONNECTIONS, CONNECTIONS_OF_CONSUMER = 256, 32
LANES, LANES_OF_CONSUMER = 192, 16
"""Fewer lanes than `host.json` lets messages of the queue be served at once: the others wait their turn."""
VALIDATIONS, VALIDATIONS_OF_CONSUMER = 64, 4
SLOW_MILLISECONDS = 1_000
"""An endpoint is slow if an attempt takes this long."""
SUBSCRIPTIONS_REMEMBERED = 10_000


class Share:
    """Slots of one kind, of which each consumer holds few.

    Its endpoints of one origin hold at most three quarters of these, and its slow endpoints half. So a healthy endpoint
    finds a slot beside any number of slow ones, also if they belong to the same consumer.
    """

    def __init__(self, total: int, each: int) -> None:
        self._of_consumer = FairSlots(total, each)
        self._of_origin = FairSlots(total, each * 3 // 4)
        self._slow = FairSlots(total // 2, each // 2)

    @asynccontextmanager
    async def slot(self, subscription: Subscription, within: float, *, slow: bool) -> AsyncIterator[bool]:
        """Hold a slot within the block; False if the consumer gets none within so many seconds."""
        consumer, time = subscription.consumer, asyncio.get_running_loop().time
        ends, held = time() + within, True
        kinds: list[tuple[FairSlots, Hashable]] = [(self._slow, consumer)] if slow else []
        kinds.append((self._of_origin, (consumer, canonical_origin(subscription.endpoint))))
        kinds.append((self._of_consumer, consumer))
        async with AsyncExitStack() as stack:
            for slots, owner in kinds:
                held = held and await stack.enter_async_context(slots.slot(owner, ends - time()))
            yield held


@dataclass(frozen=True, slots=True)
class ConsumerShares:
    """The slots of a process."""

    connections: Share = field(default_factory=lambda: Share(CONNECTIONS, CONNECTIONS_OF_CONSUMER))
    lanes: Share = field(default_factory=lambda: Share(LANES, LANES_OF_CONSUMER))
    validations: FairSlots = field(default_factory=lambda: FairSlots(VALIDATIONS, VALIDATIONS_OF_CONSUMER))
    slow: LRUCache[int, None] = field(default_factory=lambda: LRUCache(SUBSCRIPTIONS_REMEMBERED))
    """The subscriptions whose endpoint was slow the last time."""

    def lane(self, subscription: Subscription, within: float) -> AbstractAsyncContextManager[bool]:
        """Hold a slot for a lane of a subscription; False if there is none within so many seconds."""
        return self.lanes.slot(subscription, within, slow=subscription.id in self.slow)

    def connection(self, subscription: Subscription, within: float) -> AbstractAsyncContextManager[bool]:
        """Hold a slot for a connection; False if there is none within so many seconds."""
        return self.connections.slot(subscription, within, slow=subscription.id in self.slow)

    def validation(self, subscription: Subscription, within: float) -> AbstractAsyncContextManager[bool]:
        """Hold a slot for a validation; False if there is none within so many seconds."""
        return self.validations.slot(subscription.consumer, within)

    def remember(self, subscription_id: int, milliseconds: int) -> None:
        """Remember how long the longest of the last attempts to the endpoint of a subscription took."""
        if milliseconds >= SLOW_MILLISECONDS:
            self.slow[subscription_id] = None
        else:
            self.slow.pop(subscription_id, None)
