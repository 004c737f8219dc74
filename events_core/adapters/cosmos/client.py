"""Requests to a Cosmos DB database, through one client per process that the first request opens."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
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

from events_core.adapters.cosmos.containers import CONTAINERS
from events_core.adapters.cosmos.failures import failures_as_unavailable
from events_core.adapters.cosmos.request_units import RequestUnits, operation
from events_core.adapters.cosmos.server_clock import ServerClock
from events_core.common import errors

Document = dict[str, Any]

REQUEST_SECONDS = 10.0
"""The longest time of a read or a conditional write, the SDK's own retries included."""

_LARGEST_PAGE = 1_000
# Our own loops decide what is retried: the SDK would also repeat a write whose connection was lost after the commit.
# A throttled request changed nothing, so the SDK retries it after the wait that Cosmos DB asks for.
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
    """An account's endpoint, and the credential for it: the account key or a token credential."""

    endpoint: str
    credential: str | AsyncTokenCredential = field(repr=False)

    @classmethod
    def of_string(cls, text: str) -> CosmosConnection:
        """Parse a connection string `AccountEndpoint=…;AccountKey=…;`.

        Raises:
            ValueError: A part is missing or bad. The message names it and does not quote the text.
        """
        parts = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in text.split(";"))}
        for name, is_good in (("AccountEndpoint", _is_endpoint), ("AccountKey", _is_key)):
            if not parts.get(name):
                raise ValueError(f"has no {name}")
            if not is_good(parts[name]):
                raise ValueError(f"has a bad {name}")
        return cls(parts["AccountEndpoint"], parts["AccountKey"])

    @property
    def options(self) -> dict[str, Any]:
        """Options of the SDK's client. Plain HTTP means an emulator, which announces addresses that lead nowhere."""
        plain = self.endpoint.startswith("http://")
        return {"connection_verify": False, "enable_endpoint_discovery": False} if plain else {}


