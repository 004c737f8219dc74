"""An empty database on each kind of emulator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from azure.cosmos.aio import ContainerProxy, CosmosClient

from tests.support.cosmos import CosmosServer, cosmos_server
from tests.support.cosmos_probe import document

PARTITION = "resource:urn:altinn:resource:app_ttd_apps-test|00000000"


@dataclass
class Place:
    """An empty database with every container."""

    server: CosmosServer
    client: CosmosClient
    name: str

    def container(self, name: str) -> ContainerProxy:
        """A container by its name."""
        return self.client.get_database_client(self.name).get_container_client(name)

    @property
    def streams(self) -> ContainerProxy:
        """The container of events."""
        return self.container("streams")

    async def create(self, *seqs: int, partition: str = PARTITION) -> None:
        """Store documents, one after another."""
        for seq in seqs:
            await self.streams.create_item(document(partition, seq), no_response=True)

    async def query(self, sql: str, within: str | None = PARTITION, page: int = 1000, **values: Any) -> list[Any]:
        """What a query finds in a partition, or with None in all."""
        scope: dict[str, Any] = {} if within is None else {"partition_key": within}
        parameters: list[dict[str, object]] = [{"name": f"@{name}", "value": each} for name, each in values.items()]
        found = self.streams.query_items(sql, parameters=parameters, max_item_count=page, **scope)
        return [each async for each in found]

    async def seqs(self) -> list[int]:
        """What stands, in order."""
        return await self.query("SELECT VALUE c.seq FROM c ORDER BY c.seq")

    async def counts(self) -> dict[str, int]:
        """The requests on events since this was last asked."""
        return dict((await self.server.counts(self.name)).get("streams", {}))


@asynccontextmanager
async def place_on(server: CosmosServer) -> AsyncIterator[Place]:
    """A place that is gone in the end; its client repeats what is throttled once, and nothing else."""
    async with server.database() as name, server.client(retry_total=0, retry_throttle_total=1) as client:
        yield Place(server, client, name)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    """On a server whose batches are atomic."""
    async with cosmos_server() as server, place_on(server) as place:
        yield place


@pytest.fixture
async def prefix() -> AsyncIterator[Place]:
    """On a server whose batches stop where they fail."""
    async with cosmos_server("prefix") as server, place_on(server) as place:
        yield place
