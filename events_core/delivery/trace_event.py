"""Use case: what happened to an event, told from where it stands and from its deliveries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from events_core.access import scopes
from events_core.access.authorization import Authorization
from events_core.access.identity import Caller, Kind
from events_core.access.names import Resource
from events_core.common import errors
from events_core.delivery.delivery import Delivery, State
from events_core.delivery.ports import DeliveryStore, SubscriptionStore
from events_core.feeds.ports import EventStore, StoredEvent
from events_core.feeds.stream import Stream


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened; `at` is microseconds since the epoch, `status` an HTTP status or a word."""

    at: int
    activity: str
    subscription_id: int | None = None
    consumer: str | None = None
    status: int | str | None = None


@dataclass(frozen=True, slots=True)
class Tracer:
    """What telling takes."""

    events: EventStore
    deliveries: DeliveryStore
    subscriptions: SubscriptionStore
    authorization: Authorization

    async def trace(self, caller: Caller, source: str, event_id: str) -> list[Entry]:
        """What happened to an event, in the order of time.

        All of it to its publisher, and to whom the decision point permits to publish on its resource; to a subscriber
        what happened on the way to it alone.

        Raises:
            EventsError: NOT_FOUND when there is nothing that the caller may know of, UNAVAILABLE.
        """
        rows = await self.events.find(source, event_id)
        may_publish = await self._may_publish(caller, rows)
        entries: list[Entry] = []
        for row, sees_all in zip(rows, may_publish, strict=True):
            deliveries = await self.deliveries.of_event(Stream.of_resource(row.resource), row.position)
            consumers = await self._consumers(deliveries)
            own = [each for each in deliveries if sees_all or consumers[each.lane.subscription] == caller.consumer]
            entries += [Entry(row.registered, "registered")] if sees_all else []
            entries += [entry for each in own for entry in _entries(each, consumers[each.lane.subscription])]
        if not entries:
            raise errors.not_found("There is no such event.")
        return sorted(entries, key=lambda entry: entry.at)

    async def _may_publish(self, caller: Caller, rows: Sequence[StoredEvent]) -> list[bool]:
        if caller.has_scope(scopes.PUBLISH_ADMIN) or all(_is_of(caller, row) for row in rows):
            return [True] * len(rows)
        return await self.authorization.permitted(caller, "publish", rows)

    async def _consumers(self, deliveries: Sequence[Delivery]) -> dict[int, str | None]:
        """Whose each subscription is, None for one that is deleted."""
        consumers: dict[int, str | None] = {}
        for number in {each.lane.subscription for each in deliveries}:
            found = await self.subscriptions.get(number)
            consumers[number] = found.consumer if found else None
        return consumers


def _is_of(caller: Caller, row: StoredEvent) -> bool:
    """Whether the caller is the app whose event it is, which needs no permission to publish it."""
    return caller.kind is Kind.APP and caller.consumer == f"/app/{Resource.parse(row.resource).app}"


def _entries(delivery: Delivery, consumer: str | None) -> Iterator[Entry]:
    number = delivery.lane.subscription
    yield Entry(delivery.recorded, "matched", number, consumer)
    for each in delivery.attempts:
        yield Entry(each.at, "attempted", number, consumer, each.status if each.status is not None else each.error)
    if delivery.settled is not None and delivery.state in (State.DELIVERED, State.WITHHELD, State.DEAD):
        yield Entry(delivery.settled, delivery.state.value, number, consumer)
