"""What an exception of a request to Cosmos DB means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from logging import getLogger
from typing import Any

import aiohttp
from azure.core.exceptions import AzureError
from azure.cosmos.exceptions import CosmosBatchOperationError, CosmosHttpResponseError

from events_core.common import errors
from events_core.common.errors import EventsError

_log = getLogger(__name__)
_RETRY_AFTER = "x-ms-retry-after-ms"
_DEFAULT_WAIT = 0.1
_CONSEQUENTIAL = 424

FAILURES = (AzureError, aiohttp.ClientError, OSError)
"""What a request to Cosmos DB raises when it fails; TimeoutError is an OSError."""


class Meaning(Enum):
    """What a failed write says about what it was to write."""

    CONFLICT = auto()
    """An id or a unique key stands already."""
    THROTTLED = auto()
    """Nothing was written; try again after the wait."""
    REFUSED = auto()
    """Nothing was written, and never will be."""
    UNKNOWN = auto()
    """Nobody knows."""


_MEANINGS = {
    400: Meaning.REFUSED,
    403: Meaning.REFUSED,
    413: Meaning.REFUSED,
    409: Meaning.CONFLICT,
    429: Meaning.THROTTLED,
}
_MOST_TELLING = (400, 403, 413, 429, 409)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed write: its meaning, the HTTP status (0 without an answer), and how many seconds to wait."""

    meaning: Meaning
    status: int
    wait: float = 0.0


def failure_of(error: Exception) -> Failure:
    """What a write that raised `error` came to."""
    status = _status_of(error)
    meaning = _MEANINGS.get(status, Meaning.UNKNOWN)
    wait = _told_wait(getattr(error, "headers", None)) if meaning is Meaning.THROTTLED else 0.0
    return Failure(meaning, status, wait)


def refusal(status: int) -> EventsError:
    """The answer to whoever published what Cosmos DB refuses."""
    if status == 413:
        return errors.too_large("The event is too large to be stored.")
    if status == 400:
        return errors.bad_request("The event cannot be stored.")
    return errors.unavailable("The event store refuses to write.", retry_after=60)


@contextmanager
def failures_as_unavailable() -> Iterator[None]:
    """Turn a failed request within the block into UNAVAILABLE; what the server said is not logged."""
    try:
        yield
    except FAILURES as error:
        status = _status_of(error)
        _log.warning("A request to Cosmos DB failed: %s %s", type(error).__name__, status or "")
        wait = _told_wait(getattr(error, "headers", None)) if status == 429 else 0.0
        raise errors.unavailable("The event store does not answer.", retry_after=max(5, round(wait))) from error


def _status_of(error: Exception) -> int:
    if isinstance(error, CosmosBatchOperationError):
        statuses = {int(each["statusCode"]) for each in error.operation_responses or ()}
        return next((each for each in _MOST_TELLING if each in statuses), _other(statuses))
    return int(error.status_code or 0) if isinstance(error, CosmosHttpResponseError) else 0


def _other(statuses: set[int]) -> int:
    return max((each for each in statuses if each >= 400 and each != _CONSEQUENTIAL), default=0)


def _told_wait(headers: Any) -> float:
    try:
        return float((headers or {})[_RETRY_AFTER]) / 1_000
    except (KeyError, ValueError):
        return _DEFAULT_WAIT
