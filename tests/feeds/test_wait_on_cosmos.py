"""Waiting readers on Cosmos DB: what a look-up costs, and what it finds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from events_core.adapters.cosmos.streams.store import CosmosEventStore
from events_core.feeds import wait
from events_core.feeds.ports import ReadRequest
from events_core.feeds.read import FeedReader
from events_core.feeds.stream import START, Cursor, Stream
from events_core.feeds.wait import WaitingReaders
from tests.contract.event_store import APP, event, everything
from tests.support.cosmos import CosmosServer, cosmos_server, ours_only
from tests.support.following import following_on, store_on
from tests.support.waiting import until_readers_wait

APPS = Stream.of_resource(APP)
PARTIES = [Stream.of_subject(f"/party/{n}") for n in range(8)]

pytestmark = ours_only


@pytest.fixture
async def server() -> AsyncIterator[CosmosServer]:
    """The emulator."""
    async with cosmos_server() as server:
        yield server


async def _end(store: CosmosEventStore, stream: Stream) -> Cursor:
    rows = await everything(store, stream)
    return rows[-1].cursor if rows else START


def waits(reader: FeedReader, stream: Stream, cursor: Cursor, seconds: float = 20) -> asyncio.Task[list[bytes]]:
    """Wait for the events of a stream after a cursor."""

    async def read() -> list[bytes]:
        page, _ = await reader.read_or_wait(ReadRequest(stream, cursor), None, seconds, "/org/ttd")
        return [*page.events]

    return asyncio.create_task(read())


@pytest.mark.parametrize("published", [0, 1])
async def test_eight_party_readers_make_one_request_an_interval(
    server: CosmosServer, monkeypatch: pytest.MonkeyPatch, published: int
) -> None:
    """Beside the page that each of them reads at first, whether or not its stream has events."""
    monkeypatch.setattr(wait, "POLL_SECONDS", 0.1)
    async with server.database() as database, store_on(server, database) as writer, store_on(server, database) as store:
        await writer.append([event(subject=party.key) for party in PARTIES[: 8 * published]])
        await following_on(writer).follow(APPS)
        ends = [await _end(writer, party) for party in PARTIES]
        reader = FeedReader(store, WaitingReaders(store, 8))
        readers = [waits(reader, party, end, 1.0) for party, end in zip(PARTIES, ends, strict=True)]
        await until_readers_wait(reader.waiting, 8)
        await server.counts(database)
        assert await asyncio.gather(*readers) == [[]] * 8
        counts = await server.counts(database)
        requests = sum(sum(each.values()) for name, each in counts.items() if name)
        assert 1 <= requests <= 10, counts


async def test_a_reader_across_the_end_of_a_segment_wakes(
    server: CosmosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next event of another process is in the next segment."""
    monkeypatch.setattr(wait, "POLL_SECONDS", 0.1)
    async with server.database() as database, store_on(server, database) as writer, store_on(server, database) as store:
        await writer.append([event() for _ in range(16)])  # a segment
        reader = FeedReader(store, WaitingReaders(store, 8))
        waiting = waits(reader, APPS, await _end(writer, APPS))
        await until_readers_wait(reader.waiting, 1)
        last = event()
        await writer.append([last])
        assert await asyncio.wait_for(waiting, 10) == [last.json]


async def test_one_request_looks_up_two_hundred_streams(server: CosmosServer) -> None:
    """It names those that have grown, with their newest position."""
    async with server.database() as database, store_on(server, database) as writer, store_on(server, database) as store:
        streams = [Stream.of_resource(f"urn:altinn:resource:r{n}") for n in range(200)]
        await writer.append([event(resource=stream.key) for stream in streams[::2] for _ in range(3)])
        await store.ping()
        await server.counts(database)
        assert await store.changed(dict.fromkeys(streams, 0)) == dict.fromkeys(streams[::2], 3)
        counts = await server.counts(database)
        assert {name: dict(each) for name, each in counts.items() if name} == {"streams": {"query": 1}}
        assert await store.changed(dict.fromkeys(streams, 3)) == {}


async def test_a_stream_known_to_have_grown_costs_no_request(server: CosmosServer) -> None:
    """This process has read or appended its newest event."""
    async with server.database() as database, store_on(server, database) as store:
        await store.append([event()])
        await server.counts(database)
        assert await store.changed({APPS: 0}) == {APPS: 1}
        assert not any(name for name in await server.counts(database))
