"""The connection to a Cosmos DB database: one client a process, opened when first used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from azure.core import MatchConditions
from azure.core.credentials_async import AsyncTokenCredential
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)

from events_core.adapters.cosmos.failures import failures_as_unavailable
from events_core.adapters.cosmos.request_units import RequestUnits, operation
from events_core.adapters.cosmos.streams.documents import Document
from events_core.common import errors

REQUEST_SECONDS = 10.0
"""A read takes no longer, however often the SDK tries."""

_LARGEST_PAGE = 1_000
_USED = ("streams", "cursors", "subscriptions", "deliveries", "due")
# Our own loops decide what is tried again: the SDK would also repeat a write whose connection was lost after the
# commit. What is throttled it repeats as told, for a while.
_RETRIES: dict[str, Any] = {
    "retry_total": 0,
    "retry_connect": 0,
    "retry_read": 0,
    "retry_status": 0,
    "retry_throttle_total": 3,
    "retry_throttle_backoff_max": 5,
}


@dataclass(frozen=True, slots=True)
class CosmosConnection:
    """Where the account is, and as whom: its key, or a token credential."""

    endpoint: str
    credential: str | AsyncTokenCredential = field(repr=False)

    @classmethod
    def of_string(cls, text: str) -> CosmosConnection:
        """A connection string `AccountEndpoint=…;AccountKey=…;`.

        Raises:
            ValueError: it is none; the message does not quote it.
        """
        parts = dict(part.partition("=")[::2] for part in text.split(";"))
        try:
            return cls(parts["AccountEndpoint"], parts["AccountKey"])
        except KeyError as missing:
            raise ValueError(f"has no {missing.args[0]}") from None

    @property
    def options(self) -> dict[str, Any]:
        """Plain HTTP is an emulator's, whose account document names addresses that lead nowhere."""
        plain = self.endpoint.startswith("http://")
        return {"connection_verify": False, "enable_endpoint_discovery": False} if plain else {}


