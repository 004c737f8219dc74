"""The emulator does what Cosmos DB does; all of it is asked with the SDK."""

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
from tests.emulator.conftest import PARTITION, Place
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
    """What a batch of every kind may change of a document."""
    return row["seq"], row.get("n")


async def test_every_promise_is_honoured(place: Place) -> None:
    """The server that the tests run on breaks none of the promises that the store builds on."""
    assert await place.server.not_honoured() == []


@ours_only
async def test_a_prefix_server_is_found_out(prefix: Place) -> None:
    """The probe names what a server without atomic batches breaks, and nothing else."""
    assert await prefix.server.not_honoured() == ["atomic batches"]


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda container: container.name)
async def test_containers_are_as_described(place: Place, container: Container) -> None:
    """Each container has the keys, the index and the lifetime that its description says."""
    made: dict[str, Any] = dict(await place.container(container.name).read())
    assert made["partitionKey"]["paths"] == [container.partition_key]
    assert made.get("defaultTtl") == container.default_ttl
    assert [key["paths"] for key in made.get("uniqueKeyPolicy", {}).get("uniqueKeys", [])] == [
        list(paths) for paths in container.unique_keys
    ]
    assert made["indexingPolicy"]["includedPaths"] == container.indexing_policy["includedPaths"]
    together = container.indexing_policy.get("compositeIndexes", [])
    assert made["indexingPolicy"].get("compositeIndexes", []) == together


def test_partition_keys_are_indexed() -> None:
    """A container that indexes only what it names, names its partition key unless that is the id."""
    chosen = [each for each in CONTAINERS if each.indexed is not None and each.partition_key != "/id"]
    assert [each.name for each in chosen if each.partition_key.strip("/") not in (each.indexed or ())] == []


@ours_only
async def test_the_account_is_strong(place: Place) -> None:
    """The account's consistency level is the one that the service runs on."""
    account = await place.client._get_database_account()
    assert account.ConsistencyPolicy == {"defaultConsistencyLevel": "Strong"}


async def test_a_batch_fails_as_one(place: Place) -> None:
    """Where one operation of a batch conflicts, it answers 409, the others 424, and nothing of it stays."""
    await place.create(2)
    with pytest.raises(CosmosBatchOperationError) as raised:
        await place.streams.execute_item_batch(creating(*(document(PARTITION, n) for n in (1, 2, 3))), PARTITION)
    assert [each["statusCode"] for each in raised.value.operation_responses] == [424, 409, 424]
    assert await place.seqs() == [2]


@ours_only
async def test_a_batch_leaves_its_prefix(prefix: Place) -> None:
    """In prefix mode what a batch did before it failed stays, and what comes after is not done."""
    await prefix.create(2)
    with pytest.raises(CosmosBatchOperationError) as raised:
        await prefix.streams.execute_item_batch(creating(*(document(PARTITION, n) for n in (1, 2, 3))), PARTITION)
    assert [each["statusCode"] for each in raised.value.operation_responses] == [201, 409, 424]
    assert await prefix.seqs() == [1, 2]


async def test_a_batch_takes_every_kind_of_operation(place: Place) -> None:
    """Create, upsert, replace, patch and delete can be done in one batch."""
    await place.create(1, 2, 3, 4)
    await place.streams.execute_item_batch(EVERY_KIND, PARTITION)
    rows = await place.query("SELECT * FROM c ORDER BY c.seq")
    assert list(map(changed, rows)) == [(1, 1), (2, 2), (3, 3), (5, None), (6, None)]


async def test_every_kind_of_operation_is_undone(place: Place) -> None:
    """After a batch that failed documents, etags and unique keys are what they were."""
    await place.create(1, 2, 3, 4)
    before = await place.query("SELECT * FROM c ORDER BY c.seq")
    with pytest.raises(CosmosBatchOperationError):
        await place.streams.execute_item_batch([*EVERY_KIND, *creating(document(PARTITION, 1))], PARTITION)
    assert await place.query("SELECT * FROM c ORDER BY c.seq") == before
    await place.create(5, 6)
    with pytest.raises(CosmosResourceExistsError):
        await place.streams.create_item(document(PARTITION, 9, ukey="key 4"))


