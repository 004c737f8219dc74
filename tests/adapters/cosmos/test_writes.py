"""Each kind of write is done once, and known to be done, whatever becomes of its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from events_core.adapters.cosmos import CosmosConnection
from events_core.adapters.cosmos import client as client_module
from events_core.adapters.cosmos import writes as writes_module
from events_core.adapters.cosmos.client import CosmosDatabase, Document
from events_core.common.errors import EventsError, Problem
from tests.adapters.cosmos.database import Database, Discovering
from tests.support.cosmos import Fault, ours_only

pytestmark = ours_only
DUE = "due"


@dataclass
class Lanes:
    """The container `due`, with the document "1" in it, as a process sees it."""

    server: Database
    database: CosmosDatabase
    first: Document

    async def stored(self, name: str = "1") -> Document | None:
        """A document as it is."""
        return await self.database.read("test", DUE, name, name)

    async def value(self, name: str = "1") -> int | None:
        """The number in a document."""
        document = await self.stored(name)
        return None if document is None else int(document["n"])

    @property
    def repeats(self) -> bool:
        """Whether the SDK repeats a write that is answered 503."""
        return isinstance(self.database._connection, Discovering)


@pytest.fixture(params=[CosmosConnection, Discovering], ids=["once", "repeating"])
async def lanes(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Lanes]:
    """A document that the client has read over a connection that is kept alive."""
    connection = request.param.of_string(database.server.connection_string)
    opened = CosmosDatabase(connection, database.name)
    try:
        await opened.create("test", DUE, {"id": "1", "n": 1})
        first = await opened.read("test", DUE, "1", "1")
        assert first is not None
        yield Lanes(database, opened, first)
    finally:
        await opened.close()


async def create_if_absent(lanes: Lanes) -> object:
    """Create the document "2"."""
    return await lanes.database.create_if_absent("test", DUE, {"id": "2", "n": 2})


async def replace_if(lanes: Lanes) -> object:
    """Replace the document by its etag; a second replacement goes on from the etag that this one returns."""
    etag = await lanes.database.replace_if("test", DUE, lanes.first | {"n": 2}, lanes.first["_etag"])
    stored = await lanes.stored()
    return stored is not None and stored["_etag"] == etag


async def change_by_etag(lanes: Lanes) -> object:
    """Set a property by the document's etag."""
    return await lanes.database.change("test", DUE, "1", {"n": 2}, etag=lanes.first["_etag"])


async def change_by_condition(lanes: Lanes) -> object:
    """Set a property unless it is set already."""
    return await lanes.database.change("test", DUE, "1", {"n": 2}, unless="c.n >= 2")


async def changed(lanes: Lanes) -> object:
    """Set a property, and get the document as it is then."""
    return await lanes.database.changed("test", DUE, "1", {"n": 2}, unless="c.n >= 2") == await lanes.stored()


CONDITIONAL = {
    "create_if_absent": ("create", create_if_absent),
    "replace_if": ("replace", replace_if),
    "change by etag": ("patch", change_by_etag),
    "change by condition": ("patch", change_by_condition),
    "changed": ("patch", changed),
}
Act = Callable[[Lanes], Awaitable[object]]
each_write = pytest.mark.parametrize(("operation", "write"), CONDITIONAL.values(), ids=CONDITIONAL)


@each_write
async def test_a_conditional_write_succeeds(lanes: Lanes, operation: str, write: Act) -> None:
    """It costs one request, and tells that it was done."""
    await lanes.server.counts()
    assert await write(lanes) is True
    assert (await lanes.server.counts())[operation] == 1
    assert await lanes.value("2" if operation == "create" else "1") == 2


@each_write
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("fault", [Fault(status=503, after=True), Fault(cut=True, after=True)], ids=str)
async def test_a_write_that_was_done_is_recognised(
    lanes: Lanes, operation: str, write: Act, fault: Fault, times: int
) -> None:
    """Its answer is lost, once or each time that it is sent: the document shows that it was done."""
    await lanes.server.inject(Fault(operation, DUE, status=fault.status, cut=fault.cut, after=True, times=times))
    assert await write(lanes) is True
    await lanes.server.server.heal()
    assert await lanes.value("2" if operation == "create" else "1") == 2


