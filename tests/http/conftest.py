"""The service over HTTP runs on SQLite; a test or module marked `on_cosmos` runs on Cosmos DB too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.service import SQLITE, STORES, Running, drop_databases
from tests.support.webhook_server import WebhookServer


@pytest.fixture(autouse=True)
def store_of_service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The store under the service of this test."""
    store: str = getattr(request, "param", SQLITE)
    monkeypatch.setattr(Running, "store", store)
    yield store
    if Running.databases:
        asyncio.run(drop_databases())


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookServer]:
    """An endpoint that accepts everything."""
    async with WebhookServer() as receiver:
        yield receiver


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a marked test on each store."""
    if metafunc.definition.get_closest_marker("on_cosmos"):
        metafunc.parametrize("store_of_service", STORES, indirect=True)
