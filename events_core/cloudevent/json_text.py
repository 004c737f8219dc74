"""JSON text, parsed strictly: RFC 8259, and the rules of I-JSON (RFC 7493) that protect readers."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from events_core.cloudevent import syntax
from events_core.common.errors import EventsError, FieldError, bad_request, shown, unsupported_media_type

MAX_DEPTH = 62
"""Levels of nesting in one event, itself included. A page around it keeps below 64, where some readers stop."""

_BYTE_ORDER_MARK = "\ufeff"
_BLANK = re.compile(r"[ \t\n\r]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def _integer(text: str) -> int | float:
    """An integer of 32 bits as an integer (CloudEvents 1.0.2, Type System), any other as a float.

    A float takes an integer of any length at little cost. Its loss of precision does no harm: only the text is served.
    """
    if len(text) <= 11 and -(2**31) <= (value := int(text)) < 2**31:
        return value
    return float(text)


def _constant(text: str) -> object:
    raise bad_request(f"The body is not valid JSON: {text} is no JSON number.")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise duplicate_name(next(name for name, count in counts.items() if count > 1))
    return members


def duplicate_name(name: str) -> EventsError:
    """400 for a member name that an object repeats."""
    twice = shown(name)
    return bad_request(
        f"The member name '{twice}' occurs twice in one JSON object.", FieldError(twice, "must occur once")
    )


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_constant=_constant)


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

    Numbers other than 32-bit integers become floats, approximately. Raises 400 if the text is not JSON, repeats a
    member name in an object, is nested deeper than `MAX_DEPTH` levels, or escapes half of a surrogate pair.
    """
    try:
        value, end = _decoder.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise bad_request(f"The body is not valid JSON: {error}.") from None
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value, text, at, end)
    _check_surrogates(value, text, at, end)
    return value, end


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


def _check_depth(value: object, text: str, start: int, end: int) -> None:
    if text.count("{", start, end) + text.count("[", start, end) <= MAX_DEPTH:
        return
    level, depth = _containers([value]), 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        level = [inner for outer in level for inner in _containers(outer)]


def _containers(value: object) -> list[object]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in children if isinstance(child, (dict, list))]


def _check_surrogates(value: object, text: str, start: int, end: int) -> None:
    if _SURROGATE_ESCAPE.search(text, start, end) is None:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise bad_request("The JSON escapes half of a surrogate pair, which is no character.") from None


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
    at = skip_blanks(text, 1)
    while text[at] != "}":
        name, end_of_name = _decoder.raw_decode(text, at)
        value = skip_blanks(text, skip_blanks(text, end_of_name) + 1)
        _, end = _decoder.raw_decode(text, value)
        yield _Member(name, at, value, end)
        at = skip_blanks(text, end)
        at = skip_blanks(text, at + 1) if text[at] == "," else at
