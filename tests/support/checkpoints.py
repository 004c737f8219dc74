"""Checkpoints in memory, which interleave with others at every step as remote ones do, and checkpoints that break."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from events_core.cloudevent import CloudEvent
from events_core.common import errors
from events_core.feeds.follow_up import FollowUp
from events_core.feeds.ports import Checkpoint, Quarantined, StoredEvent
from events_core.feeds.projection import Projection
from events_core.feeds.stream import Cursor, Stream
from events_core.feeds.wait import WaitingReaders


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """A row of a stream."""

    event: CloudEvent
    position: int
    registered: int
    erased: bool = False

    @property
    def json(self) -> bytes | None:
        """The event's own text."""
        return None if self.erased else self.event.json

    @property
    def cursor(self) -> Cursor:
        """The place just after this row."""
        return Cursor(self.position, bytes(8))

    @property
    def id(self) -> str:
        """The event's `id`."""
        return self.event.id

    @property
    def source(self) -> str:
        """The event's `source`."""
        return self.event.source

    @property
    def type(self) -> str:
        """The event's `type`."""
        return self.event.type

    @property
    def subject(self) -> str | None:
        """The event's `subject`."""
        return self.event.subject

    @property
    def alternative_subject(self) -> str | None:
        """The event's `alternativesubject`."""
        return self.event.alternative_subject

    @property
    def resource(self) -> str:
        """The event's `resource`."""
        return self.event.resource

    @property
    def resource_instance(self) -> str | None:
        """The event's `resourceinstance`."""
        return self.event.resource_instance

    @property
    def identity(self) -> tuple[str, str, str]:
        """What the event is known by in every stream."""
        return self.resource, self.source, self.id


class MemoryCheckpoints:
    """Streams and checkpoints in dictionaries; every call lets others run before it changes anything, and after."""

    def __init__(self, clock: Callable[[], int] = lambda: 0) -> None:
        self._clock = clock
        self._streams: dict[Stream, list[MemoryRow]] = defaultdict(list)
        self._checkpoints: dict[Stream, Checkpoint] = {}
        self._etags = map(str, itertools.count(1))

    async def append(self, events: Sequence[CloudEvent]) -> None:
        """Publish events to their resources' streams."""
        for event in events:
            stream = Stream.of_resource(event.resource)
            self._checkpoints.setdefault(stream, Checkpoint(etag=next(self._etags)))
            await self._add(stream, [MemoryRow(event, 0, 0)])

    async def erase(self, event: CloudEvent) -> None:
        """Leave tombstones of an event."""
        for rows in self._streams.values():
            rows[:] = [replace(row, erased=True) if row.event == event else row for row in rows]

    async def rows(self, stream: Stream) -> list[StoredEvent]:
        """Every row of a stream."""
        return [*self._streams[stream]]

    async def checkpoint(self, stream: Stream) -> Checkpoint:
        """How far the stream has been followed."""
        await asyncio.sleep(0)
        return self._checkpoints.get(stream, Checkpoint())

    async def advance(
        self,
        stream: Stream,
        checkpoint: Checkpoint,
        position: int,
        *,
        catch_up_pending: bool,
        quarantined: Sequence[Quarantined],
    ) -> bool:
        """Replace the checkpoint if it is the one that was read."""
        await asyncio.sleep(0)
        if self._checkpoints.get(stream, Checkpoint()).etag != checkpoint.etag:
            return False
        self._checkpoints[stream] = Checkpoint(position, next(self._etags), catch_up_pending, tuple(quarantined))
        await asyncio.sleep(0)
        return True

    async def read_after(self, stream: Stream, position: int, limit: int) -> Sequence[StoredEvent]:
        """The next rows."""
        await asyncio.sleep(0)
        return self._streams[stream][position : position + limit]

    async def end(self, stream: Stream) -> int:
        """The newest position."""
        await asyncio.sleep(0)
        return len(self._streams[stream])

    async def prepare(self, targets: Sequence[Stream]) -> None:
        """Everything is known."""

    async def project(self, target: Stream, events: Sequence[StoredEvent]) -> None:
        """Append what does not stand there, at once if nobody else did meanwhile."""
        rows = [row for row in events if isinstance(row, MemoryRow)]
        assert len(rows) == len(events)
        await self._add(target, rows)

    async def _add(self, stream: Stream, events: Sequence[MemoryRow]) -> None:
        added = False
        while not added:
            rows = self._streams[stream]
            head, known = len(rows), {row.identity for row in rows}
            await asyncio.sleep(0)
            if added := head == len(rows):
                new = {row.identity: row for row in events if row.identity not in known}.values()
                moment = max([self._clock(), *(row.registered for row in rows[-1:])])
                rows += [replace(row, position=head + n, registered=moment) for n, row in enumerate(new, 1)]
        await asyncio.sleep(0)

    async def catch_up_pending(self) -> Sequence[Stream]:
        """The streams that are marked so."""
        return [stream for stream, seen in self._checkpoints.items() if seen.catch_up_pending]

    async def behind(self) -> Sequence[Stream]:
        """The streams that hold more."""
        return [stream for stream, seen in self._checkpoints.items() if len(self._streams[stream]) > seen.position]

    async def suspects(self, most: int) -> Sequence[tuple[Stream, Checkpoint]]:
        """The resource streams, marked ones first, then those that moved last."""
        await asyncio.sleep(0)
        seen = sorted(
            self._checkpoints.items(), key=lambda each: (each[1].catch_up_pending, int(each[1].etag or 0)), reverse=True
        )
        return seen[:most]

    async def quarantined(self) -> Sequence[Stream]:
        """The streams that hold events back."""
        return [stream for stream, seen in self._checkpoints.items() if seen.quarantined]

    async def restored(self) -> int:
        """Nothing was restored."""
        return 0


