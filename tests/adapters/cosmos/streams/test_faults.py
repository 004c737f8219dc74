"""Cosmos DB slow, throttling, refusing or gone: one success or 503, never a lost or doubled event."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from events_core.adapters.cosmos import CosmosConnection, CosmosEventStore
from events_core.common.errors import EventsError, Problem
from events_core.feeds.ports import ReadRequest
from tests.adapters.cosmos.place import KEY, RESOURCE, Place, page_after, positions
from tests.contract.event_store import APP, event, events, ids
from tests.support.cosmos import UNKNOWN_OUTCOMES, Fault


@pytest.mark.parametrize("fault", UNKNOWN_OUTCOMES, ids=str)
@pytest.mark.parametrize("count", [1, 5])
async def test_an_unknown_outcome_is_one_success(place: Place, fault: Fault, count: int) -> None:
    """Whether or not the write that failed was done: each event stands once, and is no duplicate."""
    store = place.open()
    await store.append([event()])
    await place.inject(replace(fault, operation="create" if count == 1 else "batch", container="streams"))
    outcomes = await store.append(events(count))
    assert [outcome.duplicate for outcome in outcomes] == [False] * count
    assert positions(await place.documents()) == list(range(1, count + 2))


async def test_an_event_that_was_stored_before_stays_a_duplicate(place: Place) -> None:
    """A repeat whose write is cut off is told from the first one, which stands."""
    store = place.open()
    await store.append([event("a")])
    await place.inject(Fault("create", "streams", cut=True))
    (outcome,) = await store.append([event("a")])
    assert outcome.duplicate


async def test_throttling_is_waited_for_as_told(place: Place) -> None:
    """A 429 costs its wait and another try, but no question."""
    store = place.open()
    await store.append([event()])
    await place.counts()
    await place.inject(Fault("create", "streams", status=429, retry_after_ms=200, times=5))
    began = time.monotonic()
    await store.append([event()])
    assert time.monotonic() - began >= 1.0
    assert await place.counts() == {"create": 6}


async def test_nothing_known_at_the_deadline_is_503(place: Place) -> None:
    """An append whose outcome stays unknown ends in 503 with Retry-After, and the same again completes it."""
    store = place.open(deadline=0.5)
    await store.append([event("a")])
    await place.inject(Fault("create", "streams", status=503, after=True), Fault("query", status=503, times=1_000))
    await place.inject(Fault("create", "streams", status=503, times=1_000))
    with pytest.raises(EventsError) as caught:
        await store.append([event("b")])
    assert caught.value.problem is Problem.UNAVAILABLE
    assert int(caught.value.headers["Retry-After"]) > 0
    await place.server.heal()
    (outcome,) = await store.append([event("b")])
    assert outcome.duplicate
    assert positions(await place.documents()) == [1, 2]


async def test_a_slow_server_is_503_at_the_deadline(place: Place) -> None:
    """Who waits longer than the deadline is answered, whatever the server does."""
    store = place.open(deadline=0.3)
    await store.append([event()])
    await place.inject(Fault("create", "streams", delay_ms=2_000))
    began = time.monotonic()
    with pytest.raises(EventsError):
        await store.append([event()])
    assert time.monotonic() - began < 1.5


async def test_a_forbidden_write_is_503_and_asks_nothing(place: Place) -> None:
    """403 is definite: no loop, no question; the publisher may come again."""
    store = place.open()
    await store.append([event()])
    await place.counts()
    await place.inject(Fault("create", "streams", status=403))
    with pytest.raises(EventsError) as caught:
        await store.append([event()])
    assert caught.value.problem is Problem.UNAVAILABLE
    assert await place.counts() == {"create": 1}


@pytest.mark.parametrize("status", [429, 503, 500, 408, 449])
async def test_a_read_that_fails_is_503(place: Place, status: int) -> None:
    """A reader gets 503 with Retry-After, and the page when the server is well again."""
    store = place.open()
    await store.append([event("a")])
    await place.inject(Fault("query", status=status, retry_after_ms=10, times=1_000))
    with pytest.raises(EventsError) as caught:
        await page_after(store)
    assert caught.value.problem is Problem.UNAVAILABLE
    assert int(caught.value.headers["Retry-After"]) > 0
    await place.server.heal()
    assert ids((await page_after(store)).rows) == ["a"]


async def test_a_server_that_is_not_there_is_503() -> None:
    """Every call of a store whose server cannot be reached is UNAVAILABLE, and closing it is fine."""
    connection = CosmosConnection("http://127.0.0.1:9/", "")
    store = CosmosEventStore(connection, "events", key=KEY, deadline=0.5)
    calls = [store.append([event()]), store.read(ReadRequest(RESOURCE)), store.head(RESOURCE), store.ping()]
    for call in [*calls, store.erase(APP, "urn:x", "a"), store.expire(0)]:
        with pytest.raises(EventsError) as caught:
            await call
        assert caught.value.problem is Problem.UNAVAILABLE
    await store.close()


async def test_a_store_recovers_when_its_server_does(place: Place) -> None:
    """A client that could not be opened is opened by the next call."""
    store = place.open()
    await place.inject(Fault("meta", status=503, times=20))
    with pytest.raises(EventsError):
        await store.ping()
    await place.server.heal()
    await store.ping()


async def test_closing_waits_for_what_is_under_way(place: Place) -> None:
    """An append that was called before close is stored and acknowledged, also while the first one opens the client."""
    store = place.open()
    appends = [asyncio.ensure_future(store.append([event()])) for _ in range(5)]
    await asyncio.sleep(0)
    await store.close()
    assert all(not outcome.duplicate for (outcome,) in await asyncio.gather(*appends))
