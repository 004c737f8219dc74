"""The ports of subscriptions and deliveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from events_core.common import errors
from events_core.delivery.delivery import Attempt, Breaker, Delivery, Lane, Replay, State
from events_core.delivery.subscription import Subscription
from events_core.feeds.stream import Stream

SAME_SUBSCRIPTION = "Another of your subscriptions has this endPoint and the same filters."
"""The detail of a conflict of keys."""
SOON = 30
"""Seconds after which a consumer may have fewer subscriptions that were never validated."""


@dataclass(frozen=True, slots=True)
class SubscriptionQuota:
    """The most subscriptions of one consumer, and the most of these that no endpoint ever validated."""

    most: int
    most_never_validated: int

    def check(self, was_validated: Sequence[bool]) -> None:
        """Check that a consumer may have one more. Each of its subscriptions says whether it was ever validated.

        Raises:
            EventsError: TOO_MANY_REQUESTS.
        """
        if len(was_validated) >= self.most:
            raise errors.too_many_requests(f"A consumer has at most {self.most} subscriptions.", None)
        if was_validated.count(False) >= self.most_never_validated:
            detail = f"A consumer has at most {self.most_never_validated} subscriptions that were never validated."
            raise errors.too_many_requests(detail, SOON)


@dataclass(frozen=True, slots=True)
class ReplayQuota:
    """The most unfinished replays of these subscriptions, which are those of one consumer.

    A replay is unfinished until every event has its delivery, and none of these awaits its first attempt. The replay
    of a live lane does not count.
    """

    subscriptions: Sequence[int]
    most: int

    def exceeded(self) -> errors.EventsError:
        """The error of a replay beyond the quota."""
        return errors.too_many_requests(f"A consumer has at most {self.most} unfinished replays.", None)


@dataclass(frozen=True, slots=True)
class Changes:
    """Subscriptions that were created, changed or deleted, in any order. `token` asks for the changes after these."""

    subscriptions: Sequence[Subscription]
    token: str


class SubscriptionStore(Protocol):
    """A durable store of subscriptions. Every process sees a change at once.

    Each method raises EventsError UNAVAILABLE when the store does not answer.
    """

    async def create(self, draft: Subscription, quota: SubscriptionQuota | None = None) -> tuple[Subscription, bool]:
        """Store a subscription under a new id, unless one with the same key is stored. Return it and whether it is new.

        Of concurrent calls with the same key, exactly one creates a subscription. Ids rise, may have gaps, and are
        never used again. Concurrent calls never exceed the quota.

        Raises:
            EventsError: TOO_MANY_REQUESTS when a new subscription would exceed the quota.
        """

    async def get(self, subscription_id: int) -> Subscription | None:
        """Return a subscription, None if it is unknown or deleted."""

    async def owned_by(self, consumer: str, after: int, limit: int) -> Sequence[Subscription]:
        """Return `limit` subscriptions of a consumer, by id, with ids beyond `after`; fewer if there are no more."""

    async def change(self, subscription: Subscription) -> Subscription | None:
        """Replace a subscription that still has this version. Return None, and write nothing, if it has another.

        A subscription that is marked `deleted` cannot be found any more, and its key is free.

        Raises:
            EventsError: CONFLICT when another subscription has the key.
        """

    async def changes(self, token: str | None = None) -> Changes:
        """Return the subscriptions that changed since `token`, deleted ones too; without a token, all that exist.

        A change that was acknowledged before this call is in the answer, or was in the answer that gave the token.
        A change may be repeated.
        """


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to serve a lane until `until`, microseconds since the epoch. `version` proves it to the store.

    `replay` is the lane's replay as the store had it when the lease began, or as `move_replay` stored it since; None
    if the lane has none.
    """

    lane: Lane
    until: int
    breaker: Breaker
    version: str
    replay: Replay | None = None

    @property
    def is_replaying(self) -> bool:
        """Whether the lane's replay is unfinished, so that deliveries of later events wait."""
        return self.replay is not None and not self.replay.done


@dataclass(frozen=True, slots=True)
class Ready:
    """A read of a lane: the `deliveries` that are due, and the `rest` of its deliveries with an attempt to come.

    `rest` is None if the store did not read all of them.
    """

    deliveries: Sequence[Delivery] = ()
    rest: Sequence[Delivery] | None = None