class CosmosDatabase:
    """Documents of one database; `operation` names each request in the counts of `charges`.

    Reads raise EventsError UNAVAILABLE when they fail; writes raise what the SDK raises (`failures.failure_of`).
    """

    def __init__(self, connection: CosmosConnection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._opening = asyncio.Lock()
        self._client: CosmosClient | None = None
        self._containers: dict[str, ContainerProxy] = {}
        self._closed = False
        self.request_units = RequestUnits()

    async def read(self, what: str, container: str, document_id: str, partition: str) -> Document | None:
        """One document, None when there is none."""
        with failures_as_unavailable(), operation(what):
            async with asyncio.timeout(REQUEST_SECONDS):
                try:
                    return dict(await (await self._container(container)).read_item(document_id, partition))
                except CosmosResourceNotFoundError:
                    return None

    async def query(  # noqa: PLR0917 - a query is its text, its values and its place
        self,
        what: str,
        container: str,
        sql: str,
        values: Mapping[str, Any],
        partition: str | None,
        enough: Callable[[Sequence[Document]], bool] = lambda _: False,
        page: int = _LARGEST_PAGE,
    ) -> list[Document]:
        """What a query finds, in one logical partition or, with None, in all; it stops when it has enough.

        A page of an answer has at most `page` documents, and at most 4 MB.
        """
        parameters: list[dict[str, object]] = [{"name": f"@{name}", "value": value} for name, value in values.items()]
        scope: dict[str, Any] = {} if partition is None else {"partition_key": partition}
        found: list[Document] = []
        with failures_as_unavailable(), operation(what):
            async with asyncio.timeout(REQUEST_SECONDS):
                proxy = await self._container(container)
                pages = proxy.query_items(
                    sql, parameters=parameters, max_item_count=min(page, _LARGEST_PAGE), **scope
                ).by_page()
                async for some in pages:
                    found += [document async for document in some]
                    if enough(found):
                        break
        return found

    async def create(self, what: str, container: str, document: Document) -> None:
        """Create a document; CosmosResourceExistsError when its id or unique key stands already."""
        with operation(what):
            await (await self._container(container)).create_item(document, no_response=True)

    async def create_if_absent(self, what: str, container: str, document: Document) -> bool:
        """Create a document unless its id stands; whether it did.

        Raises:
            EventsError: UNAVAILABLE when the outcome is unknown.
        """
        with failures_as_unavailable():
            async with asyncio.timeout(REQUEST_SECONDS):
                try:
                    await self.create(what, container, document)
                except CosmosResourceExistsError:
                    return False
        return True

    async def batch(self, what: str, container: str, operations: Sequence[tuple[Any, ...]], partition: str) -> None:
        """Do operations on one logical partition, all or none."""
        with operation(what):
            await (await self._container(container)).execute_item_batch(list(operations), partition)

    async def replace(self, what: str, container: str, document: Document) -> bool:
        """Replace a document; False when there is none.

        Raises:
            EventsError: UNAVAILABLE when the outcome is unknown.
        """
        with failures_as_unavailable(), operation(what):
            async with asyncio.timeout(REQUEST_SECONDS):
                try:
                    await (await self._container(container)).replace_item(document["id"], document, no_response=True)
                except CosmosResourceNotFoundError:
                    return False
        return True

    async def replace_if(self, what: str, container: str, document: Document, etag: str) -> str | None:
        """Replace a document that is the one of `etag`; the etag that it has then, None when it was another or is gone.

        Raises:
            EventsError: UNAVAILABLE when the outcome is unknown.
        """
        body = {name: value for name, value in document.items() if not name.startswith("_")}
        condition: dict[str, Any] = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        with failures_as_unavailable(), operation(what):
            async with asyncio.timeout(REQUEST_SECONDS):
                proxy = await self._container(container)
                try:
                    return str((await proxy.replace_item(document["id"], body, **condition))["_etag"])
                except (CosmosAccessConditionFailedError, CosmosResourceNotFoundError):
                    return None

    async def change(  # noqa: PLR0917 - which document, how, and when
        self,
        what: str,
        container: str,
        document_id: str,
        changes: Mapping[str, Any],
        etag: str | None,
        unless: str = "",
        partition: str | None = None,
    ) -> bool:
        """Set properties of a document, if it is the one of `etag` and `unless` does not hold; whether it was so.

        Raises:
            EventsError: UNAVAILABLE when the outcome is unknown.
        """
        operations = [{"op": "set", "path": f"/{name}", "value": value} for name, value in changes.items()]
        condition: dict[str, Any] = {"filter_predicate": f"FROM c WHERE NOT ({unless})"} if unless else {}
        if etag is not None:
            condition |= {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        with failures_as_unavailable(), operation(what):
            async with asyncio.timeout(REQUEST_SECONDS):
                proxy = await self._container(container)
                try:
                    place = document_id if partition is None else partition
                    await proxy.patch_item(document_id, place, operations, no_response=True, **condition)
                except (CosmosAccessConditionFailedError, CosmosResourceNotFoundError):
                    return False
        return True

    async def delete(self, what: str, container: str, document_id: str, partition: str) -> None:
        """Delete a document, if it is there.

        Raises:
            EventsError: UNAVAILABLE when the outcome is unknown.
        """
        with failures_as_unavailable(), operation(what):
            async with asyncio.timeout(REQUEST_SECONDS):
                try:
                    await (await self._container(container)).delete_item(document_id, partition)
                except CosmosResourceNotFoundError:
                    return

    async def close(self) -> None:
        """Close the connections; whatever is called later is UNAVAILABLE."""
        self._closed = True
        async with self._opening:
            client, self._client = self._client, None
            if client is not None:
                await client.close()
                self.request_units.log()

    async def _container(self, name: str) -> ContainerProxy:
        if self._client is None:
            await self._open()
        if self._closed:
            raise errors.unavailable("The event store is closed.")
        return self._containers[name]

    async def _open(self) -> None:
        async with self._opening:
            if self._client is not None or self._closed:
                return
            client = CosmosClient(
                self._connection.endpoint,
                self._connection.credential,
                connection_timeout=5,
                read_timeout=REQUEST_SECONDS,
                enable_compact_utf8_item_writes=True,
                raw_request_hook=self.request_units.sending,
                raw_response_hook=self.request_units.received,
                **_RETRIES,
                **self._connection.options,
            )
            try:
                await client.__aenter__()
            except BaseException:
                await client.close()
                raise
            database = client.get_database_client(self._name)
            self._containers = {each: database.get_container_client(each) for each in _USED}
            self._client = client
