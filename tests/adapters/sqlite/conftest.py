"""Stores with a file of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from events_core.adapters.sqlite import SqliteEventStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the file, whose folder does not exist yet."""
    return tmp_path / "data" / "events.db"


@pytest.fixture
async def open_store(path: Path) -> AsyncIterator[Callable[..., SqliteEventStore]]:
    """Opens stores, and closes them after the test."""
    opened: list[SqliteEventStore] = []

    def open_(kind: type[SqliteEventStore] = SqliteEventStore, **options: Any) -> SqliteEventStore:
        opened.append(kind(path, **({"busy_timeout": 0.1, "idle": 0.02} | options)))
        return opened[-1]

    yield open_
    for store in opened:
        await store.close()


@pytest.fixture
def store(open_store: Callable[..., SqliteEventStore]) -> SqliteEventStore:
    """An empty store."""
    return open_store()
