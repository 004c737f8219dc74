"""Use case: project what was appended to a resource's stream to the streams of its subjects and its org.

The checkpoint of the stream tells how far that went; whoever wakes this says only that there may be more
(docs/architecture.md, "Following up").
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from events_core import errors
from events_core.errors import EventsError, Problem
from events_core.feed import Stream, projections_of
from events_core.ports import Checkpoint, Parked, StoredEvent, StreamLedger
from events_core.wakeups import Wakeups

PAGE = 200
ROUND_SECONDS = 30.0
"""How long a stream is followed before the rest of it is marked as owed."""
TARGETS_AT_ONCE = 32
STREAMS_AT_ONCE = 8
PAUSES = (0.1, 1.0)
"""Seconds before the second and the third try of an event that a target does not take."""
MOST_PARKED = 500
"""When more targets of one stream than this refuse events, it is the store that is broken, and not the events."""

_log = logging.getLogger(__name__)


class FollowUp:
    """Follows resource streams, each by one task of this process at a time.

    `pauses` are the seconds before each further try of an event that a target does not take.
    """

    def __init__(
        self,
        ledger: StreamLedger,
        wakeups: Wakeups,
        *,
        clock: Callable[[], float] = time.monotonic,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._ledger = ledger
        self._wakeups = wakeups
        self._clock = clock
        self._pauses = pauses
        self._turns: dict[Stream, _Turns] = {}
        self._slots = asyncio.Semaphore(TARGETS_AT_ONCE)

    async def follow(self, stream: Stream) -> None:
        """Follow a stream to its end, or for 30 s and mark the rest as owed; once more when asked during a round.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer; the same call again completes it.
        """
        turns = self._turns.setdefault(stream, _Turns())
        try:
            await turns.take(lambda: self._catch_up(stream))
        finally:
            if not turns.wanted:
                self._turns.pop(stream, None)

    async def follow_all(self, streams: Iterable[Stream]) -> None:
        """Follow each stream; one that cannot be followed now is marked as owed, for the next sweep.

        Raises:
            EventsError: UNAVAILABLE when a stream could be neither followed nor marked; the others were.
        """
        places = asyncio.Semaphore(STREAMS_AT_ONCE)
        distinct = dict.fromkeys(streams)
        outcomes = await asyncio.gather(
            *(self._follow_or_owe(each, places) for each in distinct), return_exceptions=True
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def sweep(self) -> None:
        """Follow the streams that are marked as owed.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        await self.follow_all(await self._ledger.owed())

    async def compare(self) -> None:
        """Compare every stream with its checkpoint and follow those that nobody was told of.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        await self.follow_all(await self._ledger.behind())

    async def replay(self) -> int:
        """Project what is parked, in its order; return for how many targets that failed again.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer; what was replayed stays so.
        """
        failed = 0
        for stream in await self._ledger.parked():
            for parked in (await self._ledger.checkpoint(stream)).parked:
                failed += not await self._replay(stream, parked.target)
        return failed

    async def restored(self) -> int:
        """Go on from what a restored store holds; how many streams had been followed up further than they reach.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer; the same call again completes it.
        """
        return await self._ledger.restored()

    async def _follow_or_owe(self, stream: Stream, places: asyncio.Semaphore) -> None:
        async with places:
            try:
                await self.follow(stream)
            except EventsError as error:
                _log.warning("%s is owed: %s", stream.name, error.detail)
                await self._owe(stream)
            except Exception:  # noqa: BLE001 - one stream must not hold up the others
                _log.exception("%s is owed", stream.name)
                await self._owe(stream)

    async def _owe(self, stream: Stream) -> None:
        """Mark the stream, in a write also when it is marked: a round that is about to clear the mark must lose."""
        marked = False
        while not marked:
            seen = await self._ledger.checkpoint(stream)
            marked = await self._ledger.advance(stream, seen, seen.position, owed=True, parked=seen.parked)

    async def _catch_up(self, stream: Stream) -> None:
        deadline = self._clock() + ROUND_SECONDS
        seen = await self._ledger.checkpoint(stream)
        while events := await self._ledger.read_after(stream, seen.position, PAGE):
            parked = [*seen.parked, *await self._project(stream, events, seen.parked)]
            late = self._clock() >= deadline
            owed = late or seen.owed  # cleared at the end only: a crash on the way must leave it
            moved = await self._ledger.advance(stream, seen, events[-1].position, owed=owed, parked=parked)
            if late and moved:
                return
            seen = await self._ledger.checkpoint(stream)
        if seen.owed:
            await self._ledger.advance(stream, seen, seen.position, owed=False, parked=seen.parked)

    async def _project(self, stream: Stream, events: Sequence[StoredEvent], parked: Sequence[Parked]) -> list[Parked]:
        """Append a page to its targets, those with parked events left out; return what is to be parked besides."""
        held = {each.target for each in parked}
        pages: dict[Stream, list[StoredEvent]] = {}
        for event in events:
            for target in targets_of(event):
                if target not in held:
                    pages.setdefault(target, []).append(event)
        await self._ledger.prepare([*pages])
        refused = await self._append_all(pages)
        self._wakeups.wake(pages)
        if len(parked) + len(refused) > MOST_PARKED:
            raise errors.unavailable("The store refuses the events of too many streams.")
        for each in refused:
            _alert(stream, each)
        return refused

    async def _append_all(self, pages: dict[Stream, list[StoredEvent]]) -> list[Parked]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._append(target, page)) for target, page in pages.items()]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [refused for task in tasks if (refused := task.result())]

    async def _append(self, target: Stream, events: Sequence[StoredEvent]) -> Parked | None:
        """Append events to a target, or those before the first that it does not take, which is returned."""
        async with self._slots:
            if len(events) > 1 and await self._refusal(target, events) is None:
                return None
            for event in events:
                if reason := await self._last_refusal(target, event):
                    return Parked(target, event.position, f"{target.kind}: {reason}")
        return None

    async def _last_refusal(self, target: Stream, event: StoredEvent) -> str | None:
        """Why the target does not take the event, however often it is tried; None once it does."""
        reason = await self._refusal(target, [event])
        for pause in self._pauses:
            if reason is None:
                break
            await asyncio.sleep(pause)
            reason = await self._refusal(target, [event])
        return reason

    async def _refusal(self, target: Stream, events: Sequence[StoredEvent]) -> str | None:
        """Why the target does not take the events, None when it does.

        Raises:
            EventsError: UNAVAILABLE, which says nothing about the events.
        """
        try:
            await self._ledger.project(target, events)
        except EventsError as error:
            if error.problem is Problem.UNAVAILABLE:
                raise
            return error.problem.title
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one event must not stop those after it
            return type(error).__name__
        return None

    async def _replay(self, stream: Stream, target: Stream) -> bool:
        """Project the events that a stream holds back from a target, page by page; False when it refuses one again."""
        while parked := _parked_from(target, seen := await self._ledger.checkpoint(stream)):
            rows = await self._ledger.read_after(stream, parked.position - 1, PAGE)
            refused = await self._append(target, [row for row in rows if target in targets_of(row)])
            left = refused or _rest_of(parked, rows, seen.position)
            after = [*(each for each in seen.parked if each is not parked), *([left] if left else [])]
            moved = await self._ledger.advance(stream, seen, seen.position, owed=seen.owed, parked=after)
            if moved and refused:
                _alert(stream, refused)
                return False
        return True


class _Turns:
    """Rounds of one piece of work, one at a time; all who ask during a round share the next."""

    def __init__(self) -> None:
        self.wanted = 0
        self._lock = asyncio.Lock()
        self._begun = 0
        self._done = 0

    async def take(self, work: Callable[[], Awaitable[None]]) -> None:
        """Return when a round that began after this call is done."""
        asked = self._begun
        self.wanted += 1
        try:
            async with self._lock:
                if self._done <= asked:
                    self._begun += 1
                    await work()
                    self._done = self._begun
        finally:
            self.wanted -= 1


def targets_of(event: StoredEvent) -> list[Stream]:
    """The streams that an event is projected to."""
    return projections_of(event.resource, event.subject)


def _alert(stream: Stream, parked: Parked) -> None:
    _log.error("%s: event %d is parked, %s", stream.name, parked.position, parked.reason)


def _parked_from(target: Stream, seen: Checkpoint) -> Parked | None:
    return next((parked for parked in seen.parked if parked.target == target), None)


def _rest_of(parked: Parked, done: Sequence[StoredEvent], end: int) -> Parked | None:
    """What is parked once `done` is projected, None when that was all up to `end`."""
    if not done or done[-1].position >= end:
        return None
    return Parked(parked.target, done[-1].position + 1, parked.reason)
