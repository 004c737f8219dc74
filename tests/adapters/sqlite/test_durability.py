"""The SQLite file when processes share it, crash, or find it locked, full or broken."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import sqlite3
import sys
import threading
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from events_core.adapters.sqlite import SqliteEventStore
from events_core.common.errors import EventsError, Problem
from events_core.feeds.ports import ReadRequest
from events_core.feeds.stream import START, Stream
from tests.adapters.sqlite.publisher import BATCH
from tests.contract.event_store import ANY, APP, OTHER_APP, event, events, everything, ids

RESOURCE = Stream.of_resource(APP)
ROOT = Path(__file__).parents[3]


@contextmanager
def unavailable() -> Iterator[None]:
    """Expect UNAVAILABLE."""
    with pytest.raises(EventsError) as caught:
        yield
    assert caught.value.problem is Problem.UNAVAILABLE


async def _publisher(path: Path, prefix: str, count: int) -> Process:
    module = "tests.adapters.sqlite.publisher"
    arguments = ["-m", module, str(path), prefix, str(count)]
    return await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, stdout=PIPE)


async def _acknowledged(process: Process, lines: int | None = None) -> list[str]:
    assert process.stdout is not None
    acknowledged: list[str] = []
    while (lines is None or len(acknowledged) < lines * BATCH) and (line := await process.stdout.readline()):
        acknowledged += line.decode().split()
    return acknowledged


async def test_two_processes_share_one_file(path: Path, store: SqliteEventStore) -> None:
    """All readers see the events of both in one order, without a gap."""
    processes = [await _publisher(path, prefix, 500) for prefix in ("a", "b")]
    acknowledged = await asyncio.gather(*map(_acknowledged, processes))
    assert [await process.wait() for process in processes] == [0, 0]
    stored = ids(await everything(store))
    assert len(stored) == 1_000
    for batch in acknowledged:
        prefix = batch[0][0]
        assert [event_id for event_id in stored if event_id[0] == prefix] == batch


async def test_kill_9_loses_no_acknowledged_event(path: Path, open_store: Callable[..., SqliteEventStore]) -> None:
    """After twenty kills the file has every acknowledged batch, and only whole batches."""
    acknowledged: list[str] = []
    for life in range(20):
        process = await _publisher(path, f"{life}", 1_000_000)
        acknowledged += await _acknowledged(process, random.randint(1, 20))
        process.kill()
        acknowledged += await _acknowledged(process)
        await process.wait()
    stored = ids(await everything(open_store()))
    assert len(stored) == len(set(stored))
    assert [event_id for event_id in stored if event_id in set(acknowledged)] == acknowledged
    assert len(stored) % BATCH == 0


async def test_a_reader_sees_every_event_once_during_a_burst(store: SqliteEventStore) -> None:
    """It follows thirty thousand fresh events in their order."""
    batches = [events(500) for _ in range(60)]
    publishing = asyncio.gather(*map(store.append, batches))
    seen: list[str] = []
    cursor = START
    while len(seen) < 30_000:
        chunk = await store.read(ReadRequest(RESOURCE, cursor=cursor, limit=1_000))
        seen += ids(chunk.rows)
        cursor = chunk.end
    await publishing
    assert seen == [published.id for batch in batches for published in batch]


async def test_a_locked_file_is_unavailable_and_recovers(path: Path, store: SqliteEventStore) -> None:
    """While another process holds the file, publishing fails and reading goes on."""
    await store.append([event("a")])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with unavailable():
            await store.append([event("b")])
        assert ids(await everything(store)) == ["a"]
        other.execute("ROLLBACK")
    await store.append([event("b")])
    assert ids(await everything(store)) == ["a", "b"]


@contextmanager
def _disk_full_at(size: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("kilobytes", [150, 151, 170, 400])
async def test_a_full_disk_is_unavailable_and_loses_nothing(store: SqliteEventStore, kilobytes: int) -> None:
    """Acknowledged events stay, and publishing goes on when there is space again."""
    acknowledged: list[str] = []
    batch = events(20)
    with _disk_full_at(kilobytes * 1024), unavailable():
        for _ in range(200):
            await store.append(batch)
            acknowledged += ids(batch)
            batch = events(20)
    assert ids(await everything(store)) == acknowledged
    assert not any(outcome.duplicate for outcome in await store.append(batch))
    assert ids(await everything(store)) == acknowledged + ids(batch)


class FailingCommits(SqliteEventStore):
    """A store whose next COMMIT fails before or after it takes effect, if `fail` says so."""

    fail: str | None = None

    def _commit(self, connection: sqlite3.Connection) -> None:
        fail, self.fail = self.fail, None
        if fail == "before":
            raise sqlite3.OperationalError("disk I/O error")
        super()._commit(connection)
        if fail == "after":
            raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.parametrize(("when", "stored"), [("before", 0), ("after", 3)])
async def test_a_failed_commit_is_unavailable_and_the_batch_completes_when_sent_again(
    open_store: Callable[..., SqliteEventStore], when: str, stored: int
) -> None:
    """The COMMIT may have taken effect or not. Either way every event is stored once in the end."""
    store = open_store(FailingCommits)
    assert isinstance(store, FailingCommits)
    batch = events(3)
    store.fail = when
    with unavailable():
        await store.append(batch)
    assert len(await everything(store)) == stored
    await store.append(batch)
    assert ids(await everything(store)) == ids(batch)


async def test_names_of_a_failed_transaction_are_forgotten(open_store: Callable[..., SqliteEventStore]) -> None:
    """Their ids do not exist, so the next transaction adds the names again."""
    store = open_store(FailingCommits)
    assert isinstance(store, FailingCommits)
    await store.append([event()])
    store.fail = "before"
    with unavailable():
        await store.append([event(resource=ANY, type="lost")])
    await store.append([event("x", resource=OTHER_APP, type="kept")])
    (row,) = await everything(store, OTHER_APP)
    assert (row.type, row.resource) == ("kept", OTHER_APP)


class HeldCommits(SqliteEventStore):
    """A store that counts its commits and holds them back until they are released."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.released = threading.Event()
        self.commits = 0
        super().__init__(path, **options)

    def _commit(self, connection: sqlite3.Connection) -> None:
        self.released.wait(5)
        self.commits += 1
        super()._commit(connection)


