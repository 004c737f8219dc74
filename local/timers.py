"""Timer triggers with NCRONTAB schedules (six fields, seconds first). A timer never overlaps itself."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import azure.functions as func
from azure.functions.timer import TimerRequest

from local.errors import HostError
from local.host import Function

if TYPE_CHECKING:
    from croniter import croniter  # type: ignore[import-untyped]  # it has no stubs

_SETTING = re.compile(r"%([^%]+)%")
_log = logging.getLogger("local.host")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Schedule:
    """The times at which a timer is due, in UTC. `%NAME%` stands for the setting `NAME`.

    Raises:
        HostError: The setting is missing, or the text is not an NCRONTAB expression.
    """

    def __init__(self, expression: str) -> None:
        self._expression = _SETTING.sub(_setting, expression)
        self._iterator(_utc_now())

    def after(self, time: datetime) -> datetime:
        """The first occurrence after `time`."""
        due: datetime = self._iterator(time).get_next(datetime)
        return due

    def _iterator(self, start: datetime) -> croniter:
        from croniter import croniter  # noqa: PLC0415 - its import takes 0.1 s, and only timers need it

        try:
            return croniter(self._expression, start, second_at_beginning=True, day_or=False)
        except (ValueError, AttributeError) as error:
            raise HostError(f"{self._expression!r} is not an NCRONTAB expression: {error}") from None


def _setting(reference: re.Match[str]) -> str:
    value = os.environ.get(reference[1])
    if not value:
        raise HostError(f"{reference[1]}: is missing; a timer's schedule names this setting")
    return value


def timer(function: Function, now: Callable[[], datetime] = _utc_now) -> Coroutine[Any, Any, None]:
    """Run a timer's function whenever it is due, until cancelled. Skip occurrences while the function runs.

    Raises:
        HostError: The schedule cannot be read.
    """
    return _run_timer(function, Schedule(function.trigger["schedule"]), now)


async def _run_timer(function: Function, schedule: Schedule, now: Callable[[], datetime]) -> None:
    if function.trigger.get("runOnStartup"):
        await _run(function, _request(None, schedule.after(now())))
    last = now()
    while True:
        due = schedule.after(max(last, now()))
        await asyncio.sleep((due - now()).total_seconds())
        await _run(function, _request(due, schedule.after(due)))
        last = due


def _request(due: datetime | None, following: datetime) -> func.TimerRequest:
    last = due.isoformat() if due else None
    status = {"Last": last, "Next": following.isoformat(), "LastUpdated": last}
    return TimerRequest(past_due=False, schedule={"AdjustForDST": True}, schedule_status=status)


async def _run(function: Function, request: Any) -> None:
    try:
        await function(request)
    except Exception:  # noqa: BLE001 - the next occurrence runs all the same
        _log.exception("function failed name=%s", function.name)
