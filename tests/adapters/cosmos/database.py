"""An empty Cosmos DB database for a test, with what a test does to it without a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from azure.cosmos.aio import ContainerProxy, CosmosClient
from typing_extensions import override

from events_core.adapters.cosmos import CosmosConnection, CosmosEventStore
from events_core.adapters.cosmos.streams.names import SEGMENT_SIZE, Names, partition, position_id
from events_core.feeds.follow_up import FollowUp
from events_core.feeds.ports import Chunk, ReadRequest
from events_core.feeds.projection import Projection
from events_core.feeds.stream import START, Cursor, Stream
from events_core.feeds.wait import WaitingReaders
from tests.contract.event_store import APP, SECOND, Clock
from tests.support.cosmos import CosmosServer, Fault

KEY = bytes(range(32))
NAMES = Names(KEY)
RESOURCE = Stream.of_resource(APP)


class Discovering(CosmosConnection):
    """A connection as to Azure: the SDK discovers the account's endpoints, and repeats every write answered 503."""

    @property
    @override
    def options(self) -> dict[str, Any]:
        return {"connection_verify": False}


@dataclass
class Database:
    """An empty database, the stores that a test has opened on it, and the clock that these share."""

    server: CosmosServer
    client: CosmosClient
    name: str
    clock: Clock = field(default_factory=Clock)
    opened: list[CosmosEventStore] = field(default_factory=list)

    def open(self, **options: Any) -> CosmosEventStore:
        """Open a store, as another process would; `options` are the store's."""
        connection = CosmosConnection.of_string(self.server.connection_string)
        given = {"key": KEY, "clock": self.clock, **options}
        self.opened.append(CosmosEventStore(connection, self.name, **given))
        return self.opened[-1]

    def container(self, name: str = "streams") -> ContainerProxy:
        """A container."""
        return self.client.get_database_client(self.name).get_container_client(name)

    async def documents(self, stream: Stream = RESOURCE) -> list[dict[str, Any]]:
        """The documents of a stream, in order."""
        found = self.container().query_items(
            "SELECT * FROM c WHERE c.stream = @stream", parameters=[{"name": "@stream", "value": NAMES.of(stream)}]
        )
        return sorted([dict(document) async for document in found], key=lambda document: int(document["seq"]))

    async def rows(self, stream: Stream = RESOURCE) -> list[dict[str, Any]]:
        """The documents of a stream that are rows, in order."""
        return [document for document in await self.documents(stream) if not document.get("placeholder")]

    async def listed(self) -> list[str]:
        """The streams that have a state and are followed up."""
        found = self.container("cursors").query_items("SELECT VALUE c.stream FROM c WHERE IS_DEFINED(c.stream)")
        return [str(name) async for name in found]

    async def remove(self, position: int, stream: Stream = RESOURCE, segment_size: int = SEGMENT_SIZE) -> None:
        """Delete a document in the middle of a stream, which a server never does by itself."""
        segment = partition(NAMES.of(stream), (position - 1) // segment_size)
        await self.container().delete_item(position_id(position), segment)

    async def counts(self) -> dict[str, int]:
        """The requests on documents since the last call, by operation, of all containers together."""
        self._skip_on_other_servers()
        totals: dict[str, int] = {}
        counts: Mapping[str, Mapping[str, int]] = await self.server.counts(self.name)
        for container, operations in counts.items():
            for operation, count in operations.items():
                totals[operation] = totals.get(operation, 0) + (count if container else 0)
        return {operation: count for operation, count in totals.items() if count}

    async def inject(self, *faults: Fault) -> None:
        """Let faults happen to the next requests on this database."""
        self._skip_on_other_servers()
        await self.server.inject(*faults)

    def _skip_on_other_servers(self) -> None:
        if self.server.emulator is None:
            pytest.skip("only the emulator of tests/emulator counts requests and injects faults")

    async def advance(self, days: float) -> None:
        """Let time pass, on the server and for the stores."""
        await self.server.advance(days * 86_400)
        self.clock.now += int(days * 86_400 * SECOND)

    async def close(self) -> None:
        """Close every store."""
        while self.opened:
            await self.opened.pop().close()


async def follow(store: CosmosEventStore, *resources: str) -> None:
    """Project the events of resources to the streams of their subjects and orgs."""
    follow_up = FollowUp(store.checkpoints, [Projection(store.projection, WaitingReaders(store, 0))], pauses=())
    for resource in resources or (APP,):
        await follow_up.follow(Stream.of_resource(resource))


async def page_after(store: CosmosEventStore, cursor: Cursor = START, **request: Any) -> Chunk:
    """A page of the resource's stream."""
    return await store.read(ReadRequest(RESOURCE, cursor=cursor, **request))


def positions(documents: Sequence[Mapping[str, Any]]) -> list[int]:
    """The positions of documents."""
    return [int(document["seq"]) for document in documents]
