"""Binary mode (CloudEvents 1.0.2, HTTP binding, section 3.1)."""

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
from tests.cloudevent.samples import EVENT, data_values, extensions, is_bad_request, problem_of, strings

HEADERS = {f"ce-{name}": str(value) for name, value in EVENT.items()}
XML = b'<?xml version="1.0"?><a b="\xc3\xa6"/>'


def read(body: bytes = b"", content_type: str | None = None) -> dict[str, Any]:
    """The members of the valid event with the sample's headers and this body."""
    typed = {} if content_type is None else {"content-type": content_type}
    members: dict[str, Any] = json.loads(validate(read_binary(HEADERS | typed, body)).json)
    return members


def read_with(attributes: Mapping[str, str]) -> dict[str, Any]:
    """The members of the valid event with the sample's headers and these attributes as `ce-` headers."""
    headers = HEADERS | {f"ce-{name}": value for name, value in attributes.items()}
    members: dict[str, Any] = json.loads(validate(read_binary(headers, b"")).json)
    return members


def test_ce_headers_are_attributes() -> None:
    """Other headers are not."""
    raw = read_binary({**HEADERS, "host": "localhost", "xce-a": "b", "ce": "c"}, b"")
    assert json.loads(validate(raw).json) == raw.attributes == EVENT


def test_without_body_and_type_an_event_has_no_data() -> None:
    """It has no datacontenttype either."""
    assert read() == read(content_type="") == read(content_type=" ; ") == EVENT


def test_a_body_needs_a_type() -> None:
    """A body without a Content-Type is refused with 415."""
    assert problem_of(lambda: read(b"1")).problem is Problem.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize("content_type", ["application/json", "text/plain; charset=utf-16", "application/octet-stream"])
def test_without_a_body_the_type_is_kept(content_type: str) -> None:
    """The CloudEvents SDK for JavaScript names a type for an event without data."""
    assert read(b"", content_type) == EVENT | {"datacontenttype": content_type}


@pytest.mark.parametrize("end", [";", " ; ", ";;", "; ;\t"])
def test_semicolons_at_the_end_of_a_type_are_dropped(end: str) -> None:
    """Some clients end the header in one, which is no media type."""
    assert read(b"1", f"application/json{end}") == EVENT | {"datacontenttype": "application/json", "data": 1}


def test_null_is_no_data() -> None:
    """A member that is null is neither stored nor served."""
    assert read(b" null ", "application/json") == EVENT | {"datacontenttype": "application/json"}


def test_a_byte_order_mark_before_json_is_skipped() -> None:
    """It is no part of the data; in a text it is."""
    assert read(b"\xef\xbb\xbf1", "application/json")["data"] == 1
    assert read(b"\xef\xbb\xbf1", "text/plain")["data"] == "\ufeff1"


@pytest.mark.parametrize("charset", ["utf-16", "ISO-8859-1", '"latin1"', "x"])
def test_json_in_another_charset_is_refused(charset: str) -> None:
    """JSON is taken in UTF-8 alone (415)."""
    error = problem_of(lambda: read(b"1", f"application/json; a=b; charset={charset}"))
    assert error.problem is Problem.UNSUPPORTED_MEDIA_TYPE


@given(data_values, st.sampled_from(["application/json", "text/json; charset=us-ascii", "Application/vnd.x+JSON;a=b"]))
def test_a_json_body_becomes_data(value: object, content_type: str) -> None:
    """Every JSON media type counts."""
    assert read(json.dumps(value).encode(), content_type) == EVENT | {"datacontenttype": content_type, "data": value}


@pytest.mark.parametrize("text", ["100.00", "1E400", "9" * 6000, '{ "a" : 1 }', '"\\u00e6\\/"', "[ ]"], ids=len)
def test_a_json_body_keeps_its_text(text: str) -> None:
    """Only white space around it is dropped."""
    raw = read_binary({**HEADERS, "content-type": "application/json"}, f" {text}\n".encode())
    assert validate(raw).json.endswith(f',"data":{text}}}'.encode())


