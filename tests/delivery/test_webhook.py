"""Deliveries on the wire: signatures, Slack's envelope, the handshake, `Retry-After`."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from events_core.common.clock import SECOND
from events_core.delivery import webhook
from tests.support.deliveries import subscription

JSON = "application/json"
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@given(st.text().map(str.encode), st.text("abc123-_", min_size=1))
def test_signatures_follow_standard_webhooks(body: bytes, message_id: str) -> None:
    """The standard's own library signs alike."""
    secret, timestamp = webhook.new_secret(), int(time.time())
    headers = webhook.headers_for(message_id, timestamp, body, [secret])
    signed = Webhook(secret).sign(message_id, datetime.fromtimestamp(timestamp, UTC), body.decode())
    assert headers["webhook-signature"] == signed


def test_a_secret_is_32_random_bytes() -> None:
    """In base64, after `whsec_`."""
    first, second = webhook.new_secret(), webhook.new_secret()
    assert first != second
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == 32


def test_two_secrets_make_two_signatures() -> None:
    """During a rotation, a receiver may verify with either secret. The signature by the newer one stands first."""
    old, new = webhook.new_secret(), webhook.new_secret()
    headers = webhook.headers_for("m", int(time.time()), b"{}", [new, old])
    for secret in (old, new):
        Webhook(secret).verify("{}", headers)
    first = headers["webhook-signature"].split(" ")[0]
    Webhook(new).verify("{}", {**headers, "webhook-signature": first})


@pytest.mark.parametrize(
    ("endpoint", "is_slack"),
    [
        ("https://hooks.slack.com/services/1", True),
        ("https://HOOKS.slack.com/", True),
        ("https://hooks.slack.com./services/1", True),
        ("https://hooks.slack.com.evil.example/", False),
        ("https://evil.example/hooks.slack.com", False),
        ("https://a.hooks.slack.com/", False),
    ],
)
def test_only_slack_gets_slacks_envelope(endpoint: str, *, is_slack: bool) -> None:
    """The envelope holds the event's text as a string. Every other host gets the event's own bytes."""
    event = '{"id": "æ\\"1"}'.encode()
    body, media_types = webhook.body_for(subscription(endpoint=endpoint), event)
    if is_slack:
        assert (json.loads(body), media_types) == ({"text": event.decode()}, (JSON,))
    else:
        assert (body, media_types) == (event, ("application/cloudevents+json; charset=utf-8", JSON))


def test_an_endpoint_that_takes_json_is_offered_nothing_else() -> None:
    """Without Slack's envelope."""
    body, media_types = webhook.body_for(subscription(content_type="application/json"), b"{}")
    assert (body, media_types) == (b"{}", (JSON,))


def test_the_validation_event_is_a_cloud_event() -> None:
    """Its source is the subscription's URL."""
    event = json.loads(
        webhook.validation_event("1", "https://x/events/api/v1/subscriptions/7", int(NOW.timestamp()) * SECOND)
    )
    assert event == {
        "specversion": "1.0",
        "id": "1",
        "source": "https://x/events/api/v1/subscriptions/7",
        "type": "platform.events.validatesubscription",
        "time": "2026-11-26T12:00:00Z",
    }


@pytest.mark.parametrize(
    ("status", "headers", "refused", "rate"),
    [
        (200, {"webhook-allowed-origin": "*", "webhook-allowed-rate": "120"}, False, 120),
        (200, {"webhook-allowed-origin": "events.example", "webhook-allowed-rate": "*"}, False, None),
        (200, {"webhook-allowed-origin": "EVENTS.Example "}, False, None),
        (200, {"webhook-allowed-origin": "other.example"}, True, None),
        (200, {"webhook-allowed-rate": "10"}, False, None),
        (405, {"webhook-allowed-origin": "other.example"}, False, None),
        (None, {}, False, None),
        (200, {"webhook-allowed-origin": "*", "webhook-allowed-rate": "0"}, False, None),
        (200, {"webhook-allowed-origin": "*", "webhook-allowed-rate": "²"}, False, None),
    ],
)
def test_an_answered_handshake_is_honoured(
    status: int | None, headers: dict[str, str], rate: int | None, *, refused: bool
) -> None:
    """An endpoint may allow us, at a rate, or only others. An endpoint without an answer sets no limit."""
    assert webhook.is_refused(status, headers, "events.example") is refused
    assert webhook.allowed_rate(status, headers) == rate


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 7 ", 7),
        ("Thu, 26 Nov 2026 12:01:00 GMT", 60),
        ("Thu, 26 Nov 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("9" * 40, 999_999_999),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    """Any other value is ignored."""
    assert webhook.seconds_of(value, NOW) == seconds
    assert webhook.seconds_of("1", NOW + timedelta(days=1)) == 1


@pytest.mark.parametrize(
    "value",
    [
        f"Mon, 01 Jan 2024 00:00:00 +{'9' * 40}",
        f"Mon, 01 Jan {'9' * 40} 00:00:00 +0000",
        "Mon, 01 Jan 9999 23:59:59 -2359",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "9" * 10_000,
        "-1",
        "\u0664",
        "",
    ],
)
def test_a_malformed_retry_after_does_no_harm(value: str) -> None:
    """It is ignored, or a number of seconds that is not negative."""
    seconds = webhook.seconds_of(value, datetime(2026, 1, 1, tzinfo=UTC))
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize("value", ["9" * 5_000, "9" * 20, "1e5", "0", "-5", "\u0664", "", "1" * 10])
def test_a_malformed_rate_is_no_limit(value: str) -> None:
    """A rate has at most nine digits."""
    headers = {"webhook-allowed-origin": "*", "webhook-allowed-rate": value}
    assert webhook.allowed_rate(200, headers) is None
    assert webhook.allowed_rate(200, {**headers, "webhook-allowed-rate": "9" * 9}) == 999_999_999


@given(st.text(max_size=60))
def test_no_header_of_an_endpoint_raises(value: str) -> None:
    """Whatever text it holds."""
    webhook.seconds_of(value, datetime(2026, 1, 1, tzinfo=UTC))
    webhook.allowed_rate(200, {"webhook-allowed-origin": value, "webhook-allowed-rate": value})
