"""The emulator behaves like Cosmos DB, as the SDK sees it."""

from __future__ import annotations

from typing import Any

import pytest
from azure.core import MatchConditions
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosBatchOperationError,
    CosmosHttpResponseError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)

from events_core.adapters.cosmos.containers import CONTAINERS, Container
from tests.emulator.conftest import PARTITION, Database
from tests.support.cosmos import ours_only
from tests.support.cosmos_probe import creating, document

EVERY_KIND: list[tuple[Any, ...]] = [
    ("create", (document(PARTITION, 5),)),
    ("upsert", (document(PARTITION, 6),)),
    ("upsert", ({**document(PARTITION, 1), "n": 1},)),
    ("replace", (f"{2:020}", {**document(PARTITION, 2), "n": 2})),
    ("patch", (f"{3:020}", [{"op": "add", "path": "/n", "value": 3}])),
    ("delete", (f"{4:020}",)),
]


def changed(row: dict[str, Any]) -> tuple[int, int | None]:
    """The values of a document that a batch of every kind may change."""
    return row["seq"], row.get("n")


async def test_every_promise_is_honoured(database: Database) -> None:
    """The tests' server keeps the promises that the store relies on."""
    assert await database.server.not_honoured() == []


@ours_only
async def test_the_probe_finds_a_server_without_atomic_batches(prefix: Database) -> None:
    """It names that promise and no other."""
    assert await prefix.server.not_honoured() == ["atomic batches"]


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda container: container.name)
async def test_containers_are_as_described(database: Database, container: Container) -> None:
    """Keys, index and lifetime are those of the description."""
    made: dict[str, Any] = dict(await database.container(container.name).read())
    assert made["partitionKey"]["paths"] == [container.partition_key]
    assert made.get("defaultTtl") == container.default_ttl
    assert [key["paths"] for key in made.get("uniqueKeyPolicy", {}).get("uniqueKeys", [])] == [
        list(paths) for paths in container.unique_keys
    ]
    assert made["indexingPolicy"]["includedPaths"] == container.indexing_policy["includedPaths"]
    together = container.indexing_policy.get("compositeIndexes", [])
    assert made["indexingPolicy"].get("compositeIndexes", []) == together


def test_partition_keys_are_indexed() -> None:
    """A container that indexes named properties must name its partition key."""
    keys = {container.name: container.partition_key.strip("/") for container in CONTAINERS}
    indexed = {container.name: container.indexed for container in CONTAINERS if container.indexed is not None}
    assert [name for name, paths in indexed.items() if keys[name] != "id" and keys[name] not in paths] == []


@ours_only
async def test_the_account_is_strong(database: Database) -> None:
    """The service relies on Strong consistency."""
    account = await database.client._get_database_account()
    assert account.ConsistencyPolicy == {"defaultConsistencyLevel": "Strong"}


async def test_a_batch_fails_as_one(database: Database) -> None:
    """A conflict is 409, the other operations are 424, and nothing is stored."""
    await database.create(2)
    with pytest.raises(CosmosBatchOperationError) as raised:
        await database.streams.execute_item_batch(creating(*(document(PARTITION, n) for n in (1, 2, 3))), PARTITION)
    assert [response["statusCode"] for response in raised.value.operation_responses] == [424, 409, 424]
    assert await database.seqs() == [2]


@ours_only
async def test_a_batch_leaves_its_prefix(prefix: Database) -> None:
    """In prefix mode the operations before a conflict stay, and those after it are not done."""
    await prefix.create(2)
    with pytest.raises(CosmosBatchOperationError) as raised:
        await prefix.streams.execute_item_batch(creating(*(document(PARTITION, n) for n in (1, 2, 3))), PARTITION)
    assert [response["statusCode"] for response in raised.value.operation_responses] == [201, 409, 424]
    assert await prefix.seqs() == [1, 2]


async def test_a_batch_takes_every_kind_of_operation(database: Database) -> None:
    """Create, upsert, replace, patch and delete work in one batch."""
    await database.create(1, 2, 3, 4)
    await database.streams.execute_item_batch(EVERY_KIND, PARTITION)
    rows = await database.query("SELECT * FROM c ORDER BY c.seq")
    assert list(map(changed, rows)) == [(1, 1), (2, 2), (3, 3), (5, None), (6, None)]


async def test_every_kind_of_operation_is_undone(database: Database) -> None:
    """A failed batch leaves documents, etags and unique keys as before."""
    await database.create(1, 2, 3, 4)
    before = await database.query("SELECT * FROM c ORDER BY c.seq")
    with pytest.raises(CosmosBatchOperationError):
        await database.streams.execute_item_batch([*EVERY_KIND, *creating(document(PARTITION, 1))], PARTITION)
    assert await database.query("SELECT * FROM c ORDER BY c.seq") == before
    await database.create(5, 6)
    with pytest.raises(CosmosResourceExistsError):
        await database.streams.create_item(document(PARTITION, 9, ukey="key 4"))


