"""JSON documents as text: numbers and escapes stay as their author wrote them."""

from __future__ import annotations

import json

from events_core.cloudevent.json_text import skip_blanks

_decoder = json.JSONDecoder()


def elements(text: str) -> list[str]:
    """The texts of an array's elements. A document that is not an array is its own only element.

    Raises:
        ValueError: The text is not one JSON document.
    """
    start = skip_blanks(text, 0)
    _, end = _decoder.raw_decode(text, start)
    if skip_blanks(text, end) < len(text):
        raise ValueError(f"is not one JSON document: {text[end : end + 20]!r} follows it")
    return _elements(text, start) if text[start] == "[" else [text[start:end]]


def _elements(text: str, start: int) -> list[str]:
    """The elements of the array that begins at `start`; the text is known to be valid."""
    found, at = [], skip_blanks(text, start + 1)
    while text[at] != "]":
        _, end = _decoder.raw_decode(text, at)
        found.append(text[at:end])
        at = skip_blanks(text, end)
        if text[at] == ",":
            at = skip_blanks(text, at + 1)
    return found


def one_line(text: str) -> str:
    """The document without line breaks, which JSON allows only between tokens."""
    return text.replace("\r", " ").replace("\n", " ")
