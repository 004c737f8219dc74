"""An empty database for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.adapters.cosmos.database import Database
from tests.support.cosmos import cosmos_server


@pytest.fixture
async def database(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """A database on a server with atomic batches, or of the mode that the test asks for."""
    mode = getattr(request, "param", "atomic")
    async with cosmos_server(mode) as server, server.client() as client:
        database = Database(server, client, await server.make_containers())
        try:
            yield database
        finally:
            await database.close()
