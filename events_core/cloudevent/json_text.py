"""JSON text, parsed strictly: RFC 8259, and the rules of I-JSON (RFC 7493) that protect readers."""

from __future__ import annotations

import gc
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from events_core.cloudevent import syntax
from events_core.common.errors import EventsError, FieldError, bad_request, shown, unsupported_media_type

MAX_DEPTH = 62
"""Levels of nesting in one event, itself included. A page around it keeps below 64, where some readers stop."""

NESTED = object()
"""Stands for an array or an object within the value that was parsed. Only its text is of use."""

_BYTE_ORDER_MARK = "\ufeff"
_BLANK = re.compile(r"[ \t\n\r]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_PAIRED_SURROGATES = re.compile(
    r"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*+"
)
_STRING = r'"(?:[^"\\]++|\\.)*+"'


def _nested(levels: int) -> str:
    """A regular expression for valid JSON text, or a part of it, with at most so many levels of brackets.

    Every run is matched possessively, so a match takes linear time, however the text is nested.
    """
    flat = rf'(?:[^\[\]{{}}"]++|{_STRING})*+'
    pattern = flat
    for _ in range(levels):
        pattern = rf"{flat}(?:[\[{{]{pattern}[\]}}]{flat})*+"
    return pattern


_SHALLOW = re.compile(_nested(MAX_DEPTH))
_MEMBER = re.compile(
    rf'({_STRING})[ \t\n\r]*+:[ \t\n\r]*+({_STRING}|[^\[\]{{}}", \t\n\r]++|[\[{{]{_nested(MAX_DEPTH)}[\]}}])'
)


class _Integer(float):
    """An integer in JSON text. A float takes an integer of any length at little cost, and those of 32 bits exactly."""

    __slots__ = ()


def _constant(text: str) -> object:
    raise bad_request(f"The body is not valid JSON: {text} is no JSON number.")


def _distinct(pairs: list[tuple[str, object]]) -> list[tuple[str, object]]:
    """The members of an object, which have distinct names. They stay pairs: nothing of a nested object is used."""
    if len(pairs) > 1 and len(dict(pairs)) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise duplicate_name(next(name for name, count in counts.items() if count > 1))
    return pairs


def duplicate_name(name: str) -> EventsError:
    """400 for a member name that an object repeats."""
    twice = shown(name)
    return bad_request(
        f"The member name '{twice}' occurs twice in one JSON object.", FieldError(twice, "must occur once")
    )


_decoder = json.JSONDecoder(object_pairs_hook=_distinct, parse_int=_Integer, parse_constant=_constant)


def check_charset(content_type: str) -> None:
    """Raise 415 if a Content-Type names another charset than UTF-8 or its part US-ASCII."""
    if not syntax.is_utf8(content_type):
        raise unsupported_media_type("JSON is taken in UTF-8; the Content-Type names another charset.")


def decode_utf8(body: bytes) -> str:
    """The body as text, without its byte order mark. Raises 400 if the body is empty or is not UTF-8."""
    if not body:
        raise bad_request("The body is empty.")
    try:
        return body.decode().removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        raise bad_request(f"The body is not valid UTF-8 (byte {error.start}).") from None


def skip_blanks(text: str, at: int) -> int:
    """The index of the next character that is not JSON white space."""
    found = _BLANK.match(text, at)
    assert found is not None
    return found.end()


def parse_at(text: str, at: int) -> tuple[object, int]:
    """The JSON value that begins at an index, and the index after it.

    Of an object, what its members hold is returned, but `NESTED` for their arrays and objects, and for an array. So a
    small text cannot become a large value. Numbers other than 32-bit integers become floats, approximately.

    Raises 400 if the text is not JSON, repeats a member name in an object, is nested deeper than `MAX_DEPTH` levels, or
    escapes half of a surrogate pair.
    """
    collects = gc.isenabled()
    gc.disable()  # the value is dropped at once: collections would look for garbage in each part of it
    try:
        value, end = _decode(text, at)
    except json.JSONDecodeError as error:
        raise bad_request(f"The body is not valid JSON: {error}.") from None
    except RecursionError:
        raise _too_deep() from None
    finally:
        if collects:
            gc.enable()
    _check_depth(text, at, end)
    _check_surrogates(text, at, end)
    return value, end


