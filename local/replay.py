"""What an operator does about events that following up has parked."""

from __future__ import annotations

import asyncio

from events_core import app
from events_core.errors import EventsError
from local.errors import LocalError


def replay_parked() -> int:
    """Bring parked events to the streams that did not take them; return how many streams refuse some again.

    Raises:
        LocalError: a setting is missing or bad, or the store does not answer.
    """
    return asyncio.run(_session())


async def _session() -> int:
    try:
        return await replayed()
    finally:
        await app.close()


async def replayed() -> int:
    """The same on the running loop, with the application of this process."""
    try:
        events = await app.current()
        return await events.follow_up.replay() if events.follow_up is not None else 0
    except app.MisconfiguredError as error:
        raise LocalError(error.line, 2) from None
    except EventsError as error:
        raise LocalError(error.detail) from None
