"""Wake-ups of lanes after a while."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cachetools import LRUCache

from events_core.common.clock import SECOND
from events_core.common.errors import EventsError
from events_core.delivery.delivery import Lane

FIRST_WAIT, LONGEST_WAIT = 1, 30
"""How long a lane waits that found no slot, in seconds: the wait doubles each time."""
LANES_REMEMBERED = 10_000

_log = logging.getLogger(__name__)


def _by_lane() -> LRUCache[Lane, int]:
    return LRUCache(LANES_REMEMBERED)


@dataclass(frozen=True, slots=True)
class LaneTimers:
    """Wakes lanes later. A timer that is lost costs nothing but time: the sweep finds the lane.

    `start` has a lane served after so many seconds, and may raise EventsError. `clock` gives microseconds since the
    epoch.
    """

    start: Callable[[Lane, float], Awaitable[None] | None]
    clock: Callable[[], int]
    due: LRUCache[Lane, int] = field(default_factory=_by_lane)
    """When the timer of a lane ends that this process started last."""
    misses: LRUCache[Lane, int] = field(default_factory=_by_lane)
    """How many times in a row a lane found no slot."""

    async def wake_at(self, lane: Lane, at: int) -> None:
        """Wake a lane at a time, unless a timer of this process wakes it earlier."""
        now = self.clock()
        if now < self.due.get(lane, 0) <= at:
            return
        self.due[lane] = at
        try:
            started = self.start(lane, max(0, at - now) / SECOND)
            if started is not None:
                await started
        except EventsError as error:
            _log.warning("timer not started lane=%s: %s", lane, error.detail)

    async def put_back(self, lane: Lane) -> None:
        """Wake a lane that found no slot: after a second, then after twice as long each time."""
        if self.waits(lane):
            return
        misses = self.misses[lane] = self.misses.get(lane, 0) + 1
        wait = min(FIRST_WAIT * 2 ** (misses - 1), LONGEST_WAIT)
        await self.wake_at(lane, self.clock() + wait * SECOND)

    def waits(self, lane: Lane) -> bool:
        """Whether a timer will wake the lane."""
        return self.clock() < self.due.get(lane, 0)

    def missed_slot(self, lane: Lane) -> bool:
        """Whether the lane found no slot, and a timer will wake it."""
        return lane in self.misses and self.waits(lane)

    def found_slot(self, lane: Lane) -> None:
        """Forget how long the lane waited for a slot, and the timer of that wait."""
        if self.misses.pop(lane, None) is not None:
            self.due.pop(lane, None)
