"""The queue of wake-ups."""

from __future__ import annotations

from events_core.delivery.delivery import Lane
from events_core.delivery.wakeup_queue import WakeupQueue


def test_each_lane_is_enqueued_once() -> None:
    """In the order in which the lanes were added, until the queue is drained."""
    wakeup_queue = WakeupQueue()
    wakeup_queue.put([Lane(2), Lane(1), Lane(2), Lane(1, 3)])
    assert wakeup_queue.drain() == ["2", "1", "1r3"]
    assert wakeup_queue.drain() == []
