"""A Cosmos DB server for tests: the emulator of tests/emulator, or the server that EVENTS_TEST_COSMOS names."""

from __future__ import annotations

import asyncio
import base64
import os
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import pytest
from azure.cosmos import PartitionKey
from azure.cosmos.aio import CosmosClient

from events_core.adapters.cosmos.containers import CONTAINERS
from tests.support import emulator
from tests.support.cosmos_probe import ATOMIC, not_honoured
from tests.support.emulator import Emulator

OTHER_SERVER = "EVENTS_TEST_COSMOS"
_KEY = base64.b64encode(b"the emulator asks for no key").decode()
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Fault:
    """A fault of the next requests of a kind; requests to the emulator's own paths never fail.

    `operation` is create, upsert, replace, patch, delete, read, query, batch or `meta` (a request about no document);
    None means any but `meta`. The first `skip` requests of the kind succeed, then `times` of them fail, each with
    `probability`: after `delay_ms` the response is `status`, or the connection is `cut`. With `after` the server
    first does what the request asks. A fault without status and cut is only slow.
    """

    operation: str | None = None
    container: str | None = None
    database: str | None = None
    status: int | None = None
    substatus: int | None = None
    retry_after_ms: int | None = None
    cut: bool = False
    after: bool = False
    delay_ms: float = 0
    skip: int = 0
    times: int = 1
    probability: float = 1

    def __str__(self) -> str:
        kind = self.status or ("cut" if self.cut else "slow")
        return f"{kind}{' after the commit' if self.after else ''}"


UNKNOWN_OUTCOMES = (
    Fault(cut=True, after=True),
    Fault(cut=True),
    Fault(status=503, after=True),
    Fault(status=408, after=True),
    Fault(status=449),
    Fault(status=412),
    Fault(status=500, after=True),
)
"""Faults after which the client cannot tell whether the server did the write."""


def _as_json(fault: Fault) -> dict[str, Any]:
    words = {"retry_after_ms": "retryAfterMs", "delay_ms": "delayMs"}
    return {words.get(name, name): value for name, value in vars(fault).items() if value is not None}


Counts = Mapping[str, Mapping[str, int]]
"""Requests by container and operation; `meta` requests are about no document and have no container."""

ours_only = pytest.mark.skipif(OTHER_SERVER in os.environ, reason="only the emulator of tests/emulator can do this")


class UnfitServerError(Exception):
    """A server cannot serve the tests; the text names the promises that it breaks."""


