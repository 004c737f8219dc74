"""Binary mode: from headers and a body to an event (CloudEvents 1.0.2, HTTP binding, section 3.1)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_core.cloudevent import read_binary, validate
from events_core.common.errors import Problem
from tests.cloudevent.samples import EVENT, extensions, is_bad_request, json_values, problem_of, strings

HEADERS = {f"ce-{name}": str(value) for name, value in EVENT.items()}
XML = b'<?xml version="1.0"?><a b="\xc3\xa6"/>'


def read(body: bytes = b"", content_type: str | None = None) -> dict[str, Any]:
    """The members of the valid event that a binary-mode request makes."""
    typed = {} if content_type is None else {"content-type": content_type}
    members: dict[str, Any] = json.loads(validate(read_binary(HEADERS | typed, body)).json)
    return members


def read_with(attributes: Mapping[str, str]) -> dict[str, Any]:
    """The members of the valid event that `ce-` headers make."""
    headers = HEADERS | {f"ce-{name}": value for name, value in attributes.items()}
    members: dict[str, Any] = json.loads(validate(read_binary(headers, b"")).json)
    return members


def test_headers_are_attributes() -> None:
    """Each `ce-` header is an attribute of the event, other headers are none."""
    raw = read_binary({**HEADERS, "host": "localhost", "xce-a": "b", "ce": "c"}, b"")
    assert json.loads(validate(raw).json) == raw.attributes == EVENT


def test_no_body_and_no_type_make_an_event_without_data() -> None:
    """Without a body and a Content-Type there is neither data nor datacontenttype."""
    assert read() == read(content_type="") == EVENT


def test_a_body_needs_a_type() -> None:
    """A body without a Content-Type is 415."""
    assert problem_of(lambda: read(b"1")).problem is Problem.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/octet-stream", "x"])
def test_a_type_needs_a_body(content_type: str) -> None:
    """A Content-Type without a body is 400: an event that lost its data is never stored."""
    assert is_bad_request(lambda: read(b"", content_type))


@given(json_values, st.sampled_from(["application/json", "text/json; charset=x", "Application/vnd.x+JSON;a=b"]))
def test_json_becomes_data(value: object, content_type: str) -> None:
    """A body of any JSON type is the event's data."""
    assert read(json.dumps(value).encode(), content_type) == EVENT | {"datacontenttype": content_type, "data": value}


@pytest.mark.parametrize("text", ["100.00", "1E400", "9" * 6000, '{ "a" : 1 }', '"\\u00e6\\/"', "[ ]"], ids=len)
def test_json_keeps_its_text(text: str) -> None:
    """The text of a JSON body is served as it came, but for white space around it."""
    raw = read_binary({**HEADERS, "content-type": "application/json"}, f" {text}\n".encode())
    assert validate(raw).json.endswith(f',"data":{text}}}'.encode())
    assert raw.size == len(raw.text)


@pytest.mark.parametrize(
    "body", [b" ", b"{", b"{} {}", b"NaN", b'"\\ud800"', b'{"a":1,"a":1}', b"\xff", b"[" * 90, b"\xef\xbb\xbf1"]
)
def test_a_json_type_wants_json(body: bytes) -> None:
    """A body that its Content-Type calls JSON and that is none is 400."""
    assert is_bad_request(lambda: read(body, "application/json"))


@given(
    strings.filter(bool), st.sampled_from(["text/plain", "text/xml;charset=UTF-8", "application/xml", "image/svg+xml"])
)
def test_text_becomes_a_string(text: str, content_type: str) -> None:
    """Text and XML in UTF-8 is data as a JSON string."""
    assert read(text.encode(), content_type)["data"] == text


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/octet-stream", b"abc"),
        ("image/png", b"\x89PNG\r\n"),
        ("text/plain", b"\xe6"),
        ("text/plain; charset=iso-8859-1", b"abc"),
        ("application/xml;charset=utf-16", XML),
        ("application/jsonx", b"1"),
    ],
)
def test_other_bodies_become_binary_data(content_type: str, body: bytes) -> None:
    """What is neither JSON nor text in UTF-8 is kept byte for byte, in base64."""
    members = read(body, content_type)
    assert base64.b64decode(members.pop("data_base64")) == body
    assert members == EVENT | {"datacontenttype": content_type}


