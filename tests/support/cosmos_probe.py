"""Probes for promises of Cosmos DB that a server may break."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from azure.core import MatchConditions
from azure.cosmos.aio import ContainerProxy
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosBatchOperationError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)

Probe = Callable[[ContainerProxy], Awaitable[bool]]


def document(partition: str, seq: int, ukey: str | None = None) -> dict[str, Any]:
    """A document of the container `streams` with its keys alone; the unique key follows from `seq`."""
    return {"id": f"{seq:020}", "partition": partition, "seq": seq, "ukey": ukey or f"key {seq}"}


def creating(*documents: dict[str, Any]) -> list[tuple[str, tuple[dict[str, Any]]]]:
    """A batch that creates documents."""
    return [("create", (document,)) for document in documents]


async def stands(streams: ContainerProxy, partition: str, seq: int) -> bool:
    """Whether a query finds a document."""
    sql = "SELECT c.id FROM c WHERE c.partition = @partition AND c.seq = @seq"
    parameters: list[dict[str, object]] = [{"name": "@partition", "value": partition}, {"name": "@seq", "value": seq}]
    found = [row async for row in streams.query_items(sql, parameters=parameters, partition_key=partition)]
    return bool(found)


async def _refused(write: Awaitable[Any], error: type[Exception]) -> bool:
    try:
        await write
    except error:
        return True
    return False


async def _unique_keys(streams: ContainerProxy) -> bool:
    await streams.create_item(document("unique", 1, "same"))
    return await _refused(streams.create_item(document("unique", 2, "same")), CosmosResourceExistsError)


async def _batches(streams: ContainerProxy) -> bool:
    await streams.create_item(document("batch", 2))
    batch = creating(document("batch", 1), document("batch", 2), document("batch", 3))
    refused = await _refused(streams.execute_item_batch(batch, "batch"), CosmosBatchOperationError)
    left = [seq for seq in (1, 3) if await stands(streams, "batch", seq)]
    return refused and not left


async def _racing_batches(streams: ContainerProxy) -> bool:
    """Of batches that create the same document first, exactly one is stored."""
    batches = [creating(document("race", 1), document("race", 2 + n)) for n in range(8)]
    await asyncio.gather(*(streams.execute_item_batch(batch, "race") for batch in batches), return_exceptions=True)
    return [await stands(streams, "race", 2 + n) for n in range(8)].count(True) == 1


async def _etags(streams: ContainerProxy) -> bool:
    stale = await streams.create_item(document("etag", 1))
    await streams.replace_item(stale["id"], {**document("etag", 1), "n": 2})
    replaced = streams.replace_item(
        stale["id"], document("etag", 1), etag=stale["_etag"], match_condition=MatchConditions.IfNotModified
    )
    return await _refused(replaced, CosmosAccessConditionFailedError)


async def _order(streams: ContainerProxy) -> bool:
    for seq in (2, 3, 1):
        await streams.create_item(document("order", seq))
        await streams.create_item(document("another order", seq))
    sql = "SELECT TOP 2 c.seq FROM c WHERE ARRAY_CONTAINS(@keys, c.ukey) ORDER BY c.seq DESC"
    keys: list[dict[str, object]] = [{"name": "@keys", "value": ["key 1", "key 2", "key 3"]}]
    found = [row async for row in streams.query_items(sql, parameters=keys, partition_key="order")]
    return found == [{"seq": 3}, {"seq": 2}]


async def _missing(streams: ContainerProxy) -> bool:
    return await _refused(streams.read_item("nobody", "missing"), CosmosResourceNotFoundError)


ATOMIC = {"atomic batches", "atomic batches in a race"}
PROBES: dict[str, Probe] = {
    "unique keys": _unique_keys,
    "atomic batches": _batches,
    "atomic batches in a race": _racing_batches,
    "if-match": _etags,
    "ordered queries on one partition": _order,
    "404 for what is missing": _missing,
}


async def not_honoured(streams: ContainerProxy) -> list[str]:
    """The names of the promises that a server breaks, tried on its empty container `streams`."""
    return [name for name, probe in PROBES.items() if not await probe(streams)]
