"""What was measured of the service: a line in the log, which alerts read, and OpenTelemetry gauges."""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING

from events_core.operations.gauges import Gauges

if TYPE_CHECKING:
    from opentelemetry import metrics

MESSAGE = "gauges"
"""The message of the line."""

_log = logging.getLogger(__name__)


def report(gauges: Gauges, *, quietly: bool = False) -> None:
    """Log the values, and set a gauge `events.NAME` to each; with `quietly` the line is of the level DEBUG."""
    values = asdict(gauges)
    for name, value in values.items():
        _gauge(name).set(value)
    _log.log(logging.DEBUG if quietly else logging.INFO, MESSAGE, extra=values)


@cache
def _gauge(name: str) -> metrics._Gauge:  # the library has no other name for it
    from opentelemetry import metrics  # noqa: PLC0415 - a start does not wait for it

    return metrics.get_meter("events").create_gauge(f"events.{name}")
