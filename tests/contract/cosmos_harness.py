"""The harness around CosmosEventStore: a database of its own on the server of the tests, everything followed up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from events_core.adapters.cosmos import CosmosConnection, CosmosEventStore
from events_core.cloudevent import CloudEvent
from events_core.common.errors import EventsError
from events_core.feeds.follow_up import FollowUp
from events_core.feeds.ports import Appended, Chunk, ReadRequest, StoredEvent
from events_core.feeds.projection import Projection
from events_core.feeds.stream import Stream
from events_core.feeds.wait import WaitingReaders
from tests.contract.event_store import Clock
from tests.support.cosmos import CosmosServer, started_server

KEY = bytes(32)
LAG_MS = 60.0
COPIED = ("streams", "cursors")
_SYSTEM = ("_rid", "_self", "_etag", "_attachments", "_ts")


class FollowedStore:
    """A CosmosEventStore whose events stand in all of their streams once `append` returns.

    In the service that takes a moment; the suites say what holds from then on.
    """

    def __init__(self, store: CosmosEventStore, harness: CosmosHarness) -> None:
        self.cosmos = store
        self._harness = harness
        projection = Projection(store.projection, WaitingReaders(store, 0))
        self._follow_up = FollowUp(store.checkpoints, [projection], pauses=())
        self._appending: set[asyncio.Task[Any]] = set()

    @property
    def scan_rows(self) -> int:
        """As of the store."""
        return self.cosmos.scan_rows

    async def append(self, events: Sequence[CloudEvent]) -> list[Appended]:
        """Append, and follow up."""
        task = asyncio.create_task(self._append(events))
        self._appending.add(task)
        task.add_done_callback(self._appending.discard)
        return await task

    async def _append(self, events: Sequence[CloudEvent]) -> list[Appended]:
        await self._harness.ready()
        if events:
            self._harness.moment = max(self._harness.moment, self._harness.clock())
        outcomes = await self.cosmos.append(events)
        with suppress(EventsError):  # a store that was closed meanwhile has stored them all the same
            await self._settle(events)
        return outcomes

    async def _settle(self, events: Sequence[CloudEvent]) -> None:
        """Follow the streams of the events, in the order in which `events` names their resources first."""
        for resource in dict.fromkeys(event.resource for event in events):
            await self._follow_up.follow(Stream.of_resource(resource))

    async def read(self, request: ReadRequest) -> Chunk:
        """Read."""
        await self._harness.ready()
        return await self.cosmos.read(request)

    async def head(self, stream: Stream) -> int:
        """Ask for the head."""
        await self._harness.ready()
        return await self.cosmos.head(stream)

    async def at(self, stream: Stream, positions: Sequence[int]) -> Sequence[StoredEvent]:
        """Read rows at positions."""
        await self._harness.ready()
        return await self.cosmos.at(stream, positions)

    async def find(self, source: str, event_id: str) -> Sequence[StoredEvent]:
        """Find events."""
        await self._harness.ready()
        return await self.cosmos.find(source, event_id)

    async def erase(self, resource: str, source: str, event_id: str) -> bool:
        """Erase."""
        await self._harness.ready()
        return await self.cosmos.erase(resource, source, event_id)

    async def expire(self, registered_before: int) -> int:
        """Remove what is too old."""
        await self._harness.ready()
        return await self.cosmos.expire(registered_before)

    async def ping(self) -> None:
        """Ping."""
        await self._harness.ready()
        await self.cosmos.ping()

    async def close(self) -> None:
        """Close."""
        if self._appending:
            await asyncio.wait(self._appending)
        await self.cosmos.close()


class LaggingStore(FollowedStore):
    """A store on a server whose reads are behind: what is appended is awaited, and not followed up."""

    async def _settle(self, events: Sequence[CloudEvent]) -> None:
        await asyncio.sleep(LAG_MS / 1_000)


@dataclass
class CosmosHarness:
    """A database on the server of the tests; `moment` is the newest time at which anything was appended.

    Segments are small, so that the suites cross their boundaries.
    """

    directory: Path
    mode: str = "atomic"
    segment_size: int = 50
    clock: Clock = field(default_factory=Clock)
    opened: list[FollowedStore] = field(default_factory=list)
    server: CosmosServer | None = None
    database: str = ""
    moment: int = 0
    kept: dict[str, list[Any]] = field(default_factory=dict)
    store: ClassVar[type[FollowedStore]] = FollowedStore

    def __post_init__(self) -> None:
        self._making = asyncio.Lock()

    async def ready(self) -> None:
        """Make the database when it is first needed, and let the stores know it."""
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
            clock=clock or (lambda: self.moment),
            segment_size=self.segment_size,
            idle=0.5,
            retention_gap=0,
        )
        self.opened.append(self.store(store, self))
        return self.opened[-1]

    async def close(self) -> None:
        """Close every store."""
        while self.opened:
            await self.opened.pop().close()

    async def discard(self) -> None:
        """Close every store and leave nothing on the server."""
        await self.close()
        await self._drop()

    async def wipe(self) -> FollowedStore:
        """Drop the database."""
        await self.close()
        await self._drop()
        return self.open()

    async def back_up(self) -> None:
        """Keep every document."""
        await self.close()
        assert self.server is not None
        async with self.server.client() as client:
            database = client.get_database_client(self.database)
            for name in COPIED:
                items = database.get_container_client(name).read_all_items()
                self.kept[name] = [
                    {key: value for key, value in each.items() if key not in _SYSTEM} async for each in items
                ]

    async def restore(self) -> FollowedStore:
        """Make another database of the documents that were kept."""
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
    """A database whose reads see what stood up to `LAG_MS` ago; a new segment is asked for keys of the one before."""

    mode: str = "lagging"
    segment_size: int = 1_000
    store: ClassVar[type[FollowedStore]] = LaggingStore

    async def ready(self) -> None:
        """Make the database when it is first needed, and wait until its containers are seen."""
        is_new = not self.database
        await super().ready()
        if is_new:
            await asyncio.sleep(LAG_MS / 1_000)
