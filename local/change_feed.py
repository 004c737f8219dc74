"""Cosmos DB triggers: a stand-in for the change feed, since no emulator has a durable one."""

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
RETRY_SECONDS = 1.0
STREAMS_AT_ONCE = 32
_log = logging.getLogger("local.host")


async def change_feed(function: Function) -> None:
    """Call the function with streams that this process appends to, and with streams that are behind, until cancelled.

    The embedded store is searched for streams that are behind all the time, since another process may append to the
    same file. On Cosmos DB that search takes a request for each stream, so it runs once, at the start. Later sweeps
    look only for checkpoints with `catch_up_pending`.
    """
    application = await app.current()
    async with asyncio.TaskGroup() as group:
        group.create_task(_follow_appended(function, application))
        group.create_task(_follow_behind(function, application))


async def _follow_appended(function: Function, application: Application) -> None:
    """Follow each stream in calls of its own, so that one with many subscriptions holds up no other."""
    appended: set[Stream] = set()
    running: set[Stream] = set()
    more = asyncio.Event()
    slots = asyncio.Semaphore(STREAMS_AT_ONCE)

    def add(streams: set[Stream]) -> None:
        if resources := {stream for stream in streams if stream.kind == "resource"}:
            appended.update(resources)
            more.set()

    async def follow(stream: Stream) -> None:
        async with slots:
            appended.discard(stream)  # what is appended from now on is followed in another call
            succeeded = await _succeeds(partial(function, _documents([stream])))
        if not succeeded:
            await asyncio.sleep(RETRY_SECONDS)
            appended.add(stream)
        running.discard(stream)
        more.set()

    async with asyncio.TaskGroup() as group:
        with application.waiting.listening(add):
            while await more.wait():
                more.clear()
                for stream in appended - running:
                    running.add(stream)
                    group.create_task(follow(stream))


async def _follow_behind(function: Function, application: Application) -> None:
    on_cosmos = application.settings.on_cosmos
    find: Callable[[], Awaitable[Sequence[Stream]]] = application.checkpoints.behind

    async def follow() -> None:
        if streams := await find():
            await function(_documents(streams))

    while True:
        if await _succeeds(follow) and on_cosmos:
            find = application.checkpoints.catch_up_pending
        await asyncio.sleep(SWEEP_SECONDS if on_cosmos else POLL_SECONDS)


async def _succeeds(work: Callable[[], Awaitable[object]]) -> bool:
    try:
        await work()
    except EventsError as error:
        _log.warning("follow-up postponed: %s", error.detail)
        return False
    except Exception:  # noqa: BLE001 - as on the Functions host, the function is called again
        _log.exception("follow-up failed")
        return False
    return True


def _documents(streams: Iterable[Stream]) -> func.DocumentList:
    return func.DocumentList(func.Document({"stream": stream.name, "resource": stream.key}) for stream in streams)