@pytest.mark.parametrize("body", [b" ", b"{", b"{} {}", b"NaN", b'"\\ud800"', b'{"a":1,"a":1}', b"\xff", b"[" * 90])
def test_a_body_of_a_json_type_must_be_json(body: bytes) -> None:
    """The rules are those of structured mode."""
    assert is_bad_request(lambda: read(body, "application/json"))


@given(
    strings.filter(bool), st.sampled_from(["text/plain", "text/xml;charset=UTF-8", "application/xml", "image/svg+xml"])
)
def test_a_text_body_becomes_a_string(text: str, content_type: str) -> None:
    """Text and XML in UTF-8 become a JSON string."""
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
def test_another_body_becomes_binary_data(content_type: str, body: bytes) -> None:
    """A body that is neither JSON nor text in UTF-8 keeps its bytes, in base64."""
    members = read(body, content_type)
    assert base64.b64decode(members.pop("data_base64")) == body
    assert members == EVENT | {"datacontenttype": content_type}


@given(strings.filter(bool))
def test_a_header_value_is_percent_decoded(value: str) -> None:
    """One round decodes UTF-8 in upper or lower case, even where the encoding was not needed."""
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
def test_a_quoted_string_is_unescaped_before_percent_decoding(header: str, value: str) -> None:
    """Section 3.1.3.2 demands this order."""
    assert read_with({"subject": header})["subject"] == value


@pytest.mark.parametrize(
    "value",
    ["%", "50%", "%4", "%zz", "%C0%A0", "%ff", "%ED%A0%80", '"', 'a"b', '"a\\"', "æ", "a\nb", "a\0", "%00", "%0a"],
)
def test_an_invalid_header_value_is_refused(value: str) -> None:
    """The error names the header, or the attribute if the decoded value breaks a rule."""
    error = problem_of(lambda: read_with({"subject": value}))
    assert error.problem is Problem.BAD_REQUEST
    assert error.errors[0].field in ("ce-subject", "subject")


@pytest.mark.parametrize("name", ["", "data", "data_base64", "datacontenttype", "my-ext", "my_ext", "æ", "A"])
def test_an_invalid_header_name_is_refused(name: str) -> None:
    """A header must name an attribute, and neither the Content-Type nor the body."""
    assert is_bad_request(lambda: read_with({name: "text/plain"}))


@pytest.mark.parametrize("content_type", ["json", "text/plain, text/plain", "a/b;c", "a/b\x85", "æ/b"])
def test_the_content_type_must_be_a_media_type(content_type: str) -> None:
    """The error names the attribute that it becomes."""
    assert problem_of(lambda: read(b"1", content_type)).errors[0].field == "datacontenttype"


@given(extensions)
def test_extensions_become_strings(members: dict[str, object]) -> None:
    """A header does not tell the type of its value."""
    encoded = {name: "".join(f"%{byte:02x}" for byte in str(value).encode()) for name, value in members.items()}
    assert read_with(encoded) == EVENT | {name: str(value) for name, value in members.items()}


@pytest.mark.parametrize("name", ["id", "source", "type", "specversion", "resource"])
def test_a_missing_header_is_named_as_its_attribute(name: str) -> None:
    """The other modes name it in the same way."""
    headers = {header: value for header, value in HEADERS.items() if header != f"ce-{name}"}
    assert problem_of(lambda: validate(read_binary(headers, b""))).errors[0].field == name


@pytest.mark.parametrize(("content_type", "expansion"), [("text/plain", 1), ("image/png", 4 / 3)])
def test_an_event_of_256_kib_is_the_largest(content_type: str, expansion: float) -> None:
    """The limit counts attributes and data as JSON, as the event is stored."""
    largest = int((256 * 1024 - 500) / expansion)
    assert read(b"1" * largest, content_type)
    assert problem_of(lambda: read(b"1" * (largest + 500), content_type)).problem is Problem.CONTENT_TOO_LARGE


def test_the_limit_counts_escapes() -> None:
    """A control character takes six bytes as JSON."""
    assert problem_of(lambda: read(b"\1" * 50_000, "text/plain")).problem is Problem.CONTENT_TOO_LARGE
