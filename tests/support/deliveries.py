"""Subscriptions and deliveries for tests of their stores, on each kind of store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from events_core.adapters.cosmos import CosmosConnection
from events_core.adapters.cosmos.client import CosmosDatabase
from events_core.adapters.cosmos.delivery.deliveries import CosmosDeliveries
from events_core.adapters.cosmos.delivery.subscriptions import CosmosSubscriptions
from events_core.adapters.sqlite import SqliteEventStore
from events_core.adapters.sqlite.deliveries import SqliteDeliveries
from events_core.adapters.sqlite.subscriptions import SqliteSubscriptions
from events_core.common.clock import SECOND
from events_core.delivery.delivery import Delivery, Lane, new_id
from events_core.delivery.ports import DeliveryStore, Lease, SubscriptionStore
from events_core.delivery.subscription import EventFilter, SealedSecrets, Subscription, Validation
from events_core.feeds.stream import Stream
from tests.contract.event_store import APP
from tests.support.cosmos import cosmos_server

NOW = 1_700_000_000 * SECOND
STREAM = Stream.of_resource(APP)
LANE = Lane(1)


@dataclass(frozen=True)
class Stores:
    """The same subscriptions and deliveries, as two processes see them."""

    subscriptions: SubscriptionStore
    deliveries: DeliveryStore
    other_subscriptions: SubscriptionStore
    other_deliveries: DeliveryStore


@asynccontextmanager
async def on_sqlite(directory: Path) -> AsyncIterator[Stores]:
    """Two stores on one file."""
    one, other = files = [SqliteEventStore(directory / "events.db", idle=0.02) for _ in range(2)]
    yield Stores(SqliteSubscriptions(one), SqliteDeliveries(one), SqliteSubscriptions(other), SqliteDeliveries(other))
    for file in files:
        await file.close()


@asynccontextmanager
async def on_cosmos(_: Path) -> AsyncIterator[Stores]:
    """Two clients of one database, with small segments."""
    async with cosmos_server() as server, server.database() as name:
        connection = CosmosConnection.of_string(server.connection_string)
        databases = [CosmosDatabase(connection, name) for _ in range(2)]
        one, other = (CosmosDeliveries(database, segment_size=4) for database in databases)
        yield Stores(CosmosSubscriptions(databases[0]), one, CosmosSubscriptions(databases[1]), other)
        for database in databases:
            await database.close()


STORES: dict[str, Callable[[Path], AbstractAsyncContextManager[Stores]]] = {"sqlite": on_sqlite, "cosmos": on_cosmos}
"""Every adapter of the two ports, by name."""


def subscription(**changes: Any) -> Subscription:
    """A subscription of ttd to its app. `changes` replace its fields, and the fields of its filter."""
    filters = {name: changes.pop(name) for name in list(changes) if name in EventFilter.__slots__}
    values: dict[str, Any] = {
        "id": 0,
        "endpoint": "https://example.com/hook",
        "filter": EventFilter(**{"resource": APP, **filters}),
        "consumer": "/org/ttd",
        "created_by": "/org/ttd",
        "created": NOW,
        "start": 0,
        "level": 3,
        "secrets": SealedSecrets("sealed"),
        "validation": Validation(validated=True),
    }
    return Subscription(**{**values, **changes})


def delivery(position: int, lane: Lane | None = None, **changes: Any) -> Delivery:
    """A due delivery. `changes` replace its fields."""
    values: dict[str, Any] = {
        "id": new_id(),
        "lane": lane or Lane(1),
        "stream": STREAM,
        "position": position,
        "event_id": f"e{position}",
        "size": 100,
        "source": "urn:x",
        "order": "o",
        "registered": NOW,
        "recorded": NOW,
        "next_attempt": NOW,
    }
    return Delivery(**{**values, **changes})


def positions(some: Sequence[Delivery]) -> list[int]:
    """The positions of deliveries."""
    return [delivery.position for delivery in some]


async def leased(store: DeliveryStore, lane: Lane = LANE, now: int = NOW) -> Lease:
    """A lease of a minute."""
    lease = await store.take(lane, now, now + 60 * SECOND)
    assert lease is not None
    return lease


async def ready(store: DeliveryStore, lease: Lease, now: int = NOW) -> list[Delivery]:
    """All deliveries that are due."""
    return list((await store.ready(lease, now, 100, 100)).deliveries)
