"""Patterns with wildcards, compiled for many comparisons."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

WILDCARD = "%"
_LONGEST_FIND = 32
"""Python finds a longer part in quadratic time. An expression without operators finds it in linear time."""

_Find = Callable[[str, int, int], int]
"""Finds a part of a pattern in a text between two indexes. Returns the index after it, -1 without it."""


class Pattern:
    """A text in which `%` stands for any run of characters. Case does not matter. Stores are tested against this.

    It is compiled at its first comparison. A comparison takes linear time.
    """

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str) -> None:
        self.text = text.lower()
        self._compiled: tuple[str, tuple[_Find, ...], str] | None = None

    @property
    def is_wild(self) -> bool:
        """Whether the pattern has a wildcard."""
        return WILDCARD in self.text

    def matches(self, text: str) -> bool:
        """Whether the pattern matches a text, which is given in lower case."""
        if not self.is_wild:
            return text == self.text
        if self._compiled is None:
            self._compiled = _compiled(self.text)
        head, finds, tail = self._compiled
        at, end = len(head), len(text) - len(tail)
        if at > end or not text.startswith(head) or not text.endswith(tail):
            return False
        for find in finds:
            at = find(text, at, end)
            if at < 0:
                return False
        return True


class AnyPattern:
    """Several patterns, any of which may match."""

    def __init__(self, patterns: Iterable[str]) -> None:
        distinct = {pattern.text: pattern for pattern in map(Pattern, patterns)}
        self._wild = [pattern for pattern in distinct.values() if pattern.is_wild]
        self._exact = {text for text, pattern in distinct.items() if not pattern.is_wild}

    def matches(self, text: str) -> bool:
        """Whether any of the patterns matches the text."""
        lowered = text.lower()
        return lowered in self._exact or any(pattern.matches(lowered) for pattern in self._wild)


def _compiled(pattern: str) -> tuple[str, tuple[_Find, ...], str]:
    head, *middle, tail = pattern.split(WILDCARD)
    return head, tuple(_find(part) for part in middle if part), tail


def _find(part: str) -> _Find:
    if len(part) > _LONGEST_FIND:
        search = re.compile(re.escape(part)).search

        def find_long(text: str, start: int, end: int) -> int:
            found = search(text, start, end)
            return found.end() if found else -1

        return find_long

    def find(text: str, start: int, end: int) -> int:
        at = text.find(part, start, end)
        return at + len(part) if at >= 0 else -1

    return find
