"""Faults of Cosmos DB as callers see them: one success or 503, and no event lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from events_core import app
from events_core.adapters.cosmos import CosmosEventStore
from events_core.operations.health import READY_SECONDS
from tests.support.asgi import Answer
from tests.support.cosmos import UNKNOWN_OUTCOMES, CosmosServer, Fault, cosmos_server, ours_only
from tests.support.publishing import ADMIN_SCOPE, batch, feed, structured
from tests.support.service import (
    ANCIENT,
    APP_FEED,
    APP_RESOURCE,
    APP_TOKEN_SCOPES,
    PARTY,
    PARTY_FEED,
    RESOURCE,
    RESOURCE_FEED,
    Service,
    app_event,
    event,
    ids,
    running,
)

pytestmark = ours_only
DEADLINE = 1.0

OUTAGES = [
    Fault(status=503),
    Fault(status=500),
    Fault(status=408),
    Fault(status=429, retry_after_ms=2_000),
    Fault(cut=True),
    Fault(delay_ms=3_000),
]
PASSING = [*UNKNOWN_OUTCOMES, Fault(status=429, retry_after_ms=20), Fault(delay_ms=300)]


@pytest.fixture
async def server() -> AsyncIterator[CosmosServer]:
    """The emulator."""
    async with cosmos_server() as server:
        yield server


@pytest.fixture
async def cosmos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: CosmosServer) -> AsyncIterator[Service]:
    """The service on a database of its own, after its first event, with a short deadline."""
    async with server.database() as database:
        settings = {"EVENTS_COSMOS": server.connection_string, "EVENTS_COSMOS_DATABASE": database}
        async with running(tmp_path, monkeypatch, **settings) as service:
            await publish(service, "first")
            store = (await app.current()).store
            assert isinstance(store, CosmosEventStore)
            store._appender._context = replace(store._appender._context, deadline_seconds=DEADLINE)
            for writer in store._appender._writers.values():
                writer._context = store._appender._context
            monkeypatch.setattr("events_core.adapters.cosmos.client.REQUEST_SECONDS", DEADLINE)
            try:
                yield service
            finally:
                await server.heal()


async def publish(service: Service, event_id: str) -> Answer:
    """Publish one event."""
    return await structured(service, event(id=event_id), service.org(ADMIN_SCOPE))


def is_unavailable(answer: Answer) -> bool:
    """Whether the response is a 503 problem with `Retry-After`."""
    later = answer.headers.get("retry-after", "")
    is_problem = answer.headers["content-type"] == "application/problem+json"
    return answer.status == 503 and is_problem and later.isdecimal() and int(later) > 0


async def is_stored_once(service: Service, *expected: str) -> bool:
    """Whether the feed holds the first event and these, in this order."""
    return ids(await feed(service)) == ["first", *expected]


@pytest.mark.parametrize("fault", PASSING, ids=str)
async def test_a_passing_fault_is_one_success(cosmos: Service, server: CosmosServer, fault: Fault) -> None:
    """The write may have been done before the fault; the event is stored once and is no duplicate."""
    await server.inject(replace(fault, operation="create", container="streams"))
    answer = await publish(cosmos, "a")
    assert (answer.status, answer.json()["events"][0]["duplicate"]) == (200, False)
    assert await is_stored_once(cosmos, "a")


@pytest.mark.parametrize("fault", PASSING, ids=str)
async def test_a_passing_fault_of_a_batch_is_one_success(cosmos: Service, server: CosmosServer, fault: Fault) -> None:
    """The whole batch is stored once, in its order."""
    await server.inject(replace(fault, operation="batch", container="streams"))
    names: Sequence[str] = ["a", "b", "c"]
    answer = await batch(cosmos, [event(id=name) for name in names], cosmos.org(ADMIN_SCOPE))
    assert [outcome["duplicate"] for outcome in answer.json()["events"]] == [False] * 3
    assert await is_stored_once(cosmos, *names)


@pytest.mark.parametrize("fault", OUTAGES, ids=str)
@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after the commit"])
async def test_an_outage_is_503_and_a_repeat_completes_it(
    cosmos: Service, server: CosmosServer, fault: Fault, *, after: bool
) -> None:
    """A repeat neither loses nor doubles the event, whatever had been written."""
    is_after = after and fault.status != 429 and not fault.delay_ms
    await server.inject(replace(fault, container="streams", after=is_after, times=10_000))
    assert is_unavailable(await publish(cosmos, "a"))
    await server.heal()
    answer = await publish(cosmos, "a")
    assert answer.status == 200
    assert await is_stored_once(cosmos, "a")


@pytest.mark.parametrize("fault", OUTAGES, ids=str)
@pytest.mark.parametrize(
    ("path", "query"),
    [
        (APP_FEED, {"from_": ANCIENT}),
        (PARTY_FEED, {"from_": ANCIENT, "party": PARTY}),
        (RESOURCE_FEED, {"after": "unknown", "resource": RESOURCE}),
    ],
)
async def test_an_outage_is_503_for_readers(
    cosmos: Service, server: CosmosServer, fault: Fault, path: str, query: dict[str, Any]
) -> None:
    """The service sends no incomplete page; afterwards it serves the feed as before."""
    token = cosmos.org(APP_TOKEN_SCOPES, "altinn:events.subscribe")
    await server.inject(replace(fault, times=10_000))
    assert is_unavailable(await cosmos.get(path, token, **query))
    await server.heal()
    assert (await cosmos.get(path, token, **query)).status == 200


async def test_health_names_the_store_and_recovers(cosmos: Service, server: CosmosServer) -> None:
    """The service is neither healthy nor ready during the outage, and is both again after it."""
    await server.inject(Fault(status=503, times=10_000))
    for path in ("/health", "/health/ready"):
        answer = await cosmos.get(path)
        down = {name for name, said in answer.json()["checks"].items() if said != "up"}
        assert (answer.status, down) == (503, {"store"})
    await server.heal()
    await asyncio.sleep(READY_SECONDS)  # the report is kept so long
    assert (await cosmos.get("/health/ready")).status == 200


async def test_a_database_that_cannot_be_reached_is_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishing and feeds are 503 from the start, and health names the store."""
    nobody = "AccountEndpoint=http://127.0.0.1:9/;AccountKey=bm9ib2R5;"
    async with running(tmp_path, monkeypatch, EVENTS_COSMOS=nobody) as service:
        assert is_unavailable(await publish(service, "a"))
        answer = await service.get(APP_FEED, service.org(APP_TOKEN_SCOPES), from_=ANCIENT)
        assert is_unavailable(answer)
        assert (await service.get("/health")).json()["checks"]["store"] != "up"


async def test_an_app_gets_503_too(cosmos: Service, server: CosmosServer) -> None:
    """A repeat stores the app's event once."""
    document = app_event(id="a")
    await server.inject(Fault("create", status=503, after=True, container="streams", times=10_000))
    await server.inject(Fault("query", status=503, times=10_000))

    async def send() -> Answer:
        return await cosmos.request("POST", "/events/api/v1/app", platform_token=cosmos.app(), json_body=document)

    assert is_unavailable(await send())
    await server.heal()
    assert (await send()).status in (200, 201)
    assert ids(await feed(cosmos, APP_RESOURCE)) == ["a"]
