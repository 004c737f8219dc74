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
class Database:
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
        """The rows of a query on one partition, or with None on all."""
        scope: dict[str, Any] = {} if within is None else {"partition_key": within}
        parameters: list[dict[str, object]] = [{"name": f"@{name}", "value": value} for name, value in values.items()]
        found = self.streams.query_items(sql, parameters=parameters, max_item_count=page, **scope)
        return [row async for row in found]

    async def seqs(self) -> list[int]:
        """The stored numbers in order."""
        return await self.query("SELECT VALUE c.seq FROM c ORDER BY c.seq")

    async def counts(self) -> dict[str, int]:
        """The requests on events since the last call."""
        return dict((await self.server.counts(self.name)).get("streams", {}))


@asynccontextmanager
async def database_on(server: CosmosServer) -> AsyncIterator[Database]:
    """A database that is deleted at the end; its client repeats a throttled request once, and no other."""
    async with server.database() as name, server.client(retry_total=0, retry_throttle_total=1) as client:
        yield Database(server, client, name)


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    """A database on a server with atomic batches."""
    async with cosmos_server() as server, database_on(server) as database:
        yield database


@pytest.fixture
async def prefix() -> AsyncIterator[Database]:
    """A database on a server whose batches keep what came before a failure."""
    async with cosmos_server("prefix") as server, database_on(server) as database:
        yield database
