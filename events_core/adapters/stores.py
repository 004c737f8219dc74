"""The stores of a database: events, checkpoints, subscriptions and deliveries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from events_core.adapters.entra import EntraCredential
from events_core.adapters.sqlite import SqliteEventStore
from events_core.adapters.sqlite.checkpoints import SqliteCheckpoints
from events_core.adapters.sqlite.deliveries import SqliteDeliveries
from events_core.adapters.sqlite.subscriptions import SqliteSubscriptions
from events_core.delivery.ports import DeliveryStore, SubscriptionStore
from events_core.feeds.ports import CheckpointStore, EventStore, ProjectedStreams


@dataclass(frozen=True, slots=True)
class Stores:
    """A database's stores. `secret` seals cursors and gives keys. `projected` only if the database copies events.

    `restored` sets a restored database right, while no process uses it: a new store generation, so that no older cursor
    verifies, and nothing that one part knows and another does not. It returns how many resource streams are followed up
    again. The same call again completes it.
    """

    events: EventStore
    secret: bytes
    checkpoints: CheckpointStore
    subscriptions: SubscriptionStore
    deliveries: DeliveryStore
    restored: Callable[[], Awaitable[int]]
    projected: ProjectedStreams | None = None


def open_file(path: Path, secret: bytes | None) -> Stores:
    """Open the stores of an SQLite file. Without `secret`, the file's own key serves."""
    events = SqliteEventStore(path)
    checkpoints = SqliteCheckpoints(events)
    return Stores(
        events,
        secret or events.key(),
        checkpoints,
        SqliteSubscriptions(events),
        SqliteDeliveries(events),
        checkpoints.restored,
    )


def open_cosmos(
    account: str | tuple[str, EntraCredential], database: str, secret: bytes, retention_days: int
) -> Stores:
    """Open the stores of a Cosmos DB database. `account` is a connection string, or an endpoint and an identity.

    Raises:
        ValueError: The connection string cannot be read.
    """
    # The SDK takes 0.4 s to import, which the embedded store must not pay.
    from events_core.adapters.cosmos import CosmosConnection, CosmosEventStore  # noqa: PLC0415
    from events_core.adapters.cosmos.delivery.deliveries import CosmosDeliveries  # noqa: PLC0415
    from events_core.adapters.cosmos.delivery.subscriptions import CosmosSubscriptions  # noqa: PLC0415
    from events_core.adapters.cosmos.restore import Restoration  # noqa: PLC0415

    if isinstance(account, str):
        connection = CosmosConnection.of_string(account)
    else:
        endpoint, identity = account
        connection = CosmosConnection(endpoint, identity)  # type: ignore[arg-type] # its tuple
    events = CosmosEventStore(connection, database, key=secret, retention_days=retention_days)
    deliveries = CosmosDeliveries(events.database, retention_days)
    subscriptions = CosmosSubscriptions(events.database)
    restoration = Restoration(events.database, events.checkpoints, subscriptions, deliveries)
    return Stores(
        events, secret, events.checkpoints, subscriptions, deliveries, restoration.restored, events.projection
    )
