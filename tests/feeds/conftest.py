"""Following up with checkpoints in memory, whose steps a test may hold up or break."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events_core.adapters.sqlite import SqliteEventStore
from events_core.feeds.follow_up import FollowUp
from events_core.feeds.wait import WaitingReaders
from tests.support.checkpoints import MemoryCheckpoints, SteppedCheckpoints, projecting


@pytest.fixture
def checkpoints() -> MemoryCheckpoints:
    """No stream, no checkpoint."""
    return MemoryCheckpoints()


@pytest.fixture
def stepped(checkpoints: MemoryCheckpoints) -> SteppedCheckpoints:
    """The same checkpoints, whose steps a test may hold up or break."""
    return SteppedCheckpoints(checkpoints)


@pytest.fixture
async def waiting(tmp_path: Path) -> AsyncIterator[WaitingReaders]:
    """The waiting readers of this process."""
    store = SqliteEventStore(tmp_path / "events.db")
    yield WaitingReaders(store, 4)
    await store.close()


@pytest.fixture
def following(stepped: SteppedCheckpoints, waiting: WaitingReaders) -> FollowUp:
    """The use case, which does not pause between tries."""
    return projecting(stepped, waiting, pauses=(0, 0))
