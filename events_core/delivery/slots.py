"""Slots of this process for the lanes of one endpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from events_core.delivery.endpoint import canonical_origin


@dataclass(frozen=True, slots=True)
class EndpointSlots:
    """Bounds how many lanes this process serves at once of one endpoint, which is a scheme, host and port here."""

    size: int
    _used: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def slot(self, endpoint: str) -> Iterator[bool]:
        """Hold a slot within the block; False if every slot of the endpoint is in use."""
        origin = canonical_origin(endpoint)
        if self._used[origin] >= self.size:
            yield False
            return
        self._used[origin] += 1
        try:
            yield True
        finally:
            self._used[origin] -= 1
            if not self._used[origin]:
                del self._used[origin]
