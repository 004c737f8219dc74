"""Use case: consumers create, read, change and delete their subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from events_core.access.authorization import Authorization
from events_core.access.identity import Caller, caller_of_consumer
from events_core.access.names import Subject
from events_core.access.ports import PartyRegister
from events_core.common import errors
from events_core.common.clock import SECOND
from events_core.common.errors import bad_field
from events_core.delivery.cache import KEPT_SECONDS, SubscriptionCache
from events_core.delivery.delivery import Delivery
from events_core.delivery.endpoint import EndpointPolicy, ForbiddenEndpointError
from events_core.delivery.persons import PersonNumbers
from events_core.delivery.ports import DeliveryFilter, DeliveryStore, SecretBox, SubscriptionQuota, SubscriptionStore
from events_core.delivery.rules import NO_SUBJECT, SubscriptionRequest, filter_for
from events_core.delivery.subscription import CLOUD_EVENTS, EventFilter, SealedSecrets, Subscription, Validation
from events_core.delivery.update import RateLimit, update_subscription
from events_core.delivery.webhook import new_secret
from events_core.delivery.worker import LaneWorker
from events_core.feeds.ports import EventStore

BOTH_SECRETS_FOR = 24 * 3_600 * SECOND
"""How long the previous secret signs too after a rotation."""
MOST_NEVER_VALIDATED = 100
NEVER_VALIDATED_DAYS = 7
"""Days to keep a subscription whose endpoint is never validated."""
MOVES = RateLimit(10, 3_600, "A subscription moves at most 10 times an hour.")


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a subscription. None leaves a field as it is. A new `endpoint` moves the subscription."""

    paused: bool | None = None
    endpoint: str | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A stored subscription. `secret` signs its deliveries; None if the subscription existed before."""

    subscription: Subscription
    secret: str | None


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Manages subscriptions. `apps_domain` is the domain of app sources, None: any. `clock` gives microseconds.

    Each method raises EventsError: NOT_FOUND for an unknown subscription, FORBIDDEN for another consumer's, UNAVAILABLE
    when the store does not answer.
    """

    subscriptions: SubscriptionStore
    deliveries: DeliveryStore
    store: EventStore
    authorization: Authorization
    register: PartyRegister
    secrets: SecretBox
    persons: PersonNumbers
    policy: EndpointPolicy
    cache: SubscriptionCache
    lane_worker: LaneWorker
    apps_domain: str | None
    quota: SubscriptionQuota
    clock: Callable[[], int]

    async def subscribe(self, caller: Caller, request: SubscriptionRequest) -> Subscribed:
        """Create a subscription of the caller. If the same one stands, validate its endpoint again.

        The form of the request is checked before any right. A `content_type` replaces the one that stands.

        Raises:
            EventsError: BAD_REQUEST naming the field, FORBIDDEN, TOO_MANY_REQUESTS beyond the quota, UNAVAILABLE (the
                same call again completes it).
        """
        endpoint = self._endpoint(request.endpoint)
        filters = filter_for(caller, request, self.apps_domain)
        filters = await self._with_subject(caller, filters)
        consumer = caller_of_consumer(caller.consumer, caller.level)
        # Slashes at its end are not compared, so they must not hide the subject from the decision point.
        subject = None if filters.only_subject is None else (filters.subject or "").rstrip("/")
        if not await self.authorization.may_subscribe(consumer, filters.resource, subject):
            raise _denied(filters)
        return await self._create(caller, endpoint, self.persons.sealed(filters, caller.consumer), request)

    async def get(self, caller: Caller, subscription_id: int) -> Subscription:
        """Return a subscription of the caller."""
        found = await self.subscriptions.get(subscription_id)
        if found is None:
            raise errors.not_found("There is no such subscription.")
        if not caller.consumer or found.consumer != caller.consumer:
            raise errors.forbidden("The subscription is another consumer's.")
        return found

    async def list(self, caller: Caller, after: int, size: int) -> Sequence[Subscription]:
        """Return at most `size` subscriptions of the caller, by id, with ids greater than `after`."""
        return await self.subscriptions.owned_by(caller.consumer, after, size) if caller.consumer else []

    def written(self, subscription: Subscription) -> EventFilter:
        """The filters as the consumer of a subscription wrote them, for this consumer alone."""
        return self.persons.opened(subscription.filter, subscription.consumer)

    async def paused_until(self, subscription: Subscription) -> int | None:
        """When the pause of a subscription's endpoint ends, None if it is not paused."""
        until = (await self.cache.recent()).paused_until(subscription)
        return until if until > self.clock() else None

    async def delete(self, caller: Caller, subscription_id: int) -> None:
        """Delete a subscription. After a few seconds no process sends anything for it."""
        await self.get(caller, subscription_id)
        # One that is gone now was deleted by this call, whose write may be repeated, or by another one.
        await update_subscription(self.subscriptions, subscription_id, Subscription.deletion_marker)
        await self._wake(subscription_id)

    async def change(self, caller: Caller, subscription_id: int, wanted: Change) -> Subscription:
        """Change a subscription, all of it or nothing. Deliveries recorded during a pause are sent when it ends.

        A move returns when no process may begin anything at the old endpoint: caches are that old at most.

        Raises:
            EventsError: BAD_REQUEST for a forbidden endpoint, CONFLICT when another subscription of the caller is the
                same after a move, TOO_MANY_REQUESTS beyond ten moves an hour.
        """
        if wanted.endpoint is not None:
            self._endpoint(wanted.endpoint)
        before = await self.get(caller, subscription_id)
        now = self.clock()
        changed = await self._change(caller, subscription_id, lambda current: _changed(current, wanted, now))
        await self._wake(subscription_id)
        if changed.endpoint != before.endpoint:
            await asyncio.sleep(KEPT_SECONDS)
        return changed

    async def rotate_secret(self, caller: Caller, subscription_id: int) -> str:
        """Replace the secret and return the new one. The previous secret signs too for 24 h."""
        secret = new_secret()
        sealed = self.secrets.seal(secret, caller.consumer)
        until = self.clock() + BOTH_SECRETS_FOR

        def rotate(current: Subscription) -> Subscription:
            if current.secrets.current == sealed:
                return current  # a write whose answer was lost meets itself
            return replace(current, secrets=SealedSecrets(sealed, current.secrets.current, until))

        await self._change(caller, subscription_id, rotate)
        return secret

    async def confirm(self, subscription_id: int) -> Subscription:
        """Mark an endpoint as validated, for the platform, which need not own the subscription."""

        def confirm(current: Subscription) -> Subscription:
            validation = replace(current.validation, validated=True, next_try=None)
            return replace(current, validation=validation, disabled=False)

        confirmed = await update_subscription(self.subscriptions, subscription_id, confirm)
        if confirmed is None:
            raise errors.not_found("There is no such subscription.")
        await self._wake(subscription_id)
        return confirmed

    async def remove_never_validated(self, created_before: int) -> None:
        """Delete the subscriptions created before a time whose endpoints never took a validation event.

        The time is days ago, so a difference between two clocks changes little.
        """

        def marker(current: Subscription) -> Subscription | None:
            return None if current.was_ever_validated else current.deletion_marker()

        for subscription in (await self.subscriptions.changes()).subscriptions:
            if subscription.created < created_before and not subscription.was_ever_validated:
                await update_subscription(self.subscriptions, subscription.id, marker)
                await self._wake(subscription.id)

    async def deliveries_of(
        self, caller: Caller, subscription_id: int, after: tuple[int, int] | None, size: int, wanted: DeliveryFilter
    ) -> Sequence[Delivery]:
        """Return at most `size` deliveries of a subscription of the caller, after a (position, replay)."""
        await self.get(caller, subscription_id)
        return await self.deliveries.page(subscription_id, after, size, wanted)

    # -- Creating -----------------------------------------------------------------------------------------------------

    def _endpoint(self, endpoint: str | None) -> str:
        if endpoint is None:
            raise bad_field("endPoint", "The endPoint is required.")
        try:
            self.policy.check(endpoint)
        except ForbiddenEndpointError as error:
            raise bad_field("endPoint", f"The endPoint {error}.") from None
        return endpoint

    async def _with_subject(self, caller: Caller, filters: EventFilter) -> EventFilter:
        """The filters with the party that `alternative_subject` names as the subject, unless a subject is given."""
        if filters.alternative_subject is None or filters.subject is not None:
            return filters
        party, alternative = None, Subject.parse(filters.alternative_subject.rstrip("/"))
        if alternative.alternative_unit is not None:
            party = await self.register.party_of_unit(alternative.alternative_unit, caller)
        elif alternative.alternative_person is not None:
            party = await self.register.party_of_person(alternative.alternative_person, caller)
        if party is None and alternative.alternative_person is not None:
            raise _denied(filters)  # nobody may find out which persons Register knows
        if party is None:
            raise bad_field("alternativeSubjectFilter", NO_SUBJECT)
        return replace(filters, subject=f"/party/{party}", subject_is_derived=True)

    async def _create(
        self, caller: Caller, endpoint: str, filters: EventFilter, request: SubscriptionRequest
    ) -> Subscribed:
        secret, start = new_secret(), await self.store.head(filters.stream)
        now = self.clock()
        draft = Subscription(
            id=0,
            endpoint=endpoint,
            filter=filters,
            consumer=caller.consumer,
            created_by=caller.consumer,
            created=now,
            start=start,
            level=caller.level,
            secrets=SealedSecrets(self.secrets.seal(secret, caller.consumer)),
            validation=Validation(next_try=now),
            content_type=request.content_type or CLOUD_EVENTS,
            base_url=request.base_url,
        )
        stored, is_new = await self.subscriptions.create(draft, self.quota)
        is_new = is_new or stored.secrets == draft.secrets  # a write whose answer was lost meets itself
        if not is_new:
            stored = await self._validate_again(stored, draft, request.content_type)
        await self._wake(stored.id)
        return Subscribed(stored, secret if is_new else None)

    async def _validate_again(
        self, stored: Subscription, draft: Subscription, content_type: str | None
    ) -> Subscription:
        """Make a validation due. The authentication level is that of the newest token, and so is the key of filters."""
        validation_due = self.clock()

        def ask(current: Subscription) -> Subscription:
            validation = replace(current.validation, tries=0, next_try=validation_due)
            filters = replace(current.filter, sealed=draft.filter.sealed)
            changed = replace(current, validation=validation, level=draft.level, filter=filters)
            return changed.with_content_type(content_type)

        return await update_subscription(self.subscriptions, stored.id, ask) or stored

    # -- Changing -----------------------------------------------------------------------------------------------------

    async def _change(
        self, caller: Caller, subscription_id: int, change: Callable[[Subscription], Subscription]
    ) -> Subscription:
        await self.get(caller, subscription_id)
        changed = await update_subscription(self.subscriptions, subscription_id, change)
        if changed is None:
            raise errors.not_found("There is no such subscription.")
        return changed

    async def _wake(self, subscription_id: int) -> None:
        """Serve the lanes with the changed subscription, in this process now, and in another if this process stops."""
        await self.cache.fresh()
        await self.lane_worker.wake(subscription_id)


def _changed(current: Subscription, wanted: Change, now: int) -> Subscription:
    """The subscription after a change at `now`. The endpoint that stands already is validated again."""
    changed = replace(current, paused=current.paused if wanted.paused is None else wanted.paused)
    changed = changed.with_content_type(wanted.content_type)
    if wanted.endpoint == current.endpoint:
        return replace(changed, validation=replace(current.validation, tries=0, next_try=now))
    if wanted.endpoint is None:
        return changed
    return replace(
        changed,
        endpoint=wanted.endpoint,
        validation=Validation(next_try=now),
        was_validated=current.was_ever_validated,
        allowed_rate=None,
        content_type=CLOUD_EVENTS if changed.learned_json else changed.content_type,
        learned_json=False,
        moves=MOVES.counted(current.moves, now),
    )


def _denied(filters: EventFilter) -> errors.EventsError:
    return errors.forbidden(f"Not authorized to create a subscription for resource {filters.resource}.")
