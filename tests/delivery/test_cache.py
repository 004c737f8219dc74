"""The cache of subscriptions: never older than two seconds, and refreshed at once where that matters."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from events_core.common import errors
from events_core.common.errors import EventsError
from events_core.delivery.cache import SubscriptionCache
from events_core.delivery.ports import Changes
from events_core.delivery.subscription import Subscription
from tests.contract.event_store import APP
from tests.support.clock import Clock
from tests.support.deliveries import subscription


class MemorySubscriptions:
    """A store in memory that counts how often it is asked for changes."""

    def __init__(self) -> None:
        self.changed: list[Subscription] = []
        self.asked = 0
        self.down = False

    def put(self, *subscriptions: Subscription) -> None:
        """Create, change or delete subscriptions."""
        self.changed += subscriptions

    async def changes(self, token: str | None = None) -> Changes:
        """Return what was put since the token."""
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise errors.unavailable("The store does not answer.")
        return Changes(self.changed[int(token or 0) :], str(len(self.changed)))

    async def get(self, subscription_id: int) -> Subscription | None:
        """Return the newest version of a subscription."""
        return next((changed for changed in reversed(self.changed) if changed.id == subscription_id), None)


@pytest.fixture
def store() -> MemorySubscriptions:
    """An empty store."""
    return MemorySubscriptions()


@pytest.fixture
def clock() -> Clock:
    """The clock of the cache."""
    return Clock()


@pytest.fixture
def cache(store: MemorySubscriptions, clock: Clock) -> SubscriptionCache:
    """A cache of the store."""
    return SubscriptionCache(store, clock=clock)  # type: ignore[arg-type] # the cache only reads


async def test_fresh_subscriptions_include_every_acknowledged_change(
    store: MemorySubscriptions, cache: SubscriptionCache
) -> None:
    """However recent the last refresh is."""
    for number in (1, 2):
        store.put(subscription(id=number, endpoint=f"https://x.example/{number}"))
        assert len(await cache.fresh()) == number


async def test_recent_subscriptions_are_at_most_two_seconds_old(
    store: MemorySubscriptions, cache: SubscriptionCache, clock: Clock
) -> None:
    """A refresh removes deleted subscriptions."""
    store.put(subscription(id=1))
    assert (await cache.recent()).any_of(APP)
    store.put(replace(subscription(id=1), deleted=True))
    clock.now = 2.0
    assert (await cache.recent()).any_of(APP)
    clock.now = 2.1
    assert not (await cache.recent()).any_of(APP)
    assert store.asked == 2


async def test_a_subscription_newer_than_the_cache_is_found(
    store: MemorySubscriptions, cache: SubscriptionCache
) -> None:
    """Its subscriber may use it at once."""
    await cache.recent()
    store.put(subscription(id=1))
    assert await cache.find(1) is not None
    assert await cache.find(2) is None


async def test_concurrent_calls_share_a_refresh(store: MemorySubscriptions, cache: SubscriptionCache) -> None:
    """The refresh begins after the last of the calls."""
    await asyncio.gather(*(cache.fresh() for _ in range(10)))
    assert store.asked <= 2


async def test_a_store_that_is_down_is_an_error(store: MemorySubscriptions, cache: SubscriptionCache) -> None:
    """An old cache is not used. When the store is up again, no change is missing."""
    store.down = True
    store.put(subscription(id=1))
    with pytest.raises(EventsError):
        await cache.recent()
    store.down = False
    assert (await cache.recent()).any_of(APP)