class CosmosDatabase:
    """Documents of one database. `what` names a request's purpose in the counts of `request_units`.

    Every method raises EventsError UNAVAILABLE if Cosmos DB does not answer; a write may have happened then. Only
    `create` and `batch` raise the SDK's own errors: `failures.failure_of` says what they mean.
    """

    def __init__(self, connection: CosmosConnection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._opening = asyncio.Lock()
        self._client: CosmosClient | None = None
        self._containers: dict[str, ContainerProxy] = {}
        self._closed = False
        self._clock = ServerClock()
        self.request_units = RequestUnits()

    def server_time(self) -> int | None:
        """Return the server's time in microseconds since the epoch, about a second early; None before any answer."""
        return self._clock.time()

    async def read(self, what: str, container: str, document_id: str, partition: str) -> Document | None:
        """Read a document; None if it does not exist."""
        async with self._request(what, container) as proxy:
            try:
                return dict(await proxy.read_item(document_id, partition))
            except CosmosResourceNotFoundError:
                return None

    async def query(
        self,
        what: str,
        container: str,
        sql: str,
        values: Mapping[str, Any],
        partition: str | None,
        *,
        enough: Callable[[Sequence[Document]], bool] = lambda _: False,
        page_size: int = _LARGEST_PAGE,
    ) -> list[Document]:
        """Run a query in one logical partition, or in all of them if `partition` is None.

        The answer comes in pages of at most `page_size` documents and 4 MB. Once `enough` holds for the documents of
        the pages so far, no further page is requested.
        """
        parameters: list[dict[str, object]] = [{"name": f"@{name}", "value": value} for name, value in values.items()]
        scope: dict[str, Any] = {} if partition is None else {"partition_key": partition}
        documents: list[Document] = []
        async with self._request(what, container) as proxy:
            pages = proxy.query_items(
                sql, parameters=parameters, max_item_count=min(page_size, _LARGEST_PAGE), **scope
            ).by_page()
            async for page in pages:
                documents += [document async for document in page]
                if enough(documents):
                    break
        return documents

    async def create(self, what: str, container: str, document: Document) -> None:
        """Create a document.

        Raises:
            CosmosResourceExistsError: A document with this id or unique key exists.
        """
        with operation(what):
            await (await self._container(container)).create_item(document, no_response=True)

    async def create_if_absent(self, what: str, container: str, document: Document) -> bool:
        """Create a document; return False if one with this id or unique key exists."""
        async with self._request(what, container) as proxy:
            try:
                await proxy.create_item(document, no_response=True)
            except CosmosResourceExistsError:
                return False
        return True

    async def batch(self, what: str, container: str, operations: Sequence[tuple[Any, ...]], partition: str) -> None:
        """Execute operations on one logical partition, all or none."""
        with operation(what):
            await (await self._container(container)).execute_item_batch(list(operations), partition)

    async def replace(self, what: str, container: str, document: Document) -> None:
        """Replace a document; do nothing if it does not exist."""
        async with self._request(what, container) as proxy:
            with suppress(CosmosResourceNotFoundError):
                await proxy.replace_item(document["id"], document, no_response=True)

    async def replace_if(self, what: str, container: str, document: Document, etag: str) -> str | None:
        """Replace a document if it still has `etag`. Return its new etag, or None if it was changed or deleted.

        Raises:
            EventsError: CONFLICT when another document has its unique key.
        """
        body = {name: value for name, value in document.items() if not name.startswith("_")}
        async with self._request(what, container) as proxy:
            try:
                return str((await proxy.replace_item(document["id"], body, **_if_match(etag)))["_etag"])
            except (CosmosAccessConditionFailedError, CosmosResourceNotFoundError):
                return None
            except CosmosResourceExistsError:
                raise errors.conflict("Another document has the same unique key.") from None

    async def change(
        self,
        what: str,
        container: str,
        document_id: str,
        changes: Mapping[str, Any],
        *,
        etag: str | None = None,
        unless: str = "",
    ) -> bool:
        """Set properties of a document whose id is its partition key.

        Return False if the document does not exist, does not have `etag`, or meets the SQL condition `unless`.
        """
        operations = [{"op": "set", "path": f"/{name}", "value": value} for name, value in changes.items()]
        condition: dict[str, Any] = {"filter_predicate": f"FROM c WHERE NOT ({unless})"} if unless else {}
        if etag is not None:
            condition |= _if_match(etag)
        async with self._request(what, container) as proxy:
            try:
                await proxy.patch_item(document_id, document_id, operations, no_response=True, **condition)
            except (CosmosAccessConditionFailedError, CosmosResourceNotFoundError):
                return False
        return True

    async def delete(self, what: str, container: str, document_id: str, partition: str) -> None:
        """Delete a document; do nothing if it does not exist."""
        async with self._request(what, container) as proxy:
            with suppress(CosmosResourceNotFoundError):
                await proxy.delete_item(document_id, partition)

    async def close(self) -> None:
        """Close the connections. Later requests are UNAVAILABLE."""
        self._closed = True
        async with self._opening:
            client, self._client = self._client, None
            if client is not None:
                await client.close()
                self.request_units.log()

    @asynccontextmanager
    async def _request(self, what: str, container: str) -> AsyncIterator[ContainerProxy]:
        """Limit the time of a request, count it under `what`, and turn its failure into UNAVAILABLE."""
        with failures_as_unavailable(), operation(what):
            async with asyncio.timeout(REQUEST_SECONDS):
                yield await self._container(container)

    def _received(self, response: Any) -> None:
        self.request_units.received(response)
        self._clock.learn(response.http_response.headers)

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
                raw_response_hook=self._received,
                **_RETRIES,
                **self._connection.options,
            )
            try:
                await client.__aenter__()
            except BaseException:
                await client.close()
                raise
            database = client.get_database_client(self._name)
            self._containers = {
                container.name: database.get_container_client(container.name) for container in CONTAINERS
            }
            self._client = client


def _is_endpoint(text: str) -> bool:
    return re.fullmatch(r"https?://[^\s/?#@]+/?", text) is not None


def _is_key(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except ValueError:
        return False


def _if_match(etag: str) -> dict[str, Any]:
    return {"etag": etag, "match_condition": MatchConditions.IfNotModified}
