"""Requests to a Cosmos DB database, through one client per process that the first request opens."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from azure.core import MatchConditions
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.pipeline.transport import AioHttpTransport
from azure.cosmos import CosmosDict
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosResourceExistsError

from events_core.adapters.cosmos.containers import CONTAINERS
from events_core.adapters.cosmos.failures import absence_allowed, failures_as_unavailable, refusal_allowed
from events_core.adapters.cosmos.request_units import RequestUnits, operation
from events_core.adapters.cosmos.server_clock import ServerClock
from events_core.adapters.cosmos.writes import Document, Request, Write, is_same
from events_core.common import errors

REQUEST_SECONDS = 10.0
"""The longest time of a read or a conditional write, the SDK's own retries included."""

__all__ = ["REQUEST_SECONDS", "CosmosConnection", "CosmosDatabase", "Document"]

_PARTITION_KEYS = {container.name: container.partition_key.strip("/") for container in CONTAINERS}
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
        async with self._request(what, container) as request:
            with absence_allowed():
                return dict(await request.proxy.read_item(document_id, partition))
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
        async with self._request(what, container) as request:
            pages = request.proxy.query_items(
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
        write = Write(document["id"], document[_PARTITION_KEYS[container]])
        async with self._request(what, container) as request:
            try:
                await write.done(request, request.proxy.create_item(document | write.mark, no_response=True))
            except CosmosResourceExistsError:
                return False
        return True

    async def batch(self, what: str, container: str, operations: Sequence[tuple[Any, ...]], partition: str) -> None:
        """Execute operations on one logical partition, all or none."""
        with operation(what):
            await (await self._container(container)).execute_item_batch(list(operations), partition)

    async def replace(self, what: str, container: str, document: Document) -> None:
        """Replace a document; do nothing if it does not exist."""
        async with self._request(what, container) as request:
            with absence_allowed():
                await request.proxy.replace_item(document["id"], document, no_response=True)

    async def replace_if(self, what: str, container: str, document: Document, etag: str) -> str | None:
        """Replace a document if it still has `etag`. Return its new etag, or None if it was changed or deleted.

        Raises:
            EventsError: CONFLICT when another document has its unique key.
        """
        write = Write(document["id"], document[_PARTITION_KEYS[container]], is_repeated=True)
        body = {name: value for name, value in document.items() if not name.startswith("_")} | write.mark
        answer: Document | None = None
        async with self._request(what, container) as request:
            replacing = request.proxy.replace_item(document["id"], body, no_response=True, **_if_match(etag))
            try:
                with refusal_allowed():
                    answer = await write.done(request, replacing)
            except CosmosResourceExistsError:
                raise errors.conflict("Another document has the same unique key.") from None
        if answer is None:
            return None
        if isinstance(answer, CosmosDict):
            return str(answer.get_response_headers()["etag"])
        # Patched since, it is not what the caller knows: with the old etag the caller's next write finds out.
        return str(answer["_etag"]) if is_same(answer, body) else etag

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
        condition = _condition(etag, unless)
        return await self._patch(what, container, document_id, changes, condition, no_response=True) is not None

    async def changed(
        self,
        what: str,
        container: str,
        document_id: str,
        changes: Mapping[str, Any],
        *,
        etag: str | None = None,
        unless: str = "",
    ) -> Document | None:
        """Do what `change` does, and return the changed document; None where `change` returns False.

        If the answer to the write was lost, the document may hold changes that others made since.
        """
        answer = await self._patch(what, container, document_id, changes, _condition(etag, unless))
        return None if answer is None else dict(answer)

    async def _patch(
        self,
        what: str,
        container: str,
        document_id: str,
        changes: Mapping[str, Any],
        condition: Mapping[str, Any],
        **options: Any,
    ) -> Document | None:
        write = Write(document_id, document_id)
        # Without a condition, doing it twice does no harm, and callers use all ten operations that a patch may have.
        mark = write.mark if condition else {}
        operations = [{"op": "set", "path": f"/{name}", "value": value} for name, value in {**changes, **mark}.items()]
        async with self._request(what, container) as request:
            patching = request.proxy.patch_item(document_id, document_id, operations, **options, **condition)
            with refusal_allowed():
                return await (write.done(request, patching) if mark else patching)
        return None

    async def delete(self, what: str, container: str, document_id: str, partition: str) -> None:
        """Delete a document; do nothing if it does not exist."""
        async with self._request(what, container) as request:
            with absence_allowed():
                await request.proxy.delete_item(document_id, partition)

    async def close(self) -> None:
        """Close the connections. Later requests are UNAVAILABLE."""
        self._closed = True
        async with self._opening:
            client, self._client = self._client, None
            if client is not None:
                await client.close()
                self.request_units.log()

    @asynccontextmanager
    async def _request(self, what: str, container: str) -> AsyncIterator[Request]:
        """Limit the time of a request, count it under `what`, and turn its failure into UNAVAILABLE."""
        with failures_as_unavailable(), operation(what) as current:
            async with asyncio.timeout(REQUEST_SECONDS):
                yield Request(await self._container(container), current)

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
                # By default a thread looks for proxies and a netrc file before each request, for a third of its cost.
                transport=AioHttpTransport(use_env_settings=False),
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


def _condition(etag: str | None, unless: str) -> dict[str, Any]:
    condition = {} if etag is None else _if_match(etag)
    return condition | ({"filter_predicate": f"FROM c WHERE NOT ({unless})"} if unless else {})


def _if_match(etag: str) -> dict[str, Any]:
    return {"etag": etag, "match_condition": MatchConditions.IfNotModified}
