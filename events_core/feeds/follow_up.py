"""Follow up: bring what was appended to a resource's stream to every follower.

Followers are the projections to subject and org streams, and the deliveries to subscriptions. The checkpoint of the
stream says how far that went; a wake-up only says that there may be more (docs/architecture.md).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
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
SWEEP_SECONDS = 60.0
"""After so many seconds a sweep begins no other stream."""
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
class _Brought:
    """What a page has come to: what is to be quarantined, and the errors of the followers that failed, by name."""

    quarantined: list[Quarantined] = field(default_factory=list)
    failures: dict[str, Exception] = field(default_factory=dict)


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
        await _for_each(streams, lambda stream: self._follow_or_mark(stream, seconds))

    async def sweep(self, seconds: float = SWEEP_SECONDS) -> None:
        """Follow the streams whose checkpoint is marked `catch_up_pending`, the one written longest ago first.

        Each stream gets its share of `seconds`, at least `FEED_ROUND_SECONDS`. Streams that were not begun by then stay
        marked: the next sweep begins with them, since following a stream writes its checkpoint.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        deadline = self.clock() + seconds
        streams = await self.checkpoints.catch_up_pending()
        share = seconds * STREAMS_AT_ONCE / max(1, len(streams))
        share = min(ROUND_SECONDS, max(FEED_ROUND_SECONDS, share))

        async def follow(stream: Stream) -> None:
            if self.clock() < deadline:
                await self._follow_or_mark(stream, share)

        await _for_each(streams, follow)

    async def compare(self) -> None:
        """Catch up on streams whose notification was missed: compare every stream with its checkpoint.

        The streams that are behind are marked, so whatever this call does not finish is left to the next sweep.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        await _for_each(await self.checkpoints.behind(), self._mark)
        await self.sweep()

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

    async def _follow_or_mark(self, stream: Stream, seconds: float) -> None:
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
        marked = None
        while marked is None:
            seen = await self.checkpoints.checkpoint(stream)
            marked = await self.checkpoints.advance(
                stream, seen, seen.positions, catch_up_pending=True, quarantined=seen.quarantined
            )

    async def _catch_up(self, stream: Stream, seconds: float) -> None:
        """Follow a stream page by page. A follower that fails is left out, and its error is raised in the end."""
        deadline = self.clock() + seconds
        seen = await self.checkpoints.checkpoint(stream)
        if await self._skip(stream, seen):
            return
        going, failures, done = list(self.followers), list[Exception](), False
        while going and not done:
            after = min(seen.positions.get(follower.name, 0) for follower in going)
            page = await self.checkpoints.read_after(stream, after, PAGE)
            brought = await self._bring(stream, page.rows, seen, going)
            failures += brought.failures.values()
            going = [follower for follower in going if follower.name not in brought.failures]
            late = self.clock() >= deadline and not brought.failures  # a slow failure must cost the others no page
            done = page.is_end or late
            # The mark is cleared at the end of the stream only: a crash on the way must leave it.
            pending = False if page.is_end and not failures else done or seen.catch_up_pending
            positions = self._positions(seen, going, page.rows)
            moved = await self._move(stream, seen, positions, brought.quarantined, pending=pending)
            done, seen = done and moved is not None, moved or await self.checkpoints.checkpoint(stream)
        if failures:
            raise failures[0]

    async def _move(
        self,
        stream: Stream,
        seen: Checkpoint,
        positions: Mapping[str, int],
        refused: Sequence[Quarantined],
        *,
        pending: bool,
    ) -> Checkpoint | None:
        """Store what a page has come to, unless nothing changes. None if another process has moved the checkpoint."""
        if (positions, pending) == (seen.positions, seen.catch_up_pending):
            return seen
        quarantined = [*seen.quarantined, *refused]
        return await self.checkpoints.advance(
            stream, seen, positions, catch_up_pending=pending, quarantined=quarantined
        )

    def _positions(
        self, seen: Checkpoint, going: Sequence[Follower[Any]], rows: Sequence[StoredEvent]
    ) -> Mapping[str, int]:
        """The positions after some followers have followed these rows. A follower may have been ahead of them."""
        if not rows or not going:
            return seen.positions
        before = {follower.name: seen.positions.get(follower.name, 0) for follower in self.followers}
        return before | {follower.name: max(before[follower.name], rows[-1].position) for follower in going}

    async def _skip(self, stream: Stream, seen: Checkpoint) -> bool:
        """Move the checkpoint of a stream that no follower wants to its end, unread. False when one wants it."""
        if seen.quarantined or await self._is_wanted(stream):
            return False
        end = await self.checkpoints.end(stream)
        positions = {each.name: max(end, seen.positions.get(each.name, 0)) for each in self.followers}
        if await self._is_wanted(stream):  # a follower that appeared meanwhile may want events before this end
            return False
        if positions == seen.positions and not seen.catch_up_pending:
            return True
        return bool(await self.checkpoints.advance(stream, seen, positions, catch_up_pending=False, quarantined=()))

    async def _is_wanted(self, stream: Stream) -> bool:
        for follower in self.followers:
            if await follower.wants(stream):
                return True
        return False

    async def _bring(
        self, stream: Stream, events: Sequence[StoredEvent], seen: Checkpoint, followers: Sequence[Follower[Any]]
    ) -> _Brought:
        """Bring a page to followers at once, to each the events after its own position."""
        brought = _Brought()

        async def bring_to(follower: Follower[Any]) -> None:
            try:
                brought.quarantined.extend(await self._bring_to(stream, follower, events, seen))
            except Exception as error:  # noqa: BLE001 - it is raised in the end, and must not stop another follower
                brought.failures[follower.name] = error

        async with asyncio.TaskGroup() as group:
            for follower in followers:
                group.create_task(bring_to(follower))
        return brought

    async def _bring_to(
        self, stream: Stream, follower: Follower[Any], events: Sequence[StoredEvent], seen: Checkpoint
    ) -> list[Quarantined]:
        """Bring a page to the targets of a follower, except quarantined ones. Return what is to be quarantined now."""
        after = seen.positions.get(follower.name, 0)
        if not (events := [event for event in events if event.position > after]):
            return []
        held = [each.key for each in seen.quarantined if each.follower == follower.name]
        targets = await follower.targets(events)
        batches = [_Batch(follower, target, items) for target, items in targets.items()]
        refused = await _together(self._put(stream, batch) for batch in batches if batch.key not in held)
        if len(held) + len(refused) > MOST_QUARANTINED:
            raise errors.unavailable("The store refuses the events of too many streams.")
        for each in refused:
            _alert(stream, each)
        return refused

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
            end = seen.positions.get(follower.name, 0)  # what comes after it is left to the next round
            page = await self.checkpoints.read_after(stream, held.position - 1, PAGE)
            rows = [row for row in page.rows if row.position <= end]
            items = (await follower.targets(rows)).get(held.target, {})
            refused = next(iter(await self._put(stream, _Batch(follower, held.target, items))), None)
            left = refused or _remaining(held, rows, end)
            quarantined = [*(each for each in seen.quarantined if each is not held), *([left] if left else [])]
            moved = await self.checkpoints.advance(
                stream, seen, seen.positions, catch_up_pending=seen.catch_up_pending, quarantined=quarantined
            )
            if moved and refused:
                _alert(stream, refused)
                return False
        return True


async def _for_each(streams: Iterable[Stream], work: Callable[[Stream], Awaitable[None]]) -> None:
    """Do the work for each stream, a few at once, in order. Raise the first error once all of it was done."""
    slots = asyncio.Semaphore(STREAMS_AT_ONCE)

    async def one(stream: Stream) -> None:
        async with slots:
            await work(stream)

    for outcome in await asyncio.gather(*map(one, dict.fromkeys(streams)), return_exceptions=True):
        if outcome is not None:
            raise outcome


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
