"""JSON text, strictly (RFC 8259, I-JSON of RFC 7493 where it protects readers), and where its values stand in it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping

from events_core.common.errors import EventsError, FieldError, bad_request, shown

MAX_DEPTH = 62
"""Levels of nesting in one event, itself included; with a page around it, readers that stop at 64 still cope."""

_BLANK = re.compile(r"[ \t\n\r]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def _integer(text: str) -> int | float:
    """An integer within 32 bits signed as it is (CloudEvents 1.0.2, Type System), any other as a float.

    A float is never out of range, and costs no more than its text; only the text is ever served.
    """
    if len(text) <= 11 and -(2**31) <= (value := int(text)) < 2**31:
        return value
    return float(text)


def _constant(text: str) -> object:
    raise bad_request(f"The body is not valid JSON: {text} is no JSON number.")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _duplicate_name(pairs)
    return members


def _duplicate_name(pairs: list[tuple[str, object]]) -> EventsError:
    counts = Counter(name for name, _ in pairs)
    twice = shown(next(name for name, count in counts.items() if count > 1))
    return bad_request(
        f"The member name '{twice}' occurs twice in one JSON object.", FieldError(twice, "must occur once")
    )


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_constant=_constant)


def decode_utf8(body: bytes) -> str:
    """The body as text; 400 when it is empty or not UTF-8 without a byte order mark."""
    if not body:
        raise bad_request("The body is empty.")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise bad_request(f"The body is not valid UTF-8 (byte {error.start}).") from None
    if text.startswith("\ufeff"):
        raise bad_request("The body must not begin with a byte order mark.")
    return text


def skip_blanks(text: str, at: int) -> int:
    """The place of the next character that is no JSON white space."""
    found = _BLANK.match(text, at)
    assert found is not None
    return found.end()


def parse_at(text: str, at: int) -> tuple[object, int]:
    """The JSON value that begins at a place, and the place after it.

    Numbers other than 32-bit integers come as floats, approximately. 400 when it is no JSON, repeats a member name
    in an object, is nested deeper than `MAX_DEPTH` levels, or escapes half of a surrogate pair.
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
    """The only JSON value of a text, and where it begins and ends; 400 as for `parse_at`, or when more follows."""
    start = skip_blanks(text, 0)
    value, end = parse_at(text, start)
    refuse_more(text, end)
    return value, start, end


def refuse_more(text: str, at: int) -> None:
    """400 when anything but white space follows."""
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
    """A value as compact JSON text that UTF-8 can carry."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return json.dumps(value, separators=(",", ":")) if _SURROGATE.search(text) else text


def replace_members(text: str, members: Mapping[str, str]) -> str:
    """The text of an object, known to be valid, with the values of some of its members replaced by JSON texts."""
    pieces, copied = [], 0
    for name, start, end in _member_spans(text):
        if name in members:
            pieces += [text[copied:start], members[name]]
            copied = end
    return "".join([*pieces, text[copied:]])


def add_members(text: str, members: Mapping[str, str]) -> str:
    """The text of an object with members, given as JSON texts, added before its closing brace."""
    added = ",".join(f"{as_json(name)}:{value}" for name, value in members.items())
    comma = "," if added and skip_blanks(text, 1) != len(text) - 1 else ""
    return f"{text[:-1]}{comma}{added}}}"


def _member_spans(text: str) -> Iterator[tuple[str, int, int]]:
    """The name of each member of an object, and where its value begins and ends."""
    at = skip_blanks(text, 1)
    while text[at] != "}":
        name, at = _decoder.raw_decode(text, at)
        start = skip_blanks(text, skip_blanks(text, at) + 1)
        _, end = _decoder.raw_decode(text, start)
        yield name, start, end
        at = skip_blanks(text, end)
        at = skip_blanks(text, at + 1) if text[at] == "," else at
