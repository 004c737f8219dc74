"""A request as handlers see it, without the service around it."""

from __future__ import annotations

import azure.functions as func
import pytest

from events_core.common.errors import EventsError, Problem
from events_core.http.request import MAX_JSON_BYTES, Request

EVENTS, BATCH, JSON = "application/cloudevents+json", "application/cloudevents-batch+json", "application/json"


def request(body: bytes = b"", **headers: str) -> Request:
    """A request with these headers."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    raw = func.HttpRequest("POST", "https://events.example/x", headers=sent, params={}, route_params={}, body=body)
    return Request(raw, None)


@pytest.mark.parametrize(
    ("accept", "preferred"),
    [
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", EVENTS),
        ("application/json;charset=utf-8;version=1", JSON),
        ("application/json;q=1.5, */*;q=0.1", JSON),
        ("application/json;q=nonsense, application/cloudevents+json;q=0.1", EVENTS),
        ("application/json;q=nan, application/cloudevents+json;q=0.1", EVENTS),
        ("application/json;q=0.4, application/*;q=0.2, */*;q=0.9", JSON),
        ("application/json;q=0, application/*", EVENTS),
        ("application/cloudevents+json;q=0.5, application/*", BATCH),
        ("application/json;q=0.1, application/json;q=0.9, application/*;q=0.5", JSON),
        ("*", None),
        ("*/json", None),
        ("*/*/*", None),
        ("application/*/x", None),
        (",", None),
        ("nonsense", None),
    ],
)
def test_accept_is_read_leniently(accept: str, preferred: str | None) -> None:
    """Clients send weights without a leading zero and parameters that no media type here has."""
    assert request(accept=accept).preferred((EVENTS, BATCH, JSON)) == preferred


def test_member_names_are_read_in_any_case() -> None:
    """Clients of the older API write `From` as well as `from`."""
    assert request(b'{"From": 1, "eventType": ["A"]}').json_object() == {"from": 1, "eventtype": ["A"]}


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"", "application/json", Problem.BAD_REQUEST),
        (b"[]", "application/json", Problem.BAD_REQUEST),
        (b"{'a': 1}", "application/json", Problem.BAD_REQUEST),
        (b"{}", "text/plain", Problem.UNSUPPORTED_MEDIA_TYPE),
        (b" " * (MAX_JSON_BYTES + 1), "application/json", Problem.CONTENT_TOO_LARGE),
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(body: bytes, content_type: str, expected: Problem) -> None:
    """The size is checked before the body is parsed."""
    with pytest.raises(EventsError) as failure:
        request(body, content_type=content_type).json_object()
    assert failure.value.problem is expected