@dataclass(frozen=True, slots=True)
class Overdue:
    """A lane in which an attempt is due since `since`, microseconds since the epoch."""

    lane: Lane
    since: int
    breaker: Breaker


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries are wanted. `event_id` and `source` fit only deliveries whose event may be shown."""

    state: State | None = None
    event_id: str | None = None
    source: str | None = None
    newest_first: bool = False
    id: str | None = None


ALL = DeliveryFilter()
"""Every delivery, the oldest event first."""


class DeliveryStore(Protocol):
    """A durable store of deliveries and of the lanes in which they wait.

    Times are microseconds since the epoch and come from the caller. Each method raises EventsError UNAVAILABLE when
    the store does not answer; the same call again completes it.
    """

    async def record(self, deliveries: Sequence[Delivery], now: int) -> None:
        """Store deliveries, then make the lanes due in which an attempt may be to come.

        A delivery that is stored under the same lane and position stays as it is, with its id, and its lane becomes
        due. Callers give the deliveries of a lane by position, and they become visible in that order. A lane whose
        lease is released at the same time stays due, so no worker misses what was recorded after it looked. A lane is
        due at once, whatever the caller's clock says: `now` is for measuring alone.
        """

    async def wake(self, lane: Lane) -> None:
        """Make a lane due at once. The lane may be empty."""

    async def wake_all(self, subscription: int) -> Sequence[Lane]:
        """Make due the live lane of a subscription, and the lanes of replays with something to do. Return them."""

    async def due(self, now: int, limit: int) -> Mapping[Lane, int]:
        """Return lanes that are due and not leased, each with the time since when, the longest due first.

        The time is another one after each turn, unless the lane is made due at once: then it is 0.
        """

    async def overdue(self, now: int) -> Sequence[Overdue]:
        """Return every lane in which an attempt is due, leased or not. The times are exact to within a turn."""

    async def dead(self) -> int:
        """Count the dead deliveries."""

    async def take(self, lane: Lane, now: int, until: int) -> Lease | None:
        """Lease a lane. Return None if it is leased, or does not exist."""

    async def renew(self, lease: Lease, until: int) -> Lease | None:
        """Prolong a lease, also if deliveries were recorded meanwhile. Return None if the lease is lost."""

    async def release(
        self,
        lease: Lease,
        breaker: Breaker,
        *,
        now: int,
        at: int | None = None,
        latest: int | None = None,
        to_come: Sequence[Delivery] | None = None,
    ) -> int | None:
        """End a lease. The lane is due again at its next attempt, and at `latest` at the latest, but not before `at`.

        `to_come` are all deliveries of the lane with an attempt to come, if the caller knows them: it read the whole
        lane after it took the lane or moved its replay, and nobody but the caller has changed a delivery since. The
        store then asks for none. A lane that was made due since the lease began stays due whatever `to_come` says.

        Return when the lane is due, None for never. A lost lease stays lost, and is nothing to wait for.
        """

    async def drop(self, lease: Lease) -> None:
        """End a lease and remove its lane. The deliveries stay as they are, and none is due."""

    async def ready(self, lease: Lease, now: int, firsts: int, retries: int) -> Ready:
        """Read due deliveries of a lane: at most `firsts` by position, then at most `retries`, the longest due first.

        A PENDING delivery is due whatever its time says, because the clock may have been set back since and the order
        counts. FAILING and undecidable deliveries are the retries, and are due at their time. While the lane's replay
        is unfinished, deliveries beyond its `after` are not due.
        """

    async def save(self, delivery: Delivery) -> Delivery | None:
        """Replace a delivery that still has this version. Return None, and write nothing, if it has not."""

    async def remove(self, delivery: Delivery) -> None:
        """Remove a delivery, whatever its version."""

    async def page(
        self, subscription: int, after: tuple[int, int] | None, limit: int, wanted: DeliveryFilter = ALL
    ) -> Sequence[Delivery]:
        """Return deliveries of a subscription after a (position, replay), in that order or in the opposite one.

        Without `after` the page starts at the first, or the newest, delivery.
        """

    async def of_event(self, stream: Stream, position: int) -> Sequence[Delivery]:
        """Return the deliveries of one event, by subscription and replay. This is expensive."""

    async def revive(self, subscription: int, now: int) -> int:
        """Restart the schedule of every dead delivery of a subscription, and wake their lanes. Return how many."""

    async def begin_replay(self, replay: Replay, now: int, quota: ReplayQuota | None = None) -> Replay:
        """Store a replay under the next number of its subscription, with a lane that is due.

        Concurrent calls never exceed the quota.

        Raises:
            EventsError: TOO_MANY_REQUESTS when the replay would exceed the quota.
        """

    async def move_replay(self, lease: Lease, replay: Replay) -> Lease | None:
        """Store a replay of the leased lane, a live one too: its beginning, or its progress `after` and `done`.

        Return the lease with it, which knows what was recorded before. Return None, and store nothing, if the lease is
        lost.
        """

    async def expire(self, settled_before: int, registered_before: int) -> int:
        """Remove deliveries settled before one time, and those of events registered before another. Return how many.

        Dead deliveries stay as long as their event, and open ones while they are in a lane: a worker ends them. A store
        that expires deliveries by itself does nothing.
        """


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to an endpoint: POST if it has a body, else OPTIONS.

    `consumer` is the consumer of the subscription that the request is sent for. `media_types` are those of the body, in
    which it is offered one after the other while the endpoint answers 415.
    """

    endpoint: str
    consumer: str
    headers: Mapping[str, str]
    body: bytes | None = None
    media_types: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """The outcome of a request: the attempt, `Retry-After` in seconds, and the headers that have a meaning here.

    Names of headers are in lower case. With `retyped`, this is the answer to
    the second media type of the request.
    """

    attempt: Attempt
    retry_after: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    retyped: bool = False

    @property
    def took_json(self) -> bool:
        """Whether the endpoint took `application/json` after it had refused the media type of CloudEvents."""
        return self.retyped and self.attempt.succeeded


class WebhookSender(Protocol):
    """Sends requests to endpoints that subscribers chose, never into a private network and never for long."""

    async def send(self, outgoing: Outgoing, timeout_seconds: float | None = None) -> Response:
        """Send a request. Never raise for what the endpoint or the network does, and follow no redirect."""


class SecretBox(Protocol):
    """Encrypts secrets for storage."""

    def seal(self, secret: str, context: str) -> str:
        """Encrypt a secret. Only this service can decrypt it, with the same context."""

    def open(self, sealed: str, context: str) -> str:
        """Decrypt a secret.

        Raises:
            EventsError: UNAVAILABLE when no configured key decrypts it.
        """
