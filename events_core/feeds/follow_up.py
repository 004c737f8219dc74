"""Follow up: bring what was appended to a resource's stream to every follower.

Followers are the projections to subject and org streams, and the deliveries to subscriptions. The checkpoint of the
stream says how far that went; a wake-up only says that there may be more (docs/architecture.md).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from events_core.common import errors
from events_core.common.coalesce import CoalescedRuns
from events_core.common.errors import EventsError, Problem
from events_core.common.fair_slots import FairSlots
from events_core.feeds.ports import Checkpoint, CheckpointStore, Quarantined, StoredEvent
from events_core.feeds.stream import Stream

PAGE = 200
ROUND_SECONDS = 30.0
"""How long a stream is followed before its checkpoint is marked `catch_up_pending`."""
FEED_ROUND_SECONDS = 5.0
"""The same for the change feed: a longer round would hold up the other streams of the physical partition."""
TARGETS_AT_ONCE = 32
STREAMS_AT_ONCE = 8
PAUSES = (0.1, 1.0)
"""Seconds before the second and the third try of an item that a target refuses."""
MOST_QUARANTINED = 500
"""When more targets of one stream than this refuse events, the store is broken, not the events."""

Item = TypeVar("Item")

_log = logging.getLogger(__name__)


class Follower(Protocol[Item]):
    """A consumer of streams. An item is the data that one event produces for one target."""

    @property
    def name(self) -> str:
        """The name under which quarantined events are noted. It never changes."""

    async def wants(self, stream: Stream) -> bool:
        """Whether any event of the stream may interest this follower."""

    async def targets(self, events: Sequence[StoredEvent]) -> Mapping[str, Mapping[int, Item]]:
        """The items of a page by target, then by the event's position, in the order of the page."""

    async def put(self, target: str, items: Sequence[Item]) -> None:
        """Bring items to a target, in order. Items that are there already stay as they are.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
            Exception: any other means that the target does not take these items.
        """


