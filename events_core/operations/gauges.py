"""Gauges, reported each minute. Alerts in infra/ read them by these names (docs/operations.md, "Alerts")."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gauges:
    """One measurement of the service."""

    oldest_unprojected_seconds: float
    """Age of the oldest event that was not yet brought to its subject, its org and its subscriptions."""
    oldest_undelivered_seconds: float
    """Age of the oldest delivery that is due at a healthy endpoint."""
    dead_letters: int
    """Deliveries that were given up and not replayed since."""
    parked: int
    """Streams and subscriptions that events are held back from until `replay-parked`."""
    stream_holes: int
    """Streams in which a row is missing."""
    certificate_days_left: float | None
    """Days until the platform certificate ends, negative after its end. None without a certificate."""
