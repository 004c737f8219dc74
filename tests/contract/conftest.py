"""Every suite of a store's port runs against every adapter of the port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events_core.feeds.ports import EventStore
from tests.contract.event_store import Harness
from tests.contract.harnesses import HARNESSES, harnesses_for
from tests.support.deliveries import STORES, Stores


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on each adapter that can keep its promise."""
    name = metafunc.function.__name__
    if "harness" in metafunc.fixturenames:
        metafunc.parametrize("harness", harnesses_for(name), indirect=True)
    elif "adapter" in metafunc.fixturenames:
        metafunc.parametrize("adapter", harnesses_for(name))


@pytest.fixture
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    """A harness around an adapter with an empty store."""
    harness = HARNESSES[request.param](tmp_path)
    yield harness
    await harness.discard()


@pytest.fixture
async def store(harness: Harness) -> EventStore:
    """An empty store."""
    return harness.open()


@pytest.fixture(params=STORES)
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    """Empty stores of subscriptions and deliveries."""
    async with STORES[request.param](tmp_path) as stores:
        yield stores
