"""What runs without a request: each function is a trigger's, and ends at once where there is nothing for it to do."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from events_core import app
from events_core.feed import Stream

_DAY = 86_400 * 1_000_000


async def follow_up(documents: Iterable[Mapping[str, Any]]) -> None:
    """Follow the resource streams that documents of the container `streams` were appended to.

    Raises:
        EventsError: UNAVAILABLE when one could be neither followed nor marked as owed: the batch has to come again.
    """
    events = await app.current()
    if events.follow_up is not None:
        await events.follow_up.follow_all(streams_of(documents))


async def sweep(_: object) -> None:
    """Follow the streams that are marked as owed.

    Raises:
        EventsError: UNAVAILABLE when the store does not answer.
    """
    events = await app.current()
    if events.follow_up is not None:
        await events.follow_up.sweep()


async def compare(_: object) -> None:
    """Find and follow the streams that nobody was told of.

    Raises:
        EventsError: UNAVAILABLE when the store does not answer.
    """
    events = await app.current()
    if events.follow_up is not None:
        await events.follow_up.compare()


async def retention(_: object) -> None:
    """Remove the events that are older than they are kept.

    Raises:
        EventsError: UNAVAILABLE when the store does not answer.
    """
    events = await app.current()
    await events.store.expire(time.time_ns() // 1000 - events.settings.retention_days * _DAY)


def streams_of(documents: Iterable[Mapping[str, Any]]) -> list[Stream]:
    """The distinct resource streams of documents; what was projected is told of too, and left out.

    So is what names no resource: what retention leaves of a stream's newest event brings nothing to follow.
    """
    resources = (each.get("resource") for each in documents if str(each.get("stream")).startswith("resource:"))
    return [Stream.of_resource(resource) for resource in dict.fromkeys(resources) if resource]
