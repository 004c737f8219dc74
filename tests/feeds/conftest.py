"""Following up, on a ledger in memory whose steps a test may hold up or break."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events_core.adapters.sqlite import SqliteEventStore
from events_core.feeds.follow_up import FollowUp
from events_core.feeds.wait import Wakeups
from tests.support.checkpoints import MemoryLedger, SteppedLedger
from tests.support.delivering import Place, place_on


@pytest.fixture
def ledger() -> MemoryLedger:
    """An empty ledger."""
    return MemoryLedger()


@pytest.fixture
def stepped(ledger: MemoryLedger) -> SteppedLedger:
    """The same ledger with its steps to hold up or break."""
    return SteppedLedger(ledger)


@pytest.fixture
async def wakeups(tmp_path: Path) -> AsyncIterator[Wakeups]:
    """The waiting readers of this process."""
    store = SqliteEventStore(tmp_path / "events.db")
    yield Wakeups(store, 4)
    await store.close()


@pytest.fixture
def following(stepped: SteppedLedger, wakeups: Wakeups) -> FollowUp:
    """The use case, which does not pause between tries."""
    return FollowUp(stepped, wakeups, pauses=(0, 0))


@pytest.fixture(params=["sqlite", "cosmos"])
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    """The service with what it delivers to, on each store."""
    async with place_on(request.param, tmp_path, monkeypatch) as place:
        yield place
