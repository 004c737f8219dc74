"""What an operator has to know of the service, measured each minute; the alerts in infra/ read it by these names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gauges:
    """The service at one moment; above zero for long, each is somebody's work (docs/operations.md, "Alerts")."""

    oldest_unprojected_seconds: float
    """How long the oldest event waits that was not brought to its subject, its org and its subscriptions."""
    oldest_undelivered_seconds: float
    """How long the delivery waits that has been due for longest, at an endpoint that is well."""
    dead_letters: int
    """Deliveries that were given up and not replayed since."""
    parked: int
    """Streams and subscriptions that are held back from a stream's events until `replay-parked`."""
    stream_holes: int
    """Streams in which a row is missing."""
