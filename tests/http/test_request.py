"""A request as handlers see it, without the service around it."""

from __future__ import annotations

import azure.functions as func
import pytest

from events_core.common.errors import EventsError, Problem
from events_core.http.request import MAX_JSON_BYTES, Request

EVENTS, BATCH, JSON = "application/cloudevents+json", "application/cloudevents-batch+json", "application/json"


def request(body: bytes = b"", method: str = "POST", **headers: str) -> Request:
    """A request with these headers."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    raw = func.HttpRequest(method, "https://events.example/x", headers=sent, params={}, route_params={}, body=body)
    return Request(raw, None)


def refused(body: bytes, **headers: str) -> EventsError:
    """The error that reading the body as a JSON object raises."""
    with pytest.raises(EventsError) as failure:
        request(body, **headers).json_object()
    return failure.value


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
        (b"", "application/json", Problem.LENGTH_REQUIRED),
        (b'{"a": 1e999}', "application/json", Problem.BAD_REQUEST),
        (b'{"a": NaN}', "application/json", Problem.BAD_REQUEST),
        (b'{"a": "\\ud800"}', "application/json", Problem.BAD_REQUEST),
        (b"[" * 60_000, "application/json", Problem.BAD_REQUEST),
        (b" " * MAX_JSON_BYTES, "application/json", Problem.BAD_REQUEST),
        (b"\xff", "application/json", Problem.BAD_REQUEST),
        (b"{}", "application/json; charset=utf-16", Problem.UNSUPPORTED_MEDIA_TYPE),
        (b"[]", "application/json", Problem.BAD_REQUEST),
        (b"{'a': 1}", "application/json", Problem.BAD_REQUEST),
        (b"{}", "text/plain", Problem.UNSUPPORTED_MEDIA_TYPE),
        (b" " * (MAX_JSON_BYTES + 1), "application/json", Problem.CONTENT_TOO_LARGE),
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(body: bytes, content_type: str, expected: Problem) -> None:
    """The size is checked before the body is parsed."""
    assert refused(body, content_type=content_type).problem is expected


@pytest.mark.parametrize(
    "body", [b'{"from": 1, "from": 1}', b'{"from": 1, "From": 2}', b'{"a": [{"from": 1, "from": 2}]}']
)
def test_a_member_name_occurs_once(body: bytes) -> None:
    """Parsers disagree about repeated names, and clients may write a name in any case. The error names it."""
    assert refused(body, content_type="application/json").errors[0].field.lower() == "from"


def test_a_byte_order_mark_is_skipped_and_integers_are_exact() -> None:
    """A party id does not fit into 32 bits."""
    sent = request(b'\xef\xbb\xbf{"party": 9999999999}', content_type="application/json;")
    assert sent.json_object() == {"party": 9_999_999_999}


@pytest.mark.parametrize(
    ("headers", "is_announced"),
    [
        ({"transfer_encoding": "chunked"}, True),
        ({"transfer_encoding": "chunked", "content_type": "a/b", "content_length": "0"}, True),
        ({"content_type": "application/json"}, True),
        ({"content_type": "application/json", "content_length": "0"}, False),
        ({"content_length": "0"}, False),
        ({"content_type": ""}, False),
        ({}, False),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH", "GET", "PUT", "DELETE"])
def test_a_body_that_is_announced_and_absent_needs_a_length(
    method: str, headers: dict[str, str], *, is_announced: bool
) -> None:
    """Chunks announce a body, and so does a Content-Type without any Content-Length, on POST and PATCH."""
    sent = request(b"", method, **headers)
    if not (is_announced and method in ("POST", "PATCH")):
        assert sent.body == b""
        return
    with pytest.raises(EventsError) as failure:
        _ = sent.body
    assert failure.value.problem is Problem.LENGTH_REQUIRED


@pytest.mark.parametrize(
    ("coding", "is_refused"),
    [
        ("gzip", True),
        ("identity, br", True),
        ("Identity", False),
        ("identity,identity", False),
        ("", False),
        (",", False),
    ],
)
def test_only_a_body_without_encoding_is_taken(coding: str, *, is_refused: bool) -> None:
    """The answer names the encoding that is taken. Without a body the header means nothing."""
    assert request(b"", content_encoding=coding).body == b""
    if not is_refused:
        assert request(b"a", content_encoding=coding).body == b"a"
        return
    error = refused(b"a", content_encoding=coding)
    assert (error.problem, error.headers) == (Problem.UNSUPPORTED_MEDIA_TYPE, {"Accept-Encoding": "identity"})


@pytest.mark.parametrize("coding", ["gzip, chunked", "Chunked,deflate", "gzip"])
def test_a_body_with_another_transfer_coding_than_chunked_is_refused(coding: str) -> None:
    """A host undoes chunks only, so the bytes are still compressed."""
    assert refused(b"a", transfer_encoding=coding).problem is Problem.UNSUPPORTED_MEDIA_TYPE
    assert request(b"a", transfer_encoding="Chunked").body == b"a"
