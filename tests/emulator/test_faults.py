"""The emulator fails as it is asked to, counts, slows down and lags."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

import pytest
from azure.core.exceptions import ServiceRequestError
from azure.cosmos.aio import ContainerProxy
from azure.cosmos.exceptions import CosmosHttpResponseError, CosmosResourceExistsError

from tests.emulator.conftest import PARTITION, Place, place_on
from tests.support import cosmos, cosmos_probe, emulator
from tests.support.cosmos import Fault, UnfitServerError, cosmos_server, ours_only
from tests.support.cosmos_probe import creating, document
from tests.support.node import NodeMissingError, program

pytestmark = ours_only


@pytest.mark.parametrize("status", [408, 429, 449, 503])
@pytest.mark.parametrize("after", [False, True])
async def test_a_request_is_refused(place: Place, status: int, after: bool) -> None:  # noqa: FBT001 - a parameter
    """A fault answers with its status, before the server has done what was asked or after."""
    await place.server.inject(Fault("batch", status=status, after=after, retry_after_ms=1, times=10))
    with pytest.raises(CosmosHttpResponseError) as raised:
        await place.streams.execute_item_batch(creating(document(PARTITION, 1)), PARTITION)
    assert raised.value.status_code == status
    assert await place.seqs() == ([1] if after else [])


@pytest.mark.parametrize("after", [False, True])
async def test_a_connection_is_cut(place: Place, after: bool) -> None:  # noqa: FBT001 - a parameter
    """A cut loses the request, or the answer once it is done; the SDK says in both cases that nothing was sent."""
    await place.server.inject(Fault("create", cut=True, after=after))
    with pytest.raises(ServiceRequestError):
        await place.create(1)
    assert await place.seqs() == ([1] if after else [])


async def test_what_is_throttled_is_repeated_as_told(place: Place) -> None:
    """The SDK waits as long as a 429 says, and tries again."""
    await place.server.inject(Fault("create", status=429, retry_after_ms=80))
    started = time.monotonic()
    await place.create(1)
    assert time.monotonic() - started >= 0.08
    assert await place.counts() == {"create": 2}


async def test_a_fault_strikes_its_kind_alone(place: Place) -> None:
    """A fault passes other operations, containers and databases, as many as it is to skip, and is used up then."""
    await place.server.inject(
        Fault("create", database="another", cut=True),
        Fault("create", container="cursors", cut=True),
        Fault("create", "streams", place.name, cut=True, skip=1),
    )
    await place.create(1)
    with pytest.raises(ServiceRequestError):
        await place.create(2)
    await place.create(3)
    assert await place.seqs() == [1, 3]
    with pytest.raises(ServiceRequestError):
        await place.container("cursors").create_item({"id": "1"})


async def test_faults_can_be_taken_back(place: Place) -> None:
    """What was injected and has not happened does not happen after it is healed, nor to the next who use the server."""
    async with cosmos_server() as same:
        await same.inject(Fault(cut=True, times=1000))
    await place.create(1)
    await place.server.inject(Fault(cut=True))
    await place.server.heal()
    assert await place.seqs() == [1]


async def test_requests_are_counted_by_operation(place: Place) -> None:
    """Each request on documents is counted under its container and operation, then from zero again."""
    await place.server.counts(place.name)
    await place.create(1)
    await place.streams.execute_item_batch(creating(document(PARTITION, 2)), PARTITION)
    await place.streams.read_item(f"{1:020}", PARTITION)
    await place.seqs()
    await place.container("cursors").upsert_item({"id": "1"})
    counts = await place.server.counts(place.name)
    assert counts["streams"] == {"create": 1, "batch": 1, "read": 1, "query": 1}
    assert counts["cursors"] == {"upsert": 1}
    assert await place.counts() == {}


async def test_requests_take_as_long_as_they_are_told() -> None:
    """Latency is added to every request, and a delay to one."""
    async with cosmos_server(latency_ms=20) as server, place_on(server) as place:
        started = time.monotonic()
        await place.create(1)
        assert time.monotonic() - started >= 0.019
        await server.inject(Fault("create", delay_ms=100))
        await place.create(2)
        assert time.monotonic() - started >= 0.138


async def test_lagging_reads_see_a_whole_prefix() -> None:
    """A lagging read sees everything up to some batch and nothing after; another read may see less."""
    async with cosmos_server("lagging", lag_ms=200) as server, place_on(server) as place:
        seen: list[list[int]] = []
        for first in range(1, 60, 3):
            batch = creating(*(document(PARTITION, seq) for seq in range(first, first + 3)))
            await place.streams.execute_item_batch(batch, PARTITION)
            seen.append(await place.seqs())
        assert all(each == [*range(1, len(each) + 1)] and len(each) % 3 == 0 for each in seen)
        assert any(len(each) < 3 * number for number, each in enumerate(seen, 1))
        async with asyncio.timeout(10):
            while len(await place.seqs()) < 60:
                pass


async def test_lagging_reads_show_what_was_there_before() -> None:
    """A read that lags shows what was replaced and deleted since, each as it was; writes meet what is."""
    async with cosmos_server("lagging", lag_ms=200) as server, place_on(server) as place:
        await place.create(1, 2)
        await asyncio.sleep(0.2)  # from now on no read lags behind what was created
        await place.streams.upsert_item({**document(PARTITION, 1), "n": 1})
        await place.streams.delete_item(f"{2:020}", PARTITION)
        with pytest.raises(CosmosResourceExistsError):
            await place.create(1)
        seen = [await place.query("SELECT c.seq, c.n FROM c ORDER BY c.seq") for _ in range(20)]
    states = [[{"seq": 1}, {"seq": 2}], [{"seq": 1, "n": 1}, {"seq": 2}], [{"seq": 1, "n": 1}]]
    assert all(each in states for each in seen)
    assert states[0] in seen


async def test_memory_does_not_grow() -> None:
    """50 MB that were replaced are forgotten, in lagging mode once no read can look back to them."""
    async with cosmos_server("lagging") as server, place_on(server) as place:
        before = await server.memory()
        await place.create(1)
        for number in range(100):
            await place.streams.upsert_item({**document(PARTITION, 1), "json": f"{number:04}" * 125_000})
        assert await server.memory() - before < 25_000_000


async def test_servers_of_one_kind_share_an_emulator(place: Place) -> None:
    """Whoever asks for the same kind of server gets the same one, and takes only their own databases away."""
    async with cosmos_server() as same:
        assert same.connection_string == place.server.connection_string
        await same.make_containers()
    await place.create(1)


@pytest.fixture
def elsewhere(prefix: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A server without atomic batches, taken for another than ours."""
    monkeypatch.setenv(cosmos.OTHER_SERVER, prefix.server.connection_string)
    monkeypatch.setattr(cosmos, "_lacking", {})
    return prefix


