"""Following up: events appended to a resource's stream reach the streams of their subject and org."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from events_core.common import errors
from events_core.common.errors import EventsError, Problem
from events_core.feeds import follow_up
from events_core.feeds.follow_up import FollowUp
from events_core.feeds.stream import Stream
from events_core.feeds.wait import WaitingReaders
from tests.contract.event_store import ANY, APP, OTHER_APP, PARTY, event, events, ids
from tests.support.checkpoints import (
    MemoryCheckpoints,
    SteppedCheckpoints,
    counting,
    failing,
    held,
    nothing,
    projecting,
)
from tests.support.clock import Clock

APPS, OTHERS = Stream.of_resource(APP), Stream.of_resource(OTHER_APP)
SUBJECT, ORG = Stream.of_subject(PARTY), Stream.of_org("ttd")


# -- What goes where --------------------------------------------------------------------------------------------------


async def test_app_events_reach_the_streams_of_their_subject_and_org(
    checkpoints: MemoryCheckpoints, following: FollowUp
) -> None:
    """Each target stream holds them in the order of publication."""
    some = events(5)
    await checkpoints.append(some)
    await following.follow(APPS)
    assert await held(checkpoints, SUBJECT) == await held(checkpoints, ORG) == ids(some)


async def test_events_of_other_resources_are_not_projected(checkpoints: MemoryCheckpoints, following: FollowUp) -> None:
    """Party feeds and org feeds hold app events only."""
    await checkpoints.append(events(2, resource=ANY))
    await following.follow(Stream.of_resource(ANY))
    assert await held(checkpoints, SUBJECT) == []
    assert (await checkpoints.checkpoint(Stream.of_resource(ANY))).position == 2


async def test_an_app_event_without_subject_reaches_its_org(
    checkpoints: MemoryCheckpoints, following: FollowUp
) -> None:
    """The checkpoint moves past it as past any other event."""
    await checkpoints.append([event("a", subject=None), event("b")])
    await following.follow(APPS)
    assert await held(checkpoints, ORG) == ["a", "b"]
    assert await held(checkpoints, SUBJECT) == ["b"]


async def test_an_erased_event_is_projected_as_a_tombstone(checkpoints: MemoryCheckpoints, following: FollowUp) -> None:
    """The target keeps a row for it, without its text."""
    some = events(2)
    await checkpoints.append(some)
    await checkpoints.erase(some[0])
    await following.follow(APPS)
    assert [row.json for row in await checkpoints.rows(SUBJECT)] == [None, some[1].json]


async def test_a_long_stream_is_followed_to_its_end(
    checkpoints: MemoryCheckpoints, following: FollowUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round reads page after page."""
    monkeypatch.setattr(follow_up, "PAGE", 3)
    some = events(10)
    await checkpoints.append(some)
    await following.follow(APPS)
    assert await held(checkpoints, SUBJECT) == ids(some)
    assert (await checkpoints.checkpoint(APPS)).position == 10


async def test_readers_of_the_projected_streams_are_woken(
    checkpoints: MemoryCheckpoints, following: FollowUp, waiting: WaitingReaders
) -> None:
    """Projecting wakes the readers that wait in this process."""
    await checkpoints.append([event()])
    with waiting.watching(SUBJECT) as subject, waiting.watching(ORG) as org:
        changed = subject.changed, org.changed
        await following.follow(APPS)
        assert all(flag.is_set() for flag in changed)


# -- More than once, more than one ------------------------------------------------------------------------------------


async def test_following_a_stream_twice_changes_nothing(checkpoints: MemoryCheckpoints, following: FollowUp) -> None:
    """Wake-ups may repeat."""
    await checkpoints.append(events(3))
    await following.follow(APPS)
    before = [await checkpoints.rows(stream) for stream in (SUBJECT, ORG)]
    await following.follow(APPS)
    assert [await checkpoints.rows(stream) for stream in (SUBJECT, ORG)] == before


async def test_several_processes_may_follow_one_stream(checkpoints: MemoryCheckpoints, waiting: WaitingReaders) -> None:
    """Each event is stored once, in order."""
    some = [each for _ in range(30) for each in (event(), event(subject="/party/1"))]
    await checkpoints.append(some)
    await asyncio.gather(*(projecting(checkpoints, waiting).follow(APPS) for _ in range(4)))
    assert await held(checkpoints, ORG) == ids(some)
    assert await held(checkpoints, SUBJECT) == ids(some)[::2]


