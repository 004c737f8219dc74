"""Following up on Cosmos DB: its cost, and several processes on a failing server."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest

from events_core.adapters.cosmos.client import CosmosConnection
from events_core.adapters.cosmos.streams.store import CosmosEventStore
from events_core.cloudevent import CloudEvent
from events_core.common.errors import EventsError
from events_core.feeds import follow_up
from events_core.feeds.follow_up import FollowUp
from events_core.feeds.projection import Projection
from events_core.feeds.stream import Stream
from events_core.feeds.wait import WaitingReaders
from tests.contract.event_store import APP, OTHER_APP, SECOND, Clock, event, everything
from tests.support.cosmos import CosmosServer, Fault, cosmos_server, ours_only
from tests.support.followers import Recording
from tests.support.following import following_on, store_on

APPS, OTHERS = Stream.of_resource(APP), Stream.of_resource(OTHER_APP)
ORG = Stream.of_org("ttd")
HOUR = 3_600 * SECOND

pytestmark = ours_only


@pytest.fixture
async def server() -> AsyncIterator[CosmosServer]:
    """The emulator."""
    async with cosmos_server() as server:
        yield server


UNWELL = [
    Fault(cut=True, after=True, probability=0.05, times=15),
    Fault(status=503, probability=0.05, times=15),
    Fault(status=449, probability=0.05, times=15),
    Fault(status=429, retry_after_ms=5, probability=0.05, times=15),
    Fault("replace", "cursors", status=412, probability=0.3, times=3),
]


async def test_several_processes_follow_up_on_a_failing_server(server: CosmosServer) -> None:
    """Lost connections, throttling and errors cause no gap, no repeat and no inversion."""
    dice = random.Random(13)
    subjects = [f"/party/{n}" for n in range(1, 5)]
    some = [event(resource=dice.choice([APP, OTHER_APP]), subject=dice.choice(subjects)) for _ in range(120)]
    async with server.database() as database, AsyncExitStack() as stack:
        first, *others = [await stack.enter_async_context(store_on(server, database)) for _ in range(3)]
        publishing = asyncio.create_task(_published(first, some))
        await server.inject(*UNWELL)
        while not publishing.done():
            await asyncio.gather(*(_woken(following_on(store)) for store in others))
        await publishing
        await server.heal()
        await following_on(first).compare()
        for target in (ORG, *map(Stream.of_subject, subjects)):
            await _check(
                first, target, [each for each in some if target in (ORG, Stream.of_subject(each.subject or ""))]
            )


async def test_no_feed_holds_an_event_twice_after_a_long_failure(server: CosmosServer) -> None:
    """Deliveries cannot be recorded until duplicates are not noticed any more: an hour, and more than a segment."""
    clock, other = Clock(), Recording(is_down=True, timeout=0.3)  # projections are done by then
    async with server.database() as database:
        connection = CosmosConnection.of_string(server.connection_string)
        store = CosmosEventStore(connection, database, key=bytes(32), clock=clock, segment_size=8)
        both = FollowUp(store.checkpoints, [Projection(store.projection, WaitingReaders(store, 0)), other])
        some = [event(f"{n}") for n in range(5)]
        await store.append(some)
        await both.follow_all([APPS])
        clock.now += 2 * HOUR
        await store.append([event(f"{n}", resource=OTHER_APP) for n in range(20)])
        await both.follow_all([OTHERS])
        clock.now += 2 * HOUR
        other.is_down = False
        await both.sweep()
        assert sorted(other.recorded, key=int) == sorted([*map(str, range(20)), *map(str, range(5))], key=int)
        rows = await everything(store, ORG)
        assert [row.id for row in rows] == [*map(str, range(5)), *map(str, range(20))]
        await store.close()


async def test_following_up_one_event_costs_three_requests(server: CosmosServer) -> None:
    """Beside those of the followers: the checkpoint, the page, and the checkpoint again."""
    async with server.database() as database, store_on(server, database) as store:
        await store.append([event()])
        process = FollowUp(store.checkpoints, [Recording()])
        await server.counts(database)
        await process.follow(APPS)
        counts = await server.counts(database)
        assert {name: dict(each) for name, each in counts.items() if name in ("streams", "cursors")} == {
            "streams": {"query": 1},
            "cursors": {"read": 1, "patch": 1},
        }


async def test_every_further_page_costs_two_requests(server: CosmosServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint is read once a round."""
    monkeypatch.setattr(follow_up, "PAGE", 4)
    async with server.database() as database, store_on(server, database) as store:
        await store.append([event() for _ in range(12)])
        other = Recording()
        await server.counts(database)
        await FollowUp(store.checkpoints, [other]).follow(APPS)
        counts = await server.counts(database)
        assert len(other.recorded) == 12
        assert (counts["streams"]["query"], counts["cursors"]["read"], counts["cursors"]["patch"]) == (3, 1, 3)


