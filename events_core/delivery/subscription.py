"""Subscriptions as values: what they ask for, and which events match. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from cachetools import LRUCache

from events_core.common.slices import Slices
from events_core.delivery.endpoint import canonical_endpoint
from events_core.delivery.matching import Comparison, CompiledFilter, comparable, comparable_source
from events_core.feeds.patterns import WILDCARD, Pattern
from events_core.feeds.stream import Stream

PAUSES_REMEMBERED = 5_000
"""Pauses of endpoints that are known beside those in subscriptions of their own."""
CLOUD_EVENTS, JSON = "application/cloudevents+json", "application/json"
"""The media types that deliveries may have."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """The filters of a subscription. None lets every event through.

    `resource` is one exact resource. `source` is the URL of an app and matches every source below it. `type`,
    `subject`, `alternative_subject` and the host of `source` may hold `%`, which matches any run of characters. Case
    does not matter. With `include_subunits`, events about the sub-units of `subject` match too. If
    `subject_is_derived`, Register gave the subject for `alternative_subject`, which then is not compared. In a stored
    subscription HMACs stand for person numbers, and `sealed` is what the subscriber wrote instead.
    """

    resource: str
    source: str | None = None
    subject: str | None = None
    alternative_subject: str | None = None
    type: str | None = None
    include_subunits: bool = False
    subject_is_derived: bool = False
    sealed: str | None = None

    @property
    def stream(self) -> Stream:
        """The one stream whose events can match."""
        return Stream.of_resource(self.resource)

    @property
    def only_subject(self) -> str | None:
        """The one subject, in lower case, that matches; None if several subjects match."""
        return None if self.subject is None or WILDCARD in self.subject else comparable(self.subject)

    def compiled(self) -> CompiledFilter:
        """The filters, ready to be compared with events."""
        subject = "subject or main unit" if self.include_subunits else "subject"
        of_subject = "alternativeSubjectFilter" if self.subject_is_derived else "subjectFilter"
        alternative = None if self.subject_is_derived else self.alternative_subject
        patterns = (
            ("typeFilter", "type", self.type),
            ("sourceFilter", "source", None if self.source is None else f"{comparable_source(self.source)}/%"),
            (of_subject, subject, None if self.subject is None else comparable(self.subject)),
            (
                "alternativeSubjectFilter",
                "alternative subject",
                None if alternative is None else comparable(alternative),
            ),
        )
        given = ((name, attribute, Pattern(text)) for name, attribute, text in patterns if text is not None)
        return CompiledFilter(self.resource, tuple(given))


@dataclass(frozen=True, slots=True)
class Validation:
    """The state of an endpoint's validation.

    `tries` validation events were sent since the subscriber last asked for a validation. The endpoint answered the
    last event, sent at `at`, with `status`, or the request failed with `error`. The next event is due at `next_try`;
    None if no try is planned. Times are microseconds since the epoch. A worker with another clock tries as much
    earlier or later, which delays a validation only: the request that asks for one serves the lane by the same clock.
    """

    validated: bool = False
    tries: int = 0
    next_try: int | None = None
    at: int | None = None
    status: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SealedSecrets:
    """The secrets that sign deliveries, encrypted. The previous secret signs too until `previous_until`.

    A worker with another clock signs with both for as much shorter or longer; the current one always signs.
    """

    current: str
    previous: str | None = None
    previous_until: int = 0


@dataclass(frozen=True, slots=True)
class EndpointPause:
    """A pause of the deliveries to a `target`, until a time in microseconds since the epoch.

    For a worker with another clock it is as much shorter or longer. It is an hour long at most.
    """

    target: str = ""
    until: int = 0


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription. Before it is stored, `id` is 0 and `version` is "".

    Events match at positions after `start`, which was the end of the stream when the subscription was created. Times
    are microseconds since the epoch. `level` is the
    authentication level of the token that created the subscription, None if it could not be read. A `disabled`
    subscription's endpoint answered 410; nothing is sent until it is validated again. `allowed_rate` is how many
    deliveries a minute the endpoint asked for. Events are sent as `content_type`; with `learned_json`, because the
    endpoint took nothing else, and not because the subscriber asked for it. `base_url` is the URL of this service in
    the request that created the subscription. `endpoint_pause` is the last pause that the endpoint asked for: it
    holds for every subscription with the same `target`. `was_validated` says that
    an earlier endpoint was validated. `moves` and `tests` are the times of recent moves and test events. `version`
    changes with every change.
    """

    id: int
    endpoint: str
    filter: EventFilter
    consumer: str
    created_by: str
    created: int
    start: int
    level: int | None
    secrets: SealedSecrets
    validation: Validation = Validation()
    paused: bool = False
    disabled: bool = False
    deleted: bool = False
    allowed_rate: int | None = None
    content_type: str = CLOUD_EVENTS
    learned_json: bool = False
    base_url: str | None = None
    endpoint_pause: EndpointPause = EndpointPause()
    was_validated: bool = False
    moves: tuple[int, ...] = ()
    tests: tuple[int, ...] = ()
    version: str = ""

    @property
    def key(self) -> str:
        """The identity of a subscription: consumer, endpoint and filters, as they are compared. SHA-256 in hex.

        It tells no person number, because HMACs stand for these in stored filters.
        """
        wanted = self.filter
        parts = [
            self.consumer,
            canonical_endpoint(self.endpoint),
            wanted.resource,
            None if wanted.source is None else comparable_source(wanted.source),
            *(None if text is None else comparable(text) for text in (wanted.subject, wanted.alternative_subject)),
            None if wanted.type is None else wanted.type.lower(),
            wanted.include_subunits,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def target(self) -> str:
        """The consumer and its endpoint, as they are compared. SHA-256 in hex."""
        return hashlib.sha256(json.dumps([self.consumer, canonical_endpoint(self.endpoint)]).encode()).hexdigest()

    def with_pause(self, pause: EndpointPause) -> Subscription:
        """The subscription with a pause of an endpoint, unless it has the same one for as long."""
        current = self.endpoint_pause
        is_shorter = current.target == pause.target and current.until >= pause.until
        return self if is_shorter else replace(self, endpoint_pause=pause)

    def with_content_type(self, wanted: str | None) -> Subscription:
        """The subscription with the content type that its subscriber asks for, if it does."""
        return self if wanted is None else replace(self, content_type=wanted, learned_json=False)

    def with_learned_json(self) -> Subscription:
        """The subscription whose endpoint took an event as `application/json` only."""
        return replace(self, content_type=JSON, learned_json=True)

    def deletion_marker(self) -> Subscription:
        """The record of the deleted subscription, without its endpoint, filters and secrets."""
        return replace(
            self, deleted=True, endpoint="", filter=EventFilter(self.filter.resource), secrets=SealedSecrets("")
        )

    @property
    def was_ever_validated(self) -> bool:
        """Whether the endpoint, or an earlier one, was validated."""
        return self.validation.validated or self.was_validated

    @property
    def sends(self) -> bool:
        """Whether deliveries may be sent now."""
        return self.validation.validated and not (self.paused or self.disabled or self.deleted)


class SubscriptionIndex:
    """Subscriptions by resource and subject, so that only those that can match are compared with an event.

    One whose endpoint was never validated matches nothing: its deliveries begin with the validation.
    """

    def __init__(self, subscriptions: Iterable[Subscription] = ()) -> None:
        self._by_id: dict[int, tuple[Subscription, CompiledFilter]] = {}
        self._by_subject: dict[tuple[str, str | None], set[int]] = {}
        self._of_resource: dict[str, int] = {}
        self._with_subunits: dict[str, set[int]] = {}
        self._paused_until: LRUCache[str, int] = LRUCache(PAUSES_REMEMBERED)
        for subscription in subscriptions:
            self.put(subscription)

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, subscription_id: int) -> Subscription | None:
        """A subscription, None if it is unknown or deleted."""
        known = self._by_id.get(subscription_id)
        return None if known is None else known[0]

    def put(self, subscription: Subscription) -> None:
        """Add or replace a subscription. Remove it if it is deleted."""
        known = self._remove(subscription.id)
        self.pause(subscription.endpoint_pause)
        if subscription.deleted:
            return
        wanted = subscription.filter
        compiled = known[1] if known is not None and known[0].filter == wanted else wanted.compiled()
        self._by_id[subscription.id] = subscription, compiled
        if not subscription.was_ever_validated:
            return
        self._by_subject.setdefault((wanted.resource, wanted.only_subject), set()).add(subscription.id)
        self._of_resource[wanted.resource] = self._of_resource.get(wanted.resource, 0) + 1
        if wanted.include_subunits:
            self._with_subunits.setdefault(wanted.resource, set()).add(subscription.id)

    def pause(self, pause: EndpointPause) -> None:
        """Add a pause of an endpoint. It outlives the subscription that it came with."""
        if pause.until:
            self._paused_until[pause.target] = max(pause.until, self._paused_until.get(pause.target, 0))

    def paused_until(self, subscription: Subscription) -> int:
        """When the pause of a subscription's endpoint ends or ended, 0 if there was none."""
        own = subscription.endpoint_pause
        if not own.until and not self._paused_until:
            return 0  # a target takes time
        target = subscription.target
        return max(self._paused_until.get(target, 0), own.until if own.target == target else 0)

    def any_of(self, resource: str) -> bool:
        """Whether any event of the resource may match a subscription."""
        return resource in self._of_resource

    def asks_for_subunits(self, resource: str) -> bool:
        """Whether any subscription to the resource asks for events about sub-units."""
        return resource in self._with_subunits

    async def matching(self, compared: Comparison, position: int, slices: Slices) -> list[Subscription]:
        """The subscriptions that an event at a position matches, by id.

        Subscriptions that change or go meanwhile are compared as they were when this began.
        """
        keys = [(compared.resource, subject) for subject in (None, *compared.subjects)]
        candidates = {number for key in keys for number in self._by_subject.get(key, ())}
        return await self._compare(candidates, position, slices, lambda wanted: wanted.lets_through(compared))

    async def matching_for_subunits(self, compared: Comparison, position: int, slices: Slices) -> list[Subscription]:
        """The subscriptions that match if the event's subject is a sub-unit of theirs, by id. See `matching`."""
        candidates = self._with_subunits.get(compared.resource, ())
        return await self._compare(
            candidates, position, slices, lambda wanted: wanted.lets_through_but_subject(compared)
        )

    async def _compare(
        self, candidates: Iterable[int], position: int, slices: Slices, matches: Callable[[CompiledFilter], bool]
    ) -> list[Subscription]:
        found = []
        for subscription, wanted in [self._by_id[number] for number in sorted(candidates)]:
            await slices.pause()
            if position > subscription.start and matches(wanted):
                found.append(subscription)
        return found

    def _remove(self, subscription_id: int) -> tuple[Subscription, CompiledFilter] | None:
        known = self._by_id.pop(subscription_id, None)
        if known is None or not known[0].was_ever_validated:
            return known
        wanted = known[0].filter
        same_subject = self._by_subject[wanted.resource, wanted.only_subject]
        same_subject.discard(subscription_id)
        if not same_subject:
            del self._by_subject[wanted.resource, wanted.only_subject]
        self._of_resource[wanted.resource] -= 1
        if not self._of_resource[wanted.resource]:
            del self._of_resource[wanted.resource]
        if wanted.include_subunits:
            self._with_subunits[wanted.resource].discard(subscription_id)
            if not self._with_subunits[wanted.resource]:
                del self._with_subunits[wanted.resource]
        return known
