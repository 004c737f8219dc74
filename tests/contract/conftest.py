"""Every suite of the EventStore port runs against every adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events_core.ports import EventStore
from tests.contract.event_store import Harness
from tests.contract.harnesses import HARNESSES, harnesses_for


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Once for each adapter that can hold what the test says."""
    name = metafunc.function.__name__
    if "harness" in metafunc.fixturenames:
        metafunc.parametrize("harness", harnesses_for(name), indirect=True)
    elif "adapter" in metafunc.fixturenames:
        metafunc.parametrize("adapter", harnesses_for(name))


@pytest.fixture
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    """An adapter with an empty place of its own."""
    harness = HARNESSES[request.param](tmp_path)
    yield harness
    await getattr(harness, "discard", harness.close)()


@pytest.fixture
async def store(harness: Harness) -> EventStore:
    """An empty store."""
    return harness.open()
