"""Use case: send events to a subscription again: from a time or an event on, one delivery, or the dead ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from events_core.access.identity import Caller
from events_core.common import errors
from events_core.delivery.delivery import Lane, Replay
from events_core.delivery.ports import DeliveryFilter, DeliveryStore, ReplayQuota
from events_core.delivery.subscribe import Subscriber
from events_core.delivery.subscription import Subscription
from events_core.delivery.worker import LaneWorker
from events_core.feeds.ports import EventStore, ReadRequest
from events_core.feeds.stream import Cursor

READ_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What to replay: events registered from `start` on, or after `cursor` or `event_id`, until `end` if it is given.

    Or only the `dead` deliveries, or only the event of one `delivery` that this filter finds. Times are microseconds
    since the epoch, and both bounds are inclusive.
    """

    start: int | None = None
    cursor: Cursor | None = None
    event_id: str | None = None
    end: int | None = None
    dead: bool = False
    delivery: DeliveryFilter | None = None


@dataclass(frozen=True, slots=True)
class Replays:
    """Begins replays, of one consumer at most `most` unfinished ones. `clock` gives microseconds since the epoch."""

    subscriber: Subscriber
    deliveries: DeliveryStore
    store: EventStore
    lane_worker: LaneWorker
    most: int
    clock: Callable[[], int]

    async def begin(self, caller: Caller, subscription_id: int, request: ReplayRequest) -> int | None:
        """Begin to send again, beside live deliveries. Return how many dead deliveries, if those are wanted.

        An unknown cursor or event id replays from the oldest event, as in a feed.

        Raises:
            EventsError: NOT_FOUND, FORBIDDEN for another consumer's subscription, TOO_MANY_REQUESTS beyond the quota,
                UNAVAILABLE.
        """
        subscription = await self.subscriber.get(caller, subscription_id)
        now = self.clock()
        if request.dead:
            revived = await self.deliveries.revive(subscription_id, now)
            await self.lane_worker.wake(subscription_id)
            return revived
        after, until = await self._bounds(subscription, request)
        if after < until:
            replay, quota = Replay(Lane(subscription_id), after, until), await self._quota(caller)
            begun = await self.deliveries.begin_replay(replay, now, quota)
            self.lane_worker.serve_soon(begun.lane)
        return None

    async def _quota(self, caller: Caller) -> ReplayQuota:
        ids: list[int] = []
        while page := await self.subscriber.list(caller, ids[-1] if ids else 0, READ_AT_ONCE):
            ids += [subscription.id for subscription in page]
        return ReplayQuota(ids, self.most)

    async def _bounds(self, subscription: Subscription, request: ReplayRequest) -> tuple[int, int]:
        """The positions after which, and up to which, events are replayed."""
        if request.delivery is not None:
            found = await self.deliveries.page(subscription.id, None, 1, request.delivery)
            if not found:
                raise errors.not_found("There is no such delivery.")
            return found[0].position - 1, found[0].position
        stream = subscription.filter.stream
        head = await self.store.head(stream)
        first = await self.store.read(
            ReadRequest(
                stream, cursor=request.cursor, event_id=request.event_id, registered_from=request.start, limit=1, scan=1
            )
        )
        after = first.rows[0].position - 1 if first.rows else head
        if request.end is None:
            return after, head
        beyond = await self.store.read(ReadRequest(stream, registered_from=request.end + 1, limit=1, scan=1))
        return after, beyond.rows[0].position - 1 if beyond.rows else head
