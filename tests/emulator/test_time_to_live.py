"""The emulator ends times to live, on a clock that a test moves forward."""

from __future__ import annotations

import asyncio
import time
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy
from azure.cosmos.exceptions import CosmosHttpResponseError, CosmosResourceExistsError, CosmosResourceNotFoundError

from tests.emulator.conftest import Database
from tests.support.cosmos import CosmosServer, cosmos_server, ours_only

pytestmark = ours_only
UNIQUE: dict[str, Any] = {"uniqueKeys": [{"paths": ["/key"]}]}


async def container(database: Database, default: int | None) -> ContainerProxy:
    """A new container with a default time to live, and a unique key."""
    options: dict[str, Any] = {} if default is None else {"default_ttl": default}
    made = database.client.get_database_client(database.name)
    name = f"ttl-{default}"
    created: ContainerProxy = await made.create_container(name, PartitionKey("/p"), unique_key_policy=UNIQUE, **options)
    return created


@pytest.fixture
async def documents(database: Database) -> ContainerProxy:
    """A container whose documents live as long as each says."""
    return await container(database, -1)


async def ids(documents: ContainerProxy) -> list[str]:
    """The ids that a query finds."""
    found = documents.query_items("SELECT VALUE c.id FROM c ORDER BY c.id", partition_key="p")
    return [str(row) async for row in found]


def document(name: str, **values: Any) -> dict[str, Any]:
    """A document whose unique key is its id."""
    return {"id": name, "p": "p", "key": name, **values}


async def test_an_expired_document_is_gone(database: Database, documents: ContainerProxy) -> None:
    """Reads, queries, replacements, patches and deletes do not find it."""
    await documents.create_item(document("short", ttl=100))
    await documents.create_item(document("long", ttl=1000))
    await documents.create_item(document("endless"))
    await database.server.advance(98)
    assert await ids(documents) == ["endless", "long", "short"]
    await database.server.advance(4)
    assert await ids(documents) == ["endless", "long"]
    for request in (
        documents.read_item("short", "p"),
        documents.replace_item("short", document("short")),
        documents.patch_item("short", "p", [{"op": "set", "path": "/n", "value": 1}]),
        documents.delete_item("short", "p"),
    ):
        with pytest.raises((CosmosResourceNotFoundError, CosmosHttpResponseError)) as raised:
            await request
        assert raised.value.status_code == 404


async def test_an_expired_document_conflicts_with_none(database: Database, documents: ContainerProxy) -> None:
    """Its id and its unique key are free again, for each other too."""
    await documents.create_item(document("a", ttl=100))
    with pytest.raises(CosmosResourceExistsError):
        await documents.create_item(document("b", key="a"))
    await database.server.advance(102)
    await documents.create_item(document("b", key="a"))
    await documents.create_item(document("a", key="b"))
    with pytest.raises(CosmosResourceExistsError):
        await documents.create_item(document("c", key="a"))
    assert await ids(documents) == ["a", "b"]


async def test_a_write_begins_the_time_to_live_again(database: Database, documents: ContainerProxy) -> None:
    """It counts from the last write of the document, whose `_ts` is the server's time."""
    first = await documents.create_item(document("a", ttl=100))
    await database.server.advance(90)
    again = await documents.replace_item("a", document("a", ttl=100))
    assert 90 <= again["_ts"] - first["_ts"] <= 95
    await database.server.advance(90)
    await documents.patch_item("a", "p", [{"op": "set", "path": "/ttl", "value": 10}])
    await database.server.advance(8)
    assert await ids(documents) == ["a"]
    await database.server.advance(4)
    assert await ids(documents) == []


async def test_a_container_may_have_a_default_or_none_at_all(database: Database, documents: ContainerProxy) -> None:
    """With a default -1 means for ever; without one a time to live of a document means nothing."""
    default, without = await container(database, 100), await container(database, None)
    for made in (default, without, documents):
        await made.create_item(document("bare"))
        await made.create_item(document("endless", ttl=-1))
        await made.create_item(document("own", ttl=200))
    await database.server.advance(102)
    found = [await ids(made) for made in (default, without, documents)]
    assert found == [["endless", "own"], ["bare", "endless", "own"], ["bare", "endless", "own"]]
    await database.server.advance(100)
    found = [await ids(made) for made in (default, without, documents)]
    assert found == [["endless"], ["bare", "endless", "own"], ["bare", "endless"]]


async def test_a_lagging_read_shows_no_expired_document() -> None:
    """What stood a moment ago is hidden too once its time is over."""
    async with cosmos_server("lagging", lag_ms=200) as server, server.client() as client, server.database() as name:
        documents = await container(Database(server, client, name), -1)
        await documents.create_item(document("a", ttl=100))
        await asyncio.sleep(0.2)  # from now on no read lags behind the document
        await documents.delete_item("a", "p")
        await server.advance(102)
        assert [await ids(documents) for _ in range(20)] == [[]] * 20


async def ahead(server: CosmosServer) -> float:
    """How far the server's clock is ahead of this machine's, by the header `Date`."""
    assert server.emulator is not None
    async with aiohttp.request("GET", server.emulator.url) as response:
        return parsedate_to_datetime(response.headers["Date"]).timestamp() - time.time()


async def test_the_clock_is_set_right_at_the_end() -> None:
    """Answers carry the server's time; the next test on the same emulator begins at the real one."""
    async with cosmos_server() as server:
        await server.advance(3_600)
        assert abs(await ahead(server) - 3_600) < 5
    async with cosmos_server() as server:
        assert abs(await ahead(server)) < 5
