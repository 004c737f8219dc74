"""Deliveries: states, the retry schedule, the breaker, the names of lanes."""

from __future__ import annotations

import pytest

from events_core.common.clock import SECOND
from events_core.delivery.delivery import Attempt, Breaker, Lane, RetrySchedule, State
from tests.support.deliveries import NOW, delivery

SCHEDULE = RetrySchedule((10, 30, 60))


def attempt(status: int | None, at: int = NOW) -> Attempt:
    """An attempt that took half a second."""
    return Attempt(at, status, None if status else "timeout", 500)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_delivers(status: int) -> None:
    """The delivery is settled when the attempt ended."""
    done = delivery(1).attempted(attempt(status), SCHEDULE, None, 0)
    assert (done.state, done.next_attempt, done.settled) == (State.DELIVERED, None, NOW + SECOND // 2)


@pytest.mark.parametrize("status", [None, 302, 400, 404, 410, 500])
def test_a_failed_attempt_is_retried_on_schedule(status: int | None) -> None:
    """After the last retry the delivery is dead. Every attempt is kept."""
    failing = delivery(1)
    waits = []
    for n in range(4):
        at = NOW + n * 100 * SECOND
        failing = failing.attempted(attempt(status, at), SCHEDULE, None, 0)
        waits.append(failing.next_attempt and (failing.next_attempt - at - SECOND // 2) / SECOND)
    assert waits == [10, 30, 60, None]
    assert (failing.state, failing.tries, len(failing.attempts)) == (State.DEAD, 4, 4)
    revived = failing.revived(NOW)
    assert (revived.state, revived.tries, revived.next_attempt, len(revived.attempts)) == (State.FAILING, 0, NOW, 4)


def test_waits_have_jitter_and_honour_retry_after() -> None:
    """A wait is up to a tenth longer. `Retry-After` makes it longer up to a limit, and never shorter."""
    assert SCHEDULE.wait(1, None, 1.0) == pytest.approx(11)
    assert SCHEDULE.wait(1, 99) == 99
    assert SCHEDULE.wait(1, 1) == 10
    assert SCHEDULE.wait(1, 1e9) == 86_400
    assert SCHEDULE.wait(4) is None
    assert (RetrySchedule(()).wait(1), RetrySchedule(()).first_wait) == (None, 1)


def test_a_denied_delivery_is_withheld() -> None:
    """A permitted delivery is pending, with its decision."""
    denied = delivery(1).decision(permit=False, at=NOW + 1)
    assert (denied.state, denied.next_attempt, denied.settled) == (State.WITHHELD, None, NOW + 1)
    permitted = delivery(1).decision(permit=True, at=NOW + 1)
    assert (permitted.state, permitted.permit, permitted.decided) == (State.PENDING, True, NOW + 1)


def test_an_undecidable_delivery_is_asked_about_on_schedule() -> None:
    """After the last wait it is withheld. No attempt is added."""
    waiting, waits = delivery(1), []
    for n in range(4):
        at = NOW + n * 100 * SECOND
        waiting = waiting.postponed(SCHEDULE, 0, at)
        waits.append((waiting.state, waiting.next_attempt and (waiting.next_attempt - at) / SECOND))
    assert waits == [(State.PENDING, 10), (State.PENDING, 30), (State.PENDING, 60), (State.WITHHELD, None)]
    assert (waiting.permit, waiting.settled, waiting.tries, waiting.attempts) == (False, NOW + 300 * SECOND, 0, ())


def test_a_decision_begins_the_count_of_undecidable_questions_anew() -> None:
    """A failing delivery that cannot be decided keeps its state and attempts, and then the rest of its schedule."""
    failing = delivery(1).decision(permit=True, at=NOW).attempted(attempt(500), SCHEDULE, None, 0)
    waiting = failing.postponed(SCHEDULE, 0, NOW).postponed(SCHEDULE, 1.0, NOW)
    assert (waiting.state, waiting.attempts, waiting.tries) == (State.FAILING, failing.attempts, 1)
    assert (waiting.permit, waiting.undecidable, waiting.next_attempt) == (None, 2, NOW + 33 * SECOND)
    permitted = waiting.decision(permit=True, at=NOW + 1)
    assert (permitted.state, permitted.undecidable, permitted.tries) == (State.FAILING, 0, 1)
    assert permitted.postponed(SCHEDULE, 0, NOW).next_attempt == NOW + 10 * SECOND


def test_a_breaker_opens_after_failures_in_a_row() -> None:
    """It opens for longer each time, up to a minute, and then lets one attempt through. One success closes it."""
    breaker = Breaker()
    pauses = []
    for _ in range(28):
        breaker = breaker.after(success=False, now=NOW, first_wait=1.0)
        pauses.append((breaker.open_until - NOW) / SECOND if not breaker.allows(NOW) else 0)
    assert pauses[:19] == [0] * 19
    assert pauses[19:] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert breaker.probing
    assert breaker.allows(breaker.open_until)
    assert breaker.after(success=True, now=NOW, first_wait=1.0) == Breaker()


@pytest.mark.parametrize("lane", [Lane(1), Lane(12, 3)])
def test_a_message_names_a_lane(lane: Lane) -> None:
    """The text of a lane parses to the same lane."""
    assert Lane.parse(str(lane)) == lane


@pytest.mark.parametrize("text", ["", "r", "1r", "x", "1rx", "-1", "1 ", "²", "1r²", "1r٣", "9" * 5_000])
def test_other_texts_name_no_lane(text: str) -> None:
    """A worker ignores such a message."""
    assert Lane.parse(text) is None
