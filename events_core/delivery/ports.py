"""The ports of subscriptions and deliveries, as Protocols. Values only; no technology is named here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from events_core.delivery.delivery import Attempt, Breaker, Delivery, Lane, Replay, State
from events_core.delivery.subscription import Subscription
from events_core.feeds.stream import Stream


@dataclass(frozen=True, slots=True)
class Changes:
    """Subscriptions that were created, changed or deleted, in no order; `token` goes on from there."""

    subscriptions: Sequence[Subscription]
    token: str


class SubscriptionStore(Protocol):
    """Subscriptions, durable; those of other processes are seen at once.

    Each method raises EventsError UNAVAILABLE when the store does not answer.
    """

    async def create(self, draft: Subscription) -> tuple[Subscription, bool]:
        """Store a subscription under a new id, and say that it is new; or the one that stands under the same key.

        Of several that are created at once under one key one is new. A deleted one does not stand. Ids rise, may have
        gaps, and are never used again.
        """

    async def get(self, subscription_id: int) -> Subscription | None:
        """A subscription, None when it is unknown or deleted."""

    async def of_consumer(self, consumer: str, after: int, limit: int) -> Sequence[Subscription]:
        """A consumer's subscriptions with ids greater than `after`, by id, `limit` at most; without deleted ones."""

    async def change(self, subscription: Subscription) -> Subscription | None:
        """Replace a subscription that is at this version; None, and nothing is written, when it has another.

        With `deleted` it is gone from then on, and its key is free.
        """

    async def changes(self, token: str | None = None) -> Changes:
        """What changed since `token`, once or more often, deleted ones among them; without a token, all that stand.

        A change that was acknowledged before the call is among them, or was among those that came with the token.
        """


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to serve a lane until a moment, microseconds since the epoch; `version` proves it to the store."""

    lane: Lane
    until: int
    breaker: Breaker
    version: str


@dataclass(frozen=True, slots=True)
class Overdue:
    """A lane in which an attempt has been due since a moment, microseconds since the epoch."""

    lane: Lane
    since: int
    breaker: Breaker


class DeliveryStore(Protocol):
    """Deliveries of subscriptions, and the lanes in which they wait, durable.

    Moments are microseconds since the epoch, and given by the caller. Each method raises EventsError UNAVAILABLE when
    the store does not answer; the same call again completes it.
    """

    async def record(self, deliveries: Sequence[Delivery], now: int) -> None:
        """Store deliveries, then make the lanes due of those that are to be attempted.

        One that stands under its lane and position stays as it is. Those of one lane are given by position, and become
        visible in that order. A lane that is given back at the same time stays due: whoever looked too early is told.
        """

    async def wake(self, lane: Lane, at: int) -> None:
        """Make a lane due at `at`, or earlier if it is; also one without deliveries."""

    async def wake_all(self, subscription: int, at: int) -> Sequence[Lane]:
        """Make every lane of a subscription due at `at`, or earlier if it is, its live one in any case; return them."""

    async def due(self, now: int, limit: int) -> Sequence[Lane]:
        """Lanes that are due and that nobody serves, those that have been due for the longest first."""

    async def overdue(self, now: int) -> Sequence[Overdue]:
        """Every lane in which an attempt is due, also one that is put off or served; since when, to within a turn."""

    async def dead(self) -> int:
        """How many deliveries are dead."""

    async def take(self, lane: Lane, now: int, until: int) -> Lease | None:
        """Lease a lane; None while another lease on it runs, and when there is no such lane."""

    async def keep(self, lease: Lease, until: int) -> Lease | None:
        """Prolong a lease; None when it is lost. What was recorded meanwhile does not matter."""

    async def give_back(self, lease: Lease, breaker: Breaker, *, now: int, at: int | None = None) -> bool:
        """End a lease. The lane is due next when its next attempt is, but not before `at`.

        Without any attempt to come it is not due. True when the lane is due now, since more was recorded meanwhile.
        A lease that was lost stays lost.
        """

    async def drop(self, lease: Lease) -> None:
        """End a lease and the lane with it; its deliveries stay as they are, and nothing is due."""

    async def ready(self, lease: Lease, now: int, firsts: int, retries: int) -> Sequence[Delivery]:
        """Deliveries of a lane that are due: the first `firsts` PENDING ones by position, then FAILING ones.

        A pending one is due whatever the clock says: it may have been set back since, and their order counts. Of the
        failing ones `retries` at most, those that have been due for the longest first.
        """

    async def save(self, delivery: Delivery) -> Delivery | None:
        """Replace a delivery that is at this version; None, and nothing is written, when it has another or is gone."""

    async def remove(self, delivery: Delivery) -> None:
        """Take a delivery away, whatever its version."""

    async def page(
        self, subscription: int, after: tuple[int, int], limit: int, state: State | None = None
    ) -> Sequence[Delivery]:
        """Deliveries of a subscription, by position and job, after a (position, job)."""

    async def of_event(self, stream: Stream, position: int) -> Sequence[Delivery]:
        """The deliveries of one event to all subscriptions, by subscription and job; a costly question."""

    async def revive(self, subscription: int, now: int) -> int:
        """Let every dead delivery of a subscription begin its schedule anew, its lane being due; how many."""

    async def begin_replay(self, replay: Replay, now: int) -> Replay:
        """Store a replay under a new job of its subscription, with its lane, which is due."""

    async def replay(self, lane: Lane) -> Replay | None:
        """The replay whose lane it is, None when there is none."""

    async def move_replay(self, lease: Lease, replay: Replay) -> None:
        """Note how far a replay has come, `after` and `done`; nothing is noted when the lease is lost."""

    async def expire(self, settled_before: int, registered_before: int) -> int:
        """Remove deliveries that came to their end before a moment, and any whose event was registered before another.

        Dead ones stay as long as their event. Where the store forgets by itself nothing is to be done. How many.
        """


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to an endpoint: POST with a body, or OPTIONS without one."""

    endpoint: str
    headers: Mapping[str, str]
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What came of it: the attempt, and what the endpoint asked for.

    `retry_after` is in seconds. Of the headers, names in lower case, only those are kept that mean something here.
    """

    attempt: Attempt
    retry_after: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class WebhookSender(Protocol):
    """Sends to endpoints that others chose: never into a network that is not theirs, and never for long."""

    async def send(self, outgoing: Outgoing, timeout_seconds: float | None = None) -> Response:
        """Send, and never raise for what the endpoint or the network does; redirects are not followed."""


class SecretBox(Protocol):
    """Encrypts secrets for storage."""

    def seal(self, secret: str, context: str) -> str:
        """The secret as a text that only this service can open, for the same context."""

    def open(self, sealed: str, context: str) -> str:
        """The secret again.

        Raises:
            EventsError: UNAVAILABLE when none of the configured keys opens it.
        """
