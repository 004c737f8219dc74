"""Request units of requests to Cosmos DB: counted by operation, logged once a minute, and a metric."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from logging import getLogger
from typing import Any

from opentelemetry import metrics

_CHARGE_HEADER = "x-ms-request-charge"
_LOG_SECONDS = 60.0
_log = getLogger(__name__)
_metric = metrics.get_meter("events").create_histogram(
    "events.cosmos.request_charge", unit="{request_unit}", description="Request units of one request to Cosmos DB"
)


@dataclass(slots=True)
class Operation:
    """What requests are for, and how often one was sent, the SDK's repetitions included."""

    name: str
    sent: int = 0


_operation: ContextVar[Operation] = ContextVar("cosmos_operation")
_OTHER = Operation("other")
_METADATA = Operation("metadata")


@contextmanager
def operation(name: str) -> Iterator[Operation]:
    """Count the requests of this task within the block under `name`."""
    current = Operation(name)
    token = _operation.set(current)
    try:
        yield current
    finally:
        _operation.reset(token)


class RequestUnits:
    """Requests and request units of one client by operation. Requests that touch no document count as `metadata`.

    `sending` and `received` are hooks of azure-core's pipeline, which calls them for every try of every request.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.requests: Counter[str] = Counter()
        self.units: Counter[str] = Counter()
        self._clock = clock
        self._logged_at = clock()
        self._logged: Counter[str] = Counter()

    def sending(self, request: Any) -> None:
        """Count a request that is about to be sent."""
        current = _operation_of(request.http_request.url)
        current.sent += 1
        self.requests[current.name] += 1

    def received(self, response: Any) -> None:
        """Count the request units that a response names."""
        name = _operation_of(response.http_request.url).name
        units = float(response.http_response.headers.get(_CHARGE_HEADER, 0))
        self.units[name] += units  # type: ignore[assignment]  # a Counter adds any numbers, its type knows only int
        _metric.record(units, {"operation": name})
        if self._clock() - self._logged_at > _LOG_SECONDS:
            self.log()

    def log(self) -> None:
        """Log the request units since the previous log line."""
        spent = self.units - self._logged
        self._logged, self._logged_at = self.units.copy(), self._clock()
        if spent:
            rounded = {name: round(units, 2) for name, units in spent.items()}
            _log.info("Request units spent in Cosmos DB", extra={"requestUnits": rounded})


def _operation_of(url: str) -> Operation:
    """Return the operation that a request counts under."""
    return _operation.get(_OTHER) if is_on_documents(url) else _METADATA


def is_on_documents(url: str) -> bool:
    """Whether a request is about documents, and not about their container or database."""
    return "/docs" in url  # no host, database or container of ours has it in its name
