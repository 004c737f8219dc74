"""Numbers of persons and organisations with the check digits that Register wants. All persons are synthetic."""

from __future__ import annotations

from itertools import count, islice

_FIRST = (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)
_SECOND = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)
_ORGANISATION = (3, 2, 7, 6, 5, 4, 3, 2, 1)


def is_person(number: str) -> bool:
    """Whether a number has eleven digits, the last two of which follow from the others.

    Numbers given out from 2032 on may leave a remainder of up to 3 at the first check digit. The month of a synthetic
    person is 40 or 80 higher, which changes nothing.
    """
    return _is_number(number, 11) and _remainder(number, _FIRST) <= 3 and _remainder(number, _SECOND) == 0


def is_organisation(number: str) -> bool:
    """Whether a number has nine digits, the last of which follows from the others."""
    return _is_number(number, 9) and _remainder(number, _ORGANISATION) == 0


def persons(how_many: int) -> list[str]:
    """Different numbers of synthetic persons."""
    return list(islice(filter(is_person, (f"01810{number:06}" for number in count())), how_many))


def _is_number(text: str, length: int) -> bool:
    return len(text) == length and text.isascii() and text.isdecimal()


def _remainder(number: str, weights: tuple[int, ...]) -> int:
    """The weighted sum of the first digits of a number, modulo 11."""
    return sum(int(digit) * weight for digit, weight in zip(number, weights, strict=False)) % 11
