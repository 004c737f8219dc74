"""The server's time is estimated from its answers."""

from __future__ import annotations

import time

from events_core.adapters.cosmos import CosmosConnection
from events_core.adapters.cosmos.client import CosmosDatabase
from events_core.adapters.cosmos.server_clock import ServerClock
from tests.adapters.cosmos.database import Database

SECOND = 1_000_000
NOON = 1_767_268_800 * SECOND  # 1 January 2026, 12:00


def answer(second: int) -> dict[str, str]:
    """The headers of an answer at a second after noon."""
    return {"Date": f"Thu, 01 Jan 2026 12:00:{second:02} GMT"}


class Monotonic:
    """A clock that a test moves."""

    now = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_the_time_goes_on_between_answers() -> None:
    """The wall clock of this machine plays no part."""
    monotonic = Monotonic()
    clock = ServerClock(monotonic)
    assert clock.time() is None
    clock.learn(answer(0))
    monotonic.now += 2.5
    assert clock.time() == NOON + 2_500_000


def test_the_latest_bound_counts() -> None:
    """A slow answer does not set the time back; an answer early in its second moves it on."""
    monotonic = Monotonic()
    clock = ServerClock(monotonic)
    clock.learn(answer(10))
    monotonic.now += 5
    clock.learn(answer(12))
    assert clock.time() == NOON + 15 * SECOND
    clock.learn(answer(16))
    assert clock.time() == NOON + 16 * SECOND


def test_a_bound_is_forgotten_after_ten_minutes() -> None:
    """A server that was set right, or a clock that runs fast here, does not put the time off for ever."""
    monotonic = Monotonic()
    clock = ServerClock(monotonic)
    clock.learn(answer(59))
    monotonic.now += 601
    clock.learn(answer(0))
    assert clock.time() == NOON


def test_an_answer_without_a_good_date_changes_nothing() -> None:
    """A proxy may leave it out or spoil it."""
    clock = ServerClock(Monotonic())
    for headers in ({}, {"Date": ""}, {"Date": "soon"}):
        clock.learn(headers)
    assert clock.time() is None


async def test_a_database_knows_its_servers_time(database: Database) -> None:
    """Any request tells it, and the server's clock may be far from this machine's."""
    if database.server.emulator is not None:
        await database.server.advance(3_600)
    opened = CosmosDatabase(CosmosConnection.of_string(database.server.connection_string), database.name)
    try:
        assert opened.server_time() is None
        await opened.read("test", "cursors", "nothing", "nothing")
        ahead = 3_600 if database.server.emulator is not None else 0
        server_time = opened.server_time()
        assert server_time is not None
        assert abs(server_time / SECOND - time.time() - ahead) < 5
    finally:
        await opened.close()
