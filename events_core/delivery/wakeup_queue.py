"""Lanes that workers have to be told of: each costs at most a look when it is told of twice, or never."""

from __future__ import annotations

from collections.abc import Iterable

from events_core.delivery.delivery import Lane


class WakeupQueue:
    """Gathers what was made due in this process until a trigger takes it to the queue.

    Nothing depends on it but the delay: whatever is due stands in the store, where the sweep finds it.
    """

    def __init__(self) -> None:
        self._lanes: dict[Lane, None] = {}

    def put(self, lanes: Iterable[Lane]) -> None:
        """Note lanes that are due now."""
        self._lanes.update(dict.fromkeys(lanes))

    def drain(self) -> list[str]:
        """The lanes since the last call, as messages."""
        lanes, self._lanes = self._lanes, {}
        return [str(lane) for lane in lanes]