@given(strings.filter(bool))
def test_values_are_percent_decoded(value: str) -> None:
    """Percent-encoded UTF-8 in a header is one round decoded, upper or lower case, needed or not."""
    encoded = "".join(f"%{byte:02X}" for byte in value.encode())
    assert read_with({"subject": encoded})["subject"] == read_with({"subject": encoded.lower()})["subject"] == value


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("%2525", "%25"),
        ('"a b"', "a b"),
        (r'"a \"b\" \\ \c%20"', 'a "b" \\ c '),
        ('a="b c"', "a=b c"),
        (r"a\b", r"a\b"),
        (" \ta b\t ", "a b"),
        ("(a), b", "(a), b"),
        ("%22a%22", '"a"'),
    ],
)
def test_values_are_unescaped(header: str, value: str) -> None:
    """Quoted strings are unescaped first, then one round of percent-decoding is done (section 3.1.3.2)."""
    assert read_with({"subject": header})["subject"] == value


@pytest.mark.parametrize(
    "value",
    ["%", "50%", "%4", "%zz", "%C0%A0", "%ff", "%ED%A0%80", '"', 'a"b', '"a\\"', "æ", "a\nb", "a\0", "%00", "%0a"],
)
def test_other_values_are_refused(value: str) -> None:
    """Stray percent signs and quotes, raw non-ASCII, invalid UTF-8 and control characters are 400, and named."""
    error = problem_of(lambda: read_with({"subject": value}))
    assert error.problem is Problem.BAD_REQUEST
    assert error.errors[0].field in ("ce-subject", "subject")


@pytest.mark.parametrize("name", ["", "data", "data_base64", "datacontenttype", "my-ext", "my_ext", "æ", "A"])
def test_other_names_are_refused(name: str) -> None:
    """A header that is no attribute, or that stands for Content-Type or the body, is 400."""
    assert is_bad_request(lambda: read_with({name: "text/plain"}))


@pytest.mark.parametrize(
    "content_type", ["json", "text/plain, text/plain", "a/b;c", "a/b\x85", "æ/b", "application/json;"]
)
def test_the_type_is_a_media_type(content_type: str) -> None:
    """A Content-Type that is no media type is 400, and named as the attribute that it becomes."""
    assert problem_of(lambda: read(b"1", content_type)).errors[0].field == "datacontenttype"


@given(extensions)
def test_extensions_become_strings(members: dict[str, object]) -> None:
    """Extension attributes come as strings, since a header does not tell its type."""
    encoded = {name: "".join(f"%{byte:02x}" for byte in str(value).encode()) for name, value in members.items()}
    assert read_with(encoded) == EVENT | {name: str(value) for name, value in members.items()}


@pytest.mark.parametrize("name", ["id", "source", "type", "specversion", "resource"])
def test_required_headers_are_required(name: str) -> None:
    """An attribute whose header is missing is named as in the other modes."""
    headers = {header: value for header, value in HEADERS.items() if header != f"ce-{name}"}
    assert problem_of(lambda: validate(read_binary(headers, b""))).errors[0].field == name


@pytest.mark.parametrize(("content_type", "expansion"), [("text/plain", 1), ("image/png", 4 / 3)])
def test_an_event_of_256_kib_is_the_largest(content_type: str, expansion: float) -> None:
    """The limit is on the event as it is kept: in binary mode its attributes and its data as JSON; 413 beyond."""
    largest = int((256 * 1024 - 500) / expansion)
    assert read(b"1" * largest, content_type)
    assert problem_of(lambda: read(b"1" * (largest + 500), content_type)).problem is Problem.CONTENT_TOO_LARGE


def test_text_that_grows_when_escaped_is_measured_as_kept() -> None:
    """Control characters take six bytes each as JSON, and so they count."""
    assert problem_of(lambda: read(b"\1" * 50_000, "text/plain")).problem is Problem.CONTENT_TOO_LARGE
