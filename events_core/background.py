"""What runs without a request: each function is a trigger's, and ends at once where there is nothing for it to do."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from events_core import app
from events_core.delivery import Lane
from events_core.errors import EventsError
from events_core.feed import Stream
from events_core.follow_up import FEED_ROUND_SECONDS

KEPT_DAYS = 30
"""How long the record of a delivery is kept that came to its end; a dead one as long as its event."""
_DAY = 86_400 * 1_000_000

_log = logging.getLogger(__name__)


async def follow_up(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    """Follow the resource streams that documents of the container `streams` were appended to.

    Return the lanes that are due now, as messages for the queue; so does each function that may make some due.

    Raises:
        EventsError: UNAVAILABLE when one could be neither followed nor marked as owed: the batch has to come again.
    """
    events = await app.current()
    await events.follow_up.follow_all(streams_of(documents), FEED_ROUND_SECONDS)
    return events.bell.rung()


async def sweep(_: object) -> list[str]:
    """Follow the streams that are marked as owed.

    Raises:
        EventsError: UNAVAILABLE when the store does not answer.
    """
    events = await app.current()
    await events.follow_up.sweep()
    return events.bell.rung()


async def compare(_: object) -> list[str]:
    """Find and follow the streams that nobody was told of.

    Raises:
        EventsError: UNAVAILABLE when the store does not answer.
    """
    events = await app.current()
    await events.follow_up.compare()
    return events.bell.rung()


async def deliver(message: str) -> list[str]:
    """Serve the lane that a message names; what is no lane is left.

    While the store does not answer that ends well too: the lane stands there, and the sweep finds it again.
    """
    try:
        events = await app.current()
        if (lane := Lane.parse(message.strip())) is not None:
            await events.deliverer.serve(lane)
    except EventsError as error:
        _log.warning("A lane has to wait: %s", error.detail)
        return []
    return events.bell.rung()


async def sweep_deliveries(_: object) -> list[str]:
    """Find the lanes that are due and that nobody was told of.

    Raises:
        EventsError: UNAVAILABLE when the store does not answer.
    """
    events = await app.current()
    await events.deliverer.sweep()
    return events.bell.rung()


async def measure(_: object) -> None:
    """Report how the service is.

    Raises:
        EventsError: UNAVAILABLE when the store does not answer.
    """
    events = await app.current()
    events.report(await events.measure())


async def retention(_: object) -> None:
    """Remove the events that are older than they are kept, and deliveries that came to their end 30 days ago.

    Raises:
        EventsError: UNAVAILABLE when the store does not answer.
    """
    events = await app.current()
    now = time.time_ns() // 1_000
    oldest = now - events.settings.retention_days * _DAY
    await events.store.expire(oldest)
    await events.subscriber.deliveries.expire(now - KEPT_DAYS * _DAY, oldest)


def streams_of(documents: Iterable[Mapping[str, Any]]) -> list[Stream]:
    """The distinct resource streams of documents; what was projected is told of too, and left out.

    So is what names no resource: what retention leaves of a stream's newest event brings nothing to follow.
    """
    resources = (each.get("resource") for each in documents if str(each.get("stream")).startswith("resource:"))
    return [Stream.of_resource(resource) for resource in dict.fromkeys(resources) if resource]