Step = Callable[[str, tuple[Any, ...]], Awaitable[None]]


async def nothing(_: str, __: tuple[Any, ...]) -> None:
    """A step at which nothing happens."""


@dataclass
class SteppedCheckpoints:
    """Other checkpoints. A test may watch, hold up or break every call before and after it."""

    checkpoints: MemoryCheckpoints
    before: Step = nothing
    after: Step = nothing

    async def checkpoint(self, stream: Stream) -> Checkpoint:
        """The same of the other."""
        return await self._step("checkpoint", stream)  # type: ignore[no-any-return]

    async def advance(
        self,
        stream: Stream,
        checkpoint: Checkpoint,
        position: int,
        *,
        catch_up_pending: bool,
        quarantined: Sequence[Quarantined],
    ) -> bool:
        """The same of the other."""
        moved = self._step(
            "advance", stream, checkpoint, position, catch_up_pending=catch_up_pending, quarantined=quarantined
        )
        return await moved  # type: ignore[no-any-return]

    async def read_after(self, stream: Stream, position: int, limit: int) -> Sequence[StoredEvent]:
        """The same of the other."""
        return await self._step("read_after", stream, position, limit)  # type: ignore[no-any-return]

    async def end(self, stream: Stream) -> int:
        """The same of the other."""
        return await self._step("end", stream)  # type: ignore[no-any-return]

    async def prepare(self, targets: Sequence[Stream]) -> None:
        """The same of the other."""
        await self._step("prepare", targets)

    async def project(self, target: Stream, events: Sequence[StoredEvent]) -> None:
        """The same of the other."""
        await self._step("project", target, events)

    async def suspects(self, most: int) -> Sequence[tuple[Stream, Checkpoint]]:
        """The same of the other."""
        return await self._step("suspects", most)  # type: ignore[no-any-return]

    async def catch_up_pending(self) -> Sequence[Stream]:
        """The same of the other."""
        return await self._step("catch_up_pending")  # type: ignore[no-any-return]

    async def behind(self) -> Sequence[Stream]:
        """The same of the other."""
        return await self._step("behind")  # type: ignore[no-any-return]

    async def quarantined(self) -> Sequence[Stream]:
        """The same of the other."""
        return await self._step("quarantined")  # type: ignore[no-any-return]

    async def restored(self) -> int:
        """The same of the other."""
        return await self._step("restored")  # type: ignore[no-any-return]

    async def _step(self, name: str, *arguments: Any, **named: Any) -> Any:
        await self.before(name, arguments)
        result = await getattr(self.checkpoints, name)(*arguments, **named)
        await self.after(name, arguments)
        return result


def projecting(
    checkpoints: MemoryCheckpoints | SteppedCheckpoints, waiting: WaitingReaders, **options: Any
) -> FollowUp:
    """The use case with the projections as its only follower."""
    return FollowUp(checkpoints, [Projection(checkpoints, waiting)], **options)


async def held(checkpoints: MemoryCheckpoints, stream: Stream) -> list[str]:
    """The ids of what a stream holds, in its order."""
    return [row.id for row in await checkpoints.rows(stream)]


def refusing(*refused: tuple[Stream, str], times: int = 1_000_000) -> Step:
    """A step that fails when one of these events is to be projected to one of these targets, so many times each."""
    failures: Counter[tuple[Stream, str]] = Counter()

    async def step(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "project":
            target, rows = arguments
            for each in {(target, row.id) for row in rows} & set(refused):
                failures[each] += 1
                if failures[each] <= times:
                    raise ValueError(each)

    return step


def failing(*names: str, error: Exception | None = None) -> Step:
    """A step that fails whenever one of these methods is called; by itself as if the store did not answer."""

    async def step(name: str, _: tuple[Any, ...]) -> None:
        if name in names:
            raise error or errors.unavailable("The store does not answer.")

    return step


def counting(calls: Counter[str]) -> Step:
    """A step that counts calls by their names."""

    async def step(name: str, _: tuple[Any, ...]) -> None:
        calls[name] += 1

    return step
