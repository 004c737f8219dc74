"""Sweeps and the nightly comparison end in time, and no stream starves."""

from __future__ import annotations

from typing import Any

import pytest

from events_core.feeds import follow_up
from events_core.feeds.follow_up import FEED_ROUND_SECONDS, STREAMS_AT_ONCE, SWEEP_SECONDS, FollowUp
from events_core.feeds.stream import Stream
from events_core.feeds.wait import WaitingReaders
from tests.contract.event_store import APP, event
from tests.support.checkpoints import MemoryCheckpoints, SteppedCheckpoints, projecting
from tests.support.clock import Clock

STREAMS = [Stream.of_resource(f"{APP}-{n}") for n in range(300)]


@pytest.fixture
def clock() -> Clock:
    """The clock of following up."""
    return Clock()


@pytest.fixture
def slow(stepped: SteppedCheckpoints, waiting: WaitingReaders, clock: Clock) -> FollowUp:
    """The use case. Reading a page takes a second, in which no other stream is read."""

    async def read_slowly(name: str, _: tuple[Any, ...]) -> None:
        clock.now += 1 if name == "read_after" else 0

    stepped.before = read_slowly
    return projecting(stepped, waiting, clock=clock)


async def behind(checkpoints: MemoryCheckpoints, count: int) -> None:
    """Append to 300 streams and mark them."""
    await checkpoints.append([event(resource=stream.key) for stream in STREAMS for _ in range(count)])
    for stream in STREAMS:
        seen = await checkpoints.checkpoint(stream)
        await checkpoints.advance(stream, seen, {}, catch_up_pending=True, quarantined=())


async def test_sweeps_of_many_streams_end_in_time_and_follow_all_of_them(
    checkpoints: MemoryCheckpoints, slow: FollowUp, clock: Clock
) -> None:
    """300 streams take 300 seconds, in rounds that each end within one stream's time after their own."""
    await behind(checkpoints, 1)
    rounds = 0
    while await checkpoints.catch_up_pending():
        began, rounds = clock.now, rounds + 1
        await slow.sweep()
        assert clock.now - began <= SWEEP_SECONDS + STREAMS_AT_ONCE * FEED_ROUND_SECONDS
    assert (rounds, await checkpoints.behind()) == (5, [])


async def test_a_sweep_begins_with_the_streams_that_the_last_one_left(
    checkpoints: MemoryCheckpoints, slow: FollowUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams that never catch up go to the back, so every stream has its turn."""
    monkeypatch.setattr(follow_up, "PAGE", 1)
    await behind(checkpoints, 100)
    begun: set[Stream] = set()
    rounds = 0
    while len(begun) < len(STREAMS):
        rounds += 1
        await slow.sweep()
        moved = {stream for stream in STREAMS if (await checkpoints.checkpoint(stream)).position}
        assert moved > begun
        begun = moved
    assert rounds <= 40


async def test_a_single_stream_gets_more_time(
    checkpoints: MemoryCheckpoints, slow: FollowUp, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets half a minute, as before a sweep was bounded."""
    monkeypatch.setattr(follow_up, "PAGE", 1)
    await checkpoints.append([event() for _ in range(100)])
    await slow.compare()
    assert (await checkpoints.checkpoint(Stream.of_resource(APP))).position == 30


async def test_the_comparison_leaves_to_the_sweep_what_it_does_not_finish(
    checkpoints: MemoryCheckpoints, slow: FollowUp
) -> None:
    """Every stream that is behind is marked before the first is followed."""
    await checkpoints.append([event(resource=stream.key) for stream in STREAMS])
    await slow.compare()
    left = await checkpoints.catch_up_pending()
    assert 200 < len(left) < 300
    assert set(left) == set(await checkpoints.behind())
