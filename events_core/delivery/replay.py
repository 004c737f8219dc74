"""Use case: send again what a subscription matches: from a moment or a place on, one delivery, or what is dead."""

from __future__ import annotations

from dataclasses import dataclass

from events_core.access.identity import Caller
from events_core.common import errors
from events_core.delivery.delivery import Lane, Replay
from events_core.delivery.subscribe import Subscriber
from events_core.delivery.subscription import Subscription
from events_core.feeds.ports import ReadRequest
from events_core.feeds.stream import Cursor


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to replay: from a moment (`start`, microseconds, inclusive) or after a place, up to a moment, if any.

    Or `dead` deliveries alone, or the one delivery whose lane and position these are.
    """

    start: int | None = None
    cursor: Cursor | None = None
    event_id: str | None = None
    end: int | None = None
    dead: bool = False
    delivery: tuple[Lane, int] | None = None


async def replay(subscriber: Subscriber, caller: Caller, subscription_id: int, wanted: Wanted) -> int | None:
    """Begin to send again, without disturbing what is sent live; how many dead deliveries that are, None unless asked.

    An `after` that names nothing known replays from the oldest event that is kept, as a feed would.

    Raises:
        EventsError: NOT_FOUND, FORBIDDEN when the subscription is another's, UNAVAILABLE.
    """
    subscription = await subscriber.get(caller, subscription_id)
    now = subscriber.clock()
    if wanted.dead:
        count = await subscriber.deliveries.revive(subscription_id, now)
        await _serve(subscriber, subscription_id, now)
        return count
    after, until = await _bounds(subscriber, subscription, wanted)
    if after < until:
        begun = await subscriber.deliveries.begin_replay(Replay(Lane(subscription_id), after, until), now)
        subscriber.deliverer.serve_soon(begun.lane)
    return None


async def _serve(subscriber: Subscriber, subscription_id: int, now: int) -> None:
    for lane in await subscriber.deliveries.wake_all(subscription_id, now):
        subscriber.deliverer.serve_soon(lane)


async def _bounds(subscriber: Subscriber, subscription: Subscription, wanted: Wanted) -> tuple[int, int]:
    """The positions after which, and up to which, events are replayed."""
    stream = subscription.filter.stream
    if wanted.delivery is not None:
        lane, position = wanted.delivery
        known = await subscriber.deliveries.page(subscription.id, (position, lane.replay - 1), 1)
        if lane.subscription != subscription.id or not known or (known[0].lane, known[0].position) != wanted.delivery:
            raise errors.not_found("There is no such delivery.")
        return position - 1, position
    head = await subscriber.events.head(stream)
    first = await subscriber.events.read(
        ReadRequest(
            stream, cursor=wanted.cursor, event_id=wanted.event_id, registered_from=wanted.start, limit=1, scan=1
        )
    )
    after = first.rows[0].position - 1 if first.rows else head
    if wanted.end is None:
        return after, head
    beyond = await subscriber.events.read(ReadRequest(stream, registered_from=wanted.end + 1, limit=1, scan=1))
    return after, beyond.rows[0].position - 1 if beyond.rows else head
