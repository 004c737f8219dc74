"""Deliveries on the wire: signatures that others verify, Slack's envelope, the handshake."""

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

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@given(st.text().map(str.encode), st.text("abc123-_", min_size=1))
def test_signatures_are_those_of_the_standard(body: bytes, message_id: str) -> None:
    """A library that is not ours verifies them, and signs alike."""
    secret, moment = webhook.new_secret(), int(time.time())
    headers = webhook.headers_for(message_id, moment, body, webhook.CLOUD_EVENT, [secret])
    signed = Webhook(secret).sign(message_id, datetime.fromtimestamp(moment, UTC), body.decode())
    assert headers["webhook-signature"] == signed


def test_a_secret_is_long_and_new() -> None:
    """`whsec_` and 32 bytes, another each time."""
    one, other = webhook.new_secret(), webhook.new_secret()
    assert one != other
    assert len(base64.b64decode(one.removeprefix("whsec_"))) == 32


def test_two_secrets_make_two_signatures() -> None:
    """While a secret is being rotated either of them verifies."""
    old, new = webhook.new_secret(), webhook.new_secret()
    headers = webhook.headers_for("m", int(time.time()), b"{}", webhook.CLOUD_EVENT, [new, old])
    for secret in (old, new):
        Webhook(secret).verify("{}", headers)


@pytest.mark.parametrize(
    ("endpoint", "is_slack"),
    [
        ("https://hooks.slack.com/services/1", True),
        ("https://HOOKS.slack.com/", True),
        ("https://hooks.slack.com.evil.example/", False),
        ("https://evil.example/hooks.slack.com", False),
        ("https://a.hooks.slack.com/", False),
    ],
)
def test_slack_gets_its_envelope_by_its_exact_host(endpoint: str, *, is_slack: bool) -> None:
    """The event's text is a string in it; everybody else gets the event's own bytes."""
    event = '{"id": "æ\\"1"}'.encode()
    body, content_type = webhook.body_for(endpoint, event)
    if is_slack:
        assert (json.loads(body), content_type) == ({"text": event.decode()}, webhook.JSON)
    else:
        assert (body, content_type) == (event, webhook.CLOUD_EVENT)


def test_the_validation_event_is_a_cloud_event() -> None:
    """With the subscription as its source."""
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
        (200, {"webhook-allowed-origin": "other.example"}, True, None),
        (200, {"webhook-allowed-rate": "10"}, False, None),
        (405, {"webhook-allowed-origin": "other.example"}, False, None),
        (None, {}, False, None),
        (200, {"webhook-allowed-origin": "*", "webhook-allowed-rate": "0"}, False, None),
        (200, {"webhook-allowed-origin": "*", "webhook-allowed-rate": "²"}, False, None),
    ],
)
def test_the_handshake_is_honoured_when_it_is_spoken(
    status: int | None, headers: dict[str, str], rate: int | None, *, refused: bool
) -> None:
    """An endpoint may let us in, at a rate, or let others in and not us; one that says nothing is not asked twice."""
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
def test_retry_after_is_read_in_both_forms(value: str | None, seconds: float | None) -> None:
    """Seconds or a date; anything else says nothing."""
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
def test_no_retry_after_is_too_absurd(value: str) -> None:
    """It is a number of seconds or nothing: an endpoint must not make us fail."""
    seconds = webhook.seconds_of(value, datetime(2026, 1, 1, tzinfo=UTC))
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize("value", ["9" * 5_000, "9" * 20, "1e5", "0", "-5", "\u0664", "", "1" * 10])
def test_a_rate_that_is_none_is_no_limit(value: str) -> None:
    """However many digits it has."""
    headers = {"webhook-allowed-origin": "*", "webhook-allowed-rate": value}
    assert webhook.allowed_rate(200, headers) is None
    assert webhook.allowed_rate(200, {**headers, "webhook-allowed-rate": "9" * 9}) == 999_999_999


@given(st.text(max_size=60))
def test_whatever_an_endpoint_answers_can_be_read(value: str) -> None:
    """Any text in either header."""
    webhook.seconds_of(value, datetime(2026, 1, 1, tzinfo=UTC))
    webhook.allowed_rate(200, {"webhook-allowed-origin": value, "webhook-allowed-rate": value})
