"""Subscriptions as values: what each asks for, and which events match it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from events_core.access.xacml_request import EventLike
from events_core.feeds.stream import Stream, matches

_ANY = "%"


class Matchable(EventLike, Protocol):
    """What filters compare of an event; a CloudEvent and a StoredEvent have it."""

    @property
    def alternative_subject(self) -> str | None:
        """The event's `alternativesubject`."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a subscription asks for, as the subscriber wrote it; None lets everything through.

    `resource` is one resource, exactly. `source` of an app's events is the app's URL, and matches whatever is below
    it. `type`, `subject`, `alternative_subject` and the host of `source` may hold `%`, which stands for any run of
    characters; every other character stands for itself, without regard to case. With `include_subunits` the events
    about the sub-units of `subject` match too. `subject_is_derived`: Register gave the subject for
    `alternative_subject`, which therefore is no condition of its own.
    """

    resource: str
    source: str | None = None
    subject: str | None = None
    alternative_subject: str | None = None
    type: str | None = None
    include_subunits: bool = False
    subject_is_derived: bool = False

    @property
    def stream(self) -> Stream:
        """The one stream whose events can match."""
        return Stream.of_resource(self.resource)

    @property
    def only_subject(self) -> str | None:
        """The one subject, in lower case, that an event must have; None when there are many."""
        return None if self.subject is None or _ANY in self.subject else _trimmed(self.subject)

    def lets_through(self, event: Matchable, main_units: Collection[str] = ()) -> bool:
        """Whether an event matches; `main_units` are the names, in lower case, of the main unit of its subject."""
        return (
            event.resource == self.resource
            and (self.type is None or matches(self.type, event.type))
            and (self.source is None or is_below(self.source, event.source))
            and self._is_about(event.subject, main_units)
            and self._has_alternative(event.alternative_subject)
        )

    def _is_about(self, subject: str | None, main_units: Collection[str]) -> bool:
        if self.subject is None:
            return True
        wanted = _trimmed(self.subject)
        if self.include_subunits and any(matches(wanted, name) for name in main_units):
            return True
        return subject is not None and matches(wanted, _trimmed(subject))

    def _has_alternative(self, alternative_subject: str | None) -> bool:
        if self.alternative_subject is None or self.subject_is_derived:
            return True
        wanted = _trimmed(self.alternative_subject)
        return alternative_subject is not None and matches(wanted, _trimmed(alternative_subject))


@dataclass(frozen=True, slots=True)
class Validation:
    """How the validation of an endpoint stands.

    `tries` validation events were sent since it was last asked for; the last one at `at` (microseconds since the
    epoch) was answered with `status`, or failed with `error`. The next goes at `next_try`; None: none is planned.
    """

    validated: bool = False
    tries: int = 0
    next_try: int | None = None
    at: int | None = None
    status: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SealedSecrets:
    """The secrets that deliveries are signed with, encrypted; the previous one signs too until `previous_until`."""

    current: str
    previous: str | None = None
    previous_until: int = 0


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription; `id` 0 and `version` "" before it is stored.

    It matches events at positions after `start` of its stream. Moments are microseconds since the epoch. `level` is
    the authentication level of the token that created it, None when that could not be read. `disabled`: the endpoint
    answered 410, and nothing is sent until it is validated anew. `allowed_rate` is how many deliveries a minute the
    endpoint asked for. `version` changes with every change.
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
    version: str = ""

    @property
    def key(self) -> str:
        """What makes it the same subscription: who asks for what, where to. SHA-256, in hex."""
        wanted = self.filter
        parts = [
            self.consumer,
            canonical_endpoint(self.endpoint),
            wanted.resource,
            None if wanted.source is None else _trimmed_source(wanted.source),
            *(None if text is None else _trimmed(text) for text in (wanted.subject, wanted.alternative_subject)),
            None if wanted.type is None else wanted.type.lower(),
            wanted.include_subunits,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def ended(self) -> Subscription:
        """The subscription as it is kept once it is deleted: its number, and not what it asked for, where and how."""
        nothing = EventFilter(self.filter.resource)
        return replace(self, deleted=True, endpoint="", filter=nothing, secrets=SealedSecrets(""))

    @property
    def sends(self) -> bool:
        """Whether deliveries may go out now."""
        return self.validation.validated and not (self.paused or self.disabled or self.deleted)


class SubscriptionIndex:
    """Subscriptions by what they match, so that those which cannot match cost nothing."""

    def __init__(self, subscriptions: Iterable[Subscription] = ()) -> None:
        self._by_id: dict[int, Subscription] = {}
        self._places: dict[tuple[str, str | None], dict[int, Subscription]] = {}
        self._of_resource: dict[str, int] = {}
        self._with_subunits: dict[str, set[int]] = {}
        for each in subscriptions:
            self.put(each)

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, subscription_id: int) -> Subscription | None:
        """A subscription, None when there is none, or none any more."""
        return self._by_id.get(subscription_id)

    def put(self, subscription: Subscription) -> None:
        """Add or replace a subscription; one that is deleted goes."""
        self._remove(subscription.id)
        if subscription.deleted:
            return
        wanted = subscription.filter
        self._by_id[subscription.id] = subscription
        self._places.setdefault((wanted.resource, wanted.only_subject), {})[subscription.id] = subscription
        self._of_resource[wanted.resource] = self._of_resource.get(wanted.resource, 0) + 1
        if wanted.include_subunits:
            self._with_subunits.setdefault(wanted.resource, set()).add(subscription.id)

    def any_of(self, resource: str) -> bool:
        """Whether any subscription asks for events of the resource."""
        return resource in self._of_resource

    def asks_for_subunits(self, resource: str) -> bool:
        """Whether any subscription asks for events about the sub-units of a subject."""
        return resource in self._with_subunits

    def with_subunits(self, resource: str) -> list[Subscription]:
        """The subscriptions to a resource that ask for sub-units, by id."""
        return [self._by_id[each] for each in sorted(self._with_subunits.get(resource, ()))]

    def matching(self, event: Matchable, position: int, main_units: Sequence[str] = ()) -> list[Subscription]:
        """The subscriptions that an event at a position matches, by id; `main_units` name its subject's main unit."""
        names = {_trimmed(name) for name in main_units}
        subjects = {None, *names, *([_trimmed(event.subject)] if event.subject is not None else [])}
        found = [
            each
            for subject in subjects
            for each in self._places.get((event.resource, subject), {}).values()
            if position > each.start and each.filter.lets_through(event, names)
        ]
        return sorted(found, key=lambda each: each.id)

    def _remove(self, subscription_id: int) -> None:
        known = self._by_id.pop(subscription_id, None)
        if known is None:
            return
        wanted = known.filter
        place = self._places[wanted.resource, wanted.only_subject]
        del place[subscription_id]
        if not place:
            del self._places[wanted.resource, wanted.only_subject]
        self._of_resource[wanted.resource] -= 1
        if not self._of_resource[wanted.resource]:
            del self._of_resource[wanted.resource]
        if wanted.include_subunits:
            self._with_subunits[wanted.resource].discard(subscription_id)
            if not self._with_subunits[wanted.resource]:
                del self._with_subunits[wanted.resource]


def is_below(pattern: str, source: str) -> bool:
    """Whether a source is the URL of the pattern or below it, segment by segment; `%` is a wildcard."""
    wanted = _trimmed_source(pattern)
    return matches(wanted, _trimmed(source)) or matches(f"{wanted}/%", source)


def canonical_endpoint(endpoint: str) -> str:
    """An endpoint as it is compared: scheme and host without regard to case, `/` for no path."""
    parts = urlsplit(endpoint)
    return urlunsplit((parts.scheme.lower(), parts.netloc.lower(), parts.path or "/", parts.query, ""))


def canonical_origin(endpoint: str) -> str:
    """The scheme, host and port of an endpoint, as they are compared."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}"


def _trimmed(text: str) -> str:
    """A filter or an attribute as it is compared: in lower case, without the slashes at its end."""
    lowered = text.lower()
    return lowered.rstrip("/") or lowered


def _trimmed_source(text: str) -> str:
    """A source filter as it is compared: a wildcard for all that is below it says what is meant anyway."""
    lowered = _trimmed(text)
    while lowered.endswith("/%"):
        lowered = _trimmed(lowered.removesuffix("/%"))
    return lowered
