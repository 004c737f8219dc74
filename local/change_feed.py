"""Cosmos DB triggers: no emulator has a change feed that lasts, so this process tells of what it appended itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

import azure.functions as func

from events_core import app
from events_core.common.errors import EventsError
from events_core.feeds.stream import Stream
from events_core.operations.application import Application
from local.host import Function

SWEEP_SECONDS, POLL_SECONDS = 5.0, 0.5
_RETRY_SECONDS = 1.0
_log = logging.getLogger("local.host")


async def change_feed(function: Function) -> None:
    """Call the function with what this process appends, and with what is found to be behind, until cancelled.

    On the embedded store that is looked for all the time: another process may append to the same file. On Cosmos DB it
    costs a request for each stream: at the start, what was appended before is found, and from then on what is owed.
    """
    events = await app.current()
    async with asyncio.TaskGroup() as group:
        group.create_task(_tell(function, events))
        group.create_task(_look(function, events))


async def _tell(function: Function, events: Application) -> None:
    appended: set[Stream] = set()
    more = asyncio.Event()

    def hear(streams: set[Stream]) -> None:
        if resources := {stream for stream in streams if stream.kind == "resource"}:
            appended.update(resources)
            more.set()

    with events.waiting.listening(hear):
        while await more.wait():
            more.clear()
            streams = set(appended)
            appended.clear()
            if not await _done(partial(function, _documents(streams))):
                appended |= streams
                await asyncio.sleep(_RETRY_SECONDS)
                more.set()


async def _look(function: Function, events: Application) -> None:
    every = SWEEP_SECONDS if events.settings.on_cosmos else POLL_SECONDS
    find = events.checkpoints.behind
    while True:
        if await _done(partial(_follow, function, find)) and events.settings.on_cosmos:
            find = events.checkpoints.catch_up_pending
        await asyncio.sleep(every)


async def _follow(function: Function, find: Callable[[], Awaitable[Sequence[Stream]]]) -> None:
    if streams := await find():
        await function(_documents(streams))


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


def _documents(streams: Iterable[Stream]) -> func.DocumentList:
    return func.DocumentList(func.Document({"stream": stream.name, "resource": stream.key}) for stream in streams)
