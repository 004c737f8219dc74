"""Every suite of the EventStore port runs against every adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events_core.ports import EventStore
from tests.contract.event_store import HARNESSES, Harness


@pytest.fixture(params=HARNESSES)
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    """An adapter with an empty place of its own."""
    harness = HARNESSES[request.param](tmp_path)
    yield harness
    await harness.close()


@pytest.fixture
async def store(harness: Harness) -> EventStore:
    """An empty store."""
    return harness.open()
