"""Patterns: `%` stands for any run of characters, and a comparison takes linear time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_core.feeds.patterns import AnyPattern, Pattern


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
    """Case does not count, `%` stands for any run of characters, any other character for itself."""
    assert Pattern(pattern).matches(text.lower()) is expected


@given(st.text(), st.text())
def test_a_pattern_without_wildcard_matches_itself_only(pattern: str, text: str) -> None:
    """Without `%` a pattern is plain text without regard to case."""
    if "%" not in pattern:
        assert Pattern(pattern).matches(text.lower()) == (pattern.lower() == text.lower())


@given(st.text(), st.text(), st.text())
def test_a_wildcard_matches_any_text(head: str, middle: str, tail: str) -> None:
    """`head%tail` matches whatever is between."""
    assert Pattern(f"{head}%{tail}").matches((head + middle + tail).lower())


def defined(pattern: str, text: str) -> bool:
    """Whether a pattern matches, by the definition of `%`: any split of the text will do."""
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(defined(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] == text[0] and defined(pattern[1:], text[1:])


@given(st.text("ab%", max_size=8), st.text("ab", max_size=10))
def test_a_pattern_matches_as_it_is_defined(pattern: str, text: str) -> None:
    """Several wildcards stand for any runs of characters, in order."""
    assert Pattern(pattern).matches(text) is defined(pattern, text)


@given(st.lists(st.sampled_from(["a", "b", "ab" * 20, "a" * 40]), max_size=5), st.text("ab", max_size=200))
def test_long_parts_are_found_as_short_ones(parts: list[str], text: str) -> None:
    """They are searched for in another way."""
    at = 0
    for part in parts:
        at = text.find(part, at) + len(part) if at >= 0 and part in text[at:] else -1
    assert Pattern("%".join(["", *parts, ""])).matches(text) is (at >= 0)


def test_any_of_several_patterns_matches() -> None:
    """Exact texts and wildcards, without regard to case."""
    patterns = AnyPattern(["a", "B%", "a"])
    assert [patterns.matches(text) for text in ("A", "bc", "ab", "")] == [True, True, False, False]
    assert not AnyPattern([]).matches("")


@pytest.mark.parametrize(
    "pattern",
    [
        "%a" * 9 + "b%",
        "%" + "a" * 512 + "b" + "a" * 511 + "%",
        "%" + "a" * 31 + "b%",
        "%" + ("a" * 200 + "%") * 9 + "b%",
    ],
)
def test_a_hostile_pattern_is_compared_in_linear_time(pattern: str) -> None:
    """A text of 2,048 characters takes less than a millisecond."""
    compiled, text = Pattern(pattern), "a" * 2_048
    compiled.matches(text)
    times = []
    for _ in range(9):
        began = time.perf_counter()
        assert not compiled.matches(text)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.001
