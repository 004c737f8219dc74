"""Use case: trace an event: what happened to it, as its row and its deliveries show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from events_core.access import scopes
from events_core.access.authorization import Asked, Authorization, RequestBudget, Verdict
from events_core.access.identity import Caller, Kind
from events_core.access.names import Resource
from events_core.access.ports import UndecidedError
from events_core.common import errors
from events_core.common.errors import EventsError
from events_core.delivery.delivery import Delivery, State
from events_core.delivery.ports import DeliveryStore, SubscriptionStore
from events_core.feeds.ports import EventStore, StoredEvent
from events_core.feeds.stream import Stream


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a trace. `at` is microseconds since the epoch, `status` an HTTP status or a word."""

    at: int
    activity: str
    subscription_id: int | None = None
    consumer: str | None = None
    status: int | str | None = None


@dataclass(frozen=True, slots=True)
class Tracer:
    """Traces events."""

    store: EventStore
    deliveries: DeliveryStore
    subscriptions: SubscriptionStore
    authorization: Authorization

    async def trace(self, caller: Caller, source: str, event_id: str) -> list[Entry]:
        """Trace an event, in the order of time.

        A publisher of the event's resource sees every entry. A subscriber sees the entries of its own deliveries, also
        while the decision point does not say whether it may publish.

        Raises:
            EventsError: NOT_FOUND when the caller may see no entry, UNAVAILABLE.
        """
        rows = await self.store.find(source, event_id)
        may_publish, undecided = [False] * len(rows), None
        try:
            may_publish = await self._may_publish(caller, rows)
        except EventsError as error:
            undecided = error
        entries: list[Entry] = []
        for row, sees_all in zip(rows, may_publish, strict=True):
            deliveries = await self.deliveries.of_event(Stream.of_resource(row.resource), row.position)
            consumers = await self._consumers(deliveries)
            if sees_all:
                entries.append(Entry(row.registered, "registered"))
            for delivery in deliveries:
                consumer = consumers[delivery.lane.subscription]
                if sees_all or consumer == caller.consumer:
                    entries += _entries(delivery, consumer)
        if not entries:
            raise undecided or errors.not_found("There is no such event.")
        return sorted(entries, key=lambda entry: entry.at)

    async def _may_publish(self, caller: Caller, rows: Sequence[StoredEvent]) -> list[bool]:
        if caller.has_scope(scopes.PUBLISH_ADMIN) or all(_is_of_app(caller, row) for row in rows):
            return [True] * len(rows)
        asked = [Asked(caller, "publish", row) for row in rows]
        verdicts = await self.authorization.verdicts_each(asked, RequestBudget())
        if Verdict.UNDECIDED in verdicts:
            raise UndecidedError
        return [verdict is Verdict.PERMITTED for verdict in verdicts]

    async def _consumers(self, deliveries: Sequence[Delivery]) -> dict[int, str | None]:
        """The consumer of each subscription, None if the subscription is deleted."""
        consumers: dict[int, str | None] = {}
        for subscription_id in {delivery.lane.subscription for delivery in deliveries}:
            found = await self.subscriptions.get(subscription_id)
            consumers[subscription_id] = found.consumer if found else None
        return consumers


def _is_of_app(caller: Caller, row: StoredEvent) -> bool:
    """Whether the caller is the app that owns the event. An app needs no permission to publish its own events."""
    return caller.kind is Kind.APP and caller.consumer == f"/app/{Resource.parse(row.resource).app}"


def _entries(delivery: Delivery, consumer: str | None) -> Iterator[Entry]:
    subscription_id = delivery.lane.subscription
    yield Entry(delivery.recorded, "matched", subscription_id, consumer)
    for attempt in delivery.attempts:
        status = attempt.status if attempt.status is not None else attempt.error
        yield Entry(attempt.at, "attempted", subscription_id, consumer, status)
    if delivery.is_undecided:
        last = max(delivery.recorded, delivery.decided, *(attempt.at for attempt in delivery.attempts))
        yield Entry(last, "undecided", subscription_id, consumer)
    if delivery.settled is not None and delivery.state in (State.DELIVERED, State.WITHHELD, State.DEAD):
        yield Entry(delivery.settled, delivery.state.value, subscription_id, consumer)
