"""The audit log: who erased an event or rotated a secret (docs/operations.md)."""

from __future__ import annotations

import logging

from events_core.delivery.persons import masked

_log = logging.getLogger("events_core.audit")


def record(action: str, by: str, **target: str | int) -> None:
    """Log an act that succeeded: the consumer string of the caller, and what it acted on without persons' numbers."""
    fields = {name: masked(value) if isinstance(value, str) else value for name, value in target.items()}
    _log.info("audit", extra={"action": action, "by": by, **fields})
