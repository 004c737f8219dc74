"""The composed application on Cosmos DB, as the triggers find it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from events_core import app
from events_core.adapters.cosmos.client import CosmosConnection
from events_core.adapters.cosmos.streams.store import CosmosEventStore
from events_core.compose import compose
from events_core.feeds.follow_up import FollowUp
from events_core.feeds.projection import Projection
from events_core.feeds.wait import WaitingReaders
from events_core.operations.application import Application
from events_core.settings import Settings
from tests.support.cosmos import CosmosServer, cosmos_server

ROOT = Path(__file__).resolve().parents[2]


@asynccontextmanager
async def store_on(server: CosmosServer, database: str) -> AsyncIterator[CosmosEventStore]:
    """A store as another process would open it, with small segments."""
    connection = CosmosConnection.of_string(server.connection_string)
    store = CosmosEventStore(connection, database, key=bytes(32), segment_size=16)
    try:
        yield store
    finally:
        await store.close()


def following_on(store: CosmosEventStore) -> FollowUp:
    """Following up of one process, with the projections as its only follower."""
    return FollowUp(store.checkpoints, [Projection(store.projection, WaitingReaders(store, 0))], pauses=(0, 0))


@asynccontextmanager
async def application_on_cosmos(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Application]:
    """The application of this process, on a database of its own."""
    files = {"policy_file": ROOT / "local/policy.json", "register_file": ROOT / "local/register.json"}
    embedded = compose(Settings(data_dir=directory, development=True, **files))
    async with cosmos_server() as server, server.database() as database, store_on(server, database) as store:
        waiting = WaitingReaders(store, 8)
        publisher = replace(embedded.publisher, store=store, waiting=waiting)
        follow_up = FollowUp(store.checkpoints, [Projection(store.projection, waiting)], pauses=(0, 0))
        events = replace(
            embedded,
            store=store,
            checkpoints=store.checkpoints,
            waiting=waiting,
            publisher=publisher,
            follow_up=follow_up,
        )
        monkeypatch.setattr(app, "_application", events)
        yield events
    await embedded.close()
