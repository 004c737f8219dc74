"""Appending on Cosmos DB: groups, unique keys, sizes, and the requests that each costs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from azure.cosmos.aio import CosmosClient

from events_core.adapters.cosmos import client
from events_core.adapters.cosmos.streams.names import Names
from events_core.common.errors import EventsError, Problem
from events_core.feeds.ports import Appended, ReadRequest
from events_core.feeds.stream import Stream
from tests.adapters.cosmos.database import RESOURCE, Database, positions
from tests.contract.event_store import ANY, event, events, everything, ids
from tests.support.cosmos import Fault


async def test_publishing_one_event_is_one_request(database: Database) -> None:
    """A store that knows the head only creates the document."""
    store = database.open()
    await store.append([event()])
    await database.counts()
    await store.append([event()])
    assert await database.counts() == {"create": 1}


@pytest.mark.parametrize(("count", "requests"), [(2, 1), (100, 1), (101, 2), (250, 3)])
async def test_a_batch_is_one_request_per_hundred_events(database: Database, count: int, requests: int) -> None:
    """A batch of n events of one resource takes ceil(n/100) requests, and is stored in its order."""
    store = database.open()
    await store.append([event()])
    await database.counts()
    batch = events(count)
    await store.append(batch)
    assert sum((await database.counts()).values()) == requests
    assert ids(await everything(store))[1:] == ids(batch)


async def test_events_that_arrive_during_a_write_are_one_group(database: Database) -> None:
    """Requests of one process that come while another is written are written together."""
    store = database.open()
    await store.append([event()])
    await database.counts()
    await asyncio.gather(*(store.append([event()]) for _ in range(50)))
    assert sum((await database.counts()).values()) <= 2
    assert positions(await database.documents()) == list(range(1, 52))


async def test_concurrent_appends_of_one_event_store_it_once(database: Database) -> None:
    """One append stores the event; the others share its outcome as duplicates."""
    store = database.open()
    outcomes = [outcome for (outcome,) in await asyncio.gather(*(store.append([event("a")]) for _ in range(20)))]
    assert [outcome.duplicate for outcome in outcomes].count(False) == 1
    assert len({outcome.cursor for outcome in outcomes}) == 1
    assert len(await database.documents()) == 1


async def test_a_duplicate_costs_a_conflict_and_a_query(database: Database) -> None:
    """One query recognises an event that is stored already; nothing is written again."""
    store = database.open()
    await store.append([event("a")])
    await database.counts()
    (outcome,) = await store.append([event("a")])
    assert outcome.duplicate
    assert await database.counts() == {"create": 1, "query": 1}


async def test_a_batch_of_several_resources_keeps_the_order_of_its_outcomes(database: Database) -> None:
    """Each event is stored in the stream of its resource, and its outcome is at the index of the event."""
    store = database.open()
    outcomes = await store.append([event(), event(resource=ANY), event(), event(resource=ANY)])
    assert [outcome.cursor.position for outcome in outcomes] == [1, 1, 2, 2]
    assert [row.cursor for row in await everything(store, ANY)] == [outcomes[1].cursor, outcomes[3].cursor]


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("text", ["x", "ø", '"'])
async def test_groups_of_large_events_stay_below_the_limit(database: Database, text: str) -> None:
    """Events of the largest size are split over as many requests as the limit of 2 MB needs, whatever their text."""
    store = database.open()
    size = len(text.encode())
    batch = events(12, data=text * (250_000 // size))
    outcomes = await store.append(batch)
    assert not any(outcome.duplicate for outcome in outcomes)
    assert [row.json for row in await everything(store)] == [published.json for published in batch]


async def test_an_idle_writer_ends_and_another_begins(database: Database) -> None:
    """A stream without new events has no task, and the next event starts one."""
    store = database.open(idle=0.01)
    await store.append([event()])
    (writer,) = store._appender._writers.values()
    assert writer._task is not None
    await writer._task
    assert not store._appender._writers
    await store.append([event()])
    assert positions(await database.documents()) == [1, 2]


async def test_a_resource_is_listed_before_its_first_event(database: Database) -> None:
    """The state in `cursors` exists before the event does, so a comparison of all streams misses none."""
    store = database.open()
    await database.inject(Fault("create", "streams", status=400))
    with pytest.raises(EventsError):
        await store.append([event()])
    assert await database.documents() == []
    assert await database.listed() == [RESOURCE.name]


async def test_projected_streams_are_not_listed(database: Database) -> None:
    """Only resource streams are followed up."""
    store = database.open()
    await store.append([event()])
    await store.projection.project(Stream.of_org("ttd"), (await store.checkpoints.read_after(RESOURCE, 0, 10)).rows)
    assert await database.listed() == [RESOURCE.name]


async def test_only_the_refused_event_of_a_group_fails(database: Database) -> None:
    """A group that the server refuses is halved until the refused event is alone."""
    store = database.open()
    await store.append([event()])
    await database.inject(Fault("batch", status=400, times=3), Fault("create", status=400))
    results = await asyncio.gather(*(store.append([event()]) for _ in range(8)), return_exceptions=True)
    failed = [result for result in results if isinstance(result, EventsError)]
    assert [error.problem for error in failed] == [Problem.BAD_REQUEST]
    assert len(await database.documents()) == 8


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_an_event_that_is_too_large_for_the_server_is_413(database: Database) -> None:
    """An event that Cosmos DB refuses as too large fails at once and alone."""
    store = database.open()
    with pytest.raises(EventsError) as caught:
        await store.append([event(data="x" * 2_200_000)])
    assert caught.value.problem is Problem.CONTENT_TOO_LARGE
    assert await database.documents() == []
    assert isinstance((await store.append([event()]))[0], Appended)


async def test_another_segment_size_is_refused(database: Database) -> None:
    """A store with another segment size than the database neither reads nor writes."""
    await database.open(segment_size=100).append([event()])
    other = database.open(segment_size=101)
    for call in (other.append([event()]), other.read(ReadRequest(RESOURCE)), other.ping()):
        with pytest.raises(EventsError) as caught:
            await call
        assert caught.value.problem is Problem.UNAVAILABLE


async def test_another_key_is_refused(database: Database) -> None:
    """Another key would name persons' streams anew, and the existing ones would not be found."""
    await database.open().append([event()])
    other = database.open(key=bytes(32))
    for call in (other.append([event()]), other.read(ReadRequest(RESOURCE)), other.ping()):
        with pytest.raises(EventsError, match="another EVENTS_SUBJECT_KEY"):
            await call
    assert len(await database.documents()) == 1
    await database.open().append([event()])
    assert len(await database.documents()) == 2


