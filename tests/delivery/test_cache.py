"""What a process knows of subscriptions: fresh where it has to be, and at most two seconds old everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from events_core.common import errors
from events_core.common.errors import EventsError
from events_core.delivery.cache import SubscriptionCache
from events_core.delivery.delivery import Lane
from events_core.delivery.ports import Changes
from events_core.delivery.subscription import Subscription
from events_core.delivery.wakeup_queue import WakeupQueue
from tests.contract.event_store import APP
from tests.support.deliveries import subscription


class Subscriptions:
    """A store in memory that counts how often it is asked for changes."""

    def __init__(self) -> None:
        self.changed: list[Subscription] = []
        self.asked = 0
        self.down = False

    async def changes(self, token: str | None = None) -> Changes:
        """What was added since."""
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise errors.unavailable("The store does not answer.")
        return Changes(self.changed[int(token or 0) :], str(len(self.changed)))

    async def get(self, subscription_id: int) -> Subscription | None:
        """The newest of one."""
        return next((each for each in reversed(self.changed) if each.id == subscription_id), None)


class Directories:
    """A directory on such a store, and its clock."""

    def __init__(self) -> None:
        self.now, self.store = 0.0, Subscriptions()
        self.cache = SubscriptionCache(self.store, clock=lambda: self.now)  # type: ignore[arg-type]

    def put(self, *some: Subscription) -> None:
        """Change subscriptions."""
        self.store.changed += some


@pytest.fixture
def place() -> Directories:
    """An empty one."""
    return Directories()


async def test_what_is_asked_for_afresh_is_what_stands(place: Directories) -> None:
    """However soon after the last time."""
    for number in (1, 2):
        place.put(subscription(id=number, endpoint=f"https://x.example/{number}"))
        assert len(await place.cache.fresh()) == number


async def test_what_is_known_serves_for_two_seconds(place: Directories) -> None:
    """And is refreshed then, with deletions."""
    place.put(subscription(id=1))
    assert (await place.cache.recent()).any_of(APP)
    place.put(replace(subscription(id=1), deleted=True))
    place.now = 2.0
    assert (await place.cache.recent()).any_of(APP)
    place.now = 2.1
    assert not (await place.cache.recent()).any_of(APP)
    assert place.store.asked == 2


async def test_one_that_is_newer_is_found_all_the_same(place: Directories) -> None:
    """Whoever was just told of it need not wait."""
    await place.cache.recent()
    place.put(subscription(id=1))
    assert await place.cache.find(1) is not None
    assert await place.cache.find(2) is None


async def test_many_who_ask_at_once_share_a_refresh(place: Directories) -> None:
    """One that began after the last of them asked."""
    await asyncio.gather(*(place.cache.fresh() for _ in range(10)))
    assert place.store.asked <= 2


async def test_a_store_that_is_down_is_an_error_and_no_old_news(place: Directories) -> None:
    """Once it is up again nothing is missing."""
    place.store.down = True
    place.put(subscription(id=1))
    with pytest.raises(EventsError):
        await place.cache.recent()
    place.store.down = False
    assert (await place.cache.recent()).any_of(APP)


def test_a_bell_tells_of_each_lane_once() -> None:
    """In the order in which they were rung for."""
    wakeup_queue = WakeupQueue()
    lanes: Sequence[Lane] = [Lane(2), Lane(1), Lane(2), Lane(1, 3)]
    wakeup_queue.put(lanes)
    assert wakeup_queue.drain() == ["2", "1", "1r3"]
    assert wakeup_queue.drain() == []
