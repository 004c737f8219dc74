"""Deliveries in the SQLite file: leases of dead processes, and pages while deliveries change."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from events_core.adapters.delivery_documents import delivery_of
from events_core.adapters.sqlite import SqliteEventStore
from events_core.adapters.sqlite import deliveries as module
from events_core.adapters.sqlite.deliveries import SqliteDeliveries
from events_core.common.clock import SECOND
from events_core.delivery.delivery import Lane, RetrySchedule, State
from events_core.delivery.ports import DeliveryFilter
from tests.support.deliveries import NOW, delivery

LATER = NOW + 3_600 * SECOND


def dead_process() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


async def leased_by(process: int, path: Path) -> SqliteDeliveries:
    """A store whose only lane is leased by a process, as a process sees it that has just opened the file."""
    store = SqliteDeliveries(SqliteEventStore(path))
    await store.record([delivery(1)], NOW)
    assert await store.take(Lane(1), NOW, LATER) is not None
    owner = f"{process}.1"
    await store.file.write(lambda connection: connection.execute("UPDATE lanes SET owner = ?", (owner,)))
    module._opened.discard(path)
    return store


async def test_the_lease_of_a_dead_process_ends_when_another_opens_the_file(tmp_path: Path) -> None:
    """The lane is due at once."""
    store = await leased_by(dead_process(), tmp_path / "events.db")
    assert list(await store.due(NOW, 10)) == [Lane(1)]
    assert await store.take(Lane(1), NOW, LATER) is not None
    await store.file.close()


async def test_retention_leaves_open_deliveries_to_the_worker_of_their_lane(tmp_path: Path) -> None:
    """It ends them, and the log says so. Those of a deleted subscription have no lane, and go."""
    store = SqliteDeliveries(SqliteEventStore(tmp_path / "events.db"))
    await store.record([delivery(1)], NOW)
    await store.record([delivery(1, Lane(2))], NOW)
    lease = await store.take(Lane(2), NOW, LATER)
    assert lease is not None
    await store.drop(lease)
    assert await store.expire(0, LATER) == 1
    (left,) = await store.page(1, None, 9)
    assert await store.save(left.died(NOW)) is not None
    assert await store.expire(0, LATER) == 1
    assert list(await store.page(1, None, 9)) == []
    await store.file.close()


@pytest.mark.parametrize("process", [os.getppid(), 1])
async def test_the_lease_of_a_running_process_stays(tmp_path: Path, process: int) -> None:
    """Also that of another user's process."""
    store = await leased_by(process, tmp_path / "events.db")
    assert list(await store.due(NOW, 10)) == []
    assert await store.take(Lane(1), NOW, LATER) is None
    await store.file.close()


async def test_a_lease_under_this_process_id_belongs_to_a_dead_process(tmp_path: Path) -> None:
    """In a container the processes have the same ids after each start. This process's own later leases stay."""
    store = await leased_by(os.getpid(), tmp_path / "events.db")
    assert await store.take(Lane(1), NOW, LATER) is not None
    assert await store.take(Lane(1), NOW, LATER) is None
    await store.file.close()


async def test_a_page_repeats_no_delivery_that_becomes_undecidable_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It moves from the first attempts to the retries between two queries, and is on the page once."""
    store = SqliteDeliveries(SqliteEventStore(tmp_path / "events.db"))
    await store.record([delivery(1), delivery(2)], NOW)
    fetch = SqliteEventStore.fetch

    async def fetch_and_postpone(file: SqliteEventStore, sql: str, *values: int | str) -> list[Any]:
        rows = await fetch(file, sql, *values)
        for pending in [delivery_of(orjson.loads(document), str(version)) for version, document in rows]:
            await store.save(pending.postponed(RetrySchedule((10,)), 0, NOW))
        return rows

    monkeypatch.setattr(SqliteEventStore, "fetch", fetch_and_postpone)
    assert [found.position for found in await store.page(1, (0, 0), 10, DeliveryFilter(State.PENDING))] == [1, 2]
    await store.file.close()
