"""Use case: trace an event: what happened to it, as its row and its deliveries show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from events_core.access import scopes
from events_core.access.authorization import Asked, Authorization, RequestBudget, Verdict
from events_core.access.identity import Caller, Kind
from events_core.access.names import Resource
from events_core.access.ports import UndecidedError
from events_core.common import errors
from events_core.common.errors import EventsError, bad_field
from events_core.delivery.delivery import Delivery, State
from events_core.delivery.explain import Explanation
from events_core.delivery.persons import masked
from events_core.delivery.ports import DeliveryStore
from events_core.feeds.ports import FOUND, EventStore, StoredEvent
from events_core.feeds.stream import Stream

_SOURCES_NAMED = 20


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a trace. Times are microseconds since the epoch.

    `status` is an HTTP status, or the error of an attempt without an answer. `attempt` counts from 1.
    """

    at: int
    activity: str
    subscription_id: int | None = None
    delivery_id: str | None = None
    consumer: str | None = None
    status: int | str | None = None
    attempt: int | None = None
    duration_ms: int | None = None
    next_attempt: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Tracer:
    """Traces events."""

    store: EventStore
    deliveries: DeliveryStore
    authorization: Authorization
    explanation: Explanation

    async def trace(
        self, caller: Caller, source: str | None, event_id: str, *, explain: bool = False
    ) -> Sequence[Entry]:
        """Trace an event, in the order of time.

        A publisher of the event's resource sees every entry. A subscriber sees the entries of its own deliveries, also
        while the decision point does not say whether it may publish; of deliveries that hide their event only if the
        decision point permits it the event now. With `explain`, the caller also sees why the event
        did not reach its own subscriptions.

        Raises:
            EventsError: NOT_FOUND when the caller may see no entry, BAD_REQUEST when the caller may see several events
                with this id and gives no source, UNAVAILABLE.
        """
        rows = await self.store.find(source, event_id)
        if source is None and len(rows) >= FOUND:
            raise bad_field("source", "Very many events have this id. The 'source' parameter must be defined.")
        may_publish, undecided = [False] * len(rows), None
        try:
            may_publish = await self._may_publish(caller, rows)
        except EventsError as error:
            undecided = error
        traces: dict[str, list[Entry]] = {}
        for row, is_publisher in zip(rows, may_publish, strict=True):
            deliveries = await self.deliveries.of_event(Stream.of_resource(row.resource), row.position)
            consumers = await self._consumers(deliveries)
            if not is_publisher:
                deliveries = await self._visible(caller, row, deliveries, consumers)
            entries = [Entry(row.registered, "registered")] if is_publisher else []
            entries += [entry for one in deliveries for entry in _entries(one, consumers[one.lane.subscription])]
            if explain and row.json is not None:
                try:
                    entries += await self._unreached(caller, row, deliveries, is_publisher=is_publisher)
                except EventsError as error:
                    undecided = undecided or error
            if entries:
                traces.setdefault(row.source, []).extend(entries)
        if not traces:
            raise undecided or errors.not_found("There is no such event.")
        if len(traces) > 1:
            raise _several(list(traces))
        (found,) = traces.values()
        return sorted(found, key=lambda entry: entry.at)

    async def _visible(
        self, caller: Caller, row: StoredEvent, deliveries: Sequence[Delivery], consumers: Mapping[int, str | None]
    ) -> Sequence[Delivery]:
        """The deliveries of an event that a subscriber may know to be of this event."""
        own = [delivery for delivery in deliveries if consumers[delivery.lane.subscription] == caller.consumer]
        shown = [delivery for delivery in own if delivery.is_shown]
        if len(shown) == len(own):
            return own
        try:
            return own if await self.explanation.may_receive(caller, row) else shown
        except EventsError:
            return shown

    async def _unreached(
        self, caller: Caller, row: StoredEvent, deliveries: Sequence[Delivery], *, is_publisher: bool
    ) -> list[Entry]:
        found = await self.explanation.unreached(caller, row, deliveries, is_publisher=is_publisher)
        return [
            Entry(
                row.registered,
                "unreached",
                one.subscription.id,
                one.delivery_id,
                one.subscription.consumer,
                reason=one.reason,
            )
            for one in found
        ]

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
            found = await self.explanation.subscriptions.get(subscription_id)
            consumers[subscription_id] = found.consumer if found else None
        return consumers


def _is_of_app(caller: Caller, row: StoredEvent) -> bool:
    """Whether the caller is the app that owns the event. An app needs no permission to publish its own events."""
    return caller.kind is Kind.APP and caller.consumer == f"/app/{Resource.parse(row.resource).app}"


def _several(sources: Sequence[str]) -> EventsError:
    """The error of an id that several events have, all of which the caller may see."""
    named = ", ".join(masked(source) for source in sorted(sources)[:_SOURCES_NAMED])
    return bad_field("source", f"Several events have this id. The 'source' parameter must be one of: {named}")


def _entries(delivery: Delivery, consumer: str | None) -> Iterator[Entry]:
    of_delivery = partial(Entry, subscription_id=delivery.lane.subscription, delivery_id=delivery.id, consumer=consumer)
    yield of_delivery(delivery.recorded, "matched")
    for number, attempt in enumerate(delivery.attempts, start=1):
        yield of_delivery(
            attempt.at,
            "attempted",
            status=attempt.status if attempt.status is not None else attempt.error,
            attempt=number,
            duration_ms=attempt.duration_ms,
            next_attempt=delivery.next_attempt if number == len(delivery.attempts) else None,
            reason=attempt.error,
        )
    if delivery.is_undecided:
        last = max(delivery.recorded, delivery.decided, *(attempt.at for attempt in delivery.attempts))
        yield of_delivery(
            last,
            "undecided",
            next_attempt=delivery.next_attempt,
            reason="undecidable" if delivery.undecidable else "not decided yet",
        )
    if delivery.settled is not None and delivery.state in (State.DELIVERED, State.WITHHELD, State.DEAD):
        yield of_delivery(delivery.settled, delivery.state.value)