@dataclass
class CosmosServer:
    """A Cosmos DB server. `emulator` is None for a server of another kind, which breaks the promises in `lacks`."""

    connection_string: str
    emulator: Emulator | None = None
    databases: set[str] = field(default_factory=set)
    injected: bool = False
    advanced: bool = False
    lacks: Sequence[str] = ()

    def client(self, **options: Any) -> CosmosClient:
        """A client of the SDK for `async with`, with the options that the server needs."""
        return CosmosClient.from_connection_string(self.connection_string, **self._connection, **options)

    @property
    def _connection(self) -> dict[str, Any]:
        # An emulator's certificate is self-signed, and the address in its account cannot be reached from here.
        host = urlsplit(self.connection_string.split("AccountEndpoint=")[1].split(";")[0]).hostname
        return {"connection_verify": False, "enable_endpoint_discovery": False} if host in _LOOPBACK else {}

    async def make_containers(self) -> str:
        """Create a database with every container of the service; return its name."""
        name = f"test-{uuid.uuid4().hex}"
        async with self.client() as client:
            database = await client.create_database(name)
            self.databases.add(name)
            for container in CONTAINERS:
                keys = {"unique_key_policy": container.unique_key_policy} if container.unique_keys else {}
                options: dict[str, Any] = {"indexing_policy": container.indexing_policy, **keys}
                if container.default_ttl is not None:
                    options["default_ttl"] = container.default_ttl
                await database.create_container(container.name, PartitionKey(container.partition_key), **options)
        return name

    async def not_honoured(self) -> list[str]:
        """Try the promises of Cosmos DB; return the names of those that the server breaks."""
        async with self.database() as database, self.client() as client:
            return await not_honoured(client.get_database_client(database).get_container_client("streams"))

    async def drop(self, *names: str) -> None:
        """Delete databases that `make_containers` created, here or in another process."""
        async with self.client() as client:
            for name in names:
                await client.delete_database(name)
                self.databases.discard(name)

    async def clean(self) -> None:
        """Delete every database that is left, and undo what was done here to the faults and the clock."""
        if self.databases:
            await self.drop(*self.databases)
        if self.injected:
            await self.heal()
        if self.advanced:
            await self._administer("DELETE", "/_clock")

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """A database with every container, deleted at the end."""
        name = await self.make_containers()
        try:
            yield name
        finally:
            await self.drop(name)

    async def inject(self, *faults: Fault) -> None:
        """Add faults to the next requests."""
        self.injected = True
        await self._administer("POST", "/_faults", json=[_as_json(fault) for fault in faults])

    async def heal(self) -> None:
        """Cancel the faults that have not happened yet."""
        await self._administer("DELETE", "/_faults")

    async def advance(self, seconds: float) -> None:
        """Move the server's clock forward until `clean`: it stamps documents and answers, and ends times to live."""
        self.advanced = True
        await self._administer("POST", "/_clock", json={"seconds": seconds})

    async def counts(self, database: str) -> Counts:
        """The requests on a database since the last call, failed ones included."""
        counts: Counts = await self._administer("GET", f"/_counts/{quote(database)}")
        return counts

    async def memory(self) -> int:
        """The bytes on the emulator's heap after a garbage collection."""
        answer: dict[str, int] = await self._administer("GET", "/_memory")
        return answer["heapUsed"]

    async def _administer(self, method: str, path: str, **options: Any) -> Any:
        assert self.emulator is not None, "faults and counts are the emulator's own"
        async with aiohttp.request(method, self.emulator.url + path, **options) as response:
            assert response.status == 200
            return await response.json()


@cache
def _shared(mode: str, latency_ms: float, lag_ms: float) -> Emulator:
    return emulator.start(mode, latency_ms=latency_ms, lag_ms=lag_ms)


_lacking: dict[str, list[str]] = {}


async def _check(server: CosmosServer) -> None:
    """Try a server, once a process."""
    key = server.connection_string
    if key not in _lacking:
        _lacking[key] = await server.not_honoured()
    server.lacks = _lacking[key]
    if fatal := set(server.lacks) - ATOMIC:
        raise UnfitServerError(f"The server of {OTHER_SERVER} does not honour: {', '.join(sorted(fatal))}.")


async def started_server(mode: str = "atomic", *, latency_ms: float = 0, lag_ms: float = 60) -> CosmosServer:
    """A server for tests; the caller drops the databases that it creates. A process starts one emulator of a kind.

    `mode` is `atomic` (a batch is all or nothing), `prefix` (a batch stops at its first failure and keeps what came
    before) or `lagging` (atomic, and a read may be up to `lag_ms` behind). A request takes `latency_ms` longer.

    Raises:
        NodeMissingError: There is no emulator here, and EVENTS_TEST_COSMOS names no other server.
        UnfitServerError: The other server breaks promises that the tests need.
    """
    if connection_string := os.environ.get(OTHER_SERVER):
        server = CosmosServer(connection_string)
        await _check(server)
        return server
    running = await asyncio.to_thread(_shared, mode, latency_ms, lag_ms)
    return CosmosServer(f"AccountEndpoint={running.url}/;AccountKey={_KEY};", running)


@asynccontextmanager
async def cosmos_server(
    mode: str = "atomic", *, latency_ms: float = 0, lag_ms: float = 60
) -> AsyncIterator[CosmosServer]:
    """A server like `started_server`; its databases are deleted at the end."""
    server = await started_server(mode, latency_ms=latency_ms, lag_ms=lag_ms)
    try:
        yield server
    finally:
        await server.clean()
