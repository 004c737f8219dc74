"""Cursors and filters."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_core.feeds.stream import START, Cursor, CursorCodec, Stream, matches

CODEC = CursorCodec(bytes(range(32)))
STREAM = Stream.of_resource("urn:altinn:resource:app_ttd_apps-test")

cursors = st.builds(Cursor, st.integers(0, 2**64 - 1), st.binary(min_size=8, max_size=8), before=st.booleans())


@given(cursors)
def test_a_cursor_is_read_back_as_it_was_written(cursor: Cursor) -> None:
    """Encoding and decoding a cursor for one stream gives the same cursor."""
    assert CODEC.decode(CODEC.encode(cursor, STREAM), STREAM) == cursor


@given(cursors)
def test_a_cursor_is_safe_in_a_url(cursor: Cursor) -> None:
    """A cursor needs no escaping in a query."""
    assert re.fullmatch(r"[A-Za-z0-9_-]+", CODEC.encode(cursor, STREAM))


@given(cursors)
def test_a_cursor_of_another_stream_is_unknown(cursor: Cursor) -> None:
    """A cursor verifies for its own stream only."""
    assert CODEC.decode(CODEC.encode(cursor, STREAM), Stream.of_org("ttd")) is None


def test_a_cursor_of_another_service_is_unknown() -> None:
    """A cursor made under another key does not verify."""
    assert CODEC.decode(CursorCodec(os.urandom(32)).encode(START, STREAM), STREAM) is None


@given(st.text())
def test_any_other_text_is_no_cursor(text: str) -> None:
    """Whatever a client sends as `after` is read as a cursor or as none, never refused."""
    assert CODEC.decode(text, STREAM) is None


@given(cursors, st.integers(0, 43), st.sampled_from("ABCabc019-_"))
def test_an_altered_cursor_is_unknown(cursor: Cursor, at: int, letter: str) -> None:
    """Changing any letter of a cursor makes it unknown, or is no change at all."""
    text = CODEC.encode(cursor, STREAM)
    altered = text[:at] + letter + text[at + 1 :]
    assert CODEC.decode(altered, STREAM) == (cursor if altered == text else None)


def test_a_cursor_says_nothing_about_its_place() -> None:
    """Neighbouring places differ from the first letters on."""
    one, other = (CODEC.encode(Cursor(position, b"markmark"), STREAM) for position in (1, 2))
    assert one[:8] != other[:8]


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("app.instance.created", "app.instance.created", True),
        ("APP.instance.CREATED", "app.Instance.created", True),
        ("app.instance", "app.instance.created", False),
        ("app.%", "app.instance.created", True),
        ("%", "", True),
        ("%created", "app.instance.created\n", False),
        ("a_c", "abc", False),
        ("a_c", "a_c", True),
        ("a.c", "abc", False),
        ("https://%/ttd/%", "https://x.no/ttd/y", True),
    ],
)
def test_only_the_percent_sign_is_a_wildcard(pattern: str, text: str, *, expected: bool) -> None:
    """Case does not count, `%` is any run of characters, every other character stands for itself."""
    assert matches(pattern, text) is expected


@given(st.text(), st.text())
def test_a_pattern_without_wildcard_matches_itself_only(pattern: str, text: str) -> None:
    """Without `%` a pattern is plain text without regard to case."""
    if "%" not in pattern:
        assert matches(pattern, text) == (pattern.lower() == text.lower())


@given(st.text(), st.text(), st.text())
def test_a_wildcard_spans_anything(head: str, middle: str, tail: str) -> None:
    """`head%tail` matches whatever stands between."""
    assert matches(f"{head}%{tail}", head + middle + tail)


def test_a_stream_knows_its_kind_and_key() -> None:
    """The name of a stream is its kind and its key."""
    assert (STREAM.kind, STREAM.key) == ("resource", "urn:altinn:resource:app_ttd_apps-test")
