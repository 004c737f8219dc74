"""The parameters of a feed, from a query or a JSON body, with the API's own words for what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from events_core.access.names import RESOURCE_PREFIX, AppId, Resource
from events_core.common import clock
from events_core.common.clock import Instant
from events_core.common.errors import bad_field
from events_core.http import bodies
from events_core.http.request import Request

DEFAULT_SIZE = 50
MAX_VALUES = 100
MAX_LENGTH = 2_048
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d(?:\.\d{1,20})?)?([Zz]|[+ -]\d\d:\d\d)?", re.ASCII)
_DIGITS = re.compile(r"\d+", re.ASCII)
_REPEATABLE = frozenset({"type", "eventtype", "source"})


class Parameters:
    """Named values, each perhaps several times; names without regard to case, an empty value counts as absent."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            if value:
                self._values.setdefault(name.lower(), []).append(_usable(name.lower(), value))

    def one(self, name: str) -> str | None:
        """The value of a parameter that may stand once."""
        values = self._values.get(name.lower(), [])
        if len(values) > 1:
            raise bad_field(name, f"The parameter '{name}' may be given once.")
        return values[0] if values else None

    def many(self, *names: str) -> tuple[str, ...]:
        """The values of a repeatable parameter, under any of its names."""
        values = tuple(value for name in names for value in self._values.get(name.lower(), []))
        if len(values) > MAX_VALUES:
            raise bad_field(names[0], f"The parameter '{names[0]}' may be given {MAX_VALUES} times at most.")
        return values

    def without(self, *names: str) -> Parameters:
        """The same parameters but for some."""
        rest = Parameters(())
        rest._values = {name: values for name, values in self._values.items() if name not in names}
        return rest

    def __or__(self, other: Parameters) -> Parameters:
        merged = Parameters(())
        merged._values = self._values | other._values
        return merged


def _usable(name: str, value: str) -> str:
    if len(value) > MAX_LENGTH:
        raise bad_field(name, f"A parameter has at most {MAX_LENGTH:,} characters.")
    if "\0" in value:
        raise bad_field(name, "A parameter holds no NUL character.")
    return value


def from_query(request: Request) -> Parameters:
    """The parameters in the URL."""
    return Parameters(request.query)


def from_body(request: Request) -> Parameters:
    """The parameters in a JSON object: strings, numbers, and lists of strings for what is repeatable."""
    document = bodies.json_object(request)
    return Parameters(pair for name, value in document.items() for pair in _flattened(name, value))


def _flattened(name: str, value: Any) -> Iterable[tuple[str, str]]:
    values = value if isinstance(value, list) and name.lower() in _REPEATABLE else [value]
    for item in values:
        if isinstance(item, bool) or not (item is None or isinstance(item, str | int)):
            raise bad_field(name, "A parameter is a string, a whole number, or a list of strings.")
        if item is not None:
            yield name, str(item)


def timestamp(parameters: Parameters, name: str) -> Instant | None:
    """An RFC 3339 time whose seconds and fraction are optional, and in which a space may stand for `T` or `+`."""
    text = parameters.one(name)
    return None if text is None else _instant(name, text)


@lru_cache(maxsize=1_000)
def _instant(name: str, text: str) -> Instant:
    label = name.capitalize()
    match = _TIMESTAMP.fullmatch(text)
    if not match:
        raise bad_field(name, f"The '{label}' parameter must be a time as in RFC 3339, 2022-07-07T11:00:53.3917Z.")
    day, minute, second, zone = match.groups()
    if zone is None:
        detail = f"The '{label}' parameter must specify timezone. E.g. 2022-07-07T11:00:53.3917Z for UTC"
        raise bad_field(name, detail)
    instant = clock.parse_rfc3339(f"{day}T{minute}{second or ':00'}{zone.replace(' ', '+')}")
    if instant is None:
        raise bad_field(name, f"The '{label}' parameter must be a time that exists.")
    return instant


def bounds(parameters: Parameters) -> tuple[int | None, int | None]:
    """`from` and `to` in microseconds since the epoch, inclusive."""
    start, end = timestamp(parameters, "from"), timestamp(parameters, "to")
    if start is None and end is None:
        return None, None
    first = None if start is None else start.microseconds + (not start.exact)
    last = None if end is None else end.microseconds
    if first is not None and last is not None and last < first:
        raise bad_field("to", "The 'To' parameter must not be before 'From'.")
    return first, last


