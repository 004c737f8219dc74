"""Parameters of requests: their values, times, sizes, numbers and ids."""

from __future__ import annotations

import re
from collections.abc import Iterable

from events_core.access.names import AppId
from events_core.common import clock
from events_core.common.clock import Instant
from events_core.common.errors import bad_field
from events_core.http.request import Request

DEFAULT_SIZE = 50
MAX_VALUES = 100
MAX_LENGTH = 2_048
_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(:\d\d(?:\.\d{1,20})?)?)??([Zz]|[+ -]\d\d:\d\d)?", re.ASCII
)
_MONTH_FIRST = re.compile(r"(\d\d)/(\d\d)/(\d{4}) (\d\d:\d\d:[0-5]\d) ([+ -]\d\d:\d\d)", re.ASCII)
_FORMS = "2022-07-28T11:00:53.3917Z, 2022-07-28T13:00+02:00, 2022-07-28Z or 07/28/2022 13:00:00 +02:00"
_DIGITS = re.compile(r"\d+", re.ASCII)


class Parameters:
    """Named values. Names are read without regard to case, and an empty value counts as absent."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            if value:
                self._values.setdefault(name.lower(), []).append(_checked(name.lower(), value))

    def one(self, name: str) -> str | None:
        """The value of a parameter that may be given once."""
        values = self._values.get(name.lower(), [])
        if len(values) > 1:
            raise bad_field(name, f"The parameter '{name}' may be given once.")
        return values[0] if values else None

    def many(self, *names: str) -> tuple[str, ...]:
        """The values of a parameter that may be repeated, under any of its names."""
        values = tuple(value for name in names for value in self._values.get(name.lower(), []))
        if len(values) > MAX_VALUES:
            raise bad_field(names[0], f"The parameter '{names[0]}' may be given {MAX_VALUES} times at most.")
        return values

    def continued_at(self, url: Parameters) -> Parameters:
        """These parameters; an `after` or `at` in `url` replaces their `after`, `at` and `from`."""
        start = {name: [value] for name in ("after", "at") if (value := url.one(name)) is not None}
        if not start:
            return self
        continued = Parameters(())
        continued._values = {
            name: values for name, values in self._values.items() if name not in ("after", "at", "from")
        }
        continued._values |= start
        return continued


def _checked(name: str, value: str) -> str:
    if len(value) > MAX_LENGTH:
        raise bad_field(name, f"A parameter has at most {MAX_LENGTH:,} characters.")
    if "\0" in value:
        raise bad_field(name, "A parameter holds no NUL character.")
    return value


def bounds(parameters: Parameters) -> tuple[int | None, int | None]:
    """`from` and `to` in microseconds since the epoch, both inclusive."""
    start, end = _timestamp(parameters, "from"), _timestamp(parameters, "to")
    first = None if start is None else start.microseconds + (not start.exact)
    last = None if end is None else end.microseconds
    if first is not None and last is not None and last < first:
        raise bad_field("to", "The 'To' parameter must not be before 'From'.")
    return first, last


def _timestamp(parameters: Parameters, name: str) -> Instant | None:
    text = parameters.one(name)
    return None if text is None else _instant(name, text)


def _instant(name: str, text: str) -> Instant:
    """The instant of a time as RFC 3339 writes it, a date with a zone, or a time as .NET's invariant culture writes it.

    In RFC 3339 seconds may be missing and a space may stand for `T`. In all forms a space may stand for `+`.
    """
    label = name.capitalize()
    match = _TIMESTAMP.fullmatch(text)
    if match and match[2] and not match[4]:
        detail = f"The '{label}' parameter must specify timezone. E.g. 2022-07-07T11:00:53.3917Z for UTC"
        raise bad_field(name, detail)
    instant = clock.parse_rfc3339(_as_rfc3339(text, match))
    if instant is None:
        raise bad_field(name, f"The '{label}' parameter must be a time that exists, written as {_FORMS}.")
    return instant


def _as_rfc3339(text: str, match: re.Match[str] | None) -> str:
    """The time in the notation of RFC 3339, any other text unchanged."""
    if match and match[4]:
        day, minute, second, zone = match.groups()
        return f"{day}T{minute or '00:00'}{second or ':00'}{zone.replace(' ', '+')}"
    if month_first := _MONTH_FIRST.fullmatch(text):
        month, day, year, time, zone = month_first.groups()
        return f"{year}-{month}-{day}T{time}{zone.replace(' ', '+')}"
    return text


def size(parameters: Parameters, maximum: int, *, below_one_is_default: bool = False) -> int:
    """The page size, at most `maximum`."""
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


def event_id(request: Request, parameters: Parameters, by_parameter: str) -> str:
    """The id of an event, literally as it stands in the path, or else the parameter `id`.

    A host may hand `%2F` and `%252F` in a path over alike, so such an id is taken as a parameter only, as
    `by_parameter` shows.
    """
    in_path = request.route_params.get("id")
    if in_path is None:
        text = parameters.one("id")
        if text is None:
            raise bad_field("id", "The 'id' parameter must be defined.")
        return text
    if "%2F" in in_path.upper():
        raise bad_field("id", f"An id that holds '/' or '%2F' is given as a parameter: {by_parameter}.")
    return in_path


def app_id(org: str, name: str) -> AppId:
    """The app of an org, named in a route or by parameters."""
    parsed = AppId.parse(f"{org}/{name}")
    if parsed is None:
        raise bad_field("app", "Org and app are names of letters, digits and hyphens, and hold no number of a person.")
    return parsed
