"""Appending on Cosmos DB: groups, keys, sizes, and what each costs."""

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
from tests.adapters.cosmos.place import RESOURCE, Place, positions
from tests.contract.event_store import ANY, event, events, everything, ids
from tests.support.cosmos import Fault


async def test_publishing_one_event_is_one_request(place: Place) -> None:
    """A store that knows the head creates the document, and that is all."""
    store = place.open()
    await store.append([event()])
    await place.counts()
    await store.append([event()])
    assert await place.counts() == {"create": 1}


@pytest.mark.parametrize(("count", "requests"), [(2, 1), (100, 1), (101, 2), (250, 3)])
async def test_a_batch_is_a_request_for_each_hundred(place: Place, count: int, requests: int) -> None:
    """A batch of n events of one resource takes ceil(n/100) requests, and stands in its order."""
    store = place.open()
    await store.append([event()])
    await place.counts()
    batch = events(count)
    await store.append(batch)
    assert sum((await place.counts()).values()) == requests
    assert ids(await everything(store))[1:] == ids(batch)


async def test_what_arrives_at_once_is_one_group(place: Place) -> None:
    """Requests of one process that come while another is written are written together."""
    store = place.open()
    await store.append([event()])
    await place.counts()
    await asyncio.gather(*(store.append([event()]) for _ in range(50)))
    assert sum((await place.counts()).values()) <= 2
    assert positions(await place.documents()) == list(range(1, 52))


async def test_a_group_holds_each_key_once(place: Place) -> None:
    """Of appends of one event at once, one is stored, and the others share its outcome as duplicates."""
    store = place.open()
    outcomes = [outcome for (outcome,) in await asyncio.gather(*(store.append([event("a")]) for _ in range(20)))]
    assert [outcome.duplicate for outcome in outcomes].count(False) == 1
    assert len({outcome.cursor for outcome in outcomes}) == 1
    assert len(await place.documents()) == 1


async def test_a_repeat_costs_a_conflict_and_a_question(place: Place) -> None:
    """An event that stands is recognised by one query, without another try."""
    store = place.open()
    await store.append([event("a")])
    await place.counts()
    (outcome,) = await store.append([event("a")])
    assert outcome.duplicate
    assert await place.counts() == {"create": 1, "query": 1}


