"""Stores over an empty database on each kind of server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.adapters.cosmos.place import Place
from tests.support.cosmos import cosmos_server


@pytest.fixture
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """On a server whose batches are atomic, or of the mode that a test asks for."""
    mode = getattr(request, "param", "atomic")
    async with cosmos_server(mode) as server, server.client() as client:
        place = Place(server, client, await server.make_containers())
        try:
            yield place
        finally:
            await place.close()
