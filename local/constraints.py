"""Inline constraints of route templates, as in ASP.NET Core ("Route constraints reference")."""

from __future__ import annotations

import re
from collections.abc import Callable

Constraint = Callable[[str], bool]

_INT32, _INT64 = 2**31, 2**63
_INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*")
_NUMBER = re.compile(r"\s*[+-]?([0-9][0-9,]*\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?\s*", re.IGNORECASE)
_ALPHA = re.compile(r"[a-z]*", re.IGNORECASE)
_GUID = re.compile(r"[0-9a-f]{32}|(?P<open>[{(])?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?(open)[)}])", re.IGNORECASE)


def constraint(name: str, argument: str | None) -> Constraint:
    """The constraint `name` or `name(argument)` as a predicate on a parameter's text.

    Raises:
        ValueError: The name is unknown, or the constraint does not take the argument.
    """
    if argument is None and name in _PLAIN:
        return _PLAIN[name]
    if argument is not None and name == "regex":
        pattern = re.compile(argument, re.IGNORECASE)
        return lambda text: pattern.search(text) is not None
    if argument is not None and name in _BOUNDED:
        try:
            return _BOUNDED[name](*map(int, argument.split(",")))
        except TypeError:
            raise ValueError(f"{name!r} takes another number of arguments") from None
    raise ValueError(f"unknown constraint {name!r}")


def _fully(pattern: re.Pattern[str]) -> Constraint:
    return lambda text: pattern.fullmatch(text) is not None


def _within(low: int, high: int) -> Constraint:
    return lambda text: _INTEGER.fullmatch(text) is not None and len(text) < 100 and low <= int(text) <= high


def _length(low: int, high: int | None = None) -> Constraint:
    return lambda text: low <= len(text) <= (low if high is None else high)


_PLAIN: dict[str, Constraint] = {
    "alpha": _fully(_ALPHA),
    "bool": lambda text: text.strip().lower() in {"true", "false"},
    "decimal": _fully(_NUMBER),
    "double": _fully(_NUMBER),
    "float": _fully(_NUMBER),
    "guid": _fully(_GUID),
    "int": _within(-_INT32, _INT32 - 1),
    "long": _within(-_INT64, _INT64 - 1),
    "required": bool,
}
_BOUNDED: dict[str, Callable[..., Constraint]] = {
    "length": _length,
    "max": lambda high: _within(-_INT64, high),
    "maxlength": lambda high: lambda text: len(text) <= high,
    "min": lambda low: _within(low, _INT64 - 1),
    "minlength": lambda low: lambda text: len(text) >= low,
    "range": _within,
}
