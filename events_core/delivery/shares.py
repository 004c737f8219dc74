"""What one consumer may hold of a process at once, so that no consumer's endpoints hold up another's."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from cachetools import LRUCache

from events_core.common.fair_slots import Bound, FairSlots
from events_core.common.slices import Pace
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
        self._slots = FairSlots(total, each)
        self._of_origin = each * 3 // 4
        self._slow, self._slow_of_consumer = total // 2, each // 2

    def slot(self, subscription: Subscription, within: float, *, slow: bool) -> AbstractAsyncContextManager[bool]:
        """Hold a slot within the block; False if the consumer gets none within so many seconds."""
        consumer = subscription.consumer
        origin = (consumer, *subscription.endpoint.lower().split("/", 3)[:3])
        bounds: list[Bound] = [(origin, self._of_origin)]
        if slow:
            bounds += [("slow", self._slow), (("slow", consumer), self._slow_of_consumer)]
        return self._slots.slot(consumer, within, *bounds)

    def waiting(self, consumer: str) -> int:
        """How many slots a consumer waits for."""
        return self._slots.waiting(consumer)


@dataclass(frozen=True, slots=True)
class ConsumerShares:
    """The slots of a process."""

    connections: Share = field(default_factory=lambda: Share(CONNECTIONS, CONNECTIONS_OF_CONSUMER))
    lanes: Share = field(default_factory=lambda: Share(LANES, LANES_OF_CONSUMER))
    validations: FairSlots = field(default_factory=lambda: FairSlots(VALIDATIONS, VALIDATIONS_OF_CONSUMER))
    pace: Pace = field(default_factory=Pace)
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

    def lanes_waiting(self, subscription: Subscription) -> int:
        """How many lanes of the consumer wait for a slot."""
        consumer = subscription.consumer
        return self.lanes.waiting(consumer) + self.validations.waiting(consumer)

    def remember(self, subscription_id: int, milliseconds: int) -> None:
        """Remember how long the longest of the last attempts to the endpoint of a subscription took."""
        if milliseconds >= SLOW_MILLISECONDS:
            self.slow[subscription_id] = None
        else:
            self.slow.pop(subscription_id, None)
