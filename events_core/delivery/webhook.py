"""Deliveries on the wire: Standard Webhooks signatures, Slack's envelope, the handshake, `Retry-After`.

Sources: Standard Webhooks 1.0.0, "Signature scheme"; CloudEvents Web Hooks for Event Delivery 1.0, section 4.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from events_core.common.clock import SECOND, to_rfc3339
from events_core.delivery.endpoint import Endpoint
from events_core.delivery.ports import Outgoing, SecretBox
from events_core.delivery.subscription import CLOUD_EVENTS, JSON, Subscription

SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets begin with
SECRET_BYTES = 32
LOCAL_URL = "http://localhost:7071"
"""The URL of this service where neither a setting nor a request told another one."""
USER_AGENT = "altinn-events/0.1 (+https://www.standardwebhooks.com)"
VALIDATION_TYPE = "platform.events.validatesubscription"

_SLACK = "hooks.slack.com"
_ORIGIN, _RATE = "webhook-allowed-origin", "webhook-allowed-rate"
_RATE_DIGITS = 9
"""A rate with more digits is no limit."""


@dataclass(frozen=True, slots=True)
class Signing:
    """Signs messages with the secrets of their subscription. `base_url` is the configured URL of this service.

    Each method raises EventsError UNAVAILABLE when a secret cannot be decrypted.
    """

    secrets: SecretBox
    base_url: str | None

    def base_url_for(self, subscription: Subscription) -> str:
        """The URL of this service, as the subscriber knows it."""
        return self.base_url or subscription.base_url or LOCAL_URL

    def origin_for(self, subscription: Subscription) -> str:
        """The host of this service, by which it asks an endpoint for permission to deliver."""
        return urlsplit(self.base_url_for(subscription)).hostname or ""

    def secrets_of(self, subscription: Subscription, now: int) -> Sequence[str]:
        """The secrets that sign at `now`: the current secret, and for a while the previous one."""
        sealed = subscription.secrets
        texts = [sealed.current]
        if sealed.previous is not None and now < sealed.previous_until:
            texts.append(sealed.previous)
        return [self.secrets.open(text, subscription.consumer) for text in texts]

    def message(self, subscription: Subscription, message_id: str, event: bytes, now: int) -> Outgoing:
        """The signed request that brings an event to the subscription's endpoint."""
        body, media_types = body_for(subscription, event)
        headers = handshake_headers(self.origin_for(subscription))
        headers |= headers_for(message_id, now // SECOND, body, self.secrets_of(subscription, now))
        return Outgoing(subscription.endpoint, subscription.consumer, headers, body, media_types)


def new_secret() -> str:
    """Draw a secret for signatures: `whsec_` and 32 random bytes in base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The symmetric signature `v1,…` of a message. `timestamp` is in seconds since the epoch."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"


def body_for(subscription: Subscription, event: bytes) -> tuple[bytes, Sequence[str]]:
    """The body that delivers an event's JSON text, and the media types in which it is offered.

    Only Slack's own host gets Slack's envelope.
    """
    if Endpoint.of(subscription.endpoint).host == _SLACK:
        return json.dumps({"text": event.decode()}).encode(), (JSON,)
    return event, (JSON,) if subscription.content_type == JSON else (f"{CLOUD_EVENTS}; charset=utf-8", JSON)


def headers_for(message_id: str, timestamp: int, body: bytes, signing: Sequence[str]) -> dict[str, str]:
    """The headers of a delivery, with a signature by each of the secrets."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signature(secret, message_id, timestamp, body) for secret in signing),
    }


def validation_event(event_id: str, source: str, now: int) -> bytes:
    """The event that validates an endpoint which accepts it. `source` is the subscription's URL."""
    document = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": VALIDATION_TYPE,
        "time": to_rfc3339(now),
    }
    return json.dumps(document).encode()


def handshake_headers(origin: str) -> dict[str, str]:
    """The headers of the handshake, which asks for permission to deliver. `origin` is the host of this service."""
    return {"WebHook-Request-Origin": origin, "User-Agent": USER_AGENT}


def is_refused(status: int | None, headers: Mapping[str, str], origin: str) -> bool:
    """Whether an endpoint that answers the handshake allows another origin and not ours."""
    allowed = headers.get(_ORIGIN)
    is_answered = status is not None and status < 300 and allowed is not None
    return is_answered and (allowed or "").strip().lower() not in ("*", origin.lower())


def allowed_rate(status: int | None, headers: Mapping[str, str]) -> int | None:
    """The deliveries a minute that an endpoint asks for in its answer to the handshake; None if it sets no limit."""
    rate = headers.get(_RATE, "")
    is_answered = status is not None and status < 300 and _ORIGIN in headers
    is_number = rate.isascii() and rate.isdecimal() and len(rate) <= _RATE_DIGITS
    return int(rate) or None if is_answered and is_number else None


def seconds_of(retry_after: str | None, now: datetime) -> float | None:
    """`Retry-After` (RFC 9110, section 10.2.3) in seconds from now; None if it is missing or malformed."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, (date - now).total_seconds())
    except (ValueError, OverflowError):
        return None
