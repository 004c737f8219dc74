"""Following up with faults at every step: whatever their order, the result is right."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from events_core.adapters.sqlite import SqliteEventStore
from events_core.cloudevent import CloudEvent
from events_core.common import errors
from events_core.common.errors import EventsError
from events_core.feeds import follow_up
from events_core.feeds.follow_up import FollowUp
from events_core.feeds.ports import StoredEvent
from events_core.feeds.projection import Projection
from events_core.feeds.stream import Stream, projections_of
from events_core.feeds.wait import WaitingReaders
from tests.contract.event_store import APP, OTHER_APP, event
from tests.support.checkpoints import MemoryCheckpoints, SteppedCheckpoints

RESOURCES = (APP, OTHER_APP)
SUBJECTS = ("/party/1", "/party/2", None)
STREAMS = tuple(map(Stream.of_resource, RESOURCES))
PROCESSES = 3


COPIES = Stream("copies:all")
"""The target of the second follower."""


class Copies(Projection):
    """A second follower, which copies every event to one target."""

    @property
    @override
    def name(self) -> str:
        return "copies"

    @override
    async def targets(self, events: Sequence[StoredEvent]) -> dict[str, dict[int, StoredEvent]]:
        return {COPIES.name: {event.position: event for event in events}}


def following(checkpoints: MemoryCheckpoints | SteppedCheckpoints, waiting: WaitingReaders) -> FollowUp:
    """Following up with two followers, which does not pause between tries."""
    store: Any = checkpoints
    return FollowUp(store, [Projection(store, waiting), Copies(store, waiting)], pauses=(0, 0))


class Crash(BaseException):
    """The process is gone; no code of ours sees it."""


@dataclass(frozen=True)
class Fault:
    """What befalls the n-th call of a round: a crash, no answer, a refusal (of projections), or a long wait."""

    at: int
    kind: str
    done: bool
    """Whether the call had its effect before."""


@dataclass(frozen=True)
class Round:
    """Events that are published, then wake-ups of processes at once, then what befalls them."""

    published: Sequence[CloudEvent]
    woken: Sequence[tuple[int, str]]
    faults: Sequence[Fault]


EVENTS = st.builds(
    lambda resource, subject: event(resource=resource, subject=subject),
    st.sampled_from(RESOURCES),
    st.sampled_from(SUBJECTS),
)
WAKE_UPS = st.tuples(
    st.integers(0, PROCESSES - 1), st.sampled_from([*RESOURCES, *RESOURCES, "trigger", "sweep", "compare", "replay"])
)
FAULTS = st.builds(
    Fault, st.integers(0, 60), st.sampled_from(["crash", "no answer", "refusal", "refusal", "wait"]), st.booleans()
)
ROUNDS = st.builds(
    Round,
    st.lists(EVENTS, max_size=6),
    st.lists(WAKE_UPS, max_size=5),
    st.lists(FAULTS, max_size=8, unique_by=lambda fault: (fault.at, fault.done)),
)


@dataclass
class Weather:
    """The faults of a round, each at its call; calls are counted over all processes."""

    faults: dict[tuple[int, bool], str] = field(default_factory=dict)
    calls: Counter[bool] = field(default_factory=Counter)
    refused: set[tuple[object, bool]] = field(default_factory=set)

    def change(self, faults: Sequence[Fault]) -> None:
        """From now on, these befall."""
        self.faults = {(fault.at, fault.done): fault.kind for fault in faults}
        self.calls.clear()
        self.refused.clear()

    async def before(self, name: str, arguments: tuple[Any, ...]) -> None:
        """A call is about to be made."""
        await self._befall(name, arguments, done=False)

    async def after(self, name: str, arguments: tuple[Any, ...]) -> None:
        """A call had its effect."""
        await self._befall(name, arguments, done=True)

    async def _befall(self, name: str, arguments: tuple[Any, ...], *, done: bool) -> None:
        kind = self.faults.get((self.calls[done], done))
        self.calls[done] += 1
        if kind == "crash":
            raise Crash
        if kind == "no answer":
            raise errors.unavailable("The store does not answer.")
        if name == "project":
            self._refuse((arguments[0], done), from_now_on=kind == "refusal")
        for _ in range(20 if kind == "wait" else 0):
            await asyncio.sleep(0)

    def _refuse(self, target: tuple[object, bool], *, from_now_on: bool) -> None:
        if from_now_on:
            self.refused.add(target)
        if target in self.refused:
            raise ValueError


async def wake(process: FollowUp, what: str) -> None:
    """One wake-up of a process, which may end in no answer."""
    try:
        match what:
            case "trigger":
                await process.follow_all(STREAMS)
            case "sweep":
                await process.sweep()
            case "compare":
                await process.compare()
            case "replay":
                await process.replay_quarantined()
            case resource:
                await process.follow(Stream.of_resource(resource))
    except EventsError:
        pass


async def woken(process: FollowUp, whats: Sequence[str]) -> bool:
    """All wake-ups of a process, at once; False when it crashed."""
    try:
        async with asyncio.TaskGroup() as group:
            for what in whats:
                group.create_task(wake(process, what))
    except BaseExceptionGroup:
        return False
    return True


async def live(rounds: Sequence[Round], checkpoints: MemoryCheckpoints, waiting: WaitingReaders) -> None:
    """Live through the rounds; a process that crashes is started anew."""
    weather = Weather()

    def started() -> FollowUp:
        return following(SteppedCheckpoints(checkpoints, weather.before, weather.after), waiting)

    processes = [started() for _ in range(PROCESSES)]
    for each in rounds:
        weather.change([])
        await checkpoints.append(each.published)
        weather.change(each.faults)
        whats = [[what for number, what in each.woken if number == n] for n in range(PROCESSES)]
        alive = await asyncio.gather(*map(woken, processes, whats))
        processes = [kept if lives else started() for kept, lives in zip(processes, alive, strict=True)]
        await check_order(checkpoints)


async def check_order(checkpoints: MemoryCheckpoints) -> None:
    """At any time: each event at most once, and those of a resource in their order, without one left out."""
    for target, expected in (await expected_of(checkpoints)).items():
        held = await checkpoints.rows(target)
        assert [row.position for row in held] == [*range(1, len(held) + 1)]
        for resource, published in expected.items():
            there = [row.id for row in held if row.resource == resource]
            assert there == published[: len(there)]


async def expected_of(checkpoints: MemoryCheckpoints) -> dict[Stream, dict[str, list[str]]]:
    """What each target is to hold of each resource in the end."""
    expected: dict[Stream, dict[str, list[str]]] = {}
    for stream in STREAMS:
        for row in await checkpoints.rows(stream):
            for target in (*projections_of(row.resource, row.subject), COPIES):
                expected.setdefault(target, {}).setdefault(row.resource, []).append(row.id)
    return expected


async def heal(checkpoints: MemoryCheckpoints, waiting: WaitingReaders) -> None:
    """Catch up without faults, and replay what is quarantined."""
    process = following(checkpoints, waiting)
    await process.compare()
    await process.sweep()
    assert await process.replay_quarantined() == 0


async def end(checkpoints: MemoryCheckpoints) -> None:
    """Nothing is missing, and nothing is left to do."""
    assert (await checkpoints.catch_up_pending(), await checkpoints.behind(), await checkpoints.quarantined()) == (
        [],
        [],
        [],
    )
    for target, expected in (await expected_of(checkpoints)).items():
        held = await checkpoints.rows(target)
        assert len(held) == sum(map(len, expected.values()))
        assert {resource: [row.id for row in held if row.resource == resource] for resource in expected} == expected


async def _story(rounds: Sequence[Round], waiting: WaitingReaders) -> None:
    checkpoints = MemoryCheckpoints()
    await live(rounds, checkpoints, waiting)
    await heal(checkpoints, waiting)
    await end(checkpoints)


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WaitingReaders]:
    """Readers, none of which waits."""
    store = SqliteEventStore(tmp_path_factory.mktemp("events") / "events.db")
    yield WaitingReaders(store, 0)
    asyncio.run(store.close())


@settings(max_examples=150, deadline=None)
@given(rounds=st.lists(ROUNDS, min_size=1, max_size=5))
def test_targets_have_no_gap_no_repeat_and_no_inversion(waiting: WaitingReaders, rounds: Sequence[Round]) -> None:
    """Crashes between any two steps, several processes, lost and repeated wake-ups, refusals and replays may occur."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(follow_up, "PAGE", 3)
        asyncio.run(_story(rounds, waiting))


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
async def test_the_next_wake_up_repairs_a_crash_at_any_call(
    waiting: WaitingReaders, monkeypatch: pytest.MonkeyPatch, *, done: bool
) -> None:
    """It does not matter how far the round had come."""
    monkeypatch.setattr(follow_up, "PAGE", 2)
    published = [event(subject=subject) for subject in ("/party/1", "/party/2", "/party/1", None, "/party/1")]
    crashes = 0
    while await _made_good(published, waiting, Fault(crashes, "crash", done)):
        crashes += 1
    assert crashes > 10


async def _made_good(published: Sequence[CloudEvent], waiting: WaitingReaders, fault: Fault) -> bool:
    """Whether the process crashed, which did no harm."""
    checkpoints, weather = MemoryCheckpoints(), Weather()
    await checkpoints.append(published)
    weather.change([fault])
    crashed = not await woken(following(SteppedCheckpoints(checkpoints, weather.before, weather.after), waiting), [APP])
    await check_order(checkpoints)
    await following(checkpoints, waiting).follow(STREAMS[0])
    await end(checkpoints)
    return crashed
