"""Patterns that were made to be slow hold a connection of the embedded store for a short time only."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from events_core.adapters.sqlite import SqliteEventStore
from events_core.feeds import read
from events_core.feeds.ports import ReadRequest
from events_core.feeds.stream import Filters, Stream
from tests.contract.event_store import APP, events

ROWS = 500


@pytest.mark.parametrize(
    "pattern", ["%" + "a" * 1_000 + "b%", "%" + "a" * 500 + "b" + "a" * 500 + "%", "%a" * 9 + "b%"]
)
@pytest.mark.parametrize("count", [1, 100])
async def test_a_hostile_pattern_is_compared_fast(tmp_path: Path, pattern: str, count: int) -> None:
    """One chunk of a scan, with sources of 2,048 characters, takes less than half a second."""
    store = SqliteEventStore(tmp_path / "events.db")
    await store.append(events(ROWS, source="a" * 2_048))
    filters = Filters(sources=tuple(f"{'c' * number}{pattern}" for number in range(count)))
    scan = read._rows_to_scan(filters, ROWS * 50)
    began = time.perf_counter()
    chunk = await store.read(ReadRequest(Stream.of_resource(APP), filters=filters, scan=scan))
    assert (chunk.rows, time.perf_counter() - began < 0.5) == ([], True)
    await store.close()


@pytest.mark.parametrize("pattern", ["a", "a%", "%" + "a" * 100, "æ%"])
async def test_any_number_of_patterns_is_one_statement(tmp_path: Path, pattern: str) -> None:
    """Neither the depth of an expression nor the number of values limits a filter."""
    store = SqliteEventStore(tmp_path / "events.db")
    await store.append([wanted := events(1, source="a" * 100)[0], *events(2)])
    others = tuple(f"b{number}" for number in range(2_000))
    sources = (*others, pattern.ljust(100, "a") if pattern == "a" else pattern)
    chunk = await store.read(ReadRequest(Stream.of_resource(APP), filters=Filters(others, sources)))
    assert chunk.rows == []
    chunk = await store.read(ReadRequest(Stream.of_resource(APP), filters=Filters(sources=sources)))
    assert [row.id for row in chunk.rows] == ([] if pattern == "æ%" else [wanted.id])
    await store.close()
