"""A database for the tests of the store on Cosmos DB, and what they do to it behind the store's back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from azure.cosmos.aio import ContainerProxy, CosmosClient

from events_core.access.names import Resource
from events_core.adapters.cosmos import CosmosConnection, CosmosEventStore
from events_core.adapters.cosmos.streams.names import SEGMENT_SIZE, Names, partition, position_id
from events_core.feeds.ports import Chunk, ReadRequest
from events_core.feeds.stream import START, Cursor, Stream
from tests.contract.event_store import APP, Clock
from tests.support.cosmos import CosmosServer, Fault

KEY = bytes(range(32))
NAMES = Names(KEY)
RESOURCE = Stream.of_resource(APP)


@dataclass
class Place:
    """An empty database, the stores that were opened on it, and the clock that they share."""

    server: CosmosServer
    client: CosmosClient
    database: str
    clock: Clock = field(default_factory=Clock)
    opened: list[CosmosEventStore] = field(default_factory=list)

    def open(self, **options: Any) -> CosmosEventStore:
        """Another store, as another process would open it; options as its own."""
        connection = CosmosConnection.of_string(self.server.connection_string)
        given = {"key": KEY, "clock": self.clock, "retention_gap": 0, **options}
        self.opened.append(CosmosEventStore(connection, self.database, **given))
        return self.opened[-1]

    async def warm(self, **options: Any) -> CosmosEventStore:
        """A store that has written one event and read it, so that what it does next is all that it costs."""
        store = self.open(**options)
        await store.read(ReadRequest(RESOURCE))
        await self.counts()
        return store

    def container(self, name: str = "streams") -> ContainerProxy:
        """A container."""
        return self.client.get_database_client(self.database).get_container_client(name)

    async def documents(self, stream: Stream = RESOURCE) -> list[dict[str, Any]]:
        """What stands in a stream, in order."""
        found = self.container().query_items(
            "SELECT * FROM c WHERE c.stream = @stream", parameters=[{"name": "@stream", "value": NAMES.of(stream)}]
        )
        return sorted([dict(each) async for each in found], key=lambda each: int(each["seq"]))

    async def listed(self) -> list[str]:
        """The streams that `cursors` lists to be followed up."""
        found = self.container("cursors").query_items("SELECT VALUE c.stream FROM c WHERE IS_DEFINED(c.stream)")
        return [str(each) async for each in found]

    async def remove(self, position: int, stream: Stream = RESOURCE, segment_size: int = SEGMENT_SIZE) -> None:
        """Take away what a server may never lose."""
        place = partition(NAMES.of(stream), (position - 1) // segment_size)
        await self.container().delete_item(position_id(position), place)

    async def counts(self) -> dict[str, int]:
        """The requests on documents since this was last asked, by operation, of every container together."""
        self._ours_only()
        totals: dict[str, int] = {}
        counts: Mapping[str, Mapping[str, int]] = await self.server.counts(self.database)
        for container, operations in counts.items():
            for operation, count in operations.items():
                totals[operation] = totals.get(operation, 0) + (count if container else 0)
        return {operation: count for operation, count in totals.items() if count}

    async def inject(self, *faults: Fault) -> None:
        """Let faults happen to the next requests on this database."""
        self._ours_only()
        await self.server.inject(*faults)

    def _ours_only(self) -> None:
        if self.server.emulator is None:
            pytest.skip("only the emulator of tests/emulator counts requests and lets faults happen")

    async def close(self) -> None:
        """Close every store."""
        while self.opened:
            await self.opened.pop().close()


async def follow(store: CosmosEventStore, *resources: str) -> None:
    """Project what stands in the streams of resources to where it belongs, and say so."""
    checkpoints = store.checkpoints
    for stream in map(Stream.of_resource, resources or [APP]):
        checkpoint = await checkpoints.checkpoint(stream)
        while rows := await checkpoints.read_after(stream, checkpoint.position, 100):
            for row in rows:
                app = Resource.parse(row.resource).app
                targets = [Stream.of_org(app.org)] if app else []
                if app and row.subject:
                    targets.append(Stream.of_subject(row.subject))
                for target in targets:
                    await store.projection.project(target, [row])
            await checkpoints.advance(stream, checkpoint, rows[-1].position, catch_up_pending=False, quarantined=[])
            checkpoint = await checkpoints.checkpoint(stream)


async def page_after(store: CosmosEventStore, cursor: Cursor = START, **request: Any) -> Chunk:
    """A page of the resource's stream."""
    return await store.read(ReadRequest(RESOURCE, cursor=cursor, **request))


def positions(documents: Sequence[Mapping[str, Any]]) -> list[int]:
    """Where documents stand."""
    return [int(each["seq"]) for each in documents]
