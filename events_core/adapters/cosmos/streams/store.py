"""The event store on Cosmos DB. Many processes write at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from typing_extensions import override

from events_core.adapters.cosmos.client import CosmosConnection, CosmosDatabase
from events_core.adapters.cosmos.request_units import RequestUnits
from events_core.adapters.cosmos.streams.append import Appender, WriterContext
from events_core.adapters.cosmos.streams.checkpoints import CosmosCheckpoints
from events_core.adapters.cosmos.streams.documents import CursorProof, Draft
from events_core.adapters.cosmos.streams.duplicates import Duplicates
from events_core.adapters.cosmos.streams.erasure import Eraser
from events_core.adapters.cosmos.streams.heads import Heads
from events_core.adapters.cosmos.streams.names import SEGMENT_SIZE, Names
from events_core.adapters.cosmos.streams.positions import PositionsByTime
from events_core.adapters.cosmos.streams.projection import CosmosProjectedStreams
from events_core.adapters.cosmos.streams.queries import StreamQueries
from events_core.adapters.cosmos.streams.read import SEGMENTS_AT_ONCE, Reader
from events_core.adapters.cosmos.streams.reservations import Reservations
from events_core.adapters.cosmos.streams.retention import Retention
from events_core.adapters.cosmos.streams.states import StreamStates
from events_core.cloudevent import CloudEvent
from events_core.common import clock, errors
from events_core.common.clock import SECOND
from events_core.common.errors import EventsError
from events_core.feeds.ports import Appended, Chunk, EventStore, ReadRequest, StoredEvent
from events_core.feeds.stream import Stream

AHEAD = 5 * SECOND
"""How far this machine's clock may be ahead of the server's, whose time is known to a second or two."""


class CosmosEventStore(EventStore):
    """The event store in a Cosmos DB database that has all `containers.CONTAINERS`.

    `key` names the streams of subjects that are no parties. `clock` gives microseconds since the epoch. The first
    process writes `segment_size` into the database, which then refuses any other. Readers see rows for
    `retention_days`. Durations in seconds: the writer of a stream ends after `idle`, an append gives up after
    `deadline`, and a missing document may be late for `hole`. A store belongs to one event loop.
    """

    def __init__(
        self,
        connection: CosmosConnection,
        database: str,
        *,
        key: bytes,
        clock: Callable[[], int] = clock.now,
        segment_size: int = SEGMENT_SIZE,
        retention_days: int = 90,
        idle: float = 60.0,
        deadline: float = 20.0,
        hole: float = 60.0,
    ) -> None:
        self._database = CosmosDatabase(connection, database)
        self._clock = clock
        self._segment_size = segment_size
        self._deadline = deadline
        self._agreed = False
        self._closed = False
        self._appending: set[asyncio.Future[None]] = set()
        self._proof = proof = CursorProof()
        queries = StreamQueries(self._database)
        self._names = names = Names(key)
        self._retention = retention = Retention(retention_days, self._now)
        self._states = states = StreamStates(self._database)
        self._heads = heads = Heads(queries, states, retention, segment_size)
        positions_by_time = PositionsByTime(queries, states, retention, segment_size)
        duplicates = Duplicates(queries, self._now)
        self._appender = Appender(
            WriterContext(
                self._database,
                queries,
                Reservations(self._database, states, heads, retention, segment_size, self._now),
                heads,
                duplicates,
                retention,
                proof,
                segment_size,
                self._now,
                idle,
                deadline,
            )
        )
        self.projection = CosmosProjectedStreams(self._ready, self._appender, heads, names)
        self._reader = Reader(queries, heads, positions_by_time, retention, proof, segment_size, hole)
        self._eraser = Eraser(self._database, queries, states, self.projection, names, retention, proof)
        self.checkpoints = CosmosCheckpoints(self._ready, states, heads, names, self._reader)

    @property
    def database(self) -> CosmosDatabase:
        """The connection, which the stores of subscriptions and deliveries share."""
        return self._database

    @property
    def request_units(self) -> RequestUnits:
        """Requests and request units of this process so far, by operation."""
        return self._database.request_units

    @property
    @override
    def scan_rows(self) -> int:
        # An index serves filters, so one request scans as many segments as a page may look at.
        return SEGMENTS_AT_ONCE * self._segment_size

    @override
    async def append(self, events: Sequence[CloudEvent]) -> list[Appended]:
        async with self._delaying_close():
            await self._ready()
            futures = self._submit(events)
            if futures:
                await asyncio.wait(futures, timeout=self._deadline)
        if not all(future.done() for future in futures):
            raise errors.unavailable("The event store did not answer in time.")
        outcomes = [future.result() for future in futures]
        failures = [outcome for outcome in outcomes if isinstance(outcome, EventsError)]
        if failures:
            raise max(failures, key=lambda error: error.problem.status)
        return [outcome for outcome in outcomes if isinstance(outcome, Appended)]

    @override
    async def read(self, request: ReadRequest) -> Chunk:
        await self._ready()
        return await self._reader.read(self._names.of(request.stream), request)

    @override
    async def head(self, stream: Stream) -> int:
        await self._ready()
        head = await self._heads.fresh(self._names.of(stream))
        return head.position if self._heads.is_visible(head) else 0

    @override
    async def changed(self, heads: Mapping[Stream, int]) -> Mapping[Stream, int]:
        await self._ready()
        changed = await self._heads.changed({self._names.of(stream): head for stream, head in heads.items()})
        return {stream: changed[name] for stream in heads if (name := self._names.of(stream)) in changed}

    @override
    async def at(self, stream: Stream, positions: Sequence[int]) -> Sequence[StoredEvent]:
        await self._ready()
        return await self._reader.rows_at(self._names.of(stream), positions)

    @override
    async def find(self, source: str | None, event_id: str) -> Sequence[StoredEvent]:
        await self._ready()
        return await self._reader.rows_of(source, event_id)

    @override
    async def erase(self, resource: str, source: str, event_id: str) -> bool:
        await self._ready()
        return await self._eraser.erase(resource, source, event_id)

    @override
    async def expire(self, registered_before: int) -> int:
        return 0  # documents expire by time to live

    @override
    async def ping(self) -> None:
        self._agreed = False
        await self._ready()

    @override
    async def close(self) -> None:
        self._closed = True
        if self._appending:
            await asyncio.wait(self._appending)
        await self._appender.close()
        await self._database.close()

    def _now(self) -> int:
        """The time of this process, but not far ahead of the server: later events would all get that time too."""
        now = self._clock()  # looked up at each call: tests replace the clock of a running store
        server = self._database.server_time()
        return now if server is None else min(now, server + AHEAD)

    async def _ready(self) -> None:
        if self._closed:
            raise errors.unavailable("The event store is closed.")
        if not self._agreed:
            self._proof.generation = await self._states.agree_on(self._segment_size, self._names.key_check)
            self._agreed = True

    @asynccontextmanager
    async def _delaying_close(self) -> AsyncIterator[None]:
        """Let `close` wait for the end of the block."""
        done = asyncio.get_running_loop().create_future()
        self._appending.add(done)
        try:
            yield
        finally:
            self._appending.remove(done)
            done.set_result(None)

    def _submit(self, events: Sequence[CloudEvent]) -> list[asyncio.Future[Appended | EventsError]]:
        """Give the events to the writers of their streams. Return a future for each event, in the same order."""
        by_resource: dict[str, list[int]] = {}
        for index, event in enumerate(events):
            by_resource.setdefault(event.resource, []).append(index)
        futures: dict[int, asyncio.Future[Appended | EventsError]] = {}
        for resource, indexes in by_resource.items():
            stream = Stream.of_resource(resource)
            drafts = [Draft.of_event(events[index]) for index in indexes]
            futures |= zip(indexes, self._appender.submit(stream, self._names.of(stream), drafts), strict=True)
        return [futures[index] for index in range(len(events))]
