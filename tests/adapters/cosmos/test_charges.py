"""What requests cost is counted, logged and measured."""

from __future__ import annotations

import logging

import pytest

from events_core.adapters.cosmos.charges import Charges, operation
from tests.adapters.cosmos.place import Place, page_after
from tests.contract.event_store import event


async def test_requests_and_charges_are_counted_by_operation(place: Place) -> None:
    """Each request is counted under what it was for, with the request units that the server says."""
    store = place.open()
    await store.append([event()])
    await page_after(store)
    charges = store.charges
    assert (charges.requests["append"], charges.requests["page"]) == (1, 1)
    assert charges.units["append"] > 0
    assert charges.requests.keys() >= {"metadata", "open", "cursor", "begin"}


async def test_charges_are_logged_once_a_minute_and_in_the_end(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A line tells what was spent since the last one."""
    store = place.open()
    with caplog.at_level(logging.INFO, "events_core"):
        await store.append([event()])
        assert [record.message for record in caplog.records] == []
        await store.close()
    (record,) = caplog.records
    assert record.message == "Request units spent in Cosmos DB"
    assert vars(record)["requestUnits"]["append"] > 0


def test_the_operation_is_that_of_the_block() -> None:
    """Blocks within blocks count under the inner name; documents elsewhere than in `docs` are metadata."""
    charges = Charges()
    with operation("outer"):
        with operation("inner"):
            charges.sending(_request("http://x/dbs/a/colls/b/docs"))
        charges.sending(_request("http://x/dbs/a/colls/b/docs/1"))
        charges.sending(_request("http://x/dbs/a/colls/b"))
    assert charges.requests == {"inner": 1, "outer": 1, "metadata": 1}


def _request(url: str) -> object:
    return type("PipelineRequest", (), {"http_request": type("HttpRequest", (), {"url": url})})
