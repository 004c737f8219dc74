"""JSON documents as their own text: numbers and escapes stay as their author wrote them."""

from __future__ import annotations

import json

_BLANKS = " \t\r\n"
_decoder = json.JSONDecoder()


def elements(text: str) -> list[str]:
    """The elements of an array, or the one document that stands there instead, each as its own text.

    Raises:
        ValueError: it is no JSON.
    """
    text = text.strip(_BLANKS)
    _, end = _decoder.raw_decode(text)
    if end < len(text):
        raise ValueError(f"is not one JSON document: {text[end : end + 20]!r} follows it")
    return _elements(text[1:-1]) if text.startswith("[") else [text]


def _elements(inside: str) -> list[str]:
    found, at = [], _after_blanks(inside, 0)
    while at < len(inside):
        _, end = _decoder.raw_decode(inside, at)
        found.append(inside[at:end])
        comma = _after_blanks(inside, end)
        at = _after_blanks(inside, comma + 1)
    return found


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    return at


def one_line(text: str) -> str:
    """The document without line breaks, which in JSON can only stand between tokens."""
    return text.replace("\r", " ").replace("\n", " ")
