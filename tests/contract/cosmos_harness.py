"""The harness around CosmosEventStore: a database of its own, where every append is followed up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from events_core.adapters.cosmos import CosmosConnection, CosmosEventStore
from events_core.cloudevent import CloudEvent
from events_core.common.errors import EventsError
from events_core.feeds.follow_up import FollowUp
from events_core.feeds.ports import Appended, Chunk, EventStore, ReadRequest, StoredEvent
from events_core.feeds.projection import Projection
from events_core.feeds.stream import Stream
from events_core.feeds.wait import WaitingReaders
from tests.contract.event_store import SECOND, Clock
from tests.support.cosmos import CosmosServer, started_server

KEY = bytes(32)
LAG_MS = 60.0
RETENTION_DAYS = 90
COPIED = ("streams", "cursors")
_SYSTEM = ("_rid", "_self", "_etag", "_attachments", "_ts")


class FollowedStore(EventStore):
    """A CosmosEventStore whose `append` returns once the events are in all of their streams.

    In the service following up takes a while; the suites state what holds afterwards.
    """

    def __init__(self, store: CosmosEventStore, harness: CosmosHarness) -> None:
        self.cosmos = store
        self._harness = harness
        projection = Projection(store.projection, WaitingReaders(store, 0))
        self._follow_up = FollowUp(store.checkpoints, [projection], pauses=())
        self._appending: set[asyncio.Task[Any]] = set()

    @property
    @override
    def scan_rows(self) -> int:
        return self.cosmos.scan_rows

    @override
    async def append(self, events: Sequence[CloudEvent]) -> list[Appended]:
        task = asyncio.create_task(self._append(events))
        self._appending.add(task)
        task.add_done_callback(self._appending.discard)
        return await task

    async def _append(self, events: Sequence[CloudEvent]) -> list[Appended]:
        await self._harness.ready()
        if events:
            self._harness.newest = max(self._harness.newest, self._harness.clock())
        outcomes = await self.cosmos.append(events)
        with suppress(EventsError):  # a store that was closed meanwhile has stored them all the same
            await self._settle(events)
        return outcomes

    async def _settle(self, events: Sequence[CloudEvent]) -> None:
        """Follow the streams of the events, in the order in which `events` names their resources first."""
        for resource in dict.fromkeys(event.resource for event in events):
            await self._follow_up.follow(Stream.of_resource(resource))

    @override
    async def read(self, request: ReadRequest) -> Chunk:
        await self._harness.ready()
        return await self.cosmos.read(request)

    @override
    async def head(self, stream: Stream) -> int:
        await self._harness.ready()
        return await self.cosmos.head(stream)

    @override
    async def changed(self, heads: Mapping[Stream, int]) -> Mapping[Stream, int]:
        await self._harness.ready()
        return await self.cosmos.changed(heads)

    @override
    async def at(self, stream: Stream, positions: Sequence[int]) -> Sequence[StoredEvent]:
        await self._harness.ready()
        return await self.cosmos.at(stream, positions)

    @override
    async def find(self, source: str | None, event_id: str) -> Sequence[StoredEvent]:
        await self._harness.ready()
        return await self.cosmos.find(source, event_id)

    @override
    async def erase(self, resource: str, source: str, event_id: str) -> bool:
        await self._harness.ready()
        return await self.cosmos.erase(resource, source, event_id)

    @override
    async def expire(self, registered_before: int) -> int:
        await self._harness.ready()
        await self._harness.retire(registered_before)
        return await self.cosmos.expire(registered_before)

    @override
    async def ping(self) -> None:
        await self._harness.ready()
        await self.cosmos.ping()

    @override
    async def close(self) -> None:
        if self._appending:
            await asyncio.wait(self._appending)
        await self.cosmos.close()


class LaggingStore(FollowedStore):
    """A store on a server with stale reads: `append` waits until the events are visible, and follows nothing up."""

    async def _settle(self, events: Sequence[CloudEvent]) -> None:
        await asyncio.sleep(LAG_MS / 1_000)


@dataclass
class CosmosHarness:
    """A database on the tests' server. `newest` is the latest time at which anything was appended.

    `retired` is the time that is `RETENTION_DAYS` ago, by a clock that is apart from the one of registration.

    Segments are small, so that the suites cross their boundaries.
    """

    directory: Path
    mode: str = "atomic"
    segment_size: int = 50
    clock: Clock = field(default_factory=Clock)
    opened: list[FollowedStore] = field(default_factory=list)
    server: CosmosServer | None = None
    database: str = ""
    newest: int = 0
    retired: int = 0
    kept: dict[str, list[Any]] = field(default_factory=dict)
    store: ClassVar[type[FollowedStore]] = FollowedStore

    def __post_init__(self) -> None:
        self._making = asyncio.Lock()

    async def ready(self) -> None:
        """Create the database on first use, and connect the stores to it."""
        async with self._making:
            if self.server is None:
                self.server = await started_server(self.mode, lag_ms=LAG_MS)
            self.database = self.database or await self.server.make_containers()
            for store in self.opened:
                self._connect(store.cosmos)

    def _connect(self, store: CosmosEventStore) -> None:
        assert self.server is not None
        store._database._connection = CosmosConnection.of_string(self.server.connection_string)
        store._database._name = self.database

    def open(self, clock: Callable[[], int] | None = None) -> FollowedStore:
        """Open the database as another process would."""
        store = CosmosEventStore(
            CosmosConnection("http://", ""),
            "",
            key=KEY,
            clock=clock or (lambda: self.newest),
            segment_size=self.segment_size,
            retention_days=RETENTION_DAYS,
            idle=0.5,
        )
        object.__setattr__(store._retention, "clock", lambda: self.retired + RETENTION_DAYS * 86_400 * SECOND)
        self.opened.append(self.store(store, self))
        return self.opened[-1]

    async def retire(self, registered_before: int) -> None:
        """End the retention of what was registered before a time, and its time to live too."""
        self.retired = max(self.retired, registered_before)
        assert self.server is not None
        async with self.server.client() as client:
            streams = client.get_database_client(self.database).get_container_client("streams")
            sql = f"SELECT c.id, c.partition FROM c WHERE c.registered < {registered_before}"
            async for document in streams.query_items(sql):
                await streams.delete_item(document["id"], document["partition"])

    async def close(self) -> None:
        """Close every store."""
        while self.opened:
            await self.opened.pop().close()

    async def discard(self) -> None:
        """Close every store and delete the database."""
        await self.close()
        await self._drop()

    async def wipe(self) -> FollowedStore:
        """Delete the database and open an empty one."""
        await self.close()
        await self._drop()
        return self.open()

    async def back_up(self) -> None:
        """Copy every document."""
        await self.close()
        assert self.server is not None
        async with self.server.client() as client:
            database = client.get_database_client(self.database)
            for name in COPIED:
                items = database.get_container_client(name).read_all_items()
                self.kept[name] = [
                    {key: value for key, value in document.items() if key not in _SYSTEM} async for document in items
                ]

    async def restore(self) -> FollowedStore:
        """Make another database of the copied documents."""
        await self.close()
        await self._drop()
        await self.ready()
        assert self.server is not None
        async with self.server.client() as client:
            database = client.get_database_client(self.database)
            for name, documents in self.kept.items():
                for document in documents:
                    await database.get_container_client(name).create_item(document)
        return self.open()

    async def _drop(self) -> None:
        if self.database and self.server:
            await self.server.drop(self.database)
        self.database = ""


@dataclass
class LaggingHarness(CosmosHarness):
    """A database whose reads are up to `LAG_MS` behind. Segments are larger, since a new one asks for earlier keys."""

    mode: str = "lagging"
    segment_size: int = 1_000
    store: ClassVar[type[FollowedStore]] = LaggingStore

    async def ready(self) -> None:
        """Create the database on first use, and wait until its containers are visible."""
        is_new = not self.database
        await super().ready()
        if is_new:
            await asyncio.sleep(LAG_MS / 1_000)
