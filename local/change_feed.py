"""Cosmos DB triggers: no emulator has a change feed that lasts, so this process tells of what it appended itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

import azure.functions as func

from events_core import app
from events_core.app import Events
from events_core.errors import EventsError
from events_core.feed import Stream
from events_core.follow_up import FollowUp
from local.host import Function

SWEEP_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_log = logging.getLogger("local.host")


async def change_feed(function: Function) -> None:
    """Call the function with what this process appends, and sweep, until cancelled; at once done without Cosmos DB.

    What another process appended, or this one before it was last stopped, is found at the start.
    """
    events = await app.current()
    if events.follow_up is None:
        return
    async with asyncio.TaskGroup() as group:
        group.create_task(_tell(function, events))
        group.create_task(_sweep(events.follow_up))


async def _tell(function: Function, events: Events) -> None:
    appended: set[Stream] = set()
    more = asyncio.Event()

    def hear(streams: set[Stream]) -> None:
        if resources := {stream for stream in streams if stream.kind == "resource"}:
            appended.update(resources)
            more.set()

    with events.wakeups.listening(hear):
        while await more.wait():
            more.clear()
            streams = set(appended)
            appended.clear()
            if not await _done(partial(function, _documents(streams))):
                appended |= streams
                await asyncio.sleep(_RETRY_SECONDS)
                more.set()


async def _sweep(follow_up: FollowUp) -> None:
    due = follow_up.compare
    while True:
        if await _done(due):
            due = follow_up.sweep
        await asyncio.sleep(SWEEP_SECONDS)


async def _done(work: Callable[[], Awaitable[object]]) -> bool:
    try:
        await work()
    except EventsError as error:
        _log.warning("following up has to wait: %s", error.detail)
        return False
    except Exception:  # noqa: BLE001 - as in the Functions host, the function is called again
        _log.exception("following up failed")
        return False
    return True


def _documents(streams: set[Stream]) -> func.DocumentList:
    return func.DocumentList(func.Document({"stream": stream.name, "resource": stream.key}) for stream in streams)
