"""What timers, the change feed and the queue run. Each verb belongs to one trigger of `function_app.py`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from events_core.common import clock
from events_core.common.clock import SECOND
from events_core.common.errors import EventsError
from events_core.delivery.delivery import SETTLED_DAYS, Lane
from events_core.delivery.subscribe import NEVER_VALIDATED_DAYS
from events_core.feeds.follow_up import FEED_ROUND_SECONDS
from events_core.feeds.stream import Stream
from events_core.operations.application import Application

_DAY = 86_400 * SECOND

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Background:
    """Work without a request. `application` gives the application of this process.

    Verbs that may make lanes due return them as messages for the queue. Each raises EventsError UNAVAILABLE when the
    store does not answer, unless it says otherwise.
    """

    application: Callable[[], Awaitable[Application]]

    async def follow_up(self, documents: Iterable[Mapping[str, Any]]) -> list[str]:
        """Follow the resource streams that documents of the container `streams` were appended to.

        Raises:
            EventsError: UNAVAILABLE when a stream could be neither followed nor marked: the batch must come again.
        """
        application, streams = await self.application(), streams_of(documents)
        application.waiting.wake_readers(streams)
        await application.follow_up.follow_all(streams, FEED_ROUND_SECONDS)
        return application.wakeup_queue.drain()

    async def sweep(self) -> list[str]:
        """Follow the streams whose checkpoint says that more is known to follow."""
        application = await self.application()
        await application.follow_up.sweep()
        return application.wakeup_queue.drain()

    async def compare(self) -> list[str]:
        """Catch up on streams whose notification was missed."""
        application = await self.application()
        await application.follow_up.compare()
        return application.wakeup_queue.drain()

    async def deliver(self, message: str) -> list[str]:
        """Serve the lane that a message names; ignore a message that names none.

        Never raises: the lane stays due in the store, and the sweep finds it. A message that failed would only become
        a poison message.
        """
        try:
            application = await self.application()
            if (lane := Lane.parse(message.strip())) is not None:
                await application.lane_worker.serve(lane)
        except EventsError as error:
            _log.warning("delivery postponed message=%s: %s", message.strip()[:40], error.detail)
            return []
        return application.wakeup_queue.drain()

    async def sweep_deliveries(self) -> list[str]:
        """Find lanes that are due and whose wake-up was lost."""
        application = await self.application()
        await application.lane_worker.sweep()
        return application.wakeup_queue.drain()

    async def measure(self) -> None:
        """Report what alerts read."""
        application = await self.application()
        application.report(await application.measure.gauges())

    async def retention(self) -> None:
        """Remove events older than the retention, finished deliveries, and subscriptions that were never validated.

        The deliveries of an event stay a day longer, so that a worker finds that their event is gone.
        """
        application = await self.application()
        now = clock.now()
        oldest = now - application.settings.retention_days * _DAY
        await application.store.expire(oldest)
        await application.deliveries.expire(now - SETTLED_DAYS * _DAY, oldest - _DAY)
        await application.subscriber.remove_never_validated(now - NEVER_VALIDATED_DAYS * _DAY)


def streams_of(documents: Iterable[Mapping[str, Any]]) -> list[Stream]:
    """The distinct resource streams of documents.

    Projected events are in the change feed too and are left out, and so are placeholders of retention, which name no
    resource.
    """
    resources = (each.get("resource") for each in documents if str(each.get("stream")).startswith("resource:"))
    return [Stream.of_resource(resource) for resource in dict.fromkeys(resources) if resource]
