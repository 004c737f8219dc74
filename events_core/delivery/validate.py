"""Use case: validate an endpoint. An endpoint that accepts the validation event wants deliveries.

An endpoint may refuse us before, by the handshake of CloudEvents Web Hooks (section 4 of that specification).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import uuid4

from events_core.common.clock import SECOND
from events_core.delivery.delivery import RetrySchedule, jitter
from events_core.delivery.ports import Outgoing, Response, SubscriptionStore, WebhookSender
from events_core.delivery.shares import ConsumerShares
from events_core.delivery.subscription import Subscription, Validation
from events_core.delivery.update import update_subscription
from events_core.delivery.webhook import Signing, allowed_rate, handshake_headers, is_refused, validation_event

HANDSHAKE_SECONDS = 5.0
WAIT_SECONDS = 1.0
"""How long a validation waits for a connection. It stays due."""
PATH = "/events/api/v1/subscriptions"


@dataclass(frozen=True, slots=True)
class EndpointValidation:
    """Sends validation events, and stores their outcome. `clock` gives microseconds since the epoch."""

    subscriptions: SubscriptionStore
    sender: WebhookSender
    shares: ConsumerShares
    signing: Signing
    schedule: RetrySchedule
    clock: Callable[[], int]

    async def validate(self, subscription: Subscription) -> Subscription | None:
        """Try once. Return the updated subscription, None if it is gone, or no connection is free.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer, or a secret cannot be decrypted.
        """
        async with self.shares.connection(subscription, WAIT_SECONDS) as has_connection:
            return await self._validate(subscription) if has_connection else None

    async def _validate(self, subscription: Subscription) -> Subscription | None:
        origin = self.signing.origin_for(subscription)
        asking = Outgoing(subscription.endpoint, subscription.consumer, handshake_headers(origin))
        handshake = await self.sender.send(asking, HANDSHAKE_SECONDS)
        status, headers = handshake.attempt.status, handshake.headers
        if is_refused(status, headers, origin):
            refused = replace(handshake.attempt, status=None, error="handshake refused")
            return await self._store(subscription, Response(refused), rate=None)
        current = await self.subscriptions.get(subscription.id)
        if current is None or current.endpoint != subscription.endpoint:
            return current  # it has moved meanwhile
        now = self.clock()
        message_id = str(uuid4())
        source = f"{self.signing.base_url_for(subscription)}{PATH}/{subscription.id}"
        event = validation_event(message_id, source, now)
        response = await self.sender.send(self.signing.message(subscription, message_id, event, now))
        return await self._store(subscription, response, allowed_rate(status, headers))

    async def _store(self, sent: Subscription, response: Response, rate: int | None) -> Subscription | None:
        attempt, tries = response.attempt, sent.validation.tries + 1
        wait = None if attempt.succeeded else self.schedule.wait(tries, response.retry_after, jitter())
        outcome = Validation(
            validated=attempt.succeeded,
            tries=tries,
            next_try=None if wait is None else self.clock() + int(wait * SECOND),
            at=attempt.at,
            status=attempt.status,
            error=attempt.error,
        )

        def add_outcome(current: Subscription) -> Subscription | None:
            if current.validation != sent.validation or current.endpoint != sent.endpoint:
                return current  # another validation finished, or was asked for, meanwhile
            validated = current.validation.validated or attempt.succeeded
            learned = current.with_learned_json() if response.took_json else current
            return replace(
                learned,
                validation=replace(outcome, validated=validated),
                disabled=current.disabled and not attempt.succeeded,
                allowed_rate=rate if attempt.succeeded else current.allowed_rate,
            )

        return await update_subscription(self.subscriptions, sent.id, add_outcome)
