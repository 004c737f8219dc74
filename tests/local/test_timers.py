"""Timer triggers of the local host."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import azure.functions as func
import pytest

from local.background import background
from local.errors import HostError
from local.host import Function, functions_of
from local.timers import Schedule

EVERY_SECOND = "* * * * * *"


def timer_of(user_function: Callable[..., Any], schedule: str = EVERY_SECOND, **binding: Any) -> list[Function]:
    """The functions of an app with one timer."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
    app.function_name("tick")(app.timer_trigger(arg_name="timer", schedule=schedule, **binding)(user_function))
    return functions_of(app)


@pytest.mark.parametrize(
    ("schedule", "after", "due"),
    [
        ("0 30 2 * * *", "2026-11-20T02:30:00", "2026-11-21T02:30:00"),
        ("*/5 * * * * *", "2026-11-20T02:30:01", "2026-11-20T02:30:05"),
        ("0 */5 * * * *", "2026-11-20T02:30:01", "2026-11-20T02:35:00"),
        ("0 0 9-17 * * *", "2026-11-20T18:00:00", "2026-11-21T09:00:00"),
        ("0 30 9 * 1 mon", "2026-11-20T00:00:00", "2027-01-04T09:30:00"),
        ("0 0 0 1 * 1", "2026-11-20T00:00:00", "2027-02-01T00:00:00"),
        ("15 2 * * *", "2026-11-20T03:00:00", "2026-11-21T02:15:00"),
    ],
)
def test_a_schedule_is_read_as_ncrontab(schedule: str, after: str, due: str) -> None:
    """Seconds come first, and a day must match both the day of the month and the day of the week."""
    start = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert Schedule(schedule).after(start) == datetime.fromisoformat(due).replace(tzinfo=UTC)


def test_a_schedule_may_name_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands between percent signs."""
    monkeypatch.setenv("SWEEP", "30 * * * * *")
    assert Schedule("%SWEEP%").after(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(("schedule", "named"), [("%MISSING_SETTING%", "MISSING_SETTING"), ("often", "often")])
async def test_a_schedule_that_cannot_be_read_ends_the_start(schedule: str, named: str) -> None:
    """One line names the setting or the schedule."""

    async def tick(timer: func.TimerRequest) -> None:
        """Never called."""

    with pytest.raises(HostError, match=named):
        async with background(timer_of(tick, schedule)):
            pass


async def test_a_timer_runs_whenever_it_is_due() -> None:
    """Its request says that it is not past due."""
    runs: asyncio.Queue[tuple[float, bool]] = asyncio.Queue()

    async def tick(timer: func.TimerRequest) -> None:
        runs.put_nowait((time.time(), timer.past_due))

    async with background(timer_of(tick)):
        (first, past_due), (second, _) = [await asyncio.wait_for(runs.get(), 5) for _ in range(2)]
    assert past_due is False
    assert int(second) - int(first) == 1


async def test_a_timer_may_also_run_at_the_start() -> None:
    """`run_on_startup` says so."""
    ran = asyncio.Event()

    async def tick(timer: func.TimerRequest) -> None:
        ran.set()

    async with background(timer_of(tick, "0 0 0 1 1 *", run_on_startup=True)):
        await asyncio.wait_for(ran.wait(), 5)


async def test_a_timer_that_fails_is_logged_and_runs_again(caplog: pytest.LogCaptureFixture) -> None:
    """An exception ends only one run."""
    runs: asyncio.Queue[None] = asyncio.Queue()

    def tick(timer: func.TimerRequest) -> None:
        loop.call_soon_threadsafe(runs.put_nowait, None)
        raise RuntimeError

    loop = asyncio.get_running_loop()
    async with background(timer_of(tick)):
        for _ in range(2):
            await asyncio.wait_for(runs.get(), 5)
    assert "function failed name=tick" in caplog.messages


async def test_a_timer_never_overlaps_itself() -> None:
    """Occurrences during a run are skipped."""
    entered: asyncio.Queue[None] = asyncio.Queue()

    async def tick(timer: func.TimerRequest) -> None:
        entered.put_nowait(None)
        await asyncio.Future()

    async with background(timer_of(tick)):
        await asyncio.wait_for(entered.get(), 5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(entered.get(), 1.5)


async def test_a_running_timer_is_cancelled_when_the_host_stops() -> None:
    """The host does not wait for it."""
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def tick(timer: func.TimerRequest) -> None:
        entered.set()
        try:
            await asyncio.Future()
        finally:
            cancelled.set()

    async with background(timer_of(tick)):
        await asyncio.wait_for(entered.wait(), 5)
    assert cancelled.is_set()


async def test_an_unknown_trigger_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    """A log line names it; other functions run."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    @app.function_name("worker")
    @app.service_bus_queue_trigger(arg_name="message", queue_name="q", connection="C")
    async def worker(message: func.ServiceBusMessage) -> None:
        """Never called."""

    async with background(functions_of(app)):
        pass
    ours = [record.getMessage() for record in caplog.records if record.name == "local.host"]
    assert ours == ["function skipped, unknown trigger name=worker type=serviceBusTrigger"]


async def test_a_runner_adds_a_trigger_type() -> None:
    """A runner calls the function while the host runs."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
    got: asyncio.Queue[str] = asyncio.Queue()

    @app.function_name("worker")
    @app.queue_trigger(arg_name="message", queue_name="q", connection="C")
    async def worker(message: Any) -> None:
        got.put_nowait(message)

    async def once(function: Function) -> None:
        await function("hello")

    async with background(functions_of(app), {"queueTrigger": once}):
        assert await asyncio.wait_for(got.get(), 5) == "hello"
