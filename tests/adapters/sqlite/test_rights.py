"""Only the owner of the process may read the SQLite file, the files beside it, and the directory that we make."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from events_core.adapters.sqlite import SqliteEventStore
from tests.contract.event_store import event
from tests.support.rights import rights, umask

FILES = ("events.db", "events.db-shm", "events.db-wal")


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
async def test_new_files_and_directories_are_for_their_owner_alone(
    tmp_path: Path, mask: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The umask does not matter, and there is nothing to warn about."""
    with umask(mask):
        store = SqliteEventStore(tmp_path / "above" / "data" / "events.db")
        await store.append([event("a")])
        data = tmp_path / "above" / "data"
        assert {file.name: rights(file) for file in data.iterdir()} == dict.fromkeys(FILES, 0o600)
        assert (rights(data), rights(data.parent)) == (0o700, 0o700)
        await store.close()
    assert caplog.records == []


async def test_an_existing_directory_keeps_its_rights_and_one_line_warns(
    path: Path, open_store: Callable[..., SqliteEventStore], caplog: pytest.LogCaptureFixture
) -> None:
    """Its owner may have a reason. The files in it are closed all the same."""
    path.parent.mkdir()
    path.parent.chmod(0o755)
    with umask(0):
        store = open_store()
        await store.append([event("a")])
        await store.ping()
    assert (rights(path.parent), rights(path)) == (0o755, 0o600)
    [warning] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.getMessage() == "the directory of EVENTS_DATA_DIR is open to other users of this machine"


async def test_an_existing_private_directory_warns_nobody(
    path: Path, open_store: Callable[..., SqliteEventStore], caplog: pytest.LogCaptureFixture
) -> None:
    """Only its owner may enter it."""
    path.parent.mkdir(mode=0o700)
    await open_store().append([event("a")])
    assert caplog.records == []


async def test_files_of_an_earlier_version_are_closed(path: Path, open_store: Callable[..., SqliteEventStore]) -> None:
    """A file that others could read, and the files that a crash left beside it, lose these rights at the next start."""
    crashed = open_store()
    await crashed.append([event("a")])
    for name in FILES:
        path.with_name(name).chmod(0o644)
    await open_store().append([event("b")])
    assert {name: rights(path.with_name(name)) for name in FILES} == dict.fromkeys(FILES, 0o600)


async def test_sqlite_finds_the_file_with_its_final_rights(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So nobody can open it between its making and a change of rights."""
    seen: list[int] = []
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def watched(*args: Any, **options: Any) -> sqlite3.Connection:
        seen.append(rights(path))
        return connect(*args, **options)

    monkeypatch.setattr(sqlite3, "connect", watched)
    with umask(0):
        store = SqliteEventStore(path)
        await store.append([event("a")])
        await store.close()
    assert seen
    assert set(seen) == {0o600}
