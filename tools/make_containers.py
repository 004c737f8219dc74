"""Create the containers of the service in an emulator of Cosmos DB: `.venv/bin/python -m tools.make_containers`.

EVENTS_COSMOS is its connection string. Containers that exist stay as they are. In Azure, infra/ creates them.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from azure.cosmos import PartitionKey
from azure.cosmos.aio import CosmosClient

from events_core.adapters.cosmos.containers import CONTAINERS


async def make_containers(connection: str, database_name: str) -> None:
    """Create the database and its containers."""
    # An emulator has a certificate of its own, and names an endpoint that only it can reach.
    async with CosmosClient.from_connection_string(
        connection, connection_verify=False, enable_endpoint_discovery=False
    ) as client:
        database = await client.create_database_if_not_exists(database_name)
        for container in CONTAINERS:
            unique: dict[str, Any] = {"unique_key_policy": container.unique_key_policy} if container.unique_keys else {}
            await database.create_container_if_not_exists(
                container.name,
                PartitionKey(container.partition_key),
                indexing_policy=container.indexing_policy,
                default_ttl=container.default_ttl,
                **unique,
            )


if __name__ == "__main__":
    if not os.environ.get("EVENTS_COSMOS"):
        sys.exit("EVENTS_COSMOS is missing: the connection string of the emulator.")
    asyncio.run(make_containers(os.environ["EVENTS_COSMOS"], os.environ.get("EVENTS_COSMOS_DATABASE", "events")))
