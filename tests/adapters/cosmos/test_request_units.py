"""Request units are counted, logged and measured."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import TypeVar

import pytest

from events_core.adapters.cosmos import request_units
from events_core.adapters.cosmos.request_units import RequestUnits, operation
from events_core.feeds.ports import ReadRequest
from events_core.feeds.stream import Filters
from tests.adapters.cosmos.database import RESOURCE, Database, page_after
from tests.contract.event_store import event, events
from tests.support.following import ROOT

T = TypeVar("T")


async def test_request_units_are_counted_by_operation(database: Database) -> None:
    """Each request counts under its purpose, with the request units that the server names."""
    store = database.open()
    await store.append([event()])
    await page_after(store)
    counted = store.request_units
    assert (counted.requests["append"], counted.requests["page"]) == (1, 1)
    assert counted.units["append"] > 0
    assert counted.requests.keys() >= {"metadata", "open", "state"}


async def test_request_units_are_logged_once_a_minute_and_at_the_end(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """A line shows the request units since the line before."""
    store = database.open()
    with caplog.at_level(logging.INFO, "events_core"):
        await store.append([event()])
        assert [record.message for record in caplog.records] == []
        await store.close()
    (record,) = caplog.records
    assert record.message == "Request units spent in Cosmos DB"
    assert vars(record)["requestUnits"]["append"] > 0


async def test_every_response_is_measured(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The histogram `events.cosmos.request_charge` gets the request units of every response, with its operation."""
    measured: list[tuple[float, str]] = []

    class Histogram:
        def record(self, charge: float, attributes: dict[str, str]) -> None:
            measured.append((charge, attributes["operation"]))

    monkeypatch.setattr(request_units, "_metric", Histogram())
    store = database.open()
    await store.append([event()])
    await page_after(store)
    units = store.request_units.units
    assert {name for _, name in measured} >= {"append", "page", "open"}
    for name in ("append", "page"):
        assert sum(charge for charge, operation in measured if operation == name) == units[name] > 0


def test_requests_count_under_the_innermost_operation() -> None:
    """Requests outside `/docs` touch no document and count as metadata."""
    counted = RequestUnits()
    with operation("outer"):
        with operation("inner"):
            counted.sending(_request("http://x/dbs/a/colls/b/docs"))
        counted.sending(_request("http://x/dbs/a/colls/b/docs/1"))
        counted.sending(_request("http://x/dbs/a/colls/b"))
    assert counted.requests == {"inner": 1, "outer": 1, "metadata": 1}


def _request(url: str) -> object:
    return type("PipelineRequest", (), {"http_request": type("HttpRequest", (), {"url": url})})


Costs = dict[str, float]


async def _costs(database: Database) -> Costs:
    """The request units of each operation of docs/storage.md, on the server that the tests run against."""
    store = database.open()
    padding = "x" * 1_600
    costs: Costs = {}

    async def cost(name: str, work: Awaitable[T]) -> T:
        before = sum(store.request_units.units.values())
        result = await work
        costs[name] = sum(store.request_units.units.values()) - before
        return result

    await store.append([event("first", data=padding)])
    other = database.open()
    await cost("append one event to one stream", store.append([event(data=padding)]))
    await cost("append 100 in one request", store.append(events(100, data=padding)))
    await other.append([event(data=padding)])
    await other.append([event(data=padding)])
    await cost("attempt that lost (409), the query after it, and the next attempt", store.append([event()]))
    await cost("head of a stream", store.head(RESOURCE))
    chunk = await cost("page of 50 events", page_after(store))
    await cost("page of 50 events with filters", page_after(store, filters=Filters(types=("app.%",))))
    end = (await page_after(store, limit=1_000)).end
    await cost("empty page", page_after(store, end))
    await cost("bare event id, one segment", store.read(ReadRequest(RESOURCE, event_id="first", limit=1)))
    await cost("`from`, one segment", store.read(ReadRequest(RESOURCE, registered_from=database.clock.now, limit=1)))
    seen = await cost("read a checkpoint", store.checkpoints.checkpoint(RESOURCE))
    await cost(
        "change a checkpoint",
        store.checkpoints.advance(RESOURCE, seen, {"projection": 1}, catch_up_pending=False, quarantined=()),
    )
    assert len(chunk.rows) == 50
    return costs


async def test_every_operation_of_the_documented_table_is_measured(database: Database) -> None:
    """The table is printed as docs/storage.md has it; the emulator charges 1 for each request."""
    costs = await _costs(database)
    print("\n| operation | request units |\n| --- | --- |")
    for name, units in costs.items():
        print(f"| {name} | {units:.1f} |")
    documented = (ROOT / "docs" / "storage.md").read_text()
    assert [name for name in costs if f"| {name} |" not in documented] == []
    if database.server.emulator is not None:
        assert set(costs.values()) <= {1, 2, 3, 4}
