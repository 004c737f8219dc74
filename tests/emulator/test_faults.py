"""The emulator injects faults, counts requests, adds latency and lags."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

import pytest
from azure.core.exceptions import ServiceRequestError
from azure.cosmos.aio import ContainerProxy
from azure.cosmos.exceptions import CosmosHttpResponseError, CosmosResourceExistsError

from tests.emulator.conftest import PARTITION, Database, database_on
from tests.support import cosmos, cosmos_probe, emulator
from tests.support.cosmos import Fault, UnfitServerError, cosmos_server, ours_only
from tests.support.cosmos_probe import creating, document
from tests.support.node import NodeMissingError, program

pytestmark = ours_only


@pytest.mark.parametrize("status", [408, 429, 449, 503])
@pytest.mark.parametrize("after", [False, True])
async def test_a_request_fails_with_a_status(database: Database, status: int, after: bool) -> None:  # noqa: FBT001 - a parameter
    """The emulator answers before or after it does what the request asks."""
    await database.server.inject(Fault("batch", status=status, after=after, retry_after_ms=1, times=10))
    with pytest.raises(CosmosHttpResponseError) as raised:
        await database.streams.execute_item_batch(creating(document(PARTITION, 1)), PARTITION)
    assert raised.value.status_code == status
    assert await database.seqs() == ([1] if after else [])


@pytest.mark.parametrize("after", [False, True])
async def test_a_connection_is_cut(database: Database, after: bool) -> None:  # noqa: FBT001 - a parameter
    """The request or the response is lost; the SDK says in both cases that nothing was sent."""
    await database.server.inject(Fault("create", cut=True, after=after))
    with pytest.raises(ServiceRequestError):
        await database.create(1)
    assert await database.seqs() == ([1] if after else [])


async def test_a_throttled_request_is_repeated_after_its_delay(database: Database) -> None:
    """The SDK waits as long as the 429 says."""
    await database.server.inject(Fault("create", status=429, retry_after_ms=80))
    started = time.monotonic()
    await database.create(1)
    assert time.monotonic() - started >= 0.08
    assert await database.counts() == {"create": 2}


async def test_a_fault_hits_its_own_kind_of_request_alone(database: Database) -> None:
    """Other operations, containers and databases succeed, and so does every request after it."""
    await database.server.inject(
        Fault("create", database="another", cut=True),
        Fault("create", container="cursors", cut=True),
        Fault("create", "streams", database.name, cut=True, skip=1),
    )
    await database.create(1)
    with pytest.raises(ServiceRequestError):
        await database.create(2)
    await database.create(3)
    assert await database.seqs() == [1, 3]
    with pytest.raises(ServiceRequestError):
        await database.container("cursors").create_item({"id": "1"})


async def test_faults_can_be_cancelled(database: Database) -> None:
    """They neither happen after `heal` nor to the next test on the server."""
    async with cosmos_server() as same:
        await same.inject(Fault(cut=True, times=1000))
    await database.create(1)
    await database.server.inject(Fault(cut=True))
    await database.server.heal()
    assert await database.seqs() == [1]


async def test_requests_are_counted_by_operation(database: Database) -> None:
    """The counts begin at zero after each call."""
    await database.server.counts(database.name)
    await database.create(1)
    await database.streams.execute_item_batch(creating(document(PARTITION, 2)), PARTITION)
    await database.streams.read_item(f"{1:020}", PARTITION)
    await database.seqs()
    await database.container("cursors").upsert_item({"id": "1"})
    counts = await database.server.counts(database.name)
    assert counts["streams"] == {"create": 1, "batch": 1, "read": 1, "query": 1}
    assert counts["cursors"] == {"upsert": 1}
    assert await database.counts() == {}


async def test_requests_take_as_long_as_configured() -> None:
    """Latency applies to every request, and a delay to one."""
    async with cosmos_server(latency_ms=20) as server, database_on(server) as database:
        started = time.monotonic()
        await database.create(1)
        assert time.monotonic() - started >= 0.019
        await server.inject(Fault("create", delay_ms=100))
        await database.create(2)
        assert time.monotonic() - started >= 0.138


async def test_lagging_reads_see_a_whole_prefix() -> None:
    """A read sees everything up to some batch; a later read may see less."""
    async with cosmos_server("lagging", lag_ms=200) as server, database_on(server) as database:
        seen: list[list[int]] = []
        for first in range(1, 60, 3):
            batch = creating(*(document(PARTITION, seq) for seq in range(first, first + 3)))
            await database.streams.execute_item_batch(batch, PARTITION)
            seen.append(await database.seqs())
        assert all(seqs == [*range(1, len(seqs) + 1)] and len(seqs) % 3 == 0 for seqs in seen)
        assert any(len(seqs) < 3 * number for number, seqs in enumerate(seen, 1))
        async with asyncio.timeout(10):
            while len(await database.seqs()) < 60:
                pass


async def test_lagging_reads_show_earlier_documents() -> None:
    """Replaced and deleted documents are shown as they were, but writes use the current state."""
    async with cosmos_server("lagging", lag_ms=200) as server, database_on(server) as database:
        await database.create(1, 2)
        await asyncio.sleep(0.2)  # from now on no read lags behind what was created
        await database.streams.upsert_item({**document(PARTITION, 1), "n": 1})
        await database.streams.delete_item(f"{2:020}", PARTITION)
        with pytest.raises(CosmosResourceExistsError):
            await database.create(1)
        seen = [await database.query("SELECT c.seq, c.n FROM c ORDER BY c.seq") for _ in range(20)]
    states = [[{"seq": 1}, {"seq": 2}], [{"seq": 1, "n": 1}, {"seq": 2}], [{"seq": 1, "n": 1}]]
    assert all(row in states for row in seen)
    assert states[0] in seen


async def test_memory_does_not_grow() -> None:
    """50 MB of replaced documents are forgotten, in lagging mode once no read can see them."""
    async with cosmos_server("lagging") as server, database_on(server) as database:
        before = await server.memory()
        await database.create(1)
        for number in range(100):
            await database.streams.upsert_item({**document(PARTITION, 1), "json": f"{number:04}" * 125_000})
        assert await server.memory() - before < 25_000_000


async def test_servers_of_one_kind_share_an_emulator(database: Database) -> None:
    """A test deletes its own databases alone."""
    async with cosmos_server() as same:
        assert same.connection_string == database.server.connection_string
        await same.make_containers()
    await database.create(1)


@pytest.fixture
def elsewhere(prefix: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A server without atomic batches, configured as another server."""
    monkeypatch.setenv(cosmos.OTHER_SERVER, prefix.server.connection_string)
    monkeypatch.setattr(cosmos, "_lacking", {})
    return prefix