async def test_a_database_of_another_version_is_refused(database: Database) -> None:
    """Its documents have other names; health says what is wrong."""
    await database.open().append([event()])
    states = database.container("cursors")
    document = dict(await states.read_item("~database", "~database"))
    del document["layout"]
    await states.replace_item("~database", document)
    store = database.open()
    for call in (store.append([event()]), store.read(ReadRequest(RESOURCE)), store.ping()):
        with pytest.raises(EventsError, match="another version"):
            await call


def test_the_key_check_reveals_nothing_of_the_key() -> None:
    """It differs from key to key and is no part of the key."""
    checks = {Names(bytes([n]) * 32).key_check for n in range(100)}
    assert len(checks) == 100
    assert not any(check in (bytes([n]) * 32).hex() for check in checks for n in range(100))


async def test_the_first_request_opens_one_client_and_close_closes_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Concurrent first calls share the client; a store without calls has none."""
    made: list[CosmosClient] = []

    def counted(*arguments: Any, **options: Any) -> CosmosClient:
        made.append(CosmosClient(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(client, "CosmosClient", counted)
    store = database.open()
    assert made == []
    await asyncio.gather(*(store.append([event()]) for _ in range(5)), store.ping(), store.head(RESOURCE))
    assert len(made) == 1
    await store.close()
    assert store._database._client is None
    with pytest.raises(EventsError):
        await store.head(RESOURCE)
    assert len(made) == 1
