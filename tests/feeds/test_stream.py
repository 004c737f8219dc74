"""Streams and cursors."""

import os
import re

from hypothesis import given
from hypothesis import strategies as st

from events_core.feeds.stream import START, Cursor, CursorCodec, Stream

CODEC = CursorCodec(bytes(range(32)))
STREAM = Stream.of_resource("urn:altinn:resource:app_ttd_apps-test")

cursors = st.builds(Cursor, st.integers(0, 2**64 - 1), st.binary(min_size=8, max_size=8), before=st.booleans())


@given(cursors)
def test_a_cursor_decodes_to_what_was_encoded(cursor: Cursor) -> None:
    """Encoding loses nothing."""
    assert CODEC.decode(CODEC.encode(cursor, STREAM), STREAM) == cursor


@given(cursors)
def test_a_cursor_is_safe_in_a_url(cursor: Cursor) -> None:
    """A query needs no escaping of it."""
    assert re.fullmatch(r"[A-Za-z0-9_-]+", CODEC.encode(cursor, STREAM))


@given(cursors)
def test_a_cursor_of_another_stream_is_unknown(cursor: Cursor) -> None:
    """A cursor decodes for its own stream only."""
    assert CODEC.decode(CODEC.encode(cursor, STREAM), Stream.of_org("ttd")) is None


def test_a_cursor_of_another_service_is_unknown() -> None:
    """A cursor made under another key does not decode."""
    assert CODEC.decode(CursorCodec(os.urandom(32)).encode(START, STREAM), STREAM) is None


@given(st.text())
def test_any_other_text_is_not_a_cursor(text: str) -> None:
    """Any `after` is read as a cursor or as an id, never refused."""
    assert CODEC.decode(text, STREAM) is None


@given(cursors, st.integers(0, 43), st.sampled_from("ABCabc019-_"))
def test_an_altered_cursor_is_unknown(cursor: Cursor, at: int, letter: str) -> None:
    """Every change of a letter makes it unknown or is no change at all."""
    text = CODEC.encode(cursor, STREAM)
    altered = text[:at] + letter + text[at + 1 :]
    assert CODEC.decode(altered, STREAM) == (cursor if altered == text else None)


def test_a_cursor_does_not_reveal_its_position() -> None:
    """Cursors of neighbouring positions differ from the first letters on."""
    one, other = (CODEC.encode(Cursor(position, b"markmark"), STREAM) for position in (1, 2))
    assert one[:8] != other[:8]


def test_the_name_of_a_stream_has_kind_and_key() -> None:
    """They are separated by the first colon."""
    assert (STREAM.kind, STREAM.key) == ("resource", "urn:altinn:resource:app_ttd_apps-test")
