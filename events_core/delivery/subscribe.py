"""Use case: subscriptions as their consumers make, see, change and end them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from events_core.access.authorization import Authorization
from events_core.access.identity import Caller, caller_of_consumer
from events_core.access.ports import PartyRegister
from events_core.common import errors
from events_core.common.clock import SECOND
from events_core.common.errors import bad_field
from events_core.delivery.cache import SubscriptionCache
from events_core.delivery.delivery import Delivery, Lane, State
from events_core.delivery.endpoint import EndpointPolicy, ForbiddenEndpointError
from events_core.delivery.fan_out import FanOut
from events_core.delivery.ports import DeliveryStore, SecretBox, SubscriptionStore
from events_core.delivery.rules import NO_SUBJECT, Wanted, filter_for
from events_core.delivery.subscription import EventFilter, SealedSecrets, Subscription, Validation
from events_core.delivery.validate import changed
from events_core.delivery.webhook import new_secret
from events_core.delivery.worker import Deliverer
from events_core.feeds.ports import CheckpointStore, EventStore

BOTH_SECRETS_FOR = 24 * 3_600 * SECOND
LOOKED_BACK_AT_ONCE = 200
_UNIT = re.compile(r"(?:/org/|/organisation/|urn:altinn:organization:identifier-no:)([0-9]{9})", re.IGNORECASE)
_PERSON = re.compile(r"(?:/person/|urn:altinn:person:identifier-no:)([0-9]{11})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription that stands; `secret` is what its deliveries are signed with, None when it stood before."""

    subscription: Subscription
    secret: str | None


