"""Checkpoints in memory, whose calls interleave like those of a remote store, and checkpoints that fail."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from typing_extensions import override

from events_core.cloudevent import CloudEvent
from events_core.common import errors
from events_core.feeds.follow_up import FollowUp
from events_core.feeds.ports import (
    Checkpoint,
    CheckpointStore,
    ProjectedStreams,
    Quarantined,
    RowsAfter,
    StoredEvent,
)
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
        """The cursor of this row."""
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
        """The event's identity in every stream."""
        return self.resource, self.source, self.id


class MemoryCheckpoints(CheckpointStore, ProjectedStreams):
    """Streams and checkpoints in dictionaries. Every call lets other tasks run before and after its change."""

    def __init__(self, clock: Callable[[], int] = lambda: 0) -> None:
        self._clock = clock
        self._streams: dict[Stream, list[MemoryRow]] = defaultdict(list)
        self._checkpoints: dict[Stream, Checkpoint] = {}
        self._etags = map(str, itertools.count(1))

    async def append(self, events: Sequence[CloudEvent]) -> None:
        """Append events to their resources' streams."""
        for event in events:
            stream = Stream.of_resource(event.resource)
            self._checkpoints.setdefault(stream, Checkpoint(etag=next(self._etags)))
            await self._add(stream, [MemoryRow(event, 0, 0)])

    async def erase(self, event: CloudEvent) -> None:
        """Replace an event by tombstones."""
        for rows in self._streams.values():
            rows[:] = [replace(row, erased=True) if row.event == event else row for row in rows]

    async def rows(self, stream: Stream) -> list[StoredEvent]:
        """Every row of a stream."""
        return [*self._streams[stream]]

    @override
    async def checkpoint(self, stream: Stream) -> Checkpoint:
        await asyncio.sleep(0)
        return self._checkpoints.get(stream, Checkpoint())

    @override
    async def advance(
        self,
        stream: Stream,
        checkpoint: Checkpoint,
        positions: Mapping[str, int],
        *,
        catch_up_pending: bool,
        quarantined: Sequence[Quarantined],
    ) -> Checkpoint | None:
        await asyncio.sleep(0)
        if self._checkpoints.get(stream, Checkpoint()).etag != checkpoint.etag:
            return None
        written = Checkpoint(dict(positions), next(self._etags), catch_up_pending, tuple(quarantined))
        self._checkpoints[stream] = written
        await asyncio.sleep(0)
        return written

    @override
    async def read_after(self, stream: Stream, position: int, limit: int) -> RowsAfter:
        await asyncio.sleep(0)
        rows = self._streams[stream][position : position + limit]
        return RowsAfter(rows, is_end=position + len(rows) >= len(self._streams[stream]))

    @override
    async def end(self, stream: Stream) -> int:
        await asyncio.sleep(0)
        return len(self._streams[stream])

    @override
    async def prepare(self, targets: Sequence[Stream]) -> None:
        """Do nothing: the streams are in memory."""

    @override
    async def project(self, target: Stream, events: Sequence[StoredEvent]) -> None:
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
                registered = max([self._clock(), *(row.registered for row in rows[-1:])])
                rows += [replace(row, position=head + n, registered=registered) for n, row in enumerate(new, 1)]
        await asyncio.sleep(0)

    @override
    async def catch_up_pending(self) -> Sequence[Stream]:
        pending = [(int(seen.etag or 0), stream) for stream, seen in self._checkpoints.items() if seen.catch_up_pending]
        return [stream for _, stream in sorted(pending, key=lambda each: each[0])]

    @override
    async def behind(self, seconds: float = 60.0) -> Sequence[Stream]:
        return [stream for stream, seen in self._checkpoints.items() if len(self._streams[stream]) > seen.position]

    @override
    async def suspects(self, most: int) -> Sequence[tuple[Stream, Checkpoint]]:
        await asyncio.sleep(0)
        written = {stream: int(seen.etag or 0) for stream, seen in self._checkpoints.items()}
        seen = sorted(
            self._checkpoints.items(),
            key=lambda item: (0, written[item[0]]) if item[1].catch_up_pending else (1, -written[item[0]]),
        )
        return seen[:most]

    @override
    async def quarantined(self) -> Sequence[Stream]:
        return [stream for stream, seen in self._checkpoints.items() if seen.quarantined]


Step = Callable[[str, tuple[Any, ...]], Awaitable[None]]


async def nothing(_: str, __: tuple[Any, ...]) -> None:
    """A step that does nothing."""


@dataclass
class SteppedCheckpoints:
    """Wraps checkpoints. A test may watch, delay or fail every call before and after it."""

    checkpoints: MemoryCheckpoints
    before: Step = nothing
    after: Step = nothing

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.checkpoints, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            await self.before(name, arguments)
            result = await method(*arguments, **named)
            await self.after(name, arguments)
            return result

        return call


def projecting(
    checkpoints: MemoryCheckpoints | SteppedCheckpoints, waiting: WaitingReaders, **options: Any
) -> FollowUp:
    """Following up with the projections as its only follower."""
    store: Any = checkpoints
    return FollowUp(store, [Projection(store, waiting)], **options)


async def held(checkpoints: MemoryCheckpoints, stream: Stream) -> list[str]:
    """The ids of the events of a stream, in order."""
    return [row.id for row in await checkpoints.rows(stream)]


def refusing(*refused: tuple[Stream, str], times: int = 1_000_000) -> Step:
    """A step that refuses to project one of these events to one of these targets, a number of times each."""
    failures: Counter[tuple[Stream, str]] = Counter()

    async def step(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "project":
            target, rows = arguments
            for pair in {(target, row.id) for row in rows} & set(refused):
                failures[pair] += 1
                if failures[pair] <= times:
                    raise ValueError(pair)

    return step


def failing(*names: str, error: Exception | None = None) -> Step:
    """A step that fails when one of these methods is called, by default like a store that does not answer."""

    async def step(name: str, _: tuple[Any, ...]) -> None:
        if name in names:
            raise error or errors.unavailable("The store does not answer.")

    return step


def counting(calls: Counter[str]) -> Step:
    """A step that counts calls by name."""

    async def step(name: str, _: tuple[Any, ...]) -> None:
        calls[name] += 1

    return step