@dataclass(frozen=True, slots=True)
class _Batch:
    """The items of one target of one follower, by position."""

    follower: Follower[Any]
    target: str
    items: Mapping[int, Any]

    @property
    def key(self) -> tuple[str, str]:
        return self.follower.name, self.target


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Follows resource streams, each by one task of this process at a time.

    `pauses` are the seconds before each further try of an item that a target refuses. `clock` gives seconds.
    """

    checkpoints: CheckpointStore
    followers: Sequence[Follower[Any]]
    clock: Callable[[], float] = time.monotonic
    pauses: Sequence[float] = PAUSES
    runs: dict[Stream, CoalescedRuns] = field(default_factory=dict)
    slots: FairSlots = field(default_factory=lambda: FairSlots(TARGETS_AT_ONCE, TARGETS_AT_ONCE))

    async def follow(self, stream: Stream, seconds: float = ROUND_SECONDS) -> None:
        """Follow a stream to its end, or for `seconds` and mark it `catch_up_pending`.

        A call during a round causes one more round.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer; the same call again completes it.
        """
        runs = self.runs.setdefault(stream, CoalescedRuns())
        try:
            await runs.run(lambda: self._catch_up(stream, seconds))
        finally:
            if not runs.wanted:
                self.runs.pop(stream, None)

    async def follow_all(self, streams: Iterable[Stream], seconds: float = ROUND_SECONDS) -> None:
        """Follow each stream for `seconds`; mark a stream that cannot be followed now, for the next sweep.

        Raises:
            EventsError: UNAVAILABLE when a stream could be neither followed nor marked; the others were.
        """
        slots = asyncio.Semaphore(STREAMS_AT_ONCE)
        distinct = dict.fromkeys(streams)
        outcomes = await asyncio.gather(
            *(self._follow_or_mark(stream, slots, seconds) for stream in distinct), return_exceptions=True
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def sweep(self) -> None:
        """Follow the streams whose checkpoint is marked `catch_up_pending`.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        await self.follow_all(await self.checkpoints.catch_up_pending())

    async def compare(self) -> None:
        """Catch up on streams whose notification was missed: compare every stream with its checkpoint.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        await self.follow_all(await self.checkpoints.behind())

    async def replay_quarantined(self) -> int:
        """Bring quarantined events to their targets, in order. Return how many targets failed again.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer; what was replayed stays so.
        """
        failed = 0
        for stream in await self.checkpoints.quarantined():
            for quarantined in (await self.checkpoints.checkpoint(stream)).quarantined:
                failed += not await self._replay(stream, quarantined.key)
        return failed

    async def restored(self) -> int:
        """Go on from what a restored store holds. Return how many checkpoints were beyond their stream.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer; the same call again completes it.
        """
        return await self.checkpoints.restored()

    async def _follow_or_mark(self, stream: Stream, slots: asyncio.Semaphore, seconds: float) -> None:
        async with slots:
            try:
                await self.follow(stream, seconds)
            except EventsError as error:
                _log.warning("catch-up pending stream=%s: %s", stream.name, error.detail)
                await self._mark(stream)
            except Exception:  # noqa: BLE001 - one stream must not hold up the others
                _log.exception("catch-up pending stream=%s", stream.name)
                await self._mark(stream)

    async def _mark(self, stream: Stream) -> None:
        """Mark a stream `catch_up_pending`. Write even if it is marked: a round about to clear the mark must lose."""
        marked = False
        while not marked:
            seen = await self.checkpoints.checkpoint(stream)
            marked = await self.checkpoints.advance(
                stream, seen, seen.position, catch_up_pending=True, quarantined=seen.quarantined
            )

    async def _catch_up(self, stream: Stream, seconds: float) -> None:
        deadline = self.clock() + seconds
        seen = await self.checkpoints.checkpoint(stream)
        if await self._skip(stream, seen):
            return
        while events := await self.checkpoints.read_after(stream, seen.position, PAGE):
            quarantined = [*seen.quarantined, *await self._bring(stream, events, seen)]
            late = self.clock() >= deadline
            pending = late or seen.catch_up_pending  # cleared at the end only: a crash on the way must leave it
            moved = await self.checkpoints.advance(
                stream, seen, events[-1].position, catch_up_pending=pending, quarantined=quarantined
            )
            if late and moved:
                return
            seen = await self.checkpoints.checkpoint(stream)
        if seen.catch_up_pending:
            await self.checkpoints.advance(
                stream, seen, seen.position, catch_up_pending=False, quarantined=seen.quarantined
            )

    async def _skip(self, stream: Stream, seen: Checkpoint) -> bool:
        """Move the checkpoint of a stream that no follower wants to its end, unread. False when one wants it."""
        if seen.quarantined or await self._is_wanted(stream):
            return False
        end = await self.checkpoints.end(stream)
        if await self._is_wanted(stream):  # a follower that appeared meanwhile may want events before this end
            return False
        if end <= seen.position and not seen.catch_up_pending:
            return True
        return await self.checkpoints.advance(
            stream, seen, max(end, seen.position), catch_up_pending=False, quarantined=()
        )

    async def _is_wanted(self, stream: Stream) -> bool:
        for follower in self.followers:
            if await follower.wants(stream):
                return True
        return False

    async def _bring(self, stream: Stream, events: Sequence[StoredEvent], seen: Checkpoint) -> list[Quarantined]:
        """Bring a page to its targets, except quarantined ones. Return what has to be quarantined now."""
        quarantined = {each.key for each in seen.quarantined}
        refused = await _together(self._bring_to(stream, follower, events, quarantined) for follower in self.followers)
        if len(seen.quarantined) + len(refused) > MOST_QUARANTINED:
            raise errors.unavailable("The store refuses the events of too many streams.")
        for each in refused:
            _alert(stream, each)
        return refused

    async def _bring_to(
        self, stream: Stream, follower: Follower[Any], events: Sequence[StoredEvent], quarantined: set[tuple[str, str]]
    ) -> list[Quarantined]:
        targets = await follower.targets(events)
        batches = [_Batch(follower, target, items) for target, items in targets.items()]
        return await _together(self._put(stream, batch) for batch in batches if batch.key not in quarantined)

    async def _put(self, stream: Stream, batch: _Batch) -> list[Quarantined]:
        """Write a batch. If the target refuses an item, stop before that item and return it."""
        async with self.slots.slot(stream.name, None):
            if len(batch.items) > 1 and await self._refusal(batch, list(batch.items.values())) is None:
                return []
            for position, item in batch.items.items():
                if reason := await self._last_refusal(batch, item):
                    return [Quarantined(*batch.key, position, reason)]
        return []

    async def _last_refusal(self, batch: _Batch, item: object) -> str | None:
        """Why the target still refuses the item after every try; None once it takes the item."""
        reason = await self._refusal(batch, [item])
        for pause in self.pauses:
            if reason is None:
                break
            await asyncio.sleep(pause)
            reason = await self._refusal(batch, [item])
        return reason

    async def _refusal(self, batch: _Batch, items: Sequence[object]) -> str | None:
        """Why the target refuses the items, None when it takes them.

        Raises:
            EventsError: UNAVAILABLE, which says nothing about the items.
        """
        try:
            await batch.follower.put(batch.target, items)
        except EventsError as error:
            if error.problem is Problem.UNAVAILABLE:
                raise
            return error.problem.title
        except Exception as error:  # noqa: BLE001 - a fault in one event must not stop the events after it
            return type(error).__name__
        return None

    async def _replay(self, stream: Stream, key: tuple[str, str]) -> bool:
        """Bring the events quarantined under a key to their target, page by page. False when one is refused again."""
        follower = next(each for each in self.followers if each.name == key[0])
        while held := _find(seen := await self.checkpoints.checkpoint(stream), key):
            rows = await self.checkpoints.read_after(stream, held.position - 1, PAGE)
            items = (await follower.targets(rows)).get(held.target, {})
            refused = next(iter(await self._put(stream, _Batch(follower, held.target, items))), None)
            left = refused or _remaining(held, rows, seen.position)
            quarantined = [*(each for each in seen.quarantined if each is not held), *([left] if left else [])]
            moved = await self.checkpoints.advance(
                stream, seen, seen.position, catch_up_pending=seen.catch_up_pending, quarantined=quarantined
            )
            if moved and refused:
                _alert(stream, refused)
                return False
        return True


async def _together(work: Iterable[Coroutine[Any, Any, list[Quarantined]]]) -> list[Quarantined]:
    """Run everything at once and join the results. When one fails, cancel the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [quarantined for task in tasks for quarantined in task.result()]


def _alert(stream: Stream, quarantined: Quarantined) -> None:
    _log.error(
        "events parked stream=%s follower=%s position=%d reason=%s",
        stream.name,
        quarantined.follower,
        quarantined.position,
        quarantined.reason,
    )


def _find(seen: Checkpoint, key: tuple[str, str]) -> Quarantined | None:
    return next((each for each in seen.quarantined if each.key == key), None)


def _remaining(held: Quarantined, done: Sequence[StoredEvent], end: int) -> Quarantined | None:
    """The quarantine that remains after `done` was replayed; None if no event is left."""
    if not done or done[-1].position >= end:
        return None
    return Quarantined(*held.key, done[-1].position + 1, held.reason)
