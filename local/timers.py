"""Timer triggers: NCRONTAB schedules (six fields, seconds first), never overlapping themselves."""

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
    """When a timer is due, in UTC; `%NAME%` stands for the setting of that name.

    Raises:
        HostError: it is no NCRONTAB expression.
    """

    def __init__(self, expression: str) -> None:
        self._expression = _SETTING.sub(_setting, expression)
        self._iterator(_utc_now())

    def after(self, moment: datetime) -> datetime:
        """The first occurrence after a moment."""
        due: datetime = self._iterator(moment).get_next(datetime)
        return due

    def _iterator(self, moment: datetime) -> croniter:
        from croniter import croniter  # noqa: PLC0415 - it takes a tenth of a second, and only timers need it

        try:
            return croniter(self._expression, moment, second_at_beginning=True, day_or=False)
        except (ValueError, AttributeError) as error:
            raise HostError(f"{self._expression!r} is no NCRONTAB expression: {error}") from None


def _setting(reference: re.Match[str]) -> str:
    value = os.environ.get(reference[1])
    if not value:
        raise HostError(f"{reference[1]}: a timer's schedule names this setting, and it is missing")
    return value


def timer(function: Function, now: Callable[[], datetime] = _utc_now) -> Coroutine[Any, Any, None]:
    """What runs a timer's function whenever it is due, until cancelled; what comes due meanwhile is skipped.

    Raises:
        HostError: the schedule cannot be read.
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
    except Exception:  # noqa: BLE001 - the next occurrence gets its chance
        _log.exception("the function %s failed", function.name)
