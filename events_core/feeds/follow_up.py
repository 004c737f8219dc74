"""Use case: bring what was appended to a resource's stream to its subjects, its org and its subscriptions.

The checkpoint of the stream tells how far that went; whoever wakes this says only that there may be more
(docs/architecture.md, "Following up").
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol

from events_core.common import errors
from events_core.common.coalesce import Turns
from events_core.common.errors import EventsError, Problem
from events_core.delivery.fan_out import FanOut
from events_core.feeds.ports import Checkpoint, Parked, StoredEvent, StreamLedger
from events_core.feeds.stream import Stream
from events_core.feeds.wait import Wakeups

PAGE = 200
ROUND_SECONDS = 30.0
"""How long a stream is followed before the rest of it is marked as owed."""
FEED_ROUND_SECONDS = 5.0
"""The same, when the change feed asks: until then nothing else of its physical partition is told of."""
TARGETS_AT_ONCE = 32
STREAMS_AT_ONCE = 8
PAUSES = (0.1, 1.0)
"""Seconds before the second and the third try of an event that a target does not take."""
MOST_PARKED = 500
"""When more targets of one stream than this refuse events, it is the store that is broken, and not the events."""

_DELIVERED = "subscription"
"""The kind of target whose items are deliveries."""

_log = logging.getLogger(__name__)


class Placed(Protocol):
    """What a target gets of an event: the event itself, or a delivery of it."""

    @property
    def position(self) -> int:
        """Where the event stands in the stream that is followed."""


Page = Mapping[Stream, Sequence[Placed]]
"""What each target is to get of a page of events, in their order."""


class FollowUp:
    """Follows resource streams, each by one task of this process at a time.

    `fan_out` makes the deliveries, None where nobody can subscribe. `pauses` are the seconds before each further try
    of an event that a target does not take.
    """

    def __init__(
        self,
        ledger: StreamLedger,
        wakeups: Wakeups,
        fan_out: FanOut | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._ledger = ledger
        self._wakeups = wakeups
        self._fan_out = fan_out
        self._clock = clock
        self._pauses = pauses
        self._turns: dict[Stream, Turns] = {}
        self._slots = asyncio.Semaphore(TARGETS_AT_ONCE)

    async def follow(self, stream: Stream, seconds: float = ROUND_SECONDS) -> None:
        """Follow a stream to its end, or for so long and mark the rest as owed; once more when asked during a round.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer; the same call again completes it.
        """
        turns = self._turns.setdefault(stream, Turns())
        try:
            await turns.take(lambda: self._catch_up(stream, seconds))
        finally:
            if not turns.wanted:
                self._turns.pop(stream, None)

    async def follow_all(self, streams: Iterable[Stream], seconds: float = ROUND_SECONDS) -> None:
        """Follow each stream for so long; one that cannot be followed now is marked as owed, for the next sweep.

        Raises:
            EventsError: UNAVAILABLE when a stream could be neither followed nor marked; the others were.
        """
        places = asyncio.Semaphore(STREAMS_AT_ONCE)
        distinct = dict.fromkeys(streams)
        outcomes = await asyncio.gather(
            *(self._follow_or_owe(each, places, seconds) for each in distinct), return_exceptions=True
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

    async def _follow_or_owe(self, stream: Stream, places: asyncio.Semaphore, seconds: float) -> None:
        async with places:
            try:
                await self.follow(stream, seconds)
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

    async def _catch_up(self, stream: Stream, seconds: float) -> None:
        deadline = self._clock() + seconds
        seen = await self._ledger.checkpoint(stream)
        if await self._passes_over(stream, seen):
            return
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

    async def _passes_over(self, stream: Stream, seen: Checkpoint) -> bool:
        """Go to the end of a stream without reading it, if nothing goes anywhere from it; False when something does."""
        if self._ledger.projects(stream) or seen.parked:
            return False
        end = await self._ledger.end(stream)
        if self._fan_out is not None and await self._fan_out.wants(stream):
            return False
        if end <= seen.position and not seen.owed:
            return True
        return await self._ledger.advance(stream, seen, max(end, seen.position), owed=False, parked=())

    async def _project(self, stream: Stream, events: Sequence[StoredEvent], parked: Sequence[Parked]) -> list[Parked]:
        """Bring a page to its targets, but for those with parked events; return what is to be parked besides."""
        held = {each.target for each in parked}
        refused = await _together(self._project_to_streams(events, held), self._record_deliveries(events, held))
        if len(parked) + len(refused) > MOST_PARKED:
            raise errors.unavailable("The store refuses the events of too many streams.")
        for each in refused:
            _alert(stream, each)
        return refused

    async def _project_to_streams(self, events: Sequence[StoredEvent], held: Collection[Stream]) -> list[Parked]:
        page = _without(self._projected(events), held)
        await self._ledger.prepare([*page])
        refused = await self._put_all(page)
        self._wakeups.wake(page)
        return refused

    async def _record_deliveries(self, events: Sequence[StoredEvent], held: Collection[Stream]) -> list[Parked]:
        return [] if self._fan_out is None else await self._put_all(_without(await self._fan_out.pages(events), held))

    def _projected(self, events: Sequence[StoredEvent]) -> Page:
        page: dict[Stream, list[StoredEvent]] = {}
        for event in events:
            for target in self._ledger.targets(event):
                page.setdefault(target, []).append(event)
        return page

    async def _put_all(self, page: Page) -> list[Parked]:
        return await _together(*(self._append(target, items) for target, items in page.items()))

    async def _append(self, target: Stream, items: Sequence[Placed]) -> list[Parked]:
        """Bring items to a target, or those before the first that it does not take, which is returned."""
        async with self._slots:
            if len(items) > 1 and await self._refusal(target, items) is None:
                return []
            for item in items:
                if reason := await self._last_refusal(target, item):
                    return [Parked(target, item.position, f"{target.kind}: {reason}")]
        return []

    async def _last_refusal(self, target: Stream, item: Placed) -> str | None:
        """Why the target does not take the item, however often it is tried; None once it does."""
        reason = await self._refusal(target, [item])
        for pause in self._pauses:
            if reason is None:
                break
            await asyncio.sleep(pause)
            reason = await self._refusal(target, [item])
        return reason

    async def _refusal(self, target: Stream, items: Sequence[Placed]) -> str | None:
        """Why the target does not take the items, None when it does.

        Raises:
            EventsError: UNAVAILABLE, which says nothing about the events.
        """
        try:
            await self._put(target, items)
        except EventsError as error:
            if error.problem is Problem.UNAVAILABLE:
                raise
            return error.problem.title
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one event must not stop those after it
            return type(error).__name__
        return None

    async def _page(self, target: Stream, events: Sequence[StoredEvent]) -> Page:
        """What events are to bring to their targets of the same kind as this one."""
        if self._fan_out is not None and target.kind == _DELIVERED:
            return await self._fan_out.pages(events)
        return self._projected(events)

    async def _put(self, target: Stream, items: Sequence[Any]) -> None:
        if self._fan_out is not None and target.kind == _DELIVERED:
            await self._fan_out.record(items)
        else:
            await self._ledger.project(target, items)

    async def _replay(self, stream: Stream, target: Stream) -> bool:
        """Project the events that a stream holds back from a target, page by page; False when it refuses one again."""
        while parked := _parked_from(target, seen := await self._ledger.checkpoint(stream)):
            rows = await self._ledger.read_after(stream, parked.position - 1, PAGE)
            page = await self._page(target, rows)
            refused = next(iter(await self._append(target, page.get(target, ()))), None)
            left = refused or _rest_of(parked, rows, seen.position)
            after = [*(each for each in seen.parked if each is not parked), *([left] if left else [])]
            moved = await self._ledger.advance(stream, seen, seen.position, owed=seen.owed, parked=after)
            if moved and refused:
                _alert(stream, refused)
                return False
        return True


async def _together(*work: Coroutine[Any, Any, list[Parked]]) -> list[Parked]:
    """Do everything at once, and return all that it parks; when one fails, the others are cancelled."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [parked for task in tasks for parked in task.result()]


def _without(page: Mapping[Stream, Sequence[Placed]], held: Collection[Stream]) -> Page:
    return {target: items for target, items in page.items() if target not in held}


def _alert(stream: Stream, parked: Parked) -> None:
    _log.error("%s: event %d is parked, %s", stream.name, parked.position, parked.reason)


def _parked_from(target: Stream, seen: Checkpoint) -> Parked | None:
    return next((parked for parked in seen.parked if parked.target == target), None)


def _rest_of(parked: Parked, done: Sequence[StoredEvent], end: int) -> Parked | None:
    """What is parked once `done` is projected, None when that was all up to `end`."""
    if not done or done[-1].position >= end:
        return None
    return Parked(parked.target, done[-1].position + 1, parked.reason)