@dataclass(frozen=True, slots=True)
class Subscriber:
    """What subscribing needs: the stores, who decides, where deliveries may go; `clock` gives microseconds."""

    subscriptions: SubscriptionStore
    deliveries: DeliveryStore
    events: EventStore
    checkpoints: CheckpointStore
    authorization: Authorization
    register: PartyRegister
    secrets: SecretBox
    policy: EndpointPolicy
    cache: SubscriptionCache
    fan_out: FanOut
    deliverer: Deliverer
    apps_domain: str | None
    clock: Callable[[], int]

    async def subscribe(self, caller: Caller, wanted: Wanted) -> Subscribed:
        """Make a subscription of the caller's, or have the one that is the same validated anew.

        Raises:
            EventsError: BAD_REQUEST naming the field, FORBIDDEN, UNAVAILABLE (the same call again completes it).
        """
        asked = filter_for(caller, wanted, self.apps_domain)
        endpoint = self._endpoint(wanted)
        made = await self._with_subject(caller, asked)
        consumer = caller_of_consumer(caller.consumer, caller.level)
        if not await self.authorization.may_subscribe(consumer, made.resource, made.subject):
            raise errors.forbidden(f"Not authorized to create a subscription for resource {made.resource}.")
        return await self._create(caller, endpoint, made)

    async def get(self, caller: Caller, subscription_id: int) -> Subscription:
        """A subscription of the caller's.

        Raises:
            EventsError: NOT_FOUND, FORBIDDEN when it is another's, UNAVAILABLE.
        """
        found = await self.subscriptions.get(subscription_id)
        if found is None:
            raise errors.not_found("There is no such subscription.")
        if not caller.consumer or found.consumer != caller.consumer:
            raise errors.forbidden("The subscription is another consumer's.")
        return found

    async def list(self, caller: Caller, after: int, size: int) -> Sequence[Subscription]:
        """The caller's subscriptions with ids greater than `after`, by id, `size` at most.

        Raises:
            EventsError: UNAVAILABLE.
        """
        return await self.subscriptions.of_consumer(caller.consumer, after, size) if caller.consumer else []

    async def delete(self, caller: Caller, subscription_id: int) -> None:
        """End a subscription; nothing is sent from a few seconds on.

        Raises:
            EventsError: NOT_FOUND, FORBIDDEN when it is another's, UNAVAILABLE.
        """
        await self._change(caller, subscription_id, Subscription.ended)
        await self._wake(subscription_id)

    async def pause(self, caller: Caller, subscription_id: int, *, paused: bool) -> Subscription:
        """Hold deliveries back, or send what was held back.

        Raises:
            EventsError: NOT_FOUND, FORBIDDEN when it is another's, UNAVAILABLE.
        """
        current = await self._change(caller, subscription_id, lambda current: replace(current, paused=paused))
        await self._wake(subscription_id)
        return current

    async def rotate_secret(self, caller: Caller, subscription_id: int) -> str:
        """A new secret; the one before signs too for 24 h.

        Raises:
            EventsError: NOT_FOUND, FORBIDDEN when it is another's, UNAVAILABLE.
        """
        secret = new_secret()
        sealed = self.secrets.seal(secret, caller.consumer)
        until = self.clock() + BOTH_SECRETS_FOR

        def rotate(current: Subscription) -> Subscription:
            return replace(current, secrets=SealedSecrets(sealed, current.secrets.current, until))

        await self._change(caller, subscription_id, rotate)
        return secret

    async def confirm(self, subscription_id: int) -> Subscription:
        """Count an endpoint as validated, on the platform's word.

        Raises:
            EventsError: NOT_FOUND, UNAVAILABLE.
        """

        def confirm(current: Subscription) -> Subscription:
            validation = replace(current.validation, validated=True, next_try=None)
            return replace(current, validation=validation, disabled=False)

        confirmed = await changed(self.subscriptions, subscription_id, confirm)
        if confirmed is None:
            raise errors.not_found("There is no such subscription.")
        await self._wake(subscription_id)
        return confirmed

    async def deliveries_of(
        self, caller: Caller, subscription_id: int, after: tuple[int, int], size: int, state: State | None
    ) -> Sequence[Delivery]:
        """Deliveries of a subscription of the caller's after a (position, job), by both, `size` at most.

        Raises:
            EventsError: NOT_FOUND, FORBIDDEN when it is another's, UNAVAILABLE.
        """
        await self.get(caller, subscription_id)
        return await self.deliveries.page(subscription_id, after, size, state)

    # -- Making one ---------------------------------------------------------------------------------------------------

    def _endpoint(self, wanted: Wanted) -> str:
        if wanted.endpoint is None:
            raise bad_field("endPoint", "The endPoint is required.")
        try:
            self.policy.check(wanted.endpoint)
        except ForbiddenEndpointError as error:
            raise bad_field("endPoint", f"The endPoint {error}.") from None
        return wanted.endpoint

    async def _with_subject(self, caller: Caller, asked: EventFilter) -> EventFilter:
        """The filter with the party whom an alternative subject names, where no subject is given."""
        if asked.alternative_subject is None or asked.subject is not None:
            return asked
        party = await self._party_of(caller, asked.alternative_subject)
        if party is None:
            raise bad_field("alternativeSubjectFilter", NO_SUBJECT)
        return replace(asked, subject=f"/party/{party}", subject_is_derived=True)

    async def _party_of(self, caller: Caller, alternative_subject: str) -> int | None:
        if unit := _UNIT.fullmatch(alternative_subject):
            return await self.register.party_of_unit(unit[1], caller)
        if person := _PERSON.fullmatch(alternative_subject):
            return await self.register.party_of_person(person[1], caller)
        return None

    async def _create(self, caller: Caller, endpoint: str, asked: EventFilter) -> Subscribed:
        secret, start = new_secret(), await self.events.head(asked.stream)
        now = self.clock()
        draft = Subscription(
            id=0,
            endpoint=endpoint,
            filter=asked,
            consumer=caller.consumer,
            created_by=caller.consumer,
            created=now,
            start=start,
            level=caller.level,
            secrets=SealedSecrets(self.secrets.seal(secret, caller.consumer)),
            validation=Validation(next_try=now),
        )
        standing, is_new = await self.subscriptions.create(draft)
        if is_new or not (standing.validation.tries or standing.validation.validated):
            await self._look_back(standing)
        if not is_new:
            standing = await self._validated_anew(standing, caller)
        await self._wake(standing.id)
        return Subscribed(standing, secret if is_new else None)

    async def _look_back(self, subscription: Subscription) -> None:
        """Make the deliveries of what was followed up between its start and the moment when others could see it."""
        stream, at = subscription.filter.stream, subscription.start
        end = await self.events.head(stream)
        while at < end:
            rows = await self.checkpoints.read_after(stream, at, LOOKED_BACK_AT_ONCE)
            if not rows:
                return
            at = rows[-1].position
            await self.fan_out.record(await self.fan_out.deliveries_to(subscription, rows))

    async def _validated_anew(self, standing: Subscription, caller: Caller) -> Subscription:
        """Ask for its validation again; its consumer's level is that of the newest token."""

        def ask(current: Subscription) -> Subscription:
            validation = replace(current.validation, tries=0, next_try=self.clock())
            return replace(current, validation=validation, level=caller.level)

        return await changed(self.subscriptions, standing.id, ask) or standing

    # -- Changing one -------------------------------------------------------------------------------------------------

    async def _change(
        self, caller: Caller, subscription_id: int, change: Callable[[Subscription], Subscription]
    ) -> Subscription:
        await self.get(caller, subscription_id)
        after = await changed(self.subscriptions, subscription_id, change)
        if after is None:
            raise errors.not_found("There is no such subscription.")
        return after

    async def _wake(self, subscription_id: int) -> None:
        """Have its lanes served as it now stands, by this process at once and by any other should this one stop."""
        await self.cache.fresh()
        for lane in await self.deliveries.wake_all(subscription_id, self.clock()):
            self.deliverer.serve_soon(lane)


def delivery_id(text: str) -> tuple[Lane, int] | None:
    """The lane and the position that a delivery's id names; None when it is none."""
    match = re.fullmatch(r"([0-9]{1,18})-([0-9]{1,18})(?:r([0-9]{1,9}))?", text, re.ASCII)
    return (Lane(int(match[1]), int(match[3] or 0)), int(match[2])) if match else None