async def test_a_batch_of_several_resources_keeps_the_order_of_its_outcomes(place: Place) -> None:
    """Each event of a batch is stored in its own stream, and its outcome is where it was given."""
    store = place.open()
    outcomes = await store.append([event(), event(resource=ANY), event(), event(resource=ANY)])
    assert [outcome.cursor.position for outcome in outcomes] == [1, 1, 2, 2]
    assert [row.cursor for row in await everything(store, ANY)] == [outcomes[1].cursor, outcomes[3].cursor]


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("text", ["x", "ø", '"'])
async def test_groups_of_large_events_stay_below_the_limit(place: Place, text: str) -> None:
    """Events of the largest size are stored in as many requests as the limit of 2 MB needs, whatever they say."""
    store = place.open()
    size = len(text.encode())
    batch = events(12, data=text * (250_000 // size))
    outcomes = await store.append(batch)
    assert not any(outcome.duplicate for outcome in outcomes)
    assert [row.json for row in await everything(store)] == [each.json for each in batch]


async def test_an_idle_writer_ends_and_another_begins(place: Place) -> None:
    """A stream to which nothing is published has no task, and the next event starts one."""
    store = place.open(idle=0.01)
    await store.append([event()])
    (writer,) = store._appender._writers.values()
    assert writer._task is not None
    await writer._task
    assert not store._appender._writers
    await store.append([event()])
    assert positions(await place.documents()) == [1, 2]


async def test_a_resource_is_listed_before_its_first_event(place: Place) -> None:
    """The document in `cursors` stands before the event does, so that whoever compares finds every stream."""
    store = place.open()
    await place.inject(Fault("create", "streams", status=400))
    with pytest.raises(EventsError):
        await store.append([event()])
    assert await place.documents() == []
    assert await place.listed() == [RESOURCE.name]


async def test_projected_streams_are_not_listed(place: Place) -> None:
    """Only resource streams are followed up."""
    store = place.open()
    await store.append([event()])
    await store.projection.project(Stream.of_org("ttd"), await store.checkpoints.read_after(RESOURCE, 0, 10))
    assert await place.listed() == [RESOURCE.name]


async def test_only_the_offender_of_a_group_fails(place: Place) -> None:
    """A group that the server refuses is split until the event that it does not take stands alone."""
    store = place.open()
    await store.append([event()])
    await place.inject(Fault("batch", status=400, times=3), Fault("create", status=400))
    results = await asyncio.gather(*(store.append([event()]) for _ in range(8)), return_exceptions=True)
    failed = [result for result in results if isinstance(result, EventsError)]
    assert [error.problem for error in failed] == [Problem.BAD_REQUEST]
    assert len(await place.documents()) == 8


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_an_event_that_is_too_large_for_the_server_is_413(place: Place) -> None:
    """What Cosmos DB refuses as too large fails at once, alone, and nothing is stored of it."""
    store = place.open()
    with pytest.raises(EventsError) as caught:
        await store.append([event(data="x" * 2_200_000)])
    assert caught.value.problem is Problem.CONTENT_TOO_LARGE
    assert await place.documents() == []
    assert isinstance((await store.append([event()]))[0], Appended)


async def test_another_segment_size_is_refused(place: Place) -> None:
    """A store that counts segments otherwise than the database was begun with does nothing at all."""
    await place.open(segment_size=100).append([event()])
    other = place.open(segment_size=101)
    for call in (other.append([event()]), other.read(ReadRequest(RESOURCE)), other.ping()):
        with pytest.raises(EventsError) as caught:
            await call
        assert caught.value.problem is Problem.UNAVAILABLE


async def test_another_key_is_refused(place: Place) -> None:
    """It would name the streams of persons anew, and those of before would not be found: nothing at all is done."""
    await place.open().append([event()])
    other = place.open(key=bytes(32))
    for call in (other.append([event()]), other.read(ReadRequest(RESOURCE)), other.ping()):
        with pytest.raises(EventsError, match="another EVENTS_SUBJECT_KEY"):
            await call
    assert len(await place.documents()) == 1
    await place.open().append([event()])
    assert len(await place.documents()) == 2


async def test_a_database_of_before_keys_were_noted_takes_the_first_one(place: Place) -> None:
    """Of many processes at once too; from then on no other. What else it holds stays."""
    await place.open().append([event()])
    cursors = place.container("cursors")
    document = dict(await cursors.read_item("~database", "~database"))
    noted = document.pop("key")
    await cursors.replace_item("~database", document)
    await asyncio.gather(*(place.open().append([event()]) for _ in range(8)))
    after = await cursors.read_item("~database", "~database")
    assert (after["key"], after["generation"], after["segmentSize"]) == (
        noted,
        document["generation"],
        document["segmentSize"],
    )
    with pytest.raises(EventsError):
        await place.open(key=bytes(32)).ping()


def test_what_tells_keys_apart_tells_nothing_else() -> None:
    """It is no part of the key, and differs from key to key."""
    marks = {Names(bytes([n]) * 32).key_check for n in range(100)}
    assert len(marks) == 100
    assert not any(mark in (bytes([n]) * 32).hex() for mark in marks for n in range(100))


async def test_the_client_is_made_once_when_it_is_needed_and_closed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with the store; by however many first calls at once; and gone when the store is closed."""
    made: list[CosmosClient] = []

    def counted(*arguments: Any, **options: Any) -> CosmosClient:
        made.append(CosmosClient(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(client, "CosmosClient", counted)
    store = place.open()
    assert made == []
    await asyncio.gather(*(store.append([event()]) for _ in range(5)), store.ping(), store.head(RESOURCE))
    assert len(made) == 1
    await store.close()
    assert store._database._client is None
    with pytest.raises(EventsError):
        await store.head(RESOURCE)
    assert len(made) == 1