async def test_a_batch_of_more_than_a_hundred_is_refused(place: Place) -> None:
    """A batch has at most 100 operations."""
    with pytest.raises(CosmosHttpResponseError) as raised:
        await place.streams.execute_item_batch(creating(*(document(PARTITION, n) for n in range(101))), PARTITION)
    assert raised.value.status_code == 400
    assert await place.seqs() == []


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("count", [1, 3])
async def test_more_than_two_megabytes_are_refused(place: Place, count: int) -> None:
    """A request of more than 2 MB is 413, as a document and as a batch, and the next request is well."""
    large = [{**document(PARTITION, n), "json": "x" * (2 * 2**20 // count)} for n in range(count)]
    with pytest.raises(CosmosHttpResponseError) as raised:
        await place.streams.execute_item_batch(creating(*large), PARTITION)
    assert raised.value.status_code == 413
    assert await place.seqs() == []


@ours_only
async def test_a_batch_keeps_to_its_partition(place: Place) -> None:
    """A document of another partition than the batch is refused."""
    with pytest.raises(CosmosBatchOperationError) as raised:
        await place.streams.execute_item_batch(creating(document("another", 1)), PARTITION)
    assert raised.value.operation_responses[0]["statusCode"] == 400


async def test_unique_keys_hold_within_a_partition(place: Place) -> None:
    """A unique key is taken in its partition, free in another, and free again after a delete."""
    await place.streams.create_item(document(PARTITION, 1, "same"))
    await place.streams.create_item(document("another", 1, "same"))
    with pytest.raises(CosmosResourceExistsError):
        await place.streams.create_item(document(PARTITION, 2, "same"))
    await place.streams.delete_item(f"{1:020}", PARTITION)
    await place.streams.create_item(document(PARTITION, 2, "same"))
    assert await place.seqs() == [2]


async def test_etags_guard_replacements(place: Place) -> None:
    """A replacement under an etag succeeds while it holds, and is 412 after."""
    first = await place.streams.create_item(document(PARTITION, 1))
    guard = {"etag": first["_etag"], "match_condition": MatchConditions.IfNotModified}
    await place.streams.replace_item(first["id"], {**document(PARTITION, 1), "n": 1}, **guard)
    with pytest.raises(CosmosAccessConditionFailedError):
        await place.streams.replace_item(first["id"], {**document(PARTITION, 1), "n": 2}, **guard)
    assert (await place.streams.read_item(first["id"], PARTITION))["n"] == 1


async def test_patch_conditions_look_at_the_document_alone(place: Place) -> None:
    """A patch whose condition another partition's document of the same id fulfils is 412."""
    await place.create(1)
    await place.streams.create_item({**document("another", 1), "n": 1})
    add: list[dict[str, Any]] = [{"op": "add", "path": "/n", "value": 2}]
    with pytest.raises(CosmosAccessConditionFailedError):
        await place.streams.patch_item(f"{1:020}", PARTITION, add, filter_predicate="FROM c WHERE c.n = 1")
    await place.streams.patch_item(f"{1:020}", "another", add, filter_predicate="FROM c WHERE c.n = 1")


async def test_what_is_missing_is_404(place: Place) -> None:
    """A document that is not there is 404, also where there are others, in a container that is there or not."""
    await place.create(1)
    for container, item, partition in (("streams", 2, PARTITION), ("streams", 1, "another"), ("nothing", 1, PARTITION)):
        with pytest.raises(CosmosResourceNotFoundError):
            await place.container(container).read_item(f"{item:020}", partition)


@ours_only
async def test_a_write_without_response_brings_nothing_back(place: Place) -> None:
    """A document that is created with no_response is not sent back."""
    assert dict(await place.streams.create_item(document(PARTITION, 1), no_response=True)) == {}