async def test_another_server_is_probed(elsewhere: Database) -> None:
    """The broken promises are known, and the databases are deleted at the end."""
    async with cosmos_server() as server:
        assert (server.emulator, server.lacks) == (None, ["atomic batches"])
        name = await server.make_containers()
        assert name in [found["id"] async for found in elsewhere.client.list_databases()]
    assert name not in [found["id"] async for found in elsewhere.client.list_databases()]


async def test_an_unfit_server_is_refused(elsewhere: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the broken promises."""

    async def broken(_: ContainerProxy) -> bool:
        return False

    monkeypatch.setitem(cosmos_probe.PROBES, "unique keys", broken)
    with pytest.raises(UnfitServerError, match=r"does not honour: unique keys\.$"):
        async with cosmos_server():
            pass


def test_an_emulator_ends_with_its_parent() -> None:
    """Its standard input ends when the parent dies."""
    running = emulator.start()
    assert running.process.stdin is not None
    running.process.stdin.close()
    assert running.process.wait(10) == 0
    running.stop()


def test_a_missing_node_fails_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to get Node.js."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(NodeMissingError, match=r"NO NODE.*requirements-node.*EVENTS_TEST_COSMOS"):
        emulator.start()


def test_an_emulator_that_cannot_start_gives_its_error() -> None:
    """The error has the output of node."""
    with pytest.raises(NodeMissingError, match="--mode is one of atomic, prefix, lagging"):
        emulator.start("none")


def test_the_lock_names_no_registry() -> None:
    """Packages are pinned by digest and come from any registry."""
    text = (emulator.HERE / "package-lock.json").read_text()
    assert '"integrity"' in text
    assert '"resolved"' not in text


def test_the_launcher_is_sound() -> None:
    """Every file is valid JavaScript."""
    for path in emulator.HERE.glob("*.js"):
        subprocess.run([program("node"), "--check", path], check=True)