async def test_a_stream_that_cannot_be_compared_is_followed(server: CosmosServer) -> None:
    """It ends the comparison of no other stream."""
    async with server.database() as database, store_on(server, database) as store:
        await store.append([event("a"), event("b", resource=OTHER_APP)])
        async with store_on(server, database) as other:
            await other.ping()
            await server.inject(Fault("query", "streams", status=503))
            assert set(await other.checkpoints.behind()) == {APPS, OTHERS}
            await server.heal()
            await following_on(other).compare()
            assert await other.checkpoints.behind() == []


async def test_a_comparison_looks_at_no_stream_once_its_time_is_over(server: CosmosServer) -> None:
    """The next one looks at the streams in another order."""
    async with server.database() as database, store_on(server, database) as store:
        await store.append([event("a"), event("b", resource=OTHER_APP)])
        assert await store.checkpoints.behind(0) == []


async def _published(store: CosmosEventStore, some: Sequence[CloudEvent]) -> None:
    """Publish a few at a time, as a publisher does that repeats what was not acknowledged."""
    for at in range(0, len(some), 5):
        done = False
        while not done:
            try:
                await store.append(some[at : at + 5])
                done = True
            except EventsError:
                continue


async def _woken(process: FollowUp) -> None:
    try:
        await process.follow_all([APPS, OTHERS])
    except EventsError:
        return


async def _check(store: CosmosEventStore, target: Stream, expected: Sequence[CloudEvent]) -> None:
    rows = await everything(store, target)
    for resource in (APP, OTHER_APP):
        published = [each.id for each in expected if each.resource == resource]
        assert [row.id for row in rows if row.resource == resource] == published
    assert len(rows) == len(expected)


@pytest.fixture
async def slow_server() -> AsyncIterator[CosmosServer]:
    """The emulator, with 6 ms more for each request."""
    async with cosmos_server(latency_ms=6) as server:
        yield server


@pytest.mark.slow
async def test_following_up_keeps_up_with_278_events_a_second(slow_server: CosmosServer) -> None:
    """Over 5,000 subjects, from a cold start on, an event costs little more than one request.

    The first of a subject costs one more, which reserves positions. An event also costs less processor time than a
    second has for 278 of them. The least disturbed part of the stream counts; `bench/follow_up.py` measures wall time.
    """
    part = 1_000
    connection = CosmosConnection.of_string(slow_server.connection_string)
    rates: list[float] = []
    async with slow_server.database() as database:
        publisher, store = (CosmosEventStore(connection, database, key=bytes(32)) for _ in range(2))
        process = following_on(store)
        for n, first in enumerate((*range(0, 5_000, part), 5_000 - part)):  # each subject once, the last ones again
            await publisher.append([event(subject=f"/party/{first + number}") for number in range(part)])
            await slow_server.counts(database)
            began = time.process_time()
            await process.follow(APPS)
            rates.append(part / (time.process_time() - began))
            requests = sum(sum(each.values()) for each in (await slow_server.counts(database)).values())
            assert requests <= part * (2.1 if n < 5 else 1.1)
        print(f"\nevents a second of processor time: {', '.join(f'{rate:.0f}' for rate in rates)}")
        assert (await store.checkpoints.checkpoint(APPS)).position == 6 * part
        for each in (publisher, store):
            await each.close()
    assert max(rates) > 278
