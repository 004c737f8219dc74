"""Cosmos DB slow, throttling, refusing or down: a success or 503, never a lost or doubled event."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from events_core.adapters.cosmos import CosmosConnection, CosmosEventStore
from events_core.common.errors import EventsError, Problem
from events_core.feeds.ports import ReadRequest
from tests.adapters.cosmos.database import KEY, RESOURCE, Database, page_after, positions
from tests.contract.event_store import APP, event, events, ids
from tests.support.cosmos import UNKNOWN_OUTCOMES, Fault


@pytest.mark.parametrize("fault", UNKNOWN_OUTCOMES, ids=str)
@pytest.mark.parametrize("count", [1, 5])
async def test_a_write_of_unknown_outcome_is_stored_once(database: Database, fault: Fault, count: int) -> None:
    """Whether or not the failed write was executed, each event is stored once and is no duplicate."""
    store = database.open()
    await store.append([event()])
    await database.inject(replace(fault, operation="create" if count == 1 else "batch", container="streams"))
    outcomes = await store.append(events(count))
    assert [outcome.duplicate for outcome in outcomes] == [False] * count
    assert positions(await database.documents()) == list(range(1, count + 2))


async def test_a_duplicate_whose_write_is_cut_off_stays_a_duplicate(database: Database) -> None:
    """The document of the first append tells that it is not from this write."""
    store = database.open()
    await store.append([event("a")])
    await database.inject(Fault("create", "streams", cut=True))
    (outcome,) = await store.append([event("a")])
    assert outcome.duplicate


async def test_a_throttled_write_is_retried_after_the_wait(database: Database) -> None:
    """A 429 costs its wait and another try, but no query."""
    store = database.open()
    await store.append([event()])
    await database.counts()
    await database.inject(Fault("create", "streams", status=429, retry_after_ms=200, times=5))
    began = time.monotonic()
    await store.append([event()])
    assert time.monotonic() - began >= 1.0
    assert await database.counts() == {"create": 6}


async def test_an_unknown_outcome_at_the_deadline_is_503(database: Database) -> None:
    """The answer has Retry-After, and the same append again completes it."""
    store = database.open(deadline=0.5)
    await store.append([event("a")])
    await database.inject(Fault("create", "streams", status=503, after=True), Fault("query", status=503, times=1_000))
    await database.inject(Fault("create", "streams", status=503, times=1_000))
    with pytest.raises(EventsError) as caught:
        await store.append([event("b")])
    assert caught.value.problem is Problem.UNAVAILABLE
    assert int(caught.value.headers["Retry-After"]) > 0
    await database.server.heal()
    (outcome,) = await store.append([event("b")])
    assert outcome.duplicate
    assert positions(await database.documents()) == [1, 2]


async def test_a_slow_server_is_503_at_the_deadline(database: Database) -> None:
    """A caller never waits longer than the deadline."""
    store = database.open(deadline=0.3)
    await store.append([event()])
    await database.inject(Fault("create", "streams", delay_ms=2_000))
    began = time.monotonic()
    with pytest.raises(EventsError):
        await store.append([event()])
    assert time.monotonic() - began < 1.5


async def test_a_forbidden_write_is_503_at_once(database: Database) -> None:
    """403 is definite: no retry and no query. The publisher may send again."""
    store = database.open()
    await store.append([event()])
    await database.counts()
    await database.inject(Fault("create", "streams", status=403))
    with pytest.raises(EventsError) as caught:
        await store.append([event()])
    assert caught.value.problem is Problem.UNAVAILABLE
    assert await database.counts() == {"create": 1}


@pytest.mark.parametrize("status", [429, 503, 500, 408, 449])
async def test_a_read_that_fails_is_503(database: Database, status: int) -> None:
    """A reader gets 503 with Retry-After, and the page once the server is well again."""
    store = database.open()
    await store.append([event("a")])
    await database.inject(Fault("query", status=status, retry_after_ms=10, times=1_000))
    with pytest.raises(EventsError) as caught:
        await page_after(store)
    assert caught.value.problem is Problem.UNAVAILABLE
    assert int(caught.value.headers["Retry-After"]) > 0
    await database.server.heal()
    assert ids((await page_after(store)).rows) == ["a"]


async def test_an_unreachable_server_is_503() -> None:
    """Every call is UNAVAILABLE, and closing the store works."""
    connection = CosmosConnection("http://127.0.0.1:9/", "")
    store = CosmosEventStore(connection, "events", key=KEY, deadline=0.5)
    calls = [store.append([event()]), store.read(ReadRequest(RESOURCE)), store.head(RESOURCE), store.ping()]
    for call in [*calls, store.erase(APP, "urn:x", "a")]:
        with pytest.raises(EventsError) as caught:
            await call
        assert caught.value.problem is Problem.UNAVAILABLE
    await store.close()


async def test_a_store_recovers_when_its_server_does(database: Database) -> None:
    """If the client could not be opened, the next call opens it."""
    store = database.open()
    await database.inject(Fault("meta", status=503, times=20))
    with pytest.raises(EventsError):
        await store.ping()
    await database.server.heal()
    await store.ping()


async def test_close_waits_for_running_appends(database: Database) -> None:
    """An append that was called before close is stored, also while it opens the client."""
    store = database.open()
    appends = [asyncio.ensure_future(store.append([event()])) for _ in range(5)]
    await asyncio.sleep(0)
    await store.close()
    assert all(not outcome.duplicate for (outcome,) in await asyncio.gather(*appends))
