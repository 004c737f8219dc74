"""Retention: readers see a row for some days, and its document expires a day later by its time to live."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from events_core.adapters.cosmos.containers import LARGEST_TIME_TO_LIVE
from events_core.common.clock import SECOND

_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Retention:
    """How long rows are kept. `clock` gives microseconds since the epoch.

    The times of a row and of a reader may be of two machines. The day more is for the difference of their clocks, and
    for what a reader has begun: nothing that a reader may see expires.
    """

    days: int
    clock: Callable[[], int]

    def oldest(self) -> int:
        """Readers do not see rows that were registered before this time, in microseconds since the epoch."""
        return self.clock() - self.days * _DAY_SECONDS * SECOND

    def shows(self, document: Mapping[str, Any]) -> bool:
        """Whether readers see a document."""
        return document["registered"] >= self.oldest() and not document.get("placeholder")

    def time_to_live(self, registered: int) -> int:
        """The seconds for which a document that is written now is kept."""
        return min((registered - self.clock()) // SECOND + (self.days + 1) * _DAY_SECONDS, LARGEST_TIME_TO_LIVE)
