"""Deliveries as values: states, attempts, when to try again, and endpoints that are not well."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar

from events_core.feeds.stream import Stream

SECOND = 1_000_000
"""Moments are microseconds since the epoch."""
MOST_ATTEMPTS_KEPT = 50
GONE = 410

jitter = random.Random().random  # noqa: S311 - spreads tries, keeps no secret; its own, so that nobody's seed rules it


class State(Enum):
    """What became of a delivery."""

    PENDING = "pending"
    """Not attempted yet."""
    FAILING = "failing"
    """Attempted, and to be attempted again."""
    DELIVERED = "delivered"
    WITHHELD = "withheld"
    """The consumer may not read the event."""
    DEAD = "dead"
    """Attempted as often as the schedule says; it can be replayed."""

    @property
    def open(self) -> bool:
        """Whether an attempt is still to come."""
        return self in (State.PENDING, State.FAILING)


@dataclass(frozen=True, slots=True)
class Lane:
    """A line of deliveries that one worker serves at a time: a subscription's live one (`job` 0), or a replay's."""

    subscription: int
    replay: int = 0

    def __str__(self) -> str:
        return f"{self.subscription}r{self.replay}" if self.replay else str(self.subscription)

    @classmethod
    def parse(cls, text: str) -> Lane | None:
        """The lane that a text names, as `str` gives it; None when it names none."""
        subscription, replayed, replay = text.partition("r")
        if not (subscription.isascii() and subscription.isdecimal() and (not replayed or replay.isdecimal())):
            return None
        return cls(int(subscription), int(replay or 0))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: when it began, what came of it, how long it took.

    `status` is the endpoint's, None without an answer; `error` says in a word or two why there was none, or why it
    was no success. Neither names an address, and no text of the endpoint's is kept.
    """

    at: int
    status: int | None
    error: str | None
    duration_ms: int

    @property
    def succeeded(self) -> bool:
        """Whether the endpoint took the delivery: any 2xx."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one subscription, or what became of it.

    The event stands at `position` of `stream`. `order` is a keyed hash of its subject: deliveries of one lane with
    the same order are attempted one at a time, first attempts by position. `permit` is what the decision point said
    at `decided`, None when it was not asked yet. `unsure`: whether the event matches is known only when Register
    answers again. `tries` counts the attempts since it was recorded or last revived. An attempt is due at
    `next_attempt`, None once none is to come. `version` changes with every change, "" before it is stored.
    """

    lane: Lane
    stream: Stream
    position: int
    event_id: str
    source: str
    order: str
    registered: int
    recorded: int
    state: State = State.PENDING
    attempts: tuple[Attempt, ...] = ()
    tries: int = 0
    next_attempt: int | None = None
    permit: bool | None = None
    decided: int = 0
    unsure: bool = False
    settled: int | None = None
    """When it came to its end."""
    version: str = ""

    def decision(self, *, permit: bool, at: int) -> Delivery:
        """The delivery with a decision; one that is refused is withheld."""
        if permit:
            return replace(self, permit=True, decided=at)
        return replace(self, permit=False, decided=at, state=State.WITHHELD, next_attempt=None, settled=at)

    def attempted(
        self, attempt: Attempt, schedule: RetrySchedule, retry_after: float | None, jitter: float
    ) -> Delivery:
        """The delivery after an attempt; `retry_after` is in seconds, `jitter` between 0 and 1."""
        done = attempt.at + attempt.duration_ms * 1_000
        attempts = (*self.attempts, attempt)[-MOST_ATTEMPTS_KEPT:]
        tried = replace(self, attempts=attempts, tries=self.tries + 1)
        if attempt.succeeded:
            return replace(tried, state=State.DELIVERED, next_attempt=None, settled=done)
        wait = schedule.wait(tried.tries, retry_after, jitter)
        if wait is None:
            return replace(tried, state=State.DEAD, next_attempt=None, settled=done)
        return replace(tried, state=State.FAILING, next_attempt=done + int(wait * SECOND))

    def revived(self, now: int) -> Delivery:
        """A dead delivery that begins its schedule anew."""
        return replace(self, state=State.FAILING, tries=0, next_attempt=now, settled=None, permit=None, decided=0)


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """How long to wait before each new try: `waits` in seconds, each longer by up to `jitter` of itself."""

    waits: Sequence[int]
    jitter: float = 0.1
    longest_retry_after: float = 43_200.0

    def wait(self, tries: int, retry_after: float | None = None, random: float = 0.0) -> float | None:
        """Seconds from the end of try number `tries` to the next one; None when that was the last.

        An endpoint may ask for more (`Retry-After`), for twelve hours at most, and never for less.
        """
        if tries > len(self.waits):
            return None
        planned = self.waits[tries - 1] * (1 + self.jitter * random)
        return max(planned, min(retry_after or 0.0, self.longest_retry_after))


@dataclass(frozen=True, slots=True)
class Breaker:
    """Spares an endpoint that is not well, and ourselves: after a run of failures it is probed once in a while.

    Open until `open_until` (microseconds since the epoch); then one attempt is let through, whose success closes it.
    """

    failures: int = 0
    open_until: int = 0

    THRESHOLD: ClassVar[int] = 20
    LONGEST_SECONDS: ClassVar[float] = 60.0

    def allows(self, now: int) -> bool:
        """Whether an attempt may be made."""
        return now >= self.open_until

    @property
    def probing(self) -> bool:
        """Whether the next attempt that is allowed is the only one."""
        return self.failures >= self.THRESHOLD

    def after(self, *, success: bool, now: int, first_wait: float) -> Breaker:
        """The breaker after an attempt; `first_wait` is the schedule's first, in seconds."""
        if success:
            return Breaker()
        failures = self.failures + 1
        if failures < self.THRESHOLD:
            return Breaker(failures)
        pause = min(first_wait * 2 ** min(failures - self.THRESHOLD, 16), max(first_wait, self.LONGEST_SECONDS))
        return Breaker(failures, now + int(pause * SECOND))


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay of what a subscription matches: the events after `after`, up to `until`, both positions of its stream.

    `done` when every event of it has its delivery.
    """

    lane: Lane
    after: int
    until: int
    done: bool = False
