"""The ports of feeds: the event store, and how far each stream was followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from events_core.access.xacml_request import EventLike
from events_core.cloudevent import CloudEvent
from events_core.common.ports import Pingable
from events_core.feeds.stream import NO_FILTERS, Cursor, Filters, Stream


class StoredEvent(EventLike, Protocol):
    """One row of a stream. `json` is the event's own text as published, None once it is erased."""

    @property
    def alternative_subject(self) -> str | None:
        """The event's `alternativesubject`."""

    @property
    def position(self) -> int:
        """Where the row stands; positions rise along a stream and promise nothing more."""

    @property
    def registered(self) -> int:
        """When it entered the stream, microseconds since the epoch; never decreases along a stream."""

    @property
    def json(self) -> bytes | None:
        """The event's own JSON text; None for a tombstone."""

    @property
    def cursor(self) -> Cursor:
        """The place of this row, provable later."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """One chunk of a stream, wanted.

    The start: `cursor` decides when it verifies (its stream is this one and its row is still that row);
    else the first row whose event id is `event_id`, exclusive; else the oldest kept row. `registered_from` and
    `registered_to` (microseconds since the epoch, inclusive) bound the rows besides.
    At most `limit` rows that match `filters`, at most `scan` rows examined, and no more rows once their texts
    exceed `max_bytes` together (the first always comes).
    """

    stream: Stream
    cursor: Cursor | None = None
    event_id: str | None = None
    registered_from: int | None = None
    registered_to: int | None = None
    filters: Filters = NO_FILTERS
    limit: int = 50
    scan: int = 10_000
    max_bytes: int = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows in the order of the stream, tombstones among them; and where to go on.

    `end` is the last row that was examined, whether or not it matched: reading on from it misses and repeats
    nothing. `caught_up` says that nothing that the request may see stood beyond it when the chunk was read.
    """

    rows: Sequence[StoredEvent]
    end: Cursor
    caught_up: bool


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of one event: `cursor` is its place; `duplicate` when (resource, source, id) stood already."""

    cursor: Cursor
    duplicate: bool


class EventStore(Pingable, Protocol):
    """Ordered, durable, gap-free streams of events (docs/architecture.md, "Streams and positions")."""

    @property
    def scan_rows(self) -> int:
        """How many rows are worth examining for one request: some where each is compared, many where an index is."""

    async def append(self, events: Sequence[CloudEvent]) -> list[Appended]:
        """Store events in the given order; return one outcome each, in the same order.

        When this returns, the events are durable and the next read of their resource streams holds them.
        An event whose (resource, source, id) stands already, earlier in `events` too, is a duplicate and
        changes nothing. `resource` of each event is set.

        Raises:
            EventsError: UNAVAILABLE when the outcome is unknown; the same call again completes it.
        """

    async def read(self, request: ReadRequest) -> Chunk:
        """Read a chunk of a stream.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """

    async def head(self, stream: Stream) -> int:
        """The newest position of the stream, 0 when it holds nothing; cheap, for waiting readers."""

    async def at(self, stream: Stream, positions: Sequence[int]) -> Sequence[StoredEvent]:
        """The rows at positions of a resource's stream, in order, tombstones among them; those that are gone left out.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """

    async def find(self, source: str, event_id: str) -> Sequence[StoredEvent]:
        """The rows of events with this source and id in the streams of all resources; a costly question.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """

    async def erase(self, resource: str, source: str, event_id: str) -> bool:
        """Replace an event by a tombstone in every stream; False when there is no such event."""

    async def expire(self, registered_before: int) -> int:
        """Remove what was registered before (microseconds since the epoch), oldest first; return how many."""

    async def close(self) -> None:
        """Release files, threads and connections; what was acknowledged stays."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """From `position` on, the events of a stream are held back from a follower's `target` until they are replayed.

    `reason` is for an operator; it repeats neither a person's number nor an event's content.
    """

    follower: str
    target: str
    position: int
    reason: str

    @property
    def key(self) -> tuple[str, str]:
        """Follower and target."""
        return self.follower, self.target


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a resource stream has been followed: `position` is done, but for what is `parked`.

    `etag` stands for all of it together, None before it was first written. `owed` when more is known to follow.
    """

    position: int = 0
    etag: str | None = None
    catch_up_pending: bool = False
    quarantined: Sequence[Quarantined] = ()


class CheckpointStore(Protocol):
    """What following up needs of a store: resource streams, and how far each was followed.

    Each method raises EventsError UNAVAILABLE when the store does not answer or throttles.
    """

    async def checkpoint(self, stream: Stream) -> Checkpoint:
        """How far the stream has been followed; `Checkpoint()` when it never was."""

    async def advance(
        self,
        stream: Stream,
        checkpoint: Checkpoint,
        position: int,
        *,
        catch_up_pending: bool,
        quarantined: Sequence[Quarantined],
    ) -> bool:
        """Replace the checkpoint, in one write that gives it a new etag even when nothing else changes.

        False, and nothing is written, when it is no longer the one that was read.
        """

    async def read_after(self, stream: Stream, position: int, limit: int) -> Sequence[StoredEvent]:
        """The next rows in their order, tombstones among them, without a gap; none only at the end of the stream.

        Where retention has removed rows it goes on with the oldest that is kept.

        Raises:
            StreamHoleError: when the next row is missing, for too long to be on its way.
        """

    async def end(self, stream: Stream) -> int:
        """The newest position of a resource stream, 0 when it holds nothing."""

    async def catch_up_pending(self) -> Sequence[Stream]:
        """The resource streams whose checkpoint is marked so."""

    async def behind(self) -> Sequence[Stream]:
        """The resource streams that hold more than their checkpoint says; looks at every stream."""

    async def suspects(self, most: int) -> Sequence[tuple[Stream, Checkpoint]]:
        """Resource streams that may hold more than their checkpoint says, with it: `most`, for a look each minute.

        Those that are owed come first, then those whose checkpoint moved last: whatever stops all streams from being
        followed shows in these.
        """

    async def quarantined(self) -> Sequence[Stream]:
        """The resource streams whose checkpoint holds events back."""

    async def restored(self) -> int:
        """Let no cursor of before verify, and no checkpoint be beyond its stream; how many were.

        For a store that was restored, while nobody else uses it. Again, it changes as much again.
        """


class ProjectedStreams(Protocol):
    """Where a store that keeps streams apart projects app events to.

    Each method raises EventsError UNAVAILABLE when the store does not answer or throttles.
    """

    async def prepare(self, targets: Sequence[Stream]) -> None:
        """Learn about streams that are about to be projected to, all at once; nothing depends on it but the cost."""

    async def project(self, target: Stream, events: Sequence[StoredEvent]) -> None:
        """Append events of one resource stream to a subject or org stream, in their order.

        What stands there already stays as it is, so that the same call again, also while another is at work on the
        same events, changes nothing. A tombstone is appended as a tombstone. Rows are registered at the moment of
        projection. Any exception but UNAVAILABLE means that these events cannot be stored there.
        """
