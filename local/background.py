"""Triggers other than HTTP. Each type has a runner, which calls the function until it is cancelled."""

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
    """Call the function with the messages of its queue, with the options of `host.json`."""
    return queue_trigger(function, QueueOptions.read(ROOT))


RUNNERS: Mapping[str, Runner] = {"timerTrigger": timer, "cosmosDBTrigger": change_feed, "queueTrigger": queue}

_log = logging.getLogger("local.host")


@asynccontextmanager
async def background(functions: Iterable[Function], runners: Mapping[str, Runner] = RUNNERS) -> AsyncIterator[None]:
    """Run every function that is not an HTTP trigger while the block runs.

    Raises:
        HostError: A trigger's binding cannot be read.
    """
    tasks: list[asyncio.Task[None]] = []
    functions = list(functions)
    try:
        for function in functions:
            kind = function.trigger["type"]
            if runner := runners.get(kind):
                tasks.append(asyncio.create_task(runner(function), name=function.name))
            elif kind != "httpTrigger":
                _log.warning("function skipped, unknown trigger name=%s type=%s", function.name, kind)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for queues in {id(function.queues): function.queues for function in functions}.values():
            await queues.close()
