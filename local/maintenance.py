"""Operators' commands on the configured store: replay parked events, and set a restored store right."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from events_core import app
from events_core.common.errors import EventsError, MisconfiguredError
from events_core.operations.application import Application
from local.errors import LocalError

Work = Callable[[Application], Awaitable[int]]


def replay_parked() -> int:
    """Replay parked events. Returns how many streams and subscriptions still refuse an event.

    Raises:
        LocalError: A setting is missing or bad, or the store does not answer.
    """
    return asyncio.run(_run(lambda application: application.follow_up.replay_quarantined()))


def restored() -> int:
    """Set a restored store right. Returns how many streams are followed up again.

    Raises:
        LocalError: A setting is missing or bad, or the store does not answer.
    """
    return asyncio.run(_run(lambda application: application.restored()))


async def _run(work: Work) -> int:
    try:
        return await with_application(work)
    finally:
        await app.close()


async def with_application(work: Work) -> int:
    """Run `work` with the application of this process, on the running event loop.

    Raises:
        LocalError: A setting is missing or bad, or the store does not answer.
    """
    try:
        return await work(await app.current())
    except MisconfiguredError as error:
        raise LocalError(error.line, 2) from None
    except EventsError as error:
        raise LocalError(error.detail) from None
