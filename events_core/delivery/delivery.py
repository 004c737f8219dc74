"""Deliveries as values: lanes, states, attempts, the retry schedule, and the breaker of an endpoint. Pure."""

from __future__ import annotations

import random
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar

from events_core.common.clock import SECOND
from events_core.feeds.stream import Stream

ATTEMPTS_STORED = 50
SETTLED_DAYS = 30
"""Days to keep finished deliveries. Dead letters are kept as long as their event."""
GONE = 410
_ID_BYTES = 16
_LANE = re.compile(r"([0-9]{1,18})(?:r([0-9]{1,9}))?")

# A separate generator is independent of `random.seed`.
jitter = random.Random().random  # noqa: S311 - jitter needs no secure randomness


def new_id() -> str:
    """An id for a delivery: 128 random bits in hexadecimal, so that it tells nothing and is never given twice."""
    return secrets.token_hex(_ID_BYTES)


class State(Enum):
    """The state of a delivery."""

    PENDING = "pending"
    """Not attempted yet."""
    FAILING = "failing"
    """Attempted without success. Another attempt is to come."""
    DELIVERED = "delivered"
    WITHHELD = "withheld"
    """The consumer may not read the event."""
    DEAD = "dead"
    """Every attempt of the schedule failed. A replay can revive it."""

    @property
    def open(self) -> bool:
        """Whether an attempt is to come."""
        return self in (State.PENDING, State.FAILING)