async def test_wake_ups_during_a_round_share_the_next_round(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp
) -> None:
    """One task of the process follows a stream, and every caller gets a round that began after its call."""
    asked: list[asyncio.Task[None]] = []
    calls: Counter[str] = Counter()

    async def ask_again(name: str, _: tuple[Any, ...]) -> None:
        calls[name] += 1
        if name == "read_after" and not asked:
            await checkpoints.append([event("late")])
            asked.extend(asyncio.create_task(following.follow(APPS)) for _ in range(5))
            await asyncio.sleep(0)

    stepped.after = ask_again
    await following.follow(APPS)
    await asyncio.gather(*asked)
    assert await held(checkpoints, SUBJECT) == ["late"]
    assert calls["read_after"] == 2, "one round that found nothing, and one with a page"


async def test_a_cancelled_caller_leaves_the_round_to_the_others(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp
) -> None:
    """The next caller in line takes a cancelled round over."""
    reading, forever = asyncio.Event(), asyncio.Event()

    async def hold_up(name: str, _: tuple[Any, ...]) -> None:
        if name == "read_after" and not reading.is_set():
            reading.set()
            await forever.wait()

    await checkpoints.append([event("a")])
    stepped.before = hold_up
    first = asyncio.create_task(following.follow(APPS))
    await reading.wait()
    second = asyncio.create_task(following.follow(APPS))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert await held(checkpoints, SUBJECT) == ["a"]