def size(parameters: Parameters, maximum: int, *, below_one_is_default: bool = False) -> int:
    """The page size, clamped to the maximum."""
    text = parameters.one("size")
    if text is None:
        return min(DEFAULT_SIZE, maximum)
    digits = text.removeprefix("-")
    if not _DIGITS.fullmatch(digits):
        raise bad_field("size", "The 'Size' parameter must be a number larger that 0.")
    value = -1 if digits != text else int(digits) if len(digits) < 10 else maximum
    if value < 1 and not below_one_is_default:
        raise bad_field("size", "The 'Size' parameter must be a number larger that 0.")
    return min(value if value >= 1 else DEFAULT_SIZE, maximum)


def number(parameters: Parameters, name: str) -> int | None:
    """A whole number that is not negative."""
    text = parameters.one(name)
    if text is None:
        return None
    if not _DIGITS.fullmatch(text) or len(text) > 18:
        raise bad_field(name, f"The '{name}' parameter must be a whole number.")
    return int(text)


def party(parameters: Parameters) -> str | None:
    """A party id, digits without leading zeros."""
    text = parameters.one("party")
    if text is None:
        return None
    if not _DIGITS.fullmatch(text) or len(text) > 10 or int(text) < 1:
        raise bad_field("party", "The 'Party' parameter must be a number larger than 0.")
    return str(int(text))


def unit(parameters: Parameters) -> str | None:
    """An organisation number."""
    text = parameters.one("unit")
    if text is not None and not (_DIGITS.fullmatch(text) and len(text) == 9):
        raise bad_field("unit", "Value of 'Unit' needs to be exactly 9 digits.")
    return text


def person(parameters: Parameters) -> str | None:
    """A person number; never repeated in an error."""
    value = parameters.one("person")
    if value is not None and not (_DIGITS.fullmatch(value) and len(value) == 11):
        raise bad_field("person", "Value of 'Person' needs to be exactly 11 digits.")
    return value


def app(parameters: Parameters) -> tuple[str | None, AppId | None]:
    """`org`, and the app when `app` is given too."""
    org, name = parameters.one("org"), parameters.one("app")
    if name is not None and org is None:
        raise bad_field("org", "The 'Org' parameter is required with 'App'.")
    return org, app_id(org, name) if org is not None and name is not None else None


def app_id(org: str, name: str) -> AppId:
    """The app of an org."""
    parsed = AppId.parse(f"{org}/{name}")
    if parsed is None:
        raise bad_field("app", "Org and app are names of letters, digits and hyphens.")
    return parsed


def resource(parameters: Parameters) -> str:
    """The resource of the generic feed, older notation understood."""
    text = parameters.one("resource")
    if text is None:
        raise bad_field("resource", "The 'resource' parameter must be defined.")
    if not text.startswith(RESOURCE_PREFIX) or text == RESOURCE_PREFIX:
        raise bad_field("resource", f"The 'resource' parameter must begin with `{RESOURCE_PREFIX}`")
    return Resource.parse(text).urn


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a feed is asked for.

    `after` and `at` are the place, `first` and `last` bound the registration (microseconds since the epoch, both
    inclusive), `limit` is the page size.
    """

    after: str | None
    at: str | None
    first: int | None
    last: int | None
    limit: int


def window(parameters: Parameters, maximum: int, *, below_one_is_default: bool = False) -> Window:
    """`after`, `at`, `from`, `to` and `size`; a request must say where or when to start."""
    after, at = parameters.one("after"), parameters.one("at")
    if after is None and at is None and parameters.one("from") is None:
        detail = "The 'From' or 'After' parameter must be defined."
        raise bad_field("from", detail)
    first, last = bounds(parameters)
    limit = size(parameters, maximum, below_one_is_default=below_one_is_default)
    return Window(after, at, first, last, limit)


def wait_seconds(request: Request) -> int:
    """`Prefer: wait=N` (RFC 7240), at most 30; 0 without it."""
    for preference in (request.header("prefer") or "").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            digits = value.strip().strip('"')
            return min(int(digits[:9]), 30) if _DIGITS.fullmatch(digits) else 0
    return 0