@dataclass(frozen=True, slots=True)
class Lane:
    """A queue of deliveries that one worker serves at a time.

    A subscription has one live lane, whose `replay` is 0, and one for each of its replays.
    """

    subscription: int
    replay: int = 0

    def __str__(self) -> str:
        return f"{self.subscription}r{self.replay}" if self.replay else str(self.subscription)

    @classmethod
    def parse(cls, text: str) -> Lane | None:
        """The lane that a text names as `str` writes it, None if it names no lane."""
        match = _LANE.fullmatch(text)
        return cls(int(match[1]), int(match[2] or 0)) if match else None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: when it began, its outcome, and how long it took.

    `status` is None if the endpoint did not answer. `error` says in a word or two why there was no answer, or no
    success. Neither names an address, and nothing that the endpoint wrote is kept.
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
    """One event for one subscription. `size` is how many bytes the event's JSON text has.

    `id` is the `webhook-id` of every attempt: it is random, and stays as it was first stored. The event stands at
    `position` of `stream`. `order` is a keyed hash of the event's subject: deliveries of one lane with the same `order`
    are attempted one at a time, first attempts by position. The decision point said `permit` at `decided`; None if it
    was not asked yet, or could not decide. `undecidable` counts how often in a row it could not decide. A delivery is
    `unsure` while only Register knows whether the event matches. `tries` counts attempts since the delivery was
    recorded or last revived. The next attempt is due at `next_attempt`; None if no attempt is to come. `settled` is
    when the delivery reached its final state. `version` changes with every change, and is "" before the delivery is
    stored. Times are microseconds since the epoch.
    """

    id: str
    lane: Lane
    stream: Stream
    position: int
    event_id: str
    source: str
    size: int
    order: str
    registered: int
    recorded: int
    state: State = State.PENDING
    attempts: tuple[Attempt, ...] = ()
    tries: int = 0
    next_attempt: int | None = None
    permit: bool | None = None
    decided: int = 0
    undecidable: int = 0
    unsure: bool = False
    settled: int | None = None
    version: str = ""

    @property
    def is_retry(self) -> bool:
        """Whether the delivery was attempted before, or could not be decided."""
        return self.state is State.FAILING or self.undecidable > 0

    @property
    def is_undecided(self) -> bool:
        """Whether an attempt is to come, and waits for a decision."""
        return self.state.open and self.permit is None

    @property
    def is_shown(self) -> bool:
        """Whether the consumer may know the event: the decision point permitted it."""
        return bool(self.permit)

    def decision(self, *, permit: bool, at: int) -> Delivery:
        """The delivery with a decision. A denied delivery is withheld."""
        decided = replace(self, permit=permit, decided=at, undecidable=0)
        return decided if permit else replace(decided, state=State.WITHHELD, next_attempt=None, settled=at)

    def postponed(self, schedule: RetrySchedule, jitter: float, at: int) -> Delivery:
        """The delivery after the decision point could not decide. It is withheld after the last wait of the schedule.

        `jitter` is between 0 and 1.
        """
        times = self.undecidable + 1
        wait = schedule.wait(times, random=jitter)
        if wait is None:
            return self.decision(permit=False, at=at)
        return replace(self, permit=None, decided=at, undecidable=times, next_attempt=at + int(wait * SECOND))

    def attempted(
        self, attempt: Attempt, schedule: RetrySchedule, retry_after: float | None, jitter: float
    ) -> Delivery:
        """The delivery after an attempt. `retry_after` is in seconds, `jitter` between 0 and 1."""
        done = attempt.at + attempt.duration_ms * 1_000
        attempts = (*self.attempts, attempt)[-ATTEMPTS_STORED:]
        tried = replace(self, attempts=attempts, tries=self.tries + 1)
        if attempt.succeeded:
            return replace(tried, state=State.DELIVERED, next_attempt=None, settled=done)
        wait = schedule.wait(tried.tries, retry_after, jitter)
        if wait is None:
            return replace(tried, state=State.DEAD, next_attempt=None, settled=done)
        return replace(tried, state=State.FAILING, next_attempt=done + int(wait * SECOND))

    def died(self, at: int) -> Delivery:
        """The delivery when no further attempt is to come."""
        return replace(self, state=State.DEAD, next_attempt=None, settled=at, unsure=False, undecidable=0)

    def revived(self, now: int) -> Delivery:
        """A dead delivery whose schedule starts again."""
        return replace(self, state=State.FAILING, tries=0, next_attempt=now, settled=None, permit=None, decided=0)


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """The retry schedule: `waits` in seconds before each retry, each longer by up to `jitter` of itself."""

    waits: Sequence[int]
    jitter: float = 0.1
    longest_retry_after: float = 86_400.0

    @property
    def first_wait(self) -> float:
        """Seconds before the first retry; one second if the schedule has no retry."""
        return self.waits[0] if self.waits else 1.0

    def wait(self, tries: int, retry_after: float | None = None, random: float = 0.0) -> float | None:
        """Seconds from the end of try number `tries` to the next try; None if that was the last.

        `Retry-After` makes a wait longer, up to a day, and never shorter.
        """
        if tries > len(self.waits):
            return None
        planned = self.waits[tries - 1] * (1 + self.jitter * random)
        return max(planned, min(retry_after or 0.0, self.longest_retry_after))


@dataclass(frozen=True, slots=True)
class Breaker:
    """A circuit breaker. After `THRESHOLD` failures in a row it opens until `open_until`, microseconds since the epoch.

    Then one attempt probes the endpoint. Its success closes the breaker; its failure opens it for longer. A worker with
    another clock probes as much earlier or later, which is safe: it is a matter of a minute.
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
        """Whether only one attempt may be made at a time."""
        return self.failures >= self.THRESHOLD

    def after(self, *, success: bool, now: int, first_wait: float) -> Breaker:
        """The breaker after an attempt. `first_wait` is the shortest time that it opens for, in seconds."""
        if success:
            return Breaker()
        failures = self.failures + 1
        if failures < self.THRESHOLD:
            return Breaker(failures)
        pause = min(first_wait * 2 ** min(failures - self.THRESHOLD, 16), max(first_wait, self.LONGEST_SECONDS))
        return Breaker(failures, now + int(pause * SECOND))


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay to a subscription of the events after `after` and up to `until`, positions of its stream.

    It is `done` when every event has its delivery.
    """

    lane: Lane
    after: int
    until: int
    done: bool = False
