"""Every suite of the EventStore port runs against every adapter."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events_core.ports import EventStore
from tests.contract.event_store import HARNESSES, Harness

if os.environ.get("EVENTS_TEST_STORES") == "cosmos":  # until the suites of the cloud store are part of `make test`
    from tests.contract.cosmos_harness import CosmosHarness

    HARNESSES["cosmos"] = CosmosHarness


@pytest.fixture(params=HARNESSES)
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    """An adapter with an empty place of its own."""
    harness = HARNESSES[request.param](tmp_path)
    yield harness
    await getattr(harness, "discard", harness.close)()


@pytest.fixture
async def store(harness: Harness) -> EventStore:
    """An empty store."""
    return harness.open()
