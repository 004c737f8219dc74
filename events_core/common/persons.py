"""The numbers of persons: the one rule that finds them in a text (docs/policy.md, "Numbers of persons")."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote

MASK = "***"
_GUID = "[0-9A-Fa-f]{8}(?:-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}"
_ELEVEN_DIGITS = re.compile(rf"(?<![0-9A-Fa-f]){_GUID}(?![0-9A-Fa-f])|(?P<number>(?<!\d)\d{{6}}\s?\d{{5}}(?!\d))")
"""A GUID, which is skipped, or eleven digits in a row. A space may stand after the sixth, as people write it."""
_RUN = re.compile(r"\d{6}\s?\d{5}")
"""What each number that stands unencoded has. Most texts have none, so that no more is asked of them."""
_PERSON_FIRST = re.compile("/person/|urn:altinn:person:", re.IGNORECASE | re.ASCII)
_ESCAPED_ESCAPE = re.compile("%(?:25)+")
_DECODED_AT_MOST = 5
_FIRST_CHECK = (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)
_SECOND_CHECK = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)


def holds_person_number(text: str) -> bool:
    """Whether a text holds eleven digits that may be a person's number, percent-encoded or not.

    Eleven digits that stand alone always count: their check digits are not asked for, since synthetic numbers and those
    given out from 2032 on have others. Beside a letter or a wildcard they count only with check digits, and digits of a
    GUID never.
    """
    if "%" not in text:
        return _has_number(text)
    return any(map(_has_number, _readings(text)))


def names_person(text: str) -> bool:
    """Whether a text is the path or URN of a person, or holds a person's number, so that no URL may hold it."""
    return any(_PERSON_FIRST.match(reading) or _has_number(reading) for reading in _readings(text))


def holds_checked_number(text: str) -> bool:
    """Whether a text holds eleven digits with the check digits of a person. Numbers of cases have eleven digits too."""
    return any(map(_has_checked_number, _readings(text)))


def surely_names_person(text: str) -> bool:
    """Whether a text is the path or URN of a person, or holds a number with the check digits of a person."""
    return any(map(_PERSON_FIRST.match, _readings(text))) or holds_checked_number(text)


def with_numbers_replaced(text: str, replacement: Callable[[str], str]) -> str:
    """A text with another text in place of each number that stands there unencoded."""
    return _ELEVEN_DIGITS.sub(lambda found: replacement(found[0]) if _is_number(found) else found[0], text)


def masked(text: str) -> str:
    """A text without the numbers of persons. A text that holds one percent-encoded is masked whole."""
    if "%" not in text and not _RUN.search(text):
        return text
    shown = with_numbers_replaced(text, lambda _: MASK)
    return MASK if "%" in shown and holds_person_number(shown) else shown


def _readings(text: str) -> Iterator[str]:
    """A text as it stands, and as decoders may read it: percent-decoded once, and again while something is encoded."""
    yield text
    if "%" in text:
        yield unquote(text)
    for _ in range(_DECODED_AT_MOST):
        encoded, text = text, unquote(_ESCAPED_ESCAPE.sub("%", text))
        if text == encoded:
            return
        yield text


def _has_number(text: str) -> bool:
    return _RUN.search(text) is not None and any(map(_is_number, _ELEVEN_DIGITS.finditer(text)))


def _has_checked_number(text: str) -> bool:
    return any(found["number"] and _has_check_digits(found["number"]) for found in _ELEVEN_DIGITS.finditer(text))


def _is_number(found: re.Match[str]) -> bool:
    number = found["number"]
    if number is None:
        return False
    start, end = found.span()
    beside = found.string[start - 1 : start] + found.string[end : end + 1]
    return not any(character.isalpha() or character == "%" for character in beside) or _has_check_digits(number)


def _has_check_digits(number: str) -> bool:
    """Whether the last two digits follow from the others. From 2032 on the first may be off by up to 3."""
    digits = [int(digit) for digit in number if not digit.isspace()]
    first, second = (
        sum(digit * weight for digit, weight in zip(digits, weights, strict=False)) % 11
        for weights in (_FIRST_CHECK, _SECOND_CHECK)
    )
    return first <= 3 and second == 0