@each_write
async def test_a_write_that_is_answered_too_late_is_recognised(
    lanes: Lanes, operation: str, write: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of a write leaves some for the read that shows that it was done."""
    monkeypatch.setattr(writes_module, "WRITE_SECONDS", 0.2)
    await lanes.server.inject(Fault(operation, DUE, delay_ms=100), Fault("read", DUE, delay_ms=100))
    assert await write(lanes) is True


@each_write
@pytest.mark.parametrize("fault", [Fault(status=503), Fault(cut=True)], ids=str)
async def test_a_write_that_was_not_done_is_unavailable(lanes: Lanes, operation: str, write: Act, fault: Fault) -> None:
    """Nobody is told that a write happened which did not."""
    await lanes.server.inject(Fault(operation, DUE, status=fault.status, cut=fault.cut, times=9))
    with pytest.raises(EventsError) as raised:
        await write(lanes)
    assert raised.value.problem is Problem.UNAVAILABLE
    assert await lanes.value("2" if operation == "create" else "1") == (None if operation == "create" else 1)


@each_write
@pytest.mark.parametrize("status", [None, 503])
async def test_a_write_that_lost_to_another_is_refused(
    lanes: Lanes, operation: str, write: Act, status: int | None
) -> None:
    """Another's write is not taken for this one's, on a second try neither."""
    await lanes.server.container(DUE).upsert_item({"id": "1", "n": 9, "write": "of another"})
    await lanes.server.container(DUE).upsert_item({"id": "2", "n": 9, "write": "of another"})
    if status is not None and lanes.repeats:
        await lanes.server.inject(Fault(operation, DUE, status=status))
    assert await write(lanes) is False
    assert [await lanes.value("1"), await lanes.value("2")] == [9, 9]


async def test_a_recognised_replacement_does_not_hide_a_later_change(lanes: Lanes) -> None:
    """The document was patched since: the etag is one that no longer matches, so that the caller reads it again."""
    await lanes.server.inject(Fault("replace", DUE, status=503, after=True), Fault("read", DUE, delay_ms=500))
    replacing = asyncio.ensure_future(
        lanes.database.replace_if("test", DUE, lanes.first | {"n": 2}, lanes.first["_etag"])
    )
    async with asyncio.timeout(5):
        while not await lanes.database.query("test", DUE, "SELECT c.n FROM c WHERE c.id = '1' AND c.n = 2", {}, "1"):
            pass
    assert await lanes.database.change("test", DUE, "1", {"touched": True})
    etag = await replacing
    assert etag is not None
    assert await lanes.database.replace_if("test", DUE, lanes.first | {"n": 3}, etag) is None
    stored = await lanes.stored()
    assert stored is not None
    assert (stored["n"], stored["touched"]) == (2, True)


@pytest.mark.parametrize("fault", [Fault(status=503, after=True), Fault(cut=True, after=True)], ids=str)
async def test_a_delete_that_was_done_is_no_failure(lanes: Lanes, fault: Fault) -> None:
    """The second try finds nothing to delete."""
    await lanes.server.inject(Fault("delete", DUE, status=fault.status, cut=fault.cut, after=True))
    if fault.cut or lanes.repeats:
        await lanes.database.delete("test", DUE, "1", "1")
    else:
        with pytest.raises(EventsError):
            await lanes.database.delete("test", DUE, "1", "1")
        await lanes.database.delete("test", DUE, "1", "1")
    assert await lanes.stored() is None


async def test_an_ordinary_conflict_costs_no_read(lanes: Lanes) -> None:
    """A creation and a patch that were sent once cannot be refused because of themselves."""
    await lanes.server.counts()
    assert not await lanes.database.create_if_absent("test", DUE, {"id": "1", "n": 2})
    assert not await lanes.database.change("test", DUE, "1", {"n": 2}, unless="c.n = 1")
    assert await lanes.server.counts() == {"create": 1, "patch": 1}


async def test_a_missing_container_is_no_absence(lanes: Lanes) -> None:
    """No request takes it for a missing document."""
    await lanes.server.client.get_database_client(lanes.server.name).delete_container(DUE)
    database, connection = lanes.database, lanes.database._connection
    cold = CosmosDatabase(connection, lanes.server.name)
    for opened in (database, cold):
        requests: list[Awaitable[Any]] = [
            opened.read("test", DUE, "1", "1"),
            opened.replace("test", DUE, {"id": "1"}),
            opened.replace_if("test", DUE, {"id": "1"}, "etag"),
            opened.change("test", DUE, "1", {"n": 2}),
            opened.change("test", DUE, "1", {"n": 2}, unless="c.n = 2"),
            opened.delete("test", DUE, "1", "1"),
            opened.create_if_absent("test", DUE, {"id": "1"}),
            opened.query("test", DUE, "SELECT * FROM c WHERE c.id = '1'", {}, "1"),
        ]
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
        problems = [outcome.problem if isinstance(outcome, EventsError) else outcome for outcome in outcomes]
        assert problems == [Problem.UNAVAILABLE] * len(requests)
    await cold.close()


def test_a_read_fits_in_after_a_write() -> None:
    """The read that shows whether a write was done has time left."""
    assert writes_module.WRITE_SECONDS < client_module.REQUEST_SECONDS
