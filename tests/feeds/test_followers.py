"""Followers have checkpoints of their own: what holds one up neither stops another nor repeats its work."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from events_core.common.errors import EventsError
from events_core.feeds import follow_up
from events_core.feeds.follow_up import FollowUp
from events_core.feeds.ports import StoredEvent
from events_core.feeds.projection import Projection
from events_core.feeds.stream import Stream
from events_core.feeds.wait import WaitingReaders
from tests.contract.event_store import APP, PARTY, event, events, ids
from tests.support.checkpoints import MemoryCheckpoints, SteppedCheckpoints, held, nothing
from tests.support.clock import Clock
from tests.support.followers import Recording

APPS, SUBJECT = Stream.of_resource(APP), Stream.of_subject(PARTY)


def both(checkpoints: MemoryCheckpoints | SteppedCheckpoints, waiting: WaitingReaders, other: Recording) -> FollowUp:
    """Following up with projections and another follower."""
    store: MemoryCheckpoints = checkpoints  # type: ignore[assignment] # every call is passed on
    return FollowUp(store, [Projection(store, waiting), other], pauses=(0, 0))


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of three events."""
    monkeypatch.setattr(follow_up, "PAGE", 3)


async def test_one_follower_goes_on_while_another_fails(
    checkpoints: MemoryCheckpoints, waiting: WaitingReaders
) -> None:
    """Its progress is stored before the error is raised."""
    other = Recording(is_down=True)
    some = events(10)
    await checkpoints.append(some)
    with pytest.raises(EventsError, match="503"):
        await both(checkpoints, waiting, other).follow(APPS)
    assert await held(checkpoints, SUBJECT) == ids(some)
    seen = await checkpoints.checkpoint(APPS)
    assert (dict(seen.positions), seen.position) == ({"projection": 10, "deliveries": 0}, 0)


async def test_a_follower_gets_only_the_events_after_its_own_checkpoint(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, waiting: WaitingReaders
) -> None:
    """What was projected while another follower failed is not projected again."""
    other = Recording(is_down=True)
    some = events(8)
    await checkpoints.append(some[:5])
    with pytest.raises(EventsError):
        await both(checkpoints, waiting, other).follow(APPS)
    await checkpoints.append(some[5:])
    projected: list[str] = []

    async def note(name: str, arguments: tuple[Stream, Sequence[StoredEvent]]) -> None:
        if name == "project" and arguments[0] == SUBJECT:
            projected.extend(ids(arguments[1]))

    stepped.before, other.is_down = note, False
    await both(stepped, waiting, other).follow(APPS)
    assert (projected, other.recorded) == (ids(some[5:]), ids(some))
    assert dict((await checkpoints.checkpoint(APPS)).positions) == {"projection": 8, "deliveries": 8}


async def test_a_follower_that_fails_slowly_does_not_use_up_the_round(
    checkpoints: MemoryCheckpoints, waiting: WaitingReaders
) -> None:
    """Each attempt takes longer than a round, and the projections go on all the same."""
    clock = Clock()

    class Slow(Recording):
        async def put(self, target: str, items: Sequence[str]) -> None:
            clock.now += 2 * follow_up.ROUND_SECONDS
            await super().put(target, items)

    following = FollowUp(checkpoints, [Projection(checkpoints, waiting), Slow(is_down=True)], clock=clock)
    some = events(6)
    await checkpoints.append(some)
    for _ in range(2):
        await following.follow_all([APPS])
    assert await held(checkpoints, SUBJECT) == ids(some)


async def test_a_stream_stays_marked_until_every_follower_has_caught_up(
    checkpoints: MemoryCheckpoints, waiting: WaitingReaders
) -> None:
    """The sweep brings it to the follower that failed."""
    other = Recording(is_down=True)
    await checkpoints.append(events(4))
    following = both(checkpoints, waiting, other)
    await following.follow_all([APPS])
    assert (await checkpoints.catch_up_pending(), await checkpoints.behind()) == ([APPS], [APPS])
    other.is_down = False
    await following.sweep()
    assert (len(other.recorded), await checkpoints.catch_up_pending(), await checkpoints.behind()) == (4, [], [])


async def test_a_new_follower_begins_at_the_start(checkpoints: MemoryCheckpoints, waiting: WaitingReaders) -> None:
    """It has no checkpoint yet."""
    some = events(5)
    await checkpoints.append(some)
    await both(checkpoints, waiting, Recording()).follow(APPS)
    newcomer = Recording("newcomer")
    await both(checkpoints, waiting, newcomer).follow(APPS)
    assert newcomer.recorded == ids(some)


async def test_a_replay_leaves_events_after_the_checkpoint_to_the_next_round(
    checkpoints: MemoryCheckpoints, stepped: SteppedCheckpoints, waiting: WaitingReaders
) -> None:
    """Otherwise that round would bring them twice."""
    other = Recording()
    following = both(stepped, waiting, other)

    async def refuse(name: str, _: tuple[object, ...]) -> None:
        if name == "project":
            raise ValueError

    stepped.before = refuse
    await checkpoints.append([event("a")])
    await following.follow(APPS)
    await checkpoints.append([event("b")])
    stepped.before = nothing
    assert await following.replay_quarantined() == 0
    assert await held(checkpoints, SUBJECT) == ["a"]
    await following.follow(APPS)
    assert await held(checkpoints, SUBJECT) == ["a", "b"]
