"""What an exception of a request to Cosmos DB means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from logging import getLogger
from typing import Any

import aiohttp
from azure.core.exceptions import AzureError
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosBatchOperationError,
    CosmosHttpResponseError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)

from events_core.adapters.cosmos.request_units import is_on_documents
from events_core.common import errors
from events_core.common.errors import EventsError

_log = getLogger(__name__)
_RETRY_AFTER = "x-ms-retry-after-ms"
_DEFAULT_WAIT = 0.1
_FAILED_DEPENDENCY = 424
_OWNER_NOT_FOUND = 1003

FAILURES = (AzureError, aiohttp.ClientError, OSError)
"""The exceptions of a failed request to Cosmos DB. TimeoutError is an OSError."""

REFUSALS = (CosmosAccessConditionFailedError, CosmosResourceExistsError, CosmosResourceNotFoundError)
"""The exceptions of a conditional write whose condition does not hold, or not any more."""


class Meaning(Enum):
    """What a failed write means for the documents in it."""

    CONFLICT = auto()
    """An id or a unique key exists already."""
    THROTTLED = auto()
    """Nothing was written; retry after the wait."""
    REFUSED = auto()
    """Nothing was written, and no retry will succeed."""
    UNKNOWN = auto()
    """The write may or may not have happened."""


_MEANINGS = {
    400: Meaning.REFUSED,
    403: Meaning.REFUSED,
    413: Meaning.REFUSED,
    409: Meaning.CONFLICT,
    429: Meaning.THROTTLED,
}
_BY_PRECEDENCE = (400, 403, 413, 429, 409)
"""Of several statuses in a batch, the first one in this order is the status of the batch."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed write: its meaning, the HTTP status (0 without an answer), and the seconds to wait."""

    meaning: Meaning
    status: int
    wait: float = 0.0


def failure_of(error: Exception) -> Failure:
    """Return what it means that a write raised `error`."""
    status = _status_of(error)
    meaning = _MEANINGS.get(status, Meaning.UNKNOWN)
    return Failure(meaning, status, _retry_after(error) if meaning is Meaning.THROTTLED else 0.0)


def refusal(status: int) -> EventsError:
    """Return the error for a publisher whose event Cosmos DB refused with `status`."""
    if status == 413:
        return errors.too_large("The event is too large to be stored.")
    if status == 400:
        return errors.bad_request("The event cannot be stored.")
    return errors.unavailable("The event store refuses to write.", retry_after=60)


@contextmanager
def failures_as_unavailable() -> Iterator[None]:
    """Turn a failed request within the block into UNAVAILABLE. The server's text is not logged: it may quote data."""
    try:
        yield
    except FAILURES as error:
        status = _status_of(error)
        _log.warning("Cosmos DB request failed error=%s status=%d", type(error).__name__, status)
        wait = _retry_after(error) if status == 429 else 0.0
        raise errors.unavailable("The event store does not answer.", retry_after=max(5, round(wait))) from error


@contextmanager
def absence_allowed() -> Iterator[None]:
    """End the block quietly when the document is missing. A missing container or database is a failure."""
    try:
        yield
    except CosmosResourceNotFoundError as error:
        request = getattr(error.response, "request", None)
        if error.sub_status == _OWNER_NOT_FOUND or request is None or not is_on_documents(request.url):
            raise


@contextmanager
def refusal_allowed() -> Iterator[None]:
    """End the block quietly when the document is missing, or does not meet the condition of the write."""
    with absence_allowed(), suppress(CosmosAccessConditionFailedError):
        yield


def _status_of(error: Exception) -> int:
    """Return the HTTP status of a failed request, 0 without an answer."""
    if isinstance(error, CosmosBatchOperationError):
        statuses = {int(response["statusCode"]) for response in error.operation_responses or ()}
        first = next((status for status in _BY_PRECEDENCE if status in statuses), None)
        others = (status for status in statuses if status >= 400 and status != _FAILED_DEPENDENCY)
        return max(others, default=0) if first is None else first
    return int(error.status_code or 0) if isinstance(error, CosmosHttpResponseError) else 0


def _retry_after(error: Exception) -> float:
    """Return the seconds that Cosmos DB asks to wait."""
    headers: Any = getattr(error, "headers", None) or {}
    try:
        return float(headers[_RETRY_AFTER]) / 1_000
    except (KeyError, ValueError):
        return _DEFAULT_WAIT
