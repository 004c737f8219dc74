"""Each test of the service over HTTP runs twice: on the embedded store, and on Cosmos DB."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator

import pytest

from tests.support.service import FILE, STORES, Running, drop_databases

EMBEDDED_ONLY = "embedded_only"


@pytest.fixture(autouse=True)
def store_of_service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What the service of this test runs on."""
    store: str = getattr(request, "param", FILE)
    monkeypatch.setattr(Running, "store", store)
    yield store
    if Running.databases:
        asyncio.run(drop_databases())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Once for each store, wherever a test runs the service; once where it says what only the embedded store is."""
    if "store_of_service" not in metafunc.fixturenames or metafunc.module.__name__.endswith("test_cosmos_faults"):
        return
    runs = "service" in metafunc.fixturenames or "monkeypatch" in inspect.signature(metafunc.function).parameters
    if runs:
        stores = [FILE] if metafunc.definition.get_closest_marker(EMBEDDED_ONLY) else STORES
        metafunc.parametrize("store_of_service", stores, indirect=True)
