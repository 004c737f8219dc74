"""Use case: which subscriptions an event matches, what the decision point says, and a delivery for each.

Everything of a delivery follows from the event and the subscription, so that doing it twice changes nothing
(docs/architecture.md, "Subscriptions and deliveries").
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from events_core.access.authorization import Asked, Authorization
from events_core.access.identity import caller_of_consumer
from events_core.access.names import Resource
from events_core.access.ports import PartyRegister
from events_core.common import clock
from events_core.common.errors import EventsError
from events_core.delivery.cache import SubscriptionCache
from events_core.delivery.delivery import Delivery, Lane
from events_core.delivery.ports import DeliveryStore
from events_core.delivery.subscription import Subscription, SubscriptionIndex
from events_core.delivery.wakeup_queue import WakeupQueue
from events_core.feeds.ports import StoredEvent
from events_core.feeds.stream import Stream

ANSWER_SECONDS = 2.0
"""How long the decision point and Register may take here: what they do not say now, who delivers asks again."""

_log = logging.getLogger(__name__)

Names = Mapping[str, Sequence[str] | None]
"""The main unit of each subject under all of its names; None where Register did not answer."""


def asked_for(subscription: Subscription, event: StoredEvent) -> Asked:
    """The question whether the subscription's consumer may be sent the event."""
    caller = caller_of_consumer(subscription.consumer, subscription.level)
    return Asked(caller, Resource.parse(event.resource).action, event)


@dataclass(frozen=True, slots=True)
class _Match:
    """A subscription that an event matches, or does if Register says so (`unsure`)."""

    subscription: Subscription
    event: StoredEvent
    unsure: bool


class FanOut:
    """Makes deliveries of events. `key` hashes what events are ordered by; `clock` gives microseconds."""

    def __init__(
        self,
        cache: SubscriptionCache,
        deliveries: DeliveryStore,
        authorization: Authorization,
        register: PartyRegister,
        wakeup_queue: WakeupQueue,
        *,
        key: bytes,
        clock: Callable[[], int] = clock.now,
    ) -> None:
        self._cache = cache
        self._deliveries = deliveries
        self._authorization = authorization
        self._register = register
        self._wakeup_queue = wakeup_queue
        self._key = key
        self._clock = clock

    name = "deliveries"

    async def wants(self, stream: Stream) -> bool:
        """Whether any subscription that was acknowledged before this call asks for events of a stream.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        return (await self._cache.fresh()).any_of(stream.key)

    async def targets(self, events: Sequence[StoredEvent]) -> dict[str, dict[int, Delivery]]:
        """The deliveries of events of one stream, by subscription and position.

        The decision point is asked once for all of them; while it or Register does not answer they have no decision.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        index = await self._cache.fresh()
        wanted = [event for event in events if event.json is not None and index.any_of(event.resource)]
        names = await self._main_units(index, wanted)
        found = [match for event in wanted for match in _matches(index, event, names)]
        targets: dict[str, dict[int, Delivery]] = {}
        for delivery in await self._decided(found, replay=0):
            targets.setdefault(str(delivery.lane), {})[delivery.position] = delivery
        return targets

    async def put(self, target: str, items: Sequence[Delivery]) -> None:  # noqa: ARG002 - they name their lane
        """Record deliveries of one subscription."""
        await self.record(items)

    async def record(self, deliveries: Sequence[Delivery]) -> None:
        """Store deliveries of one lane, by position, and enqueue the lane.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer; the same call again completes it.
        """
        await self._deliveries.record(deliveries, self._clock())
        self._wakeup_queue.put(each.lane for each in deliveries if each.state.open)

    async def deliveries_to(
        self, subscription: Subscription, events: Sequence[StoredEvent], replay: int = 0
    ) -> list[Delivery]:
        """The deliveries of events of its stream to one subscription, wherever it starts.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        index = SubscriptionIndex([replace(subscription, start=0)])
        wanted = [event for event in events if event.json is not None]
        names = await self._main_units(index, wanted)
        return await self._decided(
            [match for event in wanted for match in _matches(index, event, names)], replay=replay
        )

    async def still_matches(self, subscription: Subscription, event: StoredEvent) -> bool:
        """Whether an event matches of which that was unsure.

        Raises:
            EventsError: UNAVAILABLE when Register does not answer.
        """
        names = await self._register.main_units(event.subject or "")
        lowered = {name.lower() for name in names}
        return subscription.filter.lets_through(event, lowered)

    async def _main_units(self, index: SubscriptionIndex, events: Sequence[StoredEvent]) -> Names:
        """What Register knows of the events' subjects, where a subscription asks for sub-units."""
        subjects = {event.subject for event in events if event.subject and index.asks_for_subunits(event.resource)}
        known = await asyncio.gather(*(self._main_units_of(subject) for subject in subjects))
        return dict(zip(subjects, known, strict=True))

    async def _main_units_of(self, subject: str) -> Sequence[str] | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._register.main_units(subject)
        except (EventsError, TimeoutError):
            _log.warning("Sub-units are matched later: Register does not answer")
            return None

    async def _decided(self, found: Sequence[_Match], *, replay: int) -> list[Delivery]:
        now = self._clock()
        sure = [each for each in found if not each.unsure]
        permitted = await self._permitted(sure)
        by_match = dict(zip(map(id, sure), permitted, strict=True))
        return [self._delivery(each, replay, now, by_match.get(id(each))) for each in found]

    async def _permitted(self, found: Sequence[_Match]) -> Sequence[bool | None]:
        asked = [asked_for(each.subscription, each.event) for each in found]
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._authorization.permitted_each(asked)
        except (EventsError, TimeoutError):
            _log.warning("%d deliveries are decided later: the decision point does not answer", len(found))
            return [None] * len(found)

    def _delivery(self, match: _Match, replay: int, now: int, permit: bool | None) -> Delivery:  # noqa: FBT001
        event = match.event
        made = Delivery(
            lane=Lane(match.subscription.id, replay),
            stream=Stream.of_resource(event.resource),
            position=event.position,
            event_id=event.id,
            source=event.source,
            order=hashlib.blake2b((event.subject or "").encode(), key=self._key, digest_size=9).hexdigest(),
            registered=event.registered,
            recorded=now,
            next_attempt=now,
            unsure=match.unsure,
        )
        return made if permit is None else made.decision(permit=permit, at=now)


def _matches(index: SubscriptionIndex, event: StoredEvent, names: Names) -> list[_Match]:
    main_units = names.get(event.subject or "", ())
    found = index.matching(event, event.position, main_units or ())
    matches = [_Match(each, event, unsure=False) for each in found]
    if main_units is None:
        known = {each.id for each in found}
        matches += [
            _Match(each, event, unsure=True)
            for each in index.with_subunits(event.resource)
            if each.id not in known
            and event.position > each.start
            and replace(each.filter, subject=None).lets_through(event)
        ]
    return matches
