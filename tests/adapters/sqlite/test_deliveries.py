"""What is the embedded store's own of deliveries: leases of processes that are gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from events_core.adapters.sqlite import SqliteEventStore
from events_core.adapters.sqlite import deliveries as module
from events_core.adapters.sqlite.deliveries import SqliteDeliveries
from events_core.common.clock import SECOND
from events_core.delivery.delivery import Lane
from tests.support.deliveries import NOW, delivery

LATER = NOW + 3_600 * SECOND


def number_of_one_that_is_gone() -> int:
    """Of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


async def leased_by(process: int, path: Path) -> SqliteDeliveries:
    """A store whose one lane is leased by a process, as one sees it that begins with the file."""
    store = SqliteDeliveries(SqliteEventStore(path))
    await store.record([delivery(1)], NOW)
    assert await store.take(Lane(1), NOW, LATER) is not None
    owner = f"{process}.1"
    await store.file.write(lambda connection: connection.execute("UPDATE lanes SET owner = ?", (owner,)))
    module._begun.discard(path)
    return store


async def test_the_lease_of_a_process_that_is_gone_ends_when_another_begins(tmp_path: Path) -> None:
    """Its lane is due at once."""
    store = await leased_by(number_of_one_that_is_gone(), tmp_path / "events.db")
    assert list(await store.due(NOW, 10)) == [Lane(1)]
    assert await store.take(Lane(1), NOW, LATER) is not None
    await store.file.close()


@pytest.mark.parametrize("process", [os.getppid(), 1])
async def test_the_lease_of_a_process_that_lives_stands(tmp_path: Path, process: int) -> None:
    """Whoever it belongs to."""
    store = await leased_by(process, tmp_path / "events.db")
    assert list(await store.due(NOW, 10)) == []
    assert await store.take(Lane(1), NOW, LATER) is None
    await store.file.close()


async def test_a_lease_under_the_number_of_this_process_is_another_ones_that_is_gone(tmp_path: Path) -> None:
    """As in a container, whose processes have the same numbers each time; its own later ones stand."""
    store = await leased_by(os.getpid(), tmp_path / "events.db")
    assert await store.take(Lane(1), NOW, LATER) is not None
    assert await store.take(Lane(1), NOW, LATER) is None
    await store.file.close()
