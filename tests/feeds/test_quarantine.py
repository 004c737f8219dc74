"""Events that a target refuses are quarantined and replayed."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from events_core.common import errors
from events_core.common.errors import EventsError, Problem
from events_core.feeds import follow_up
from events_core.feeds.follow_up import FollowUp
from events_core.feeds.ports import Checkpoint, Quarantined
from events_core.feeds.stream import Stream
from events_core.feeds.wait import WaitingReaders
from tests.contract.event_store import APP, OTHER_APP, PARTY, PERSON, event, events, ids
from tests.support.checkpoints import (
    MemoryCheckpoints,
    SteppedCheckpoints,
    failing,
    held,
    nothing,
    projecting,
    refusing,
)

APPS, OTHERS = Stream.of_resource(APP), Stream.of_resource(OTHER_APP)
SUBJECT, ORG = Stream.of_subject(PARTY), Stream.of_org("ttd")


async def test_a_refused_event_is_quarantined(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp
) -> None:
    """Later events of the same target wait with it; every other target goes on."""
    stepped.before = refusing((SUBJECT, "b"))
    await checkpoints.append([event("a"), event("b"), event("c"), event("d", subject="/party/1")])
    await following.follow(APPS)
    assert await held(checkpoints, SUBJECT) == ["a"]
    assert await held(checkpoints, ORG) == ["a", "b", "c", "d"]
    assert await held(checkpoints, Stream.of_subject("/party/1")) == ["d"]
    seen = await checkpoints.checkpoint(APPS)
    assert (seen.position, seen.quarantined) == (4, (Quarantined("projection", SUBJECT.name, 2, "ValueError"),))


async def test_later_events_of_a_quarantined_target_wait_for_the_replay(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp
) -> None:
    """Otherwise they would overtake it."""
    stepped.before = refusing((SUBJECT, "a"), times=3)
    await checkpoints.append([event("a")])
    await following.follow(APPS)
    await checkpoints.append([event("b"), event("other", resource=OTHER_APP)])
    await following.follow_all([APPS, OTHERS])
    assert await held(checkpoints, SUBJECT) == ["other"], "order is promised within a resource"
    assert await following.replay_quarantined() == 0
    assert await held(checkpoints, SUBJECT) == ["other", "a", "b"]
    assert await checkpoints.quarantined() == []


@pytest.mark.parametrize(("failures", "quarantined"), [(1, 0), (2, 0), (3, 1)])
async def test_an_event_is_tried_three_times(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp, failures: int, quarantined: int
) -> None:
    """A refusal that passes does not quarantine an event."""
    stepped.before = refusing((SUBJECT, "a"), times=failures)
    await checkpoints.append([event("a")])
    await following.follow(APPS)
    assert len((await checkpoints.checkpoint(APPS)).quarantined) == quarantined


async def test_a_store_that_does_not_answer_quarantines_nothing(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp
) -> None:
    """Its failure says nothing about the event, and the checkpoint stays."""
    stepped.before = failing("project")
    await checkpoints.append(events(3))
    with pytest.raises(EventsError):
        await following.follow(APPS)
    seen = await checkpoints.checkpoint(APPS)
    assert (seen.position, seen.quarantined) == (0, ())


async def test_a_store_that_stops_answering_ends_the_round_at_once(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp
) -> None:
    """Writes under way to other targets are cancelled."""
    started = asyncio.Event()

    async def step(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "project" and arguments[0] == ORG:
            started.set()
            await asyncio.Event().wait()
        elif name == "project":
            await started.wait()
            raise errors.unavailable("The store does not answer.")

    stepped.before = step
    await checkpoints.append([event()])
    with pytest.raises(EventsError):
        await following.follow(APPS)


async def test_any_other_error_of_the_store_quarantines(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp
) -> None:
    """For example, the event is too large for the store."""
    stepped.before = failing("project", error=errors.too_large("The event is too large to be stored."))
    await checkpoints.append([event(subject=None)])
    await following.follow(APPS)
    assert (await checkpoints.checkpoint(APPS)).quarantined == (
        Quarantined("projection", ORG.name, 1, "Content too large"),
    )


async def test_a_store_that_refuses_everything_stops_the_stream(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit nothing more is quarantined."""
    monkeypatch.setattr(follow_up, "MOST_QUARANTINED", 10)
    stepped.before = failing("project", error=ValueError())
    await checkpoints.append([event(subject=f"/party/{n}") for n in range(10)])
    with pytest.raises(EventsError) as caught:
        await following.follow(APPS)
    assert caught.value.problem is Problem.UNAVAILABLE
    assert (await checkpoints.checkpoint(APPS)).position == 0


