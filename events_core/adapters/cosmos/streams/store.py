"""The event store on Cosmos DB, under many processes that write at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from events_core.adapters.cosmos.client import CosmosConnection, CosmosDatabase
from events_core.adapters.cosmos.request_units import RequestUnits
from events_core.adapters.cosmos.streams.append import Appender, WriterContext
from events_core.adapters.cosmos.streams.checkpoints import CosmosCheckpoints
from events_core.adapters.cosmos.streams.cursors import CursorDocuments
from events_core.adapters.cosmos.streams.documents import CursorProof, Draft
from events_core.adapters.cosmos.streams.duplicates import Duplicates
from events_core.adapters.cosmos.streams.erasure import Eraser
from events_core.adapters.cosmos.streams.heads import Heads
from events_core.adapters.cosmos.streams.names import SEGMENT_SIZE, Names
from events_core.adapters.cosmos.streams.positions import PositionsByTime
from events_core.adapters.cosmos.streams.projection import CosmosProjection
from events_core.adapters.cosmos.streams.queries import StreamQueries
from events_core.adapters.cosmos.streams.read import SEGMENTS_AT_ONCE, Reader
from events_core.adapters.cosmos.streams.retention import Retention
from events_core.cloudevent import CloudEvent
from events_core.common import clock, errors
from events_core.common.errors import EventsError
from events_core.feeds.ports import Appended, Chunk, ReadRequest, StoredEvent
from events_core.feeds.stream import Stream


class CosmosEventStore:
    """An EventStore in a Cosmos DB database whose containers stand (`containers.CONTAINERS`).

    `key` names the streams of subjects other than parties. `clock` gives microseconds since the epoch. The database
    remembers the `segment_size` that it was first used with, and refuses every other. Seconds: `idle` after which a
    stream's writer task ends, `deadline` after which an append gives up, `retention_gap` from raising a floor to
    deleting below it, `hole` for which a missing document may be merely late. One event loop uses a store.
    """

    def __init__(
        self,
        connection: CosmosConnection,
        database: str,
        *,
        key: bytes,
        clock: Callable[[], int] = clock.now,
        segment_size: int = SEGMENT_SIZE,
        idle: float = 60.0,
        deadline: float = 20.0,
        retention_gap: float = 3_600.0,
        hole: float = 60.0,
    ) -> None:
        self._database = CosmosDatabase(connection, database)
        self._clock = clock
        self._segment_size = segment_size
        self._agreed = False
        self._closed = False
        self._appending: set[asyncio.Future[None]] = set()
        self._proof = proof = CursorProof()
        queries = StreamQueries(self._database)
        self._names = names = Names(key)
        self._cursors = cursors = CursorDocuments(self._database)
        self._heads = heads = Heads(queries, cursors, segment_size)
        positions_by_time = PositionsByTime(queries, cursors, heads, segment_size)
        duplicates = Duplicates(queries, self._now)
        self._appender = Appender(
            WriterContext(
                self._database, queries, cursors, heads, duplicates, proof, segment_size, self._now, idle, deadline
            )
        )
        self.projection = CosmosProjection(self._ready, self._appender, heads, names)
        self._reader = Reader(queries, cursors, heads, positions_by_time, proof, segment_size, hole)
        self._eraser = Eraser(self._database, queries, cursors, self.projection, names, proof)
        self._retention = Retention(
            self._database, queries, cursors, heads, positions_by_time, segment_size, retention_gap
        )
        self.checkpoints = CosmosCheckpoints(self._ready, cursors, heads, names, self._reader)

    @property
    def database(self) -> CosmosDatabase:
        """The connection that whatever else is in the database shares."""
        return self._database

    @property
    def scan_rows(self) -> int:
        """The rows of as many segments as one request looks at: the index passes over those that do not match."""
        return SEGMENTS_AT_ONCE * self._segment_size

    @property
    def request_units(self) -> RequestUnits:
        """Requests and request units of this process so far, by operation."""
        return self._database.request_units

    async def append(self, events: Sequence[CloudEvent]) -> list[Appended]:
        """Store events durably; those of one resource in the given order; see `EventStore.append`."""
        self._refuse_closed()
        async with self._under_way():
            await self._agree()
            futures = self._submit(events)
            if futures:
                await asyncio.wait(futures)
        outcomes = [future.result() for future in futures]
        failures = [outcome for outcome in outcomes if isinstance(outcome, EventsError)]
        if failures:
            raise max(failures, key=lambda error: error.problem.status)
        return [outcome for outcome in outcomes if isinstance(outcome, Appended)]

    async def read(self, request: ReadRequest) -> Chunk:
        """Read a chunk of a stream; see `EventStore.read`."""
        await self._ready()
        return await self._reader.read(self._names.of(request.stream), request)

    async def head(self, stream: Stream) -> int:
        """The newest position of a stream, 0 when it holds nothing that readers may see; one request."""
        await self._ready()
        head = await self._heads.fresh(self._names.of(stream))
        return 0 if head.kept else head.position

    async def at(self, stream: Stream, positions: Sequence[int]) -> Sequence[StoredEvent]:
        """The rows at positions of a stream; see `EventStore.at`."""
        await self._ready()
        return await self._reader.rows_at(self._names.of(stream), positions)

    async def find(self, source: str, event_id: str) -> Sequence[StoredEvent]:
        """The rows of events with this source and id; see `EventStore.find`."""
        await self._ready()
        return await self._reader.rows_of(source, event_id)

    async def erase(self, resource: str, source: str, event_id: str) -> bool:
        """Replace an event by a tombstone in every stream; False when there is none."""
        await self._ready()
        return await self._eraser.erase(resource, source, event_id)

    async def expire(self, registered_before: int) -> int:
        """Remove the oldest events; what is below a raised floor goes when its time has come, in a later call."""
        await self._ready()
        return await self._retention.expire(registered_before)

    async def ping(self) -> None:
        """Return when the database answers.

        Raises:
            EventsError: UNAVAILABLE when it does not, or was made with another segment size or key.
        """
        self._agreed = False
        await self._ready()

    async def close(self) -> None:
        """Finish what was submitted and close the connections; whatever is called later is UNAVAILABLE."""
        self._closed = True
        if self._appending:
            await asyncio.wait(self._appending)
        await self._appender.close()
        await self._database.close()

    def _now(self) -> int:
        return self._clock()

    async def _ready(self) -> None:
        self._refuse_closed()
        await self._agree()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise errors.unavailable("The event store is closed.")

    async def _agree(self) -> None:
        if not self._agreed:
            self._proof.database = await self._cursors.agree_on(self._segment_size, self._names.key_check)
            self._agreed = True

    @asynccontextmanager
    async def _under_way(self) -> AsyncIterator[None]:
        """Let close wait for what happens within the block."""
        done = asyncio.get_running_loop().create_future()
        self._appending.add(done)
        try:
            yield
        finally:
            self._appending.remove(done)
            done.set_result(None)

    def _submit(self, events: Sequence[CloudEvent]) -> list[asyncio.Future[Appended | EventsError]]:
        """Hand the events to the writers of their streams; a future for each, in the same order."""
        by_resource: dict[str, list[int]] = {}
        for index, event in enumerate(events):
            by_resource.setdefault(event.resource, []).append(index)
        futures: dict[int, asyncio.Future[Appended | EventsError]] = {}
        for resource, indexes in by_resource.items():
            stream = Stream.of_resource(resource)
            drafts = [Draft.of_event(events[index]) for index in indexes]
            futures |= zip(indexes, self._appender.submit(stream, self._names.of(stream), drafts), strict=True)
        return [futures[index] for index in range(len(events))]