async def test_another_server_says_what_it_lacks(elsewhere: Place) -> None:
    """EVENTS_TEST_COSMOS names the server; what it lacks is known, and its databases are dropped in the end."""
    async with cosmos_server() as server:
        assert (server.emulator, server.lacks) == (None, ["atomic batches"])
        name = await server.make_containers()
        assert name in [each["id"] async for each in elsewhere.client.list_databases()]
    assert name not in [each["id"] async for each in elsewhere.client.list_databases()]


async def test_an_unfit_server_is_refused(elsewhere: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without what every test needs is named with what it does not honour."""

    async def broken(_: ContainerProxy) -> bool:
        return False

    monkeypatch.setitem(cosmos_probe.PROBES, "unique keys", broken)
    with pytest.raises(UnfitServerError, match=r"does not honour: unique keys\.$"):
        async with cosmos_server():
            pass


def test_an_emulator_ends_with_who_started_it() -> None:
    """An emulator whose standard input ends, as it does when the process that holds it dies, ends too."""
    running = emulator.start()
    assert running.process.stdin is not None
    running.process.stdin.close()
    assert running.process.wait(10) == 0
    running.stop()


def test_a_missing_node_is_said_loudly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Node.js the tests fail with what is missing and how to get it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(NodeMissingError, match=r"NO NODE.*requirements-node.*EVENTS_TEST_COSMOS"):
        emulator.start()


def test_an_emulator_that_cannot_start_says_why() -> None:
    """What node prints when it fails is in the error."""
    with pytest.raises(NodeMissingError, match="--mode is one of atomic, prefix, lagging"):
        emulator.start("none")


def test_the_lock_names_no_registry() -> None:
    """Packages are pinned by version and digest, and come from whatever registry npm is set up with."""
    text = (emulator.HERE / "package-lock.json").read_text()
    assert '"integrity"' in text
    assert '"resolved"' not in text


def test_the_launcher_is_sound() -> None:
    """Every file of the launcher is valid JavaScript."""
    for path in emulator.HERE.glob("*.js"):
        subprocess.run([program("node"), "--check", path], check=True)
