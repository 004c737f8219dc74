"""Triggers other than HTTP: each type has a runner, which calls the function until it is cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from local.change_feed import change_feed
from local.host import ROOT, Function
from local.queues import QueueOptions, queue_trigger
from local.timers import timer

Runner = Callable[[Function], Coroutine[Any, Any, None]]


def queue(function: Function) -> Coroutine[Any, Any, None]:
    """What calls a function with the messages of its queue, as host.json says."""
    return queue_trigger(function, QueueOptions.read(ROOT))


RUNNERS: Mapping[str, Runner] = {"timerTrigger": timer, "cosmosDBTrigger": change_feed, "queueTrigger": queue}

_log = logging.getLogger("local.host")


@asynccontextmanager
async def background(functions: Iterable[Function], runners: Mapping[str, Runner] = RUNNERS) -> AsyncIterator[None]:
    """Run the functions that wait for something other than a request, as long as the context lasts.

    Raises:
        HostError: a trigger's binding cannot be read.
    """
    tasks: list[asyncio.Task[None]] = []
    functions = list(functions)
    try:
        for function in functions:
            kind = function.trigger["type"]
            if runner := runners.get(kind):
                tasks.append(asyncio.create_task(runner(function), name=function.name))
            elif kind != "httpTrigger":
                _log.warning("the function %s is left out: this host knows no %s", function.name, kind)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for queues in {id(function.queues): function.queues for function in functions}.values():
            await queues.close()
