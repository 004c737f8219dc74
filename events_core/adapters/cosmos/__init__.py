"""The event store on Azure Cosmos DB. containers.py has the containers, and which index serves which query."""

from events_core.adapters.cosmos.client import CosmosConnection
from events_core.adapters.cosmos.streams.store import CosmosEventStore

__all__ = ["CosmosConnection", "CosmosEventStore"]
