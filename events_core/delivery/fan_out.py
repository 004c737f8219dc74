"""Use case: find the subscriptions that an event matches, and record a delivery for each.

The place of a delivery follows from the event and the subscription, and the store keeps what is there, so a second
fan-out of an event changes nothing (docs/architecture.md, "Subscriptions and deliveries").
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from typing_extensions import override

from events_core.access.authorization import Asked, Authorization, RequestBudget, Verdict
from events_core.access.decisions import MOST_QUESTIONS, DecisionBudget
from events_core.access.identity import caller_of_consumer
from events_core.access.names import Resource
from events_core.access.ports import PartyRegister
from events_core.common.errors import EventsError
from events_core.common.slices import Slices
from events_core.delivery.cache import SubscriptionCache
from events_core.delivery.delivery import Delivery, Lane, new_id
from events_core.delivery.persons import PersonNumbers
from events_core.delivery.ports import DeliveryStore
from events_core.delivery.subscription import Subscription, SubscriptionIndex
from events_core.delivery.wakeup_queue import WakeupQueue
from events_core.feeds.follow_up import Follower
from events_core.feeds.ports import StoredEvent
from events_core.feeds.stream import Stream

ANSWER_SECONDS = 2.0
"""Timeout for the PDP and Register here. Unanswered questions are asked again at delivery."""
ASKED_AT_ONCE = 500
"""How many consumers and events one request to the PDP is about."""
MATCHES_AT_ONCE = 2_000
"""After how many matches of a page deliveries are made of them."""

_PERMITS = {Verdict.PERMITTED: True, Verdict.DENIED: False}
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Asking:
    """The questions that may still be asked about a page, and the seconds to wait for the answers."""

    seconds: float = ANSWER_SECONDS
    questions: int = MOST_QUESTIONS


_Question = tuple[str, int | None, int]
"""A consumer, its level, and the position of an event. Subscriptions of one consumer share the decision."""

MainUnits = Mapping[str, Sequence[str] | None]
"""The names of the main unit of each subject; None if Register did not answer."""


def asked_for(subscription: Subscription, event: StoredEvent) -> Asked:
    """The question whether the consumer of a subscription may read an event."""
    caller = caller_of_consumer(subscription.consumer, subscription.level)
    return Asked(caller, Resource.parse(event.resource).action, event)


@dataclass(frozen=True, slots=True)
class _Match:
    """A subscription that an event matches. If `unsure`, only Register knows whether it does."""

    subscription: Subscription
    event: StoredEvent
    unsure: bool

    @property
    def question(self) -> _Question:
        """The question whether the consumer may read the event."""
        return self.subscription.consumer, self.subscription.level, self.event.position


@dataclass(frozen=True, slots=True)
class FanOut(Follower[Delivery]):
    """The follower that makes deliveries. A target is a lane.

    `key` hashes the subjects by which deliveries are ordered. `clock` gives microseconds since the epoch. Each method
    raises EventsError UNAVAILABLE when the store does not answer.
    """

    cache: SubscriptionCache
    deliveries: DeliveryStore
    authorization: Authorization
    party_register: PartyRegister
    wakeup_queue: WakeupQueue
    persons: PersonNumbers
    key: bytes
    clock: Callable[[], int]

    @property
    @override
    def name(self) -> str:
        return "deliveries"

    @override
    async def wants(self, stream: Stream) -> bool:
        return (await self.cache.fresh()).any_of(stream.key)

    @override
    async def targets(self, events: Sequence[StoredEvent]) -> dict[str, dict[int, Delivery]]:
        targets: dict[str, dict[int, Delivery]] = {}
        slices = Slices()
        for delivery in await self._deliveries(await self.cache.fresh(), events, replay=0):
            await slices.pause()
            targets.setdefault(str(delivery.lane), {})[delivery.position] = delivery
        return targets

    @override
    async def put(self, target: str, items: Sequence[Delivery]) -> None:
        await self.deliveries.record(items, self.clock())
        self.wakeup_queue.put(delivery.lane for delivery in items if delivery.state.open)

    async def deliveries_to(
        self, subscription: Subscription, events: Sequence[StoredEvent], replay: int = 0
    ) -> list[Delivery]:
        """Make the deliveries of events to one subscription, also of events before its start."""
        return await self._deliveries(SubscriptionIndex([replace(subscription, start=0)]), events, replay=replay)

    async def still_matches(self, subscription: Subscription, event: StoredEvent) -> bool:
        """Whether an event matches whose delivery is unsure.

        Raises:
            EventsError: UNAVAILABLE when Register does not answer.
        """
        names = await self.party_register.main_units(event.subject or "")
        return subscription.filter.compiled().lets_through(self.persons.comparison(event, names))

    async def _deliveries(
        self, index: SubscriptionIndex, events: Sequence[StoredEvent], *, replay: int
    ) -> list[Delivery]:
        """Make the deliveries of events to the subscriptions of an index, decided if the PDP answers in time."""
        slices, asking = Slices(), _Asking()
        wanted = [event for event in events if event.json is not None and index.any_of(event.resource)]
        main_units = await self._main_units(index, wanted)
        deliveries: list[Delivery] = []
        matches: list[_Match] = []
        for event in wanted:
            matches += await self._matches(index, event, main_units, slices)
            if len(matches) >= MATCHES_AT_ONCE or event is wanted[-1]:
                deliveries += await self._decided(matches, replay, asking, slices)
                matches = []
        return deliveries

    async def _decided(self, matches: Sequence[_Match], replay: int, asking: _Asking, slices: Slices) -> list[Delivery]:
        """Make the deliveries of matches."""
        permits = await self._permits(matches, asking, slices)
        now, deliveries = self.clock(), []
        for match in matches:
            await slices.pause()
            permit = None if match.unsure else permits.get(match.question)
            deliveries.append(self._delivery(match, replay, now, permit=permit))
        return deliveries

    async def _main_units(self, index: SubscriptionIndex, events: Sequence[StoredEvent]) -> MainUnits:
        """Ask Register for the main units of the events' subjects, if a subscription asks for sub-units."""
        subjects = {event.subject for event in events if event.subject and index.asks_for_subunits(event.resource)}
        names = await asyncio.gather(*(self._main_units_of(subject) for subject in subjects))
        return dict(zip(subjects, names, strict=True))

    async def _main_units_of(self, subject: str) -> Sequence[str] | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self.party_register.main_units(subject)
        except (EventsError, TimeoutError):
            _log.warning("sub-unit match postponed: Register does not answer")
            return None

    async def _permits(
        self, matches: Sequence[_Match], asking: _Asking, slices: Slices
    ) -> Mapping[_Question, bool | None]:
        """Ask for the decisions, by question. Those that the PDP does not decide in time are left out, or None."""
        distinct: dict[_Question, _Match] = {}
        for match in matches:
            await slices.pause()
            if not match.unsure:
                distinct.setdefault(match.question, match)
        permits: dict[_Question, bool | None] = {}
        began = time.monotonic()
        try:
            async with asyncio.timeout(asking.seconds):
                await self._ask(distinct, asking, permits)
        except (EventsError, TimeoutError):
            left, asking.questions = len(distinct) - len(permits), 0
            _log.warning("decision postponed questions=%d: the policy decision point does not answer", left)
        asking.seconds -= time.monotonic() - began
        return permits

    async def _ask(
        self, distinct: Mapping[_Question, _Match], asking: _Asking, permits: dict[_Question, bool | None]
    ) -> None:
        """Add the decisions to `permits`, a part at a time, with one request for each part."""
        questions = list(distinct)
        for start in range(0, len(questions), ASKED_AT_ONCE):
            part = questions[start : start + ASKED_AT_ONCE]
            budget = DecisionBudget(1, questions=asking.questions)
            asked = [asked_for(distinct[question].subscription, distinct[question].event) for question in part]
            verdicts = await self.authorization.verdicts_each(asked, RequestBudget(decision_point=budget))
            permits.update(zip(part, map(_PERMITS.get, verdicts), strict=True))
            asking.questions = budget.questions

    async def _matches(
        self, index: SubscriptionIndex, event: StoredEvent, main_units: MainUnits, slices: Slices
    ) -> list[_Match]:
        """The matches of an event. Matches by sub-units are unsure if Register did not answer."""
        names = main_units.get(event.subject or "", ())
        compared = self.persons.comparison(event, names or ())
        found = await index.matching(compared, event.position, slices)
        matches = [_Match(subscription, event, unsure=False) for subscription in found]
        if names is None:
            known = {subscription.id for subscription in found}
            possible = await index.matching_for_subunits(compared, event.position, slices)
            matches += [
                _Match(subscription, event, unsure=True) for subscription in possible if subscription.id not in known
            ]
        return matches

    def _delivery(self, match: _Match, replay: int, now: int, *, permit: bool | None) -> Delivery:
        event = match.event
        undecided = Delivery(
            id=new_id(),
            lane=Lane(match.subscription.id, replay),
            stream=Stream.of_resource(event.resource),
            position=event.position,
            event_id=event.id,
            source=event.source,
            size=len(event.json or b""),
            order=hashlib.blake2b((event.subject or "").encode(), key=self.key, digest_size=9).hexdigest(),
            registered=event.registered,
            recorded=now,
            next_attempt=now,
            unsure=match.unsure,
        )
        return undecided if permit is None else undecided.decision(permit=permit, at=now)
