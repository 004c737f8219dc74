"""Checkpoints in the SQLite file: other processes, restored files, and the cost of a search."""

from __future__ import annotations

import time
from pathlib import Path

from events_core.adapters.sqlite import SqliteEventStore
from events_core.adapters.sqlite.checkpoints import SqliteCheckpoints
from events_core.feeds.stream import Stream
from tests.contract.event_store import APP, event, events

APPS = Stream.of_resource(APP)


async def followed(checkpoints: SqliteCheckpoints, stream: Stream) -> None:
    """Move the checkpoint to the end of its stream."""
    await checkpoints.advance(
        stream,
        await checkpoints.checkpoint(stream),
        {"projection": await checkpoints.end(stream)},
        catch_up_pending=False,
        quarantined=(),
    )


async def test_an_event_of_another_process_is_found(tmp_path: Path) -> None:
    """Even if no stream was behind before."""
    one, other = (SqliteEventStore(tmp_path / "events.db") for _ in range(2))
    checkpoints = SqliteCheckpoints(one)
    assert await checkpoints.behind() == []
    await one.append([event()])
    await followed(checkpoints, APPS)
    assert await checkpoints.behind() == []
    await other.append([event()])
    assert await checkpoints.behind() == [APPS]
    await SqliteCheckpoints(other).advance(
        APPS, await checkpoints.checkpoint(APPS), {"projection": 2}, catch_up_pending=False, quarantined=()
    )
    assert await checkpoints.behind() == []
    await one.close()
    await other.close()


async def test_a_stream_whose_checkpoint_is_set_back_is_behind(tmp_path: Path) -> None:
    """Even if nothing was appended since no stream was behind."""
    store = SqliteEventStore(tmp_path / "events.db")
    checkpoints = SqliteCheckpoints(store)
    await store.append([event()])
    await followed(checkpoints, APPS)
    assert await checkpoints.behind() == []
    await checkpoints.advance(
        APPS, await checkpoints.checkpoint(APPS), {"projection": 0}, catch_up_pending=False, quarantined=()
    )
    assert await checkpoints.behind() == [APPS]
    await store.close()


async def test_a_checkpoint_beyond_the_file_is_lowered(tmp_path: Path) -> None:
    """An operator does that for a file that was put together from two."""
    store = SqliteEventStore(tmp_path / "events.db")
    checkpoints = SqliteCheckpoints(store)
    await store.append(events(3))
    await checkpoints.advance(
        APPS, await checkpoints.checkpoint(APPS), {"projection": 99}, catch_up_pending=False, quarantined=()
    )
    assert (await checkpoints.restored(), (await checkpoints.checkpoint(APPS)).position) == (1, 3)
    assert (await checkpoints.restored(), await checkpoints.catch_up_pending()) == (0, [APPS])
    await store.close()


async def test_the_search_for_streams_that_are_behind_does_not_read_every_event(tmp_path: Path) -> None:
    """It costs one or two seeks for each resource."""
    store = SqliteEventStore(tmp_path / "events.db")
    checkpoints = SqliteCheckpoints(store)
    costs = []
    for count in (500, 20_000):
        await store.append(events(count))
        costs.append(min([await _seconds(checkpoints) for _ in range(5)]))
    await store.close()
    assert costs[1] < 10 * costs[0]


async def _seconds(checkpoints: SqliteCheckpoints) -> float:
    began = time.perf_counter()
    assert await checkpoints.behind() == [APPS]
    return time.perf_counter() - began