async def test_waiting_requests_share_a_commit(open_store: Callable[..., SqliteEventStore]) -> None:
    """They go into the transaction after the one that is being committed."""
    store = open_store(HeldCommits)
    assert isinstance(store, HeldCommits)
    appends = [asyncio.ensure_future(store.append([event()])) for _ in range(20)]
    await asyncio.sleep(0)
    store.released.set()
    await asyncio.gather(*appends)
    assert store.commits <= 2


async def test_a_failed_request_does_not_affect_its_neighbours(open_store: Callable[..., SqliteEventStore]) -> None:
    """A request that cannot be stored undoes only its own part of the transaction."""
    store = open_store(HeldCommits)
    assert isinstance(store, HeldCommits)
    held = asyncio.ensure_future(store.append([event("first")]))
    await asyncio.sleep(0)
    outcomes = asyncio.gather(
        store.append([event("before")]),
        store.append([event("half"), event("\ud800")]),
        store.append([event("after", type="of its own")]),
        return_exceptions=True,
    )
    await asyncio.sleep(0)
    store.released.set()
    await held
    assert [isinstance(outcome, Exception) for outcome in await outcomes] == [False, True, False]
    assert ids(await everything(store)) == ["first", "before", "after"]


@pytest.fixture(params=["text", "directory"])
def unusable(request: pytest.FixtureRequest, path: Path) -> Path:
    """A text or a directory in the place of the file."""
    path.parent.mkdir()
    if request.param == "directory":
        path.mkdir()
    else:
        path.write_bytes(b"not a database, but a text " * 100)
    return path


async def test_an_unusable_file_is_unavailable(unusable: Path, store: SqliteEventStore) -> None:
    """The store never writes to a file that is not its own."""
    before = unusable.stat().st_mtime_ns  # noqa: ASYNC240 - nothing else runs
    for call in (store.append([event()]), store.read(ReadRequest(RESOURCE)), store.ping()):
        with unavailable():
            await call
    assert unusable.stat().st_mtime_ns == before  # noqa: ASYNC240 - nothing else runs


async def test_a_file_of_another_version_is_unavailable(path: Path, store: SqliteEventStore) -> None:
    """The store does not change a file that a later version has made."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as later:
        later.execute("PRAGMA user_version = 99")
    with pytest.raises(EventsError, match="another version"):
        await store.ping()


async def test_a_reader_replaces_a_broken_connection(store: SqliteEventStore) -> None:
    """One read fails, and the next one succeeds."""
    await store.ping()
    for session in store._sessions:
        session.connection.close()
    with unavailable():
        await store.ping()
    await store.ping()


async def test_a_removed_file_is_unavailable_and_not_made_again(path: Path, store: SqliteEventStore) -> None:
    """An empty file must not take its place, also when further reader threads open connections."""
    await store.append([event("a")])
    moved = path.with_name("moved.db")
    os.rename(path, moved)  # noqa: PTH104 - pathlib's would be taken for a blocking call
    results = await asyncio.gather(*(store.ping() for _ in range(20)), return_exceptions=True)
    assert {type(result) for result in results} == {EventsError}
    os.rename(moved, path)  # noqa: PTH104 - see above; it fails if there is a new file
    await store.ping()
    assert ids(await everything(store, Stream.of_resource(APP))) == ["a"]


async def test_an_empty_file_does_not_become_the_store(path: Path, store: SqliteEventStore) -> None:
    """A file that somebody put in the place of the store's own gets no tables."""
    await store.append([event()])
    os.rename(path, path.with_name("moved.db"))  # noqa: PTH104 - see above
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    for _ in range(4):
        with pytest.raises(EventsError):
            await store.ping()
    with closing(sqlite3.connect(path)) as empty:
        assert empty.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
