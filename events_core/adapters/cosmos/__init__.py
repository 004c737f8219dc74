"""The cloud edition: Azure Cosmos DB."""

from events_core.adapters.cosmos.client import CosmosConnection
from events_core.adapters.cosmos.streams.store import CosmosEventStore

__all__ = ["CosmosConnection", "CosmosEventStore"]
