"""Lanes to enqueue as wake-ups. A duplicate costs one extra look; a lost one is found by the sweep."""

from __future__ import annotations

from collections.abc import Iterable

from events_core.delivery.delivery import Lane


class WakeupQueue:
    """Collects the lanes that this process made due, until a trigger sends them to the queue as messages."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, None] = {}

    def put(self, lanes: Iterable[Lane]) -> None:
        """Add lanes that are due now. A lane is collected once."""
        self._lanes.update(dict.fromkeys(lanes))

    def take(self, subscription: int) -> list[Lane]:
        """Remove the collected lanes of a subscription, and return them."""
        lanes = [lane for lane in self._lanes if lane.subscription == subscription]
        for lane in lanes:
            del self._lanes[lane]
        return lanes

    def drain(self) -> list[str]:
        """Remove the collected lanes, and return them as messages, in the order in which they were added."""
        lanes, self._lanes = self._lanes, {}
        return [str(lane) for lane in lanes]