def _decode(text: str, at: int) -> tuple[object, int]:
    value, end = _decoder.raw_decode(text, at)
    if isinstance(value, list) and text[at] == "{":
        return {name: _outline(member) for name, member in value}, end
    return _outline(value), end


def _outline(value: object) -> object:
    """A value without its parts. An integer is one only if it has 32 bits (CloudEvents 1.0.2, Type System)."""
    if isinstance(value, list):
        return NESTED
    if isinstance(value, _Integer):
        return int(value) if -(2**31) <= value < 2**31 else float(value)
    return value


def parse_whole(text: str) -> tuple[object, int, int]:
    """The only JSON value of a text, and where it begins and ends. Raises 400 as `parse_at`, and if more follows."""
    start = skip_blanks(text, 0)
    value, end = parse_at(text, start)
    refuse_more(text, end)
    return value, start, end


def refuse_more(text: str, at: int) -> None:
    """Raise 400 if anything but white space follows."""
    if skip_blanks(text, at) != len(text):
        raise bad_request(f"The body is not valid JSON: extra data (char {at}).")


def _too_deep() -> EventsError:
    return bad_request(f"The JSON is nested deeper than {MAX_DEPTH} levels.")


def _check_depth(text: str, start: int, end: int) -> None:
    brackets = text.count("{", start, end) + text.count("[", start, end)
    if brackets > MAX_DEPTH and not _SHALLOW.fullmatch(text, start, end):
        raise _too_deep()


def _check_surrogates(text: str, start: int, end: int) -> None:
    if _SURROGATE_ESCAPE.search(text, start, end) and not _PAIRED_SURROGATES.fullmatch(text, start, end):
        raise bad_request("The JSON escapes half of a surrogate pair, which is no character.")


def as_json(value: object) -> str:
    """A value as compact JSON text that can be encoded as UTF-8."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return json.dumps(value, separators=(",", ":")) if _SURROGATE.search(text) else text


def replace_members(text: str, members: Mapping[str, str]) -> str:
    """The text of a valid object with the values of these members, given as JSON texts, in place of its own."""
    pieces, copied = [], 0
    for member in _members(text):
        if member.name in members:
            pieces += [text[copied : member.value], members[member.name]]
            copied = member.end
    return "".join([*pieces, text[copied:]])


def remove_members(text: str, names: Collection[str]) -> str:
    """The text of a valid object without its members of these names. The rest stays as it is."""
    first = end = skip_blanks(text, 1)
    pieces = [text[:first]]
    for member in _members(text):
        if member.name not in names:
            start = end if len(pieces) > 1 else member.start
            pieces.append(text[start : member.end])
        end = member.end
    return "".join([*pieces, text[end:]])


def keep_members(text: str, names: Collection[str]) -> str:
    """The members of these names of a valid object, as a compact object in the order of the names."""
    values = {member.name: text[member.value : member.end] for member in _members(text) if member.name in names}
    return f"{{{','.join(f'{as_json(name)}:{values[name]}' for name in names if name in values)}}}"


def add_members(text: str, members: Mapping[str, str]) -> str:
    """The text of a valid object with these members, given as JSON texts, added before its closing brace."""
    added = ",".join(f"{as_json(name)}:{value}" for name, value in members.items())
    comma = "," if added and skip_blanks(text, 1) != len(text) - 1 else ""
    return f"{text[:-1]}{comma}{added}}}"


class _Member(NamedTuple):
    """A member of an object: where it begins, where its value begins, and where both end."""

    name: str
    start: int
    value: int
    end: int


def _members(text: str) -> Iterator[_Member]:
    """The members of a valid object."""
    for found in _MEMBER.finditer(text, 1):
        name = found[1]
        yield _Member(json.loads(name) if "\\" in name else name[1:-1], found.start(), found.start(2), found.end())
