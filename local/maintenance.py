"""What an operator does to the store that the settings name: parked events, and a database that was restored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from events_core import app
from events_core.common.errors import EventsError, MisconfiguredError
from events_core.operations.application import Application
from local.errors import LocalError

Work = Callable[[Application], Awaitable[int | None]]


def replay_parked() -> int:
    """Bring parked events to where they were not taken; return how many streams and subscriptions refuse some again.

    Raises:
        LocalError: a setting is missing or bad, or the store does not answer.
    """
    return asyncio.run(_session(_replay)) or 0


def restored() -> int | None:
    """Tell the store that it was restored; how many checkpoints were beyond their stream.

    None on a store that nothing has to be done to.

    Raises:
        LocalError: a setting is missing or bad, or the store does not answer.
    """
    return asyncio.run(_session(_restored))


async def _replay(events: Application) -> int:
    return await events.follow_up.replay()


async def _restored(events: Application) -> int | None:
    return await events.follow_up.restored() if events.settings.on_cosmos else None


async def _session(work: Work) -> int | None:
    try:
        return await done(work)
    finally:
        await app.close()


async def done(work: Work) -> int | None:
    """Work with the application of this process on the running loop."""
    try:
        events = await app.current()
        return await work(events)
    except MisconfiguredError as error:
        raise LocalError(error.line, 2) from None
    except EventsError as error:
        raise LocalError(error.detail) from None
