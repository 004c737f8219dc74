"""Reports measurements of the service as a log line, which alerts read, and as OpenTelemetry gauges."""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING

from events_core.operations.gauges import Gauges

if TYPE_CHECKING:
    from opentelemetry import metrics

MESSAGE = "gauges"
"""The message of the log line."""

_log = logging.getLogger(__name__)


def report(gauges: Gauges, *, quietly: bool = False) -> None:
    """Log the values that there are, and set a gauge `events.NAME` to each; `quietly` logs at DEBUG instead of INFO."""
    values = {name: value for name, value in asdict(gauges).items() if value is not None}
    for name, value in values.items():
        _gauge(name).set(value)
    _log.log(logging.DEBUG if quietly else logging.INFO, MESSAGE, extra=values)


@cache
def _gauge(name: str) -> metrics._Gauge:  # the library has no other name for it
    from opentelemetry import metrics  # noqa: PLC0415 - the app starts without it

    return metrics.get_meter("events").create_gauge(f"events.{name}")