async def test_a_batch_has_at_most_a_hundred_operations(database: Database) -> None:
    """One more is 400."""
    with pytest.raises(CosmosHttpResponseError) as raised:
        await database.streams.execute_item_batch(creating(*(document(PARTITION, n) for n in range(101))), PARTITION)
    assert raised.value.status_code == 400
    assert await database.seqs() == []


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("count", [1, 3])
async def test_more_than_two_megabytes_are_refused(database: Database, count: int) -> None:
    """A document or a batch of more than 2 MB is 413."""
    large = [{**document(PARTITION, n), "json": "x" * (2 * 2**20 // count)} for n in range(count)]
    with pytest.raises(CosmosHttpResponseError) as raised:
        await database.streams.execute_item_batch(creating(*large), PARTITION)
    assert raised.value.status_code == 413
    assert await database.seqs() == []


@ours_only
async def test_a_batch_keeps_to_its_partition(database: Database) -> None:
    """A document of another partition is refused."""
    with pytest.raises(CosmosBatchOperationError) as raised:
        await database.streams.execute_item_batch(creating(document("another", 1)), PARTITION)
    assert raised.value.operation_responses[0]["statusCode"] == 400


async def test_unique_keys_hold_within_a_partition(database: Database) -> None:
    """A key is free in another partition, and again after a delete."""
    await database.streams.create_item(document(PARTITION, 1, "same"))
    await database.streams.create_item(document("another", 1, "same"))
    with pytest.raises(CosmosResourceExistsError):
        await database.streams.create_item(document(PARTITION, 2, "same"))
    await database.streams.delete_item(f"{1:020}", PARTITION)
    await database.streams.create_item(document(PARTITION, 2, "same"))
    assert await database.seqs() == [2]


async def test_etags_guard_replacements(database: Database) -> None:
    """A replacement with a stale etag is 412."""
    first = await database.streams.create_item(document(PARTITION, 1))
    guard = {"etag": first["_etag"], "match_condition": MatchConditions.IfNotModified}
    await database.streams.replace_item(first["id"], {**document(PARTITION, 1), "n": 1}, **guard)
    with pytest.raises(CosmosAccessConditionFailedError):
        await database.streams.replace_item(first["id"], {**document(PARTITION, 1), "n": 2}, **guard)
    assert (await database.streams.read_item(first["id"], PARTITION))["n"] == 1


async def test_patch_conditions_look_at_the_document_alone(database: Database) -> None:
    """A document with the same id in another partition makes no difference."""
    await database.create(1)
    await database.streams.create_item({**document("another", 1), "n": 1})
    add: list[dict[str, Any]] = [{"op": "add", "path": "/n", "value": 2}]
    with pytest.raises(CosmosAccessConditionFailedError):
        await database.streams.patch_item(f"{1:020}", PARTITION, add, filter_predicate="FROM c WHERE c.n = 1")
    await database.streams.patch_item(f"{1:020}", "another", add, filter_predicate="FROM c WHERE c.n = 1")


async def test_a_patch_has_at_most_ten_operations(database: Database) -> None:
    """One more is 400."""
    await database.create(1)
    add: list[dict[str, Any]] = [{"op": "add", "path": f"/n{n}", "value": n} for n in range(11)]
    with pytest.raises(CosmosHttpResponseError) as raised:
        await database.streams.patch_item(f"{1:020}", PARTITION, add)
    assert raised.value.status_code == 400
    await database.streams.patch_item(f"{1:020}", PARTITION, add[:10])


async def test_a_missing_document_is_404(database: Database) -> None:
    """So is a document of a missing container."""
    await database.create(1)
    for container, item, partition in (("streams", 2, PARTITION), ("streams", 1, "another"), ("nothing", 1, PARTITION)):
        with pytest.raises(CosmosResourceNotFoundError):
            await database.container(container).read_item(f"{item:020}", partition)


@ours_only
async def test_a_request_to_a_missing_container_has_its_own_substatus(database: Database) -> None:
    """404 with 1003 says that the container or the database is missing, not the document."""
    await database.container("cursors").read()
    async with database.server.client() as client:
        cursors = client.get_database_client(database.name).get_container_client("cursors")
        await cursors.create_item({"id": "1"})
        await client.get_database_client(database.name).delete_container("cursors")
        with pytest.raises(CosmosResourceNotFoundError) as raised:
            await cursors.read_item("1", "1")
    assert raised.value.sub_status == 1003


@ours_only
async def test_a_write_without_response_returns_nothing(database: Database) -> None:
    """`no_response` leaves the document out."""
    assert dict(await database.streams.create_item(document(PARTITION, 1), no_response=True)) == {}