async def test_a_quarantine_is_logged_without_personal_data(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp, caplog: pytest.LogCaptureFixture
) -> None:
    """The log line is an error, which alerts the operator."""
    stepped.before = failing("project", error=ValueError(PERSON))
    await checkpoints.append([event(subject=PERSON)])
    await following.follow(APPS)
    alerts = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert sorted(alerts) == [
        f"events parked stream={APPS.name} follower=projection position=1 reason=ValueError",
        f"events parked stream={APPS.name} follower=projection position=1 reason=ValueError",
    ]
    assert PERSON not in caplog.text
    assert PERSON not in "".join(quarantined.reason for quarantined in (await checkpoints.checkpoint(APPS)).quarantined)


async def test_a_failed_replay_leaves_the_rest_quarantined(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp
) -> None:
    """It begins at the event that fails, and the replay counts the targets that failed."""
    stepped.before = refusing((SUBJECT, "a"))
    await checkpoints.append([event("a"), event("b"), event("c"), event("d")])
    await following.follow(APPS)
    stepped.before = refusing((SUBJECT, "c"))
    assert await following.replay_quarantined() == 1
    assert await held(checkpoints, SUBJECT) == ["a", "b"]
    assert [quarantined.position for quarantined in (await checkpoints.checkpoint(APPS)).quarantined] == [3]
    stepped.before = nothing
    assert await following.replay_quarantined() == 0
    assert await held(checkpoints, SUBJECT) == ["a", "b", "c", "d"]


async def test_a_long_replay_keeps_the_pages_that_are_done(
    checkpoints: MemoryCheckpoints,
    stepped: SteppedCheckpoints,
    following: FollowUp,
    monkeypatch: pytest.MonkeyPatch,
    waiting: WaitingReaders,
) -> None:
    """A replay that stops halfway continues from there."""
    monkeypatch.setattr(follow_up, "PAGE", 2)
    some = events(7)
    stepped.before = refusing((SUBJECT, some[0].id))
    await checkpoints.append(some)
    await following.follow(APPS)
    calls: Counter[str] = Counter()

    async def fail_on_the_third_page(name: str, _: tuple[Any, ...]) -> None:
        calls[name] += 1
        if calls["read_after"] == 3:
            raise errors.unavailable("The store does not answer.")

    stepped.before = fail_on_the_third_page
    with pytest.raises(EventsError):
        await following.replay_quarantined()
    assert [quarantined.position for quarantined in (await checkpoints.checkpoint(APPS)).quarantined] == [5]
    await projecting(checkpoints, waiting).replay_quarantined()
    assert await held(checkpoints, SUBJECT) == ids(some)


async def test_a_replay_and_a_round_at_the_same_time_lose_nothing(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp, waiting: WaitingReaders
) -> None:
    """A round that still holds an event back when the replay ends loses the race for the checkpoint."""
    stepped.before = refusing((SUBJECT, "a"), times=3)
    await checkpoints.append([event("a")])
    await following.follow(APPS)
    await checkpoints.append([event("b")])

    async def replay(name: str, _: tuple[Any, ...]) -> None:
        if name == "read_after":
            stepped.after = nothing
            assert await projecting(checkpoints, waiting).replay_quarantined() == 0

    stepped.before, stepped.after = nothing, replay
    await following.follow(APPS)
    assert await held(checkpoints, SUBJECT) == ["a", "b"]
    assert (await checkpoints.checkpoint(APPS)).quarantined == ()


async def test_without_quarantined_events_a_replay_does_nothing(
    following: FollowUp, checkpoints: MemoryCheckpoints
) -> None:
    """A stream that was never followed has a checkpoint at its start."""
    assert await following.replay_quarantined() == 0
    assert await checkpoints.checkpoint(APPS) == Checkpoint()
