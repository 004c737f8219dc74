"""The client of a database opens no door that nobody asked for."""

from __future__ import annotations

import pytest

from events_core.adapters.cosmos import CosmosConnection
from events_core.adapters.cosmos.client import CosmosDatabase
from tests.adapters.cosmos.database import Database


async def test_proxies_of_the_environment_are_not_asked(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests go straight to the account; looking for a proxy would cost a thread for each of them."""
    opened = CosmosDatabase(CosmosConnection.of_string(database.server.connection_string), database.name)
    with monkeypatch.context() as environment:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            environment.setenv(name, "http://127.0.0.1:9")
        for name in ("NO_PROXY", "no_proxy"):
            environment.delenv(name, raising=False)
        assert await opened.read("test", "cursors", "1", "1") is None
        await opened.close()
