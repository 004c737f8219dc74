"""Documents expire by their time to live, on a clock that a test moves."""

from __future__ import annotations

import time

import pytest
from azure.cosmos.exceptions import CosmosResourceNotFoundError

from tests.emulator.conftest import PARTITION, Database
from tests.support.cosmos import ours_only
from tests.support.cosmos_probe import document

pytestmark = ours_only

DAY = 86_400


async def test_a_document_expires_when_its_time_to_live_is_over(database: Database) -> None:
    """It is in no query and no read any more, and its id and unique key are free."""
    await database.streams.create_item(document(PARTITION, 1) | {"ttl": DAY})
    await database.streams.create_item(document(PARTITION, 2) | {"ttl": 2 * DAY})
    await database.streams.create_item(document(PARTITION, 3))
    await database.server.advance(DAY - 10)
    assert len(await database.query("SELECT * FROM c")) == 3
    await database.server.advance(20)
    assert sorted(row["seq"] for row in await database.query("SELECT * FROM c")) == [2, 3]
    with pytest.raises(CosmosResourceNotFoundError):
        await database.streams.read_item(document(PARTITION, 1)["id"], PARTITION)
    await database.streams.create_item(document(PARTITION, 1))
    await database.server.advance(1_000 * DAY)
    assert sorted(row["seq"] for row in await database.query("SELECT * FROM c")) == [1, 3]


async def test_a_replaced_document_lives_for_its_new_time(database: Database) -> None:
    """The time to live counts from the last write."""
    stored = await database.streams.create_item(document(PARTITION, 1) | {"ttl": DAY})
    await database.server.advance(DAY - 10)
    await database.streams.replace_item(stored["id"], document(PARTITION, 1) | {"ttl": DAY})
    await database.server.advance(DAY - 10)
    assert len(await database.query("SELECT * FROM c")) == 1
    await database.server.advance(20)
    assert await database.query("SELECT * FROM c") == []


async def test_a_container_without_a_time_to_live_keeps_everything(database: Database) -> None:
    """As Azure does, whatever `ttl` its documents have."""
    cursors = database.container("cursors")
    await cursors.create_item({"id": "a", "ttl": 1})
    await database.server.advance(DAY)
    assert (await cursors.read_item("a", "a"))["id"] == "a"


async def test_a_write_has_the_time_of_the_clock(database: Database) -> None:
    """In `_ts`, which counts whole seconds."""
    await database.server.advance(DAY)
    written = await database.streams.create_item(document(PARTITION, 1))
    assert written["_ts"] == pytest.approx(time.time() + DAY, abs=5)


async def test_a_missing_container_is_told_from_a_missing_document(database: Database) -> None:
    """By the substatus."""
    for container, substatus in (("streams", None), ("nothing", 1003)):
        with pytest.raises(CosmosResourceNotFoundError) as caught:
            await database.container(container).read_item("a", "a")
        assert caught.value.sub_status == substatus
