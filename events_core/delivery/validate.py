"""Use case: an endpoint that takes the validation event is one that its subscriber can speak for.

An endpoint that speaks the handshake of CloudEvents Web Hooks (section 4 of that specification) may refuse us before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

from events_core.common.clock import SECOND
from events_core.common.errors import unavailable
from events_core.delivery.delivery import Attempt, RetrySchedule, jitter
from events_core.delivery.ports import Outgoing, Response, SecretBox, SubscriptionStore, WebhookSender
from events_core.delivery.subscription import Subscription, Validation
from events_core.delivery.webhook import (
    allowed_rate,
    body_for,
    handshake_headers,
    headers_for,
    is_refused,
    validation_event,
)

HANDSHAKE_SECONDS = 5.0
PATH = "/events/api/v1/subscriptions"
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Signing:
    """Opens what a subscription's deliveries are signed with; `base_url` is the service's own."""

    secrets: SecretBox
    base_url: str

    def secrets_of(self, subscription: Subscription, now: int) -> Sequence[str]:
        """The secrets that sign at a moment: the current one, and for a while the one before.

        Raises:
            EventsError: UNAVAILABLE when they cannot be opened.
        """
        sealed = subscription.secrets
        texts = [sealed.current]
        if sealed.previous is not None and now < sealed.previous_until:
            texts.append(sealed.previous)
        return [self.secrets.open(text, subscription.consumer) for text in texts]

    def message(self, subscription: Subscription, message_id: str, event: bytes, now: int) -> Outgoing:
        """An event on its way to the subscription's endpoint, signed.

        Raises:
            EventsError: UNAVAILABLE when the secrets cannot be opened.
        """
        body, content_type = body_for(subscription.endpoint, event)
        secrets = self.secrets_of(subscription, now)
        headers = headers_for(message_id, now // SECOND, body, content_type, secrets)
        return Outgoing(subscription.endpoint, headers, body)


async def changed(
    store: SubscriptionStore, subscription_id: int, change: Callable[[Subscription], Subscription | None]
) -> Subscription | None:
    """The subscription once it is changed, whoever else changes it; None when it is gone or `change` gives None.

    Raises:
        EventsError: UNAVAILABLE when the store does not answer, or others change it all the time.
    """
    for _ in range(_TRIES):
        current = await store.get(subscription_id)
        wanted = None if current is None else change(current)
        if current is None or wanted is None:
            return None
        if wanted == current:
            return current
        if (stored := await store.change(wanted)) is not None:
            return stored
    raise unavailable("The subscription changes too often.")


@dataclass(frozen=True, slots=True)
class EndpointValidation:
    """Sends the validation event, and notes what came of it; `clock` gives microseconds."""

    store: SubscriptionStore
    sender: WebhookSender
    signing: Signing
    schedule: RetrySchedule
    clock: Callable[[], int]

    async def validate(self, subscription: Subscription) -> Subscription | None:
        """Try once; the subscription afterwards, None when it is gone.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer, or the secrets cannot be opened.
        """
        origin = urlsplit(self.signing.base_url).hostname or ""
        endpoint = subscription.endpoint
        handshake = await self.sender.send(Outgoing(endpoint, handshake_headers(origin)), HANDSHAKE_SECONDS)
        spoken = handshake.attempt.status, handshake.headers
        if is_refused(*spoken, origin):
            attempt = replace(handshake.attempt, status=None, error="handshake refused")
            return await self._note(subscription, attempt, None, None)
        response = await self._send(subscription)
        return await self._note(subscription, response.attempt, response.retry_after, allowed_rate(*spoken))

    async def _send(self, subscription: Subscription) -> Response:
        now = self.clock()
        tries = subscription.validation.tries
        message_id = f"validation-{subscription.id}-{subscription.created}-{tries}"
        source = f"{self.signing.base_url}{PATH}/{subscription.id}"
        event = validation_event(message_id, source, datetime.fromtimestamp(now / SECOND, UTC))
        return await self.sender.send(self.signing.message(subscription, message_id, event, now))

    async def _note(
        self, sent: Subscription, attempt: Attempt, retry_after: float | None, rate: int | None
    ) -> Subscription | None:
        tries = sent.validation.tries + 1
        wait = None if attempt.succeeded else self.schedule.wait(tries, retry_after, jitter())
        outcome = Validation(
            validated=attempt.succeeded,
            tries=tries,
            next_try=None if wait is None else self.clock() + int(wait * SECOND),
            at=attempt.at,
            status=attempt.status,
            error=attempt.error,
        )

        def note(current: Subscription) -> Subscription | None:
            if current.validation != sent.validation or current.endpoint != sent.endpoint:
                return current  # it was validated otherwise, or asked for anew, meanwhile
            validated = current.validation.validated or attempt.succeeded
            return replace(
                current,
                validation=replace(outcome, validated=validated),
                disabled=current.disabled and not attempt.succeeded,
                allowed_rate=rate if attempt.succeeded else current.allowed_rate,
            )

        return await changed(self.store, sent.id, note)