async def test_targets_are_written_in_parallel_and_each_in_order(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most 32 targets are written at once, each by one task."""
    monkeypatch.setattr(follow_up, "PAGE", 80)
    busy: Counter[Stream] = Counter()
    most: list[int] = []

    async def enter(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "project":
            busy[arguments[0]] += 1
            most.append(busy.total())
            assert busy[arguments[0]] == 1
            await asyncio.sleep(0.001)

    async def leave(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "project":
            busy[arguments[0]] -= 1

    stepped.before, stepped.after = enter, leave
    await checkpoints.append([event(subject=f"/party/{n % 40}") for n in range(160)])
    await following.follow(APPS)
    assert max(most) == 32


async def test_a_stream_with_many_targets_holds_up_no_other(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp
) -> None:
    """Streams get the slots of targets in rounds."""
    order: list[Stream] = []
    begun = asyncio.Event()

    async def enter(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "project":
            begun.set()
            await asyncio.sleep(0.001)
            order.append(arguments[0])

    stepped.before = enter
    await checkpoints.append([event(subject=f"/party/{n}") for n in range(150)])
    await checkpoints.append([event(resource=OTHER_APP, subject="/party/other")])
    first = asyncio.create_task(following.follow(APPS))
    await begun.wait()
    await asyncio.gather(first, following.follow(Stream.of_resource(OTHER_APP)))
    assert order.index(Stream.of_subject("/party/other")) < 100


# -- Catching up ------------------------------------------------------------------------------------------------------


def slowed(stepped: SteppedCheckpoints, waiting: WaitingReaders, seconds: float) -> FollowUp:
    """The use case with checkpoints that take some seconds per page."""
    clock = Clock()

    async def slow(name: str, _: tuple[Any, ...]) -> None:
        clock.now += seconds if name == "read_after" else 0

    stepped.before = slow
    return projecting(stepped, waiting, clock=clock)


async def test_after_thirty_seconds_the_sweep_takes_over(
    checkpoints: MemoryCheckpoints,
    stepped: SteppedCheckpoints,
    waiting: WaitingReaders,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rest of a long stream is marked `catch_up_pending`, so that a call ends."""
    monkeypatch.setattr(follow_up, "PAGE", 2)
    following = slowed(stepped, waiting, 16)
    some = events(7)
    await checkpoints.append(some)
    await following.follow(APPS)
    assert await checkpoints.catch_up_pending() == [APPS]
    assert (await checkpoints.checkpoint(APPS)).position == 4
    await following.sweep()
    await following.sweep()
    assert await held(checkpoints, SUBJECT) == ids(some)
    assert await checkpoints.catch_up_pending() == []


async def test_the_change_feed_is_not_kept_waiting_by_one_stream(
    checkpoints: MemoryCheckpoints,
    stepped: SteppedCheckpoints,
    waiting: WaitingReaders,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After five seconds the rest is marked: the change feed reports no other stream until its call returns."""
    monkeypatch.setattr(follow_up, "PAGE", 2)
    following = slowed(stepped, waiting, 3)
    some = events(15)
    await checkpoints.append(some)
    await following.follow_all([APPS], follow_up.FEED_ROUND_SECONDS)
    assert (await checkpoints.checkpoint(APPS)).position == 4
    assert await checkpoints.catch_up_pending() == [APPS]
    await following.sweep()
    assert await held(checkpoints, SUBJECT) == ids(some)


async def test_the_sweep_follows_marked_streams_only(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp
) -> None:
    """It runs every ten seconds and costs one query."""
    calls: Counter[str] = Counter()
    await checkpoints.append([event()])
    stepped.before = counting(calls)
    await following.sweep()
    assert calls == {"catch_up_pending": 1}


async def test_the_comparison_finds_streams_whose_notification_was_missed(
    checkpoints: MemoryCheckpoints, following: FollowUp
) -> None:
    """It finds them from their first event on."""
    await checkpoints.append([event("a"), event("b", resource=OTHER_APP)])
    await following.compare()
    assert await held(checkpoints, ORG) == ["a", "b"]
    assert await checkpoints.behind() == []


async def test_a_stream_that_cannot_be_followed_is_marked(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp
) -> None:
    """The others are followed, and the caller may forget the wake-up."""

    async def broken(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "read_after" and arguments[0] == APPS:
            raise errors.unavailable("The store does not answer.")

    stepped.before = broken
    await checkpoints.append([event("a"), event("b", resource=OTHER_APP)])
    await following.follow_all([APPS, OTHERS, APPS])
    assert await checkpoints.catch_up_pending() == [APPS]
    assert await held(checkpoints, ORG) == ["b"]


@pytest.mark.parametrize("method", ["checkpoint", "advance"])
async def test_a_stream_that_can_be_neither_followed_nor_marked_is_reported(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp, method: str
) -> None:
    """The call fails, so that the trigger runs again."""
    stepped.before = failing(method)
    await checkpoints.append([event()])
    with pytest.raises(EventsError) as caught:
        await following.follow_all([APPS, OTHERS])
    assert caught.value.problem is Problem.UNAVAILABLE


async def test_a_bug_in_one_stream_holds_up_no_other(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp, caplog: pytest.LogCaptureFixture
) -> None:
    """The stream is marked and logged."""
    stepped.before = failing("read_after", error=ZeroDivisionError())
    await checkpoints.append([event()])
    await following.follow_all([APPS])
    assert await checkpoints.catch_up_pending() == [APPS]
    assert f"catch-up pending stream={APPS.name}" in caplog.messages


async def test_a_crash_leaves_the_mark(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round clears `catch_up_pending` at the end of the stream, not after its first page."""
    monkeypatch.setattr(follow_up, "PAGE", 1)
    some = events(3)
    await checkpoints.append(some)
    await checkpoints.advance(
        APPS, await checkpoints.checkpoint(APPS), {"projection": 0}, catch_up_pending=True, quarantined=()
    )
    pages = iter([None, None])

    async def crash_on_the_third_page(name: str, _: tuple[Any, ...]) -> None:
        if name == "read_after" and next(pages, "end") == "end":
            raise KeyError

    stepped.before = crash_on_the_third_page
    with pytest.raises(KeyError):
        await following.follow(APPS)
    assert await held(checkpoints, SUBJECT) == ids(some[:2])
    assert await checkpoints.catch_up_pending() == [APPS]


async def test_a_mark_set_while_a_round_ends_is_not_cleared_unseen(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, following: FollowUp, waiting: WaitingReaders
) -> None:
    """A round that saw the end before the newest event loses the race for clearing the mark, and goes on."""
    await checkpoints.append([event("a")])
    await following.follow(APPS)
    await checkpoints.advance(
        APPS, await checkpoints.checkpoint(APPS), {"projection": 1}, catch_up_pending=True, quarantined=()
    )
    broken = SteppedCheckpoints(checkpoints, before=failing("read_after"))

    async def meanwhile(name: str, _: tuple[Any, ...]) -> None:
        if name == "read_after":
            stepped.after = nothing
            await checkpoints.append([event("b")])
            await projecting(broken, waiting).follow_all([APPS])

    stepped.after = meanwhile
    await following.follow(APPS)
    assert await held(checkpoints, SUBJECT) == ["a", "b"]
    assert await checkpoints.catch_up_pending() == []
