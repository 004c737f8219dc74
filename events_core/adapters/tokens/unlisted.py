"""Key sets of platform issuers that the settings do not list, found by the issuer's name in the URL of `*`."""

from __future__ import annotations

import logging
import math
import re
from collections import deque
from collections.abc import Callable

from cachetools import LRUCache

from events_core.adapters.tokens.jwks import Key, KeySet, KeySource, NoKeySetError, elapsed
from events_core.common import errors

PLACEHOLDER = "{iss}"
"""Stands for the issuer's name in the URL."""
RESERVED = "platform"
"""The issuer whose tokens publish in the platform's name and vouch for endpoints. It must be listed."""
FETCHES_A_MINUTE = 10
KEY_SETS = 200
"""Key sets to keep; the least recently used one goes first."""
LOGGED_A_MINUTE = 20
"""Refused issuers to log in a minute, so that invented issuers do not fill the log."""
MINUTE = 60
KNOWN_FIRST_SECONDS = 600
"""Time for which half of the fetches belong to known key sets after one of them could not be read again."""

_NAME = re.compile(r"[a-z0-9-]{1,20}")
_HARMLESS = re.compile(r"[A-Za-z0-9._:/-]+")
_SHOWN_CHARACTERS = 40

_log = logging.getLogger(__name__)


class _LastMinute:
    """Counts what happened within the last minute, up to `size` times."""

    def __init__(self, size: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._times: deque[float] = deque(maxlen=size)

    def add(self) -> None:
        self._times.append(self._clock())

    def seconds_until_below(self, count: int) -> float:
        """Seconds until fewer than `count` lie within the last minute; 0 if that is so now."""
        if len(self._times) < count:
            return 0
        return max(0, MINUTE - elapsed(self._times[-count], self._clock()))


class FetchAllowance:
    """Allows 10 fetches a minute for all unlisted issuers together.

    Key sets in use go before new issuers: once one of them had to wait, a new issuer gets a fetch only while half of
    the allowance is left. Otherwise invented issuers could keep withdrawn keys alive and new keys away.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._fetches = _LastMinute(FETCHES_A_MINUTE, clock)
        self._known_waited_at = self._logged_at = -math.inf

    def take(self, *, known: bool) -> None:
        """Use up one fetch, for a known key set or for a new issuer.

        Raises:
            EventsError: UNAVAILABLE when the allowance is spent. `Retry-After` says when the next fetch is free.
        """
        wait = self._fetches.seconds_until_below(FETCHES_A_MINUTE if known else self._limit_for_new())
        if wait == 0:
            self._fetches.add()
            return
        if known:
            self._known_waited_at = self._clock()
        self._log_once_a_minute()
        raise errors.unavailable("The keys of the token's issuer cannot be fetched now.", math.ceil(wait))

    def _limit_for_new(self) -> int:
        known_waited = elapsed(self._known_waited_at, self._clock()) < KNOWN_FIRST_SECONDS
        return FETCHES_A_MINUTE // 2 if known_waited else FETCHES_A_MINUTE

    def _log_once_a_minute(self) -> None:
        if elapsed(self._logged_at, self._clock()) >= MINUTE:
            self._logged_at = self._clock()
            _log.warning("fetches for unlisted issuers used up limit=%d", FETCHES_A_MINUTE)


class _Refusals:
    """Logs refused issuers: a line a minute and issuer, and at most 20 lines a minute.

    Only names of a harmless form are shown. All others count as one issuer.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lines = _LastMinute(LOGGED_A_MINUTE, clock)
        self._logged_at: LRUCache[str, float] = LRUCache(LOGGED_A_MINUTE)

    def refuse(self, issuer: str, reason: str) -> errors.EventsError:
        """Log the issuer, unless the limits forbid it, and return the error for its token."""
        name = _shown(issuer)
        is_logged = elapsed(self._logged_at.get(name, -math.inf), self._clock()) < MINUTE
        if not is_logged and self._lines.seconds_until_below(LOGGED_A_MINUTE) == 0:
            self._lines.add()
            self._logged_at[name] = self._clock()
            _log.warning('platform issuer refused issuer=%s reason="%s"', name, reason)
        return errors.unauthorized("The token is not valid.")


def _shown(issuer: str) -> str:
    """The name for a log line: shortened, without a person number, and `*` if it is not like a name or a URL."""
    start = issuer[:_SHOWN_CHARACTERS]
    return errors.shown(start) if _HARMLESS.fullmatch(start) else "*"


class UnlistedIssuers:
    """Finds the key set of an unlisted issuer, and keeps the key sets that were read.

    Only a key set that was read enters the bounded map, so inventing issuers removes nothing from it. Everything else
    that is kept for an issuer costs a fetch of the allowance, which bounds it. Without `jwks_uri` no unlisted issuer is
    trusted.
    """

    def __init__(
        self, jwks_uri: str | None, source: Callable[[str, str], KeySource], clock: Callable[[], float]
    ) -> None:
        self._jwks_uri = jwks_uri
        self._source = source
        self._clock = clock
        self._allowance = FetchAllowance(clock)
        self._refusals = _Refusals(clock)
        self._known: LRUCache[str, KeySet] = LRUCache(KEY_SETS)
        self._in_first_reading: dict[str, KeySet] = {}
        self._absent_at: LRUCache[str, float] = LRUCache(2 * FETCHES_A_MINUTE)

    def key_set(self, issuer: str) -> KeySet:
        """Return the key set of an issuer; a new one has yet to be read.

        Raises:
            EventsError: UNAUTHORIZED when the issuer is not trusted, or had no key set within the last minute.
        """
        if self._jwks_uri is None:
            raise self._refusals.refuse(issuer, "not listed")
        if not _NAME.fullmatch(issuer):
            raise self._refusals.refuse(issuer, "not the name of an app owner")
        if issuer == RESERVED:
            raise self._refusals.refuse(issuer, "must be listed")
        known = self._known.get(issuer)
        if known is not None and known.is_usable:
            return known
        if elapsed(self._absent_at.get(issuer, -math.inf), self._clock()) < MINUTE:
            raise self._refusals.refuse(issuer, "has no key set")
        return known or self._in_first_reading.get(issuer) or self._new(issuer, self._jwks_uri)

    def _new(self, issuer: str, jwks_uri: str) -> KeySet:
        source = self._source(issuer, jwks_uri.replace(PLACEHOLDER, issuer))

        async def read() -> frozenset[Key]:
            try:
                self._allowance.take(known=issuer in self._known)
                keys = await source.read()
            except NoKeySetError:
                if key_set.is_usable:
                    raise
                self._absent_at[issuer] = self._clock()
                raise self._refusals.refuse(issuer, "has no key set") from None
            finally:
                self._in_first_reading.pop(issuer, None)
            self._known[issuer] = key_set
            return keys

        key_set = KeySet(read, errors.shown(issuer), self._clock)
        self._in_first_reading[issuer] = key_set
        return key_set
