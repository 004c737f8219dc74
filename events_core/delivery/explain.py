"""Use case: explain why an event did not reach the subscriptions of a consumer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from events_core.access.authorization import Authorization, RequestBudget, Verdict
from events_core.access.identity import Caller
from events_core.access.names import Resource
from events_core.access.ports import PartyRegister, UndecidedError
from events_core.common.slices import Slices
from events_core.delivery.delivery import Delivery, State
from events_core.delivery.matching import Comparison
from events_core.delivery.persons import PersonNumbers, masked
from events_core.delivery.ports import SubscriptionStore
from events_core.delivery.subscription import Subscription
from events_core.feeds.ports import StoredEvent

_LISTED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Unreached:
    """A subscription that an event did not reach, the reason, and the id of its delivery if there is one."""

    subscription: Subscription
    reason: str
    delivery_id: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Explains deliveries that are missing."""

    subscriptions: SubscriptionStore
    authorization: Authorization
    register: PartyRegister
    persons: PersonNumbers

    async def unreached(
        self, caller: Caller, event: StoredEvent, deliveries: Sequence[Delivery], *, is_publisher: bool
    ) -> list[Unreached]:
        """Name the caller's own subscriptions to the event's resource that the event did not reach.

        A filter that differs shows values of the event. A caller who is no publisher sees it only if the decision point
        permits the event to the caller now.

        Raises:
            EventsError: UNAVAILABLE when the store or Register does not answer, or the decision point does not decide.
        """
        found, slices = [], Slices()
        may_see = is_publisher
        by_subscription: dict[int, list[Delivery]] = {}
        for delivery in deliveries:
            by_subscription.setdefault(delivery.lane.subscription, []).append(delivery)
        own_subscriptions, compared = await self._own(caller, event.resource), None
        for subscription in own_subscriptions:
            await slices.pause()
            own = by_subscription.get(subscription.id, [])
            if not own and not may_see:
                may_see = await self.may_receive(caller, event)
                if not may_see:
                    continue
            if compared is None:
                main_units = await self._main_units(own_subscriptions, event)
                compared = self.persons.comparison(event, main_units)
            if (reason := reason_of(subscription, event, own, compared)) is not None:
                found.append(Unreached(subscription, reason, own[0].id if own else None))
        return found

    async def _own(self, caller: Caller, resource: str) -> list[Subscription]:
        own: list[Subscription] = []
        while caller.consumer:
            after = own[-1].id if own else 0
            page = await self.subscriptions.owned_by(caller.consumer, after, _LISTED_AT_ONCE)
            if not page:
                break
            own += page
        return [subscription for subscription in own if subscription.filter.resource == resource]

    async def may_receive(self, caller: Caller, event: StoredEvent) -> bool:
        """Whether the decision point permits an event to the caller now.

        Raises:
            EventsError: UNAVAILABLE when the decision point does not decide.
        """
        action = Resource.parse(event.resource).action
        (verdict,) = await self.authorization.verdicts(caller, action, [event], RequestBudget())
        if verdict is Verdict.UNDECIDED:
            raise UndecidedError
        return verdict is Verdict.PERMITTED

    async def _main_units(self, subscriptions: Sequence[Subscription], event: StoredEvent) -> Sequence[str]:
        asked = any(subscription.filter.include_subunits for subscription in subscriptions)
        return await self.register.main_units(event.subject) if asked and event.subject is not None else ()


def reason_of(
    subscription: Subscription, event: StoredEvent, deliveries: Sequence[Delivery], compared: Comparison
) -> str | None:
    """Return the first reason why an event did not reach a subscription, None if it did or its attempts say why."""
    if any(delivery.state is State.DELIVERED for delivery in deliveries):
        return None
    if not deliveries and (name := subscription.filter.compiled().difference(compared)) is not None:
        return _shown(name, subscription, event)
    if not deliveries and event.position <= subscription.start:
        return "begun later"
    return _reason_to_wait(subscription) or _decision(deliveries)


def _reason_to_wait(subscription: Subscription) -> str | None:
    if subscription.paused:
        return "paused"
    if subscription.disabled:
        return "disabled"
    return None if subscription.validation.validated else "not validated"


def _decision(deliveries: Sequence[Delivery]) -> str | None:
    if any(delivery.state is State.WITHHELD for delivery in deliveries):
        return "withheld"
    return "undecidable" if any(delivery.is_undecided for delivery in deliveries) else None


def _shown(name: str, subscription: Subscription, event: StoredEvent) -> str:
    """The name of a filter, and both values unless it is an alternative subject, which may be a person."""
    filters = subscription.filter
    values = {
        "typeFilter": (filters.type, event.type),
        "sourceFilter": (filters.source, event.source),
        "subjectFilter": (filters.subject, event.subject),
    }
    if name not in values:
        return name
    wanted, given = values[name]
    has = "none" if given is None else f"'{masked(given)}'"
    return f"{name}: the filter is '{masked(wanted or '')}', the event has {has}"
