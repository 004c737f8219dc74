"""The time of Cosmos DB's servers, from the `Date` of their answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

_KEPT_SECONDS = 600.0


class ServerClock:
    """An estimate of the server's time that needs no request and does not depend on this machine's wall clock.

    A `Date` is cut to whole seconds and arrives late, so each answer gives a lower bound. The largest bound is kept for
    ten minutes: by then the two clocks may have drifted apart.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._date = ""
        self._offset: float | None = None
        self._kept_at = 0.0

    def learn(self, headers: Mapping[str, str]) -> None:
        """Take the time from an answer; ignore an answer without one."""
        date = headers.get("Date", "")
        if not date or date == self._date:  # the first answer of a second has the largest bound
            return
        try:
            seconds = parsedate_to_datetime(date).timestamp()
        except ValueError:
            return
        self._date, now = date, self._monotonic()
        offset = seconds - now
        if self._offset is None or offset > self._offset or now - self._kept_at > _KEPT_SECONDS:
            self._offset, self._kept_at = offset, now

    def time(self) -> int | None:
        """Return the microseconds since the epoch, about a second early at most; None before the first answer."""
        return None if self._offset is None else round((self._offset + self._monotonic()) * 1_000_000)
