"""Syntax of the RFCs, partly compared with a second implementation (Rust, in jsonschema_rs)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_core.cloudevent import syntax
from tests.cloudevent.samples import uri_references

NO_URI_REFERENCE = r"""
1:b :b % %4 %GG a% ## é http://a/[ http://[::g]/ http://[::1 http://a:b http://[fe80::1%25eth0]/ <a> a\b a|b ` {x} "
http://[1.2.3.4]/ //[v1] http://a]/ a^b [ //a@b@c
"""
RARE_URI_REFERENCES = ". /a:b ./a:b ?q #f //x/y a//b s:///a http://[v1.x:y]/ //@/ s: ?/?#/? http://[::ffff:1.2.3.4]:80"
URNS = f"""
urn:altinn:resource:app_ttd_apps-test URN:ISBN:0451450523 urn:ab:c/d urn:ab:%41 urn:ab:c?=q urn:ab:c?+r?x?=q#f
urn:ab:c# urn:{"a" * 32}:x urn:a-b:(c)+,;=@!$&'*
"""
NO_URNS = f"""
urn: urn:ab urn:ab: urn:a:b urn:-ab:c urn:ab-:c urn:{"a" * 33}:x urn:ab:/c urn:ab:?c urn:ab:% urn:ab:é urn:ab:c?d
urn:a_b:c urm:ab:c urn:ab:c?= urn:ab:c##
"""
NO_BASE64 = "Q QQ QQ= QQ=== QUJD= QUJD==== = -_-_ QQ==QQ== QÆ=="


def second_opinion(name: str, text: str) -> bool:
    """Whether `text` has the JSON Schema format `name`."""
    return jsonschema_rs.is_valid({"format": name}, text, validate_formats=True)


@given(uri_references())
def test_valid_parts_make_a_uri_reference(text: str) -> None:
    """The parts are those of the grammar."""
    assert syntax.is_uri_reference(text)


@given(st.text('abz019:/?#[]@!%.-_~ +é\\"<>^`{|}AF', max_size=14))
def test_another_implementation_accepts_the_same_uri_references(text: str) -> None:
    """Both implement RFC 3986."""
    assert syntax.is_uri_reference(text) == second_opinion("uri-reference", text)


@pytest.mark.parametrize("text", [*NO_URI_REFERENCE.split(), "a b", "a\n", " a"])
def test_other_strings_are_not_uri_references(text: str) -> None:
    """They break the grammar of RFC 3986."""
    assert not syntax.is_uri_reference(text)


@pytest.mark.parametrize("text", ["", *RARE_URI_REFERENCES.split()])
def test_rare_forms_are_uri_references(text: str) -> None:
    """RFC 3986 allows empty, relative and unusual forms."""
    assert syntax.is_uri_reference(text)


@given(uri_references())
def test_an_absolute_uri_has_a_scheme_and_no_fragment(text: str) -> None:
    """Other URI-references are not absolute URIs."""
    assert syntax.is_absolute_uri(text) == (re.match("[a-z][^/?#]*:", text) is not None and "#" not in text)


@pytest.mark.parametrize("text", URNS.split())
def test_urns_are_recognised(text: str) -> None:
    """They have all forms of RFC 8141."""
    assert syntax.is_urn(text)


@pytest.mark.parametrize("text", [*NO_URNS.split(), "", "urn:ab:c d", "urn:ab:c\n", " urn:ab:c"])
def test_other_strings_are_not_urns(text: str) -> None:
    """They break the grammar of RFC 8141."""
    assert not syntax.is_urn(text)


@pytest.mark.parametrize(
    "text", ["a/b", "application/vnd.x+json", "text/plain;charset=utf-8", 'a/b ; c="d;\\"e" ;\tf=g', "*/*"]
)
def test_media_types_are_recognised(text: str) -> None:
    """A media type has a type, a subtype and any number of parameters."""
    assert syntax.is_media_type(text)


@pytest.mark.parametrize(
    "text", ["", "a", "a/", "/b", "a/b;", "a/b;c", "a/b;c=", "a/b, c/d", "a /b", "a/b/c", 'a/b;c="', "a/b\n", "é/b"]
)
def test_other_strings_are_not_media_types(text: str) -> None:
    """They break the grammar of RFC 2045."""
    assert not syntax.is_media_type(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("text/plain", True),
        ("a/b; Charset=UTF-8;", True),
        ('a/b;charset="us-ascii"', True),
        ('a/b; x="; charset=no"', True),
        ('a/b; x="; charset=utf-8"; charset="Latin1"', False),
        ("a/b; charset=utf-16", False),
    ],
)
def test_the_charset_comes_from_its_parameter(text: str, *, expected: bool) -> None:
    """The parameter may have any case, and quotes. US-ASCII is a part of UTF-8."""
    assert syntax.is_utf8(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("urn:altinn:resource:x", True),
        ("urn:altinn:resource:x:y#", True),
        ("urn:altinn:resource:", False),
        ("urn:altinn:resource:#x", False),
        ("urn:altinn:resource:?=x", False),
        ("urn:x:", False),
        ("https://x.example/", False),
    ],
)
def test_a_resource_is_a_urn_whose_last_part_is_not_empty(text: str, *, expected: bool) -> None:
    """The last part is what a policy calls the resource."""
    assert syntax.is_resource(text) is expected


@pytest.mark.parametrize("text", ["", "QQ==", "QUI=", "QUJD", "+/+/"])
def test_padded_base64_is_recognised(text: str) -> None:
    """The last group of four characters is padded."""
    assert syntax.is_base64(text)


@pytest.mark.parametrize("text", [*NO_BASE64.split(), "Q Q=", "QQ==\n", " "])
def test_other_strings_are_not_base64(text: str) -> None:
    """RFC 4648 allows no missing or excess padding, no white space and no other alphabet."""
    assert not syntax.is_base64(text)


@pytest.mark.parametrize(
    "check", [syntax.is_uri_reference, syntax.is_absolute_uri, syntax.is_urn, syntax.is_media_type]
)
@pytest.mark.parametrize("piece", ["a", "%41", "a@", "//", ";a=b", "?=", "urn:", "[", "é"])
def test_a_long_hostile_string_is_judged_in_linear_time(check: Callable[[str], bool], piece: str) -> None:
    """A check of 100,000 hostile pieces takes less than a second."""
    started = time.perf_counter()
    assert not check(f"urn:ab:{piece * 100_000}\0")
    assert time.perf_counter() - started < 1
