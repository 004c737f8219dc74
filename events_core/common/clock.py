"""The clock, and RFC 3339. Every point in time is a number of microseconds since the epoch."""

from __future__ import annotations

import re
import time
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

SECOND = 1_000_000
"""One second in microseconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS_IN_400_YEARS = 146_097
_DATE_TIME = re.compile(
    r"([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]"
    r"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)(?:\.([0-9]++))?"
    r"(?:[Zz]|([+\-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)


class Instant(NamedTuple):
    """A point in time. If `exact` is False, it lies within the microsecond after `microseconds`."""

    microseconds: int
    exact: bool


def now() -> int:
    """The current time in microseconds since the epoch."""
    return time.time_ns() // 1_000


def to_rfc3339(microseconds: int) -> str:
    """A point in time as RFC 3339 in UTC. The text has a fraction only if the fraction is not zero."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat().removesuffix("+00:00") + "Z"


def parse_rfc3339(text: str) -> Instant | None:
    """The instant of an RFC 3339 date-time (section 5.6), None for any other text.

    The day must exist. A second 60 must be the last second of a month in UTC (section 5.7).
    """
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.group(1, 2, 3, 4, 5, 6))
    offset = (int(found[9] or 0) * 60 + int(found[10] or 0)) * (-60 if found[8] == "-" else 60)
    try:  # the calendar repeats after 400 years, and the standard library has no year 0
        day_number = date(2000 + year % 400, month, day).toordinal()
    except ValueError:
        return None
    days = day_number + (year // 400 - 5) * _DAYS_IN_400_YEARS - _EPOCH.toordinal()
    seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset
    if second == 60 and not _begins_a_month(seconds):
        return None
    fraction = (found[7] or "").ljust(6, "0")
    return Instant(seconds * SECOND + int(fraction[:6]), not fraction[6:].strip("0"))


def _begins_a_month(seconds: int) -> bool:
    """Whether a point in time, in seconds since the epoch, is the first second of a month in UTC."""
    days, rest = divmod(seconds, 86_400)
    day = date.fromordinal(days % _DAYS_IN_400_YEARS + _EPOCH.toordinal()).day
    return (day, rest) == (1, 0)
