"""The ports of feeds: the event store, the checkpoints of followers, and projected streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from events_core.access.xacml_request import EventLike
from events_core.cloudevent import CloudEvent
from events_core.common.ports import Pingable
from events_core.feeds.stream import NO_FILTERS, Cursor, Filters, Stream


class StoredEvent(EventLike, Protocol):
    """One row of a stream."""

    __slots__ = ()

    @property
    def alternative_subject(self) -> str | None:
        """The event's `alternativesubject`."""

    @property
    def position(self) -> int:
        """The row's position. Positions rise along a stream; do not compute with them."""

    @property
    def registered(self) -> int:
        """When the row entered the stream, microseconds since the epoch; never decreases along a stream."""

    @property
    def json(self) -> bytes | None:
        """The event's own JSON text as published; None for a tombstone."""

    @property
    def cursor(self) -> Cursor:
        """The cursor just after this row."""


PAGE_BYTES = 4 * 1024 * 1024
"""Events of about so many bytes are read at once."""
FOUND = 100
"""The most rows that are found by an id without a source."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Asks for one chunk of a stream.

    The chunk starts after `cursor` if it verifies; else after the first row whose event id is `event_id`; else at the
    oldest kept row. `registered_from` and `registered_to` (microseconds since the epoch, inclusive) bound the rows.
    It holds at most `limit` rows that match `filters`, out of at most `scan` rows, and ends when their texts exceed
    `max_bytes` together; the first row always comes.
    """

    stream: Stream
    cursor: Cursor | None = None
    event_id: str | None = None
    registered_from: int | None = None
    registered_to: int | None = None
    filters: Filters = NO_FILTERS
    limit: int = 50
    scan: int = 10_000
    max_bytes: int = PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows in stream order, tombstones among them.

    `end` is the cursor of the last row that was scanned, whether or not it matched: reading on from it misses and
    repeats nothing. `caught_up`: the request could see no row after `end` when the chunk was read.
    """

    rows: Sequence[StoredEvent]
    end: Cursor
    caught_up: bool


@dataclass(frozen=True, slots=True)
class Appended:
    """The outcome for one event. `duplicate`: its (resource, source, id) was stored before, at `cursor`."""

    cursor: Cursor
    duplicate: bool


class EventStore(Pingable, Protocol):
    """Ordered, durable streams of events (docs/architecture.md, "Streams and positions").

    Each method raises EventsError UNAVAILABLE when the store does not answer.
    """

    @property
    def scan_rows(self) -> int:
        """Rows to scan per request: few if every row is compared, many if an index filters."""

    async def append(self, events: Sequence[CloudEvent]) -> list[Appended]:
        """Store events in the given order. Return one outcome per event, in the same order.

        When this returns, the events are durable and the next read of their resource streams returns them. An event
        whose (resource, source, id) is stored already, or comes earlier in `events`, is a duplicate and changes
        nothing. Each event has a `resource`.

        Raises:
            EventsError: UNAVAILABLE when the outcome is unknown; the same call again completes it.
        """

    async def read(self, request: ReadRequest) -> Chunk:
        """Read a chunk of a stream."""

    async def head(self, stream: Stream) -> int:
        """The newest position of a stream, 0 if it is empty. Cheap, for waiting readers."""

    async def changed(self, heads: Mapping[Stream, int]) -> Mapping[Stream, int]:
        """The streams that have grown beyond the given positions, with the newest position that was seen.

        One look-up for all of the streams, for waiting readers: at most one request to the store.
        """

    async def at(self, stream: Stream, positions: Sequence[int]) -> Sequence[StoredEvent]:
        """The rows at positions of a resource stream, in order, tombstones among them, without expired ones."""

    async def find(self, source: str | None, event_id: str) -> Sequence[StoredEvent]:
        """The rows with this id, and this source if it is given, in all resource streams. Expensive.

        Without a source at most `FOUND` rows, any of them.
        """

    async def erase(self, resource: str, source: str, event_id: str) -> bool:
        """Replace an event by a tombstone in every stream. False if there is no such event."""

    async def expire(self, registered_before: int) -> int:
        """Remove rows registered before a time (microseconds since the epoch), oldest first. Return the number.

        A store whose rows expire by themselves does nothing.
        """

    async def close(self) -> None:
        """Release files, threads and connections. Acknowledged events stay."""


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
    """How far each follower has followed a resource stream, by the follower's name, except for what is `quarantined`.

    `catch_up_pending` says that more is known to follow. `etag` changes with every write; None before the first.
    """

    positions: Mapping[str, int] = field(default_factory=dict)
    etag: str | None = None
    catch_up_pending: bool = False
    quarantined: Sequence[Quarantined] = ()

    @property
    def position(self) -> int:
        """The position up to which every follower has followed the stream."""
        return min(self.positions.values(), default=0)


@dataclass(frozen=True, slots=True)
class RowsAfter:
    """The next rows of a stream, in order. `is_end`: the stream held no row after them when they were read."""

    rows: Sequence[StoredEvent]
    is_end: bool


class CheckpointStore(Protocol):
    """Resource streams as followers read them, and how far each was followed.

    Each method raises EventsError UNAVAILABLE when the store does not answer or throttles.
    """

    async def checkpoint(self, stream: Stream) -> Checkpoint:
        """The checkpoint of a stream; `Checkpoint()` if it was never followed."""

    async def advance(
        self,
        stream: Stream,
        checkpoint: Checkpoint,
        positions: Mapping[str, int],
        *,
        catch_up_pending: bool,
        quarantined: Sequence[Quarantined],
    ) -> Checkpoint | None:
        """Replace the checkpoint that was read, in one write with a new etag even if nothing else changes.

        Return the new checkpoint; None, having written nothing, if the stored checkpoint has another etag.
        """

    async def read_after(self, stream: Stream, position: int, limit: int) -> RowsAfter:
        """The next rows in order, tombstones among them, without a gap; none only at the end of the stream.

        At most `limit` rows, and fewer when they would hold more than `PAGE_BYTES` or so.

        Where retention has removed rows, reading goes on with the oldest kept row.

        Raises:
            StreamHoleError: when the next row has been missing for too long to be still under way.
        """

    async def end(self, stream: Stream) -> int:
        """The newest position of a resource stream, 0 if it is empty."""

    async def catch_up_pending(self) -> Sequence[Stream]:
        """The resource streams whose checkpoint is marked `catch_up_pending`, the one written longest ago first."""

    async def behind(self, seconds: float = 60.0) -> Sequence[Stream]:
        """The resource streams that hold more than their checkpoint says, as far as is known after `seconds`.

        Looks at every stream, in another order each time. A stream that cannot be looked at now is among them.
        """

    async def suspects(self, most: int) -> Sequence[tuple[Stream, Checkpoint]]:
        """At most `most` resource streams that may be behind, with their checkpoints.

        Streams marked `catch_up_pending` come first, the one written longest ago before the others. Then come those
        whose checkpoint moved last: a fault that stops all streams from being followed shows in these.
        """

    async def quarantined(self) -> Sequence[Stream]:
        """The resource streams with quarantined events."""


PROJECTION = "projection"
"""The name of the follower that fills projected streams."""


class ProjectedStreams(Protocol):
    """The subject and org streams of a store that keeps streams apart.

    Each method raises EventsError UNAVAILABLE when the store does not answer or throttles.
    """

    async def prepare(self, targets: Sequence[Stream]) -> None:
        """Learn about streams that events are about to be projected to, all at once. Only the cost depends on it."""

    async def project(self, target: Stream, events: Sequence[StoredEvent]) -> None:
        """Append events of one resource stream to a subject or org stream, in order.

        Events that are there already stay as they are: the same call again, also at the same time, changes nothing. A
        tombstone is appended as a tombstone. Rows are registered at the time of projection.

        Raises:
            Exception: any other than UNAVAILABLE means that these events cannot be stored there.
        """
