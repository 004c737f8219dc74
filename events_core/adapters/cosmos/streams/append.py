"""Appending: one writer task per stream and process, which writes the events that have gathered in one request.

The writer takes the position after the head that it knows. The id of the document decides races between processes.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, islice
from logging import getLogger
from random import uniform

from events_core.adapters.cosmos.client import CosmosDatabase, Document
from events_core.adapters.cosmos.failures import Failure, Meaning, failure_of, refusal
from events_core.adapters.cosmos.streams.documents import CursorProof, Draft
from events_core.adapters.cosmos.streams.duplicates import Duplicates
from events_core.adapters.cosmos.streams.heads import Head, Heads
from events_core.adapters.cosmos.streams.names import partition, position_id, segment_of
from events_core.adapters.cosmos.streams.queries import STREAMS, StreamQueries
from events_core.adapters.cosmos.streams.reservations import Reservations
from events_core.adapters.cosmos.streams.retention import Retention
from events_core.common import errors
from events_core.common.errors import EventsError
from events_core.common.texts import fitting
from events_core.feeds.ports import Appended
from events_core.feeds.stream import Stream

_log = getLogger(__name__)

GROUP_OPERATIONS = 100
GROUP_BYTES = 1_000_000
"""Cosmos DB takes 2 MB, but the HTTP client warns that a body of more than 1 MiB blocks the event loop."""
ATTEMPT_SECONDS = 6.0
FIRST_WAIT = 0.03
LONGEST_WAIT = 0.25
LONGEST_OUTAGE_WAIT = 2.0
RACE_SECONDS = 5.0
_PATIENCE = 2
"""Races that a writer may lose in a row before it waits."""
_TURN = 3
"""For how many times its own write the winner of a race pauses: as long as a loser needs to ask and to write."""
# Measured with 8 processes of 16 publishers each. If losers wait up to 2 s and winners pause for 1 s, a process that
# writes without a break keeps winning while the others sleep: p99 is over 4 s. With these values p99 is 1.2 s, at the
# same throughput.


@dataclass(eq=False, slots=True)
class Entry:
    """An event that waits to be stored. It is stored only once the event `after` is.

    `token` tells a document that this entry has written from a document that another writer has made of the same event.
    The outcome is always a result, an error too, so a caller that has gone need not fetch it. `searched_to`: the closed
    segments before this one were searched for a duplicate.
    """

    draft: Draft
    token: str
    outcome: asyncio.Future[Appended | EventsError]
    deadline: float
    after: Entry | None = None
    searched_to: int = 0

    @property
    def failed(self) -> bool:
        """Whether the outcome is an error. The event may be stored even then."""
        return self.outcome.done() and isinstance(self.outcome.result(), EventsError)


@dataclass(frozen=True, slots=True)
class WriterContext:
    """What the writers of a process share. `clock` gives microseconds since the epoch."""

    database: CosmosDatabase
    queries: StreamQueries
    reservations: Reservations
    heads: Heads
    duplicates: Duplicates
    retention: Retention
    proof: CursorProof
    segment_size: int
    clock: Callable[[], int]
    idle_seconds: float = 60.0
    deadline_seconds: float = 20.0
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(8))


class Appender:
    """The writers of a process, one per stream that it writes to."""

    def __init__(self, context: WriterContext) -> None:
        self._context = context
        self._writers: dict[str, _Writer] = {}
        self._closed = False
        self._numbers = count()

    def submit(
        self, stream: Stream, name: str, drafts: Sequence[Draft], *, in_order: bool = False
    ) -> list[asyncio.Future[Appended | EventsError]]:
        """Queue events of one stream. Return a future for each, done when the event is durable, a duplicate or failed.

        An event that is queued already is a duplicate. With `in_order`, a failed event fails the events after it.

        Raises:
            EventsError: UNAVAILABLE after close.
        """
        if self._closed:
            raise errors.unavailable("The event store is closed.")
        writer = self._writers.get(name)
        if writer is None:
            writer = self._writers[name] = _Writer(stream, name, self._context)
            writer.start(lambda: self._writers.pop(name))
        return writer.submit(drafts, (f"{self._context.nonce}{n:x}" for n in self._numbers), in_order=in_order)

    async def close(self) -> None:
        """Store the queued events and end the writers."""
        self._closed = True
        await asyncio.gather(*(writer.finish() for writer in [*self._writers.values()]))


class _Writer:
    """The writer task of one stream."""

    def __init__(self, stream: Stream, name: str, context: WriterContext) -> None:
        self._stream = stream
        self._name = name
        self._context = context
        self._queue: deque[Entry] = deque()
        self._pending: dict[str, Entry] = {}
        self._arrived = asyncio.Event()
        self._finishing = False
        self._task: asyncio.Task[None] | None = None
        self._average = 0.0
        self._lost_at = float("-inf")

    def start(self, on_end: Callable[[], object]) -> None:
        """Start the task. It calls `on_end` when it ends because no event came for a while."""
        self._task = asyncio.create_task(self._run(on_end))

    def submit(
        self, drafts: Sequence[Draft], tokens: Iterator[str], *, in_order: bool
    ) -> list[asyncio.Future[Appended | EventsError]]:
        """Queue events as `Appender.submit` says; `tokens` gives a new token for each entry."""
        futures, before = [], None
        deadline = asyncio.get_running_loop().time() + self._context.deadline_seconds
        for draft in drafts:
            entry = self._pending.get(draft.ukey)
            if entry is None:
                outcome = asyncio.get_running_loop().create_future()
                entry = Entry(draft, next(tokens), outcome, deadline, before if in_order else None)
                self._pending[draft.ukey] = entry
                self._queue.append(entry)
                futures.append(outcome)
            else:
                futures.append(_as_duplicate(entry.outcome))
            before = entry
        self._arrived.set()
        return futures

    async def finish(self) -> None:
        """Store the queued events and end the task."""
        self._finishing = True
        self._arrived.set()
        if self._task is not None:
            await self._task

    async def _run(self, on_end: Callable[[], object]) -> None:
        try:
            while await self._has_work():
                if group := self._next_group():
                    await self._store(group)
        finally:
            on_end()

    async def _has_work(self) -> bool:
        """Wait for an event; return False if none came for a while, or if the writer finishes."""
        if not self._queue and not self._finishing:
            self._arrived.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._context.idle_seconds):
                    await self._arrived.wait()
        return bool(self._queue)

    def _next_group(self) -> list[Entry]:
        """Take as many entries from the queue as one request holds. Those whose deadline has passed fail."""
        while self._queue and self._queue[0].deadline <= asyncio.get_running_loop().time():
            self._settle(self._queue.popleft(), errors.unavailable("The event store did not answer in time."))
        if not self._queue:
            return []
        sizes = (entry.draft.size for entry in islice(self._queue, GROUP_OPERATIONS))
        return [self._queue.popleft() for _ in range(fitting(sizes, GROUP_BYTES))]

    async def _store(self, group: Sequence[Entry]) -> None:
        """Store a group and settle every entry of it, whatever happens."""
        reason = errors.unavailable("The event store did not answer in time.")
        try:
            async with asyncio.timeout_at(max(entry.deadline for entry in group)):
                await self._commit(list(group))
        except TimeoutError:
            _log.warning("append outcome unknown at the deadline events=%d", len(group))
        except EventsError as error:
            reason = error
        except Exception:  # noqa: BLE001 - the callers get 503, and the writer goes on with the next group
            _log.exception("append failed events=%d", len(group))
        finally:
            for entry in group:
                self._settle(entry, reason)

    async def _commit(self, entries: list[Entry]) -> None:
        """Write until every entry is settled. The caller sets the deadline."""
        failures = 0
        while entries := self._unsettled(entries):
            head, attempt = None, entries
            try:
                head = await self._prepare(entries)
                if not (entries := self._unsettled(entries)):
                    return
                room = self._context.segment_size - head.position % self._context.segment_size
                attempt = entries[:room]
                await self._write(attempt, head)
            except Exception as error:  # noqa: BLE001 - the loop finds out what was written, whatever the error is
                failures += 1
                failure = failure_of(error)
                if failure.meaning is Meaning.UNKNOWN:
                    _log.warning("write outcome unknown error=%s status=%d", type(error).__name__, failure.status)
                await self._recover(attempt, entries, head, failure, failures)
            else:
                failures = 0
                await self._give_way()

    def _unsettled(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries without an outcome. An entry fails if the entry that it waits for has failed."""
        for entry in entries:
            if entry.after is not None and entry.after.failed:
                self._settle(entry, errors.unavailable("An event before this one was not stored."))
        return [entry for entry in entries if not entry.outcome.done()]

    async def _prepare(self, entries: Sequence[Entry]) -> Head:
        """The head to write after. Entries that closed segments hold are settled on the way."""
        context = self._context
        head = await context.reservations.head(self._stream, self._name)
        segment = segment_of(head.position + 1, context.segment_size)
        ukeys = [entry.draft.ukey for entry in entries if entry.searched_to < segment]
        searched_to = min((entry.searched_to for entry in entries), default=segment)
        if ukeys and segment:
            self._settle_stored(entries, await context.duplicates.find(self._name, segment, searched_to, ukeys))
            for entry in entries:
                entry.searched_to = segment
        room = context.segment_size - head.position % context.segment_size
        await context.reservations.reserve(self._stream, self._name, head, min(len(entries), room))
        return head

    async def _write(self, attempt: Sequence[Entry], head: Head) -> None:
        documents = self._documents(attempt, head)
        began = time.monotonic()
        async with asyncio.timeout(ATTEMPT_SECONDS):
            if len(documents) == 1:
                await self._context.database.create("append", STREAMS, documents[0])
            else:
                operations = [("create", (document,)) for document in documents]
                await self._context.database.batch("append", STREAMS, operations, documents[0]["partition"])
        self._average += (time.monotonic() - began - self._average) / 8
        self._context.heads.learn(self._name, Head.of(documents[-1]))
        for entry, document in zip(attempt, documents, strict=True):
            self._settle(entry, Appended(self._context.proof.cursor(document), duplicate=False))

    def _documents(self, attempt: Sequence[Entry], head: Head) -> list[Document]:
        """The documents of the entries, at the positions just after the head."""
        registered = max(self._context.clock(), head.registered)
        segment = segment_of(head.position + 1, self._context.segment_size)
        return [
            {
                "id": position_id(position),
                "partition": partition(self._name, segment),
                "stream": self._name,
                "seq": position,
                "ukey": entry.draft.ukey,
                "writer": entry.token,
                "registered": registered,
                "ttl": self._context.retention.time_to_live(registered),
                **entry.draft.properties,
            }
            for position, entry in enumerate(attempt, start=head.position + 1)
        ]

    async def _recover(
        self, attempt: Sequence[Entry], entries: Sequence[Entry], head: Head | None, failure: Failure, failures: int
    ) -> None:
        """React to a failed attempt, so that another attempt may follow."""
        match failure.meaning:
            case Meaning.REFUSED if head is not None:
                await self._isolate(attempt, failure)
            case Meaning.THROTTLED:
                await asyncio.sleep(failure.wait)
            case Meaning.CONFLICT if head is not None:
                self._lost_at = time.monotonic()
                await _pause(failures - _PATIENCE, LONGEST_WAIT)
                await self._look(entries, head)
            case _:
                await _pause(failures, LONGEST_OUTAGE_WAIT)
                if head is not None:
                    await self._look(entries, head)

    async def _isolate(self, attempt: Sequence[Entry], failure: Failure) -> None:
        """Halve a group that was refused until the offending event is alone; only that event fails."""
        if len(attempt) == 1:
            _log.warning("event refused by Cosmos DB status=%d", failure.status)
            self._settle(attempt[0], refusal(failure.status))
            return
        half = len(attempt) // 2
        await self._commit(list(attempt[:half]))
        await self._commit(list(attempt[half:]))

    async def _look(self, entries: Sequence[Entry], head: Head) -> None:
        """Read the documents after the head, and settle the entries that are stored."""
        segment = segment_of(head.position + 1, self._context.segment_size)
        ukeys = [entry.draft.ukey for entry in entries]
        try:
            found = await self._context.queries.since(self._name, segment, head.position, ukeys)
        except EventsError:
            return  # the next attempt conflicts again, until the deadline
        self._settle_stored(entries, found)
        newest = max(found, key=lambda document: int(document["seq"]), default=None)
        if newest is not None:
            self._context.heads.learn(self._name, Head.of(newest))

    def _settle_stored(self, entries: Sequence[Entry], found: Sequence[Document]) -> None:
        """Settle the entries that the documents found are made of. A document of this very entry is no duplicate."""
        stored = {document["ukey"]: document for document in found}
        for entry in entries:
            document = stored.get(entry.draft.ukey)
            if document is not None:
                duplicate = document.get("writer") != entry.token
                self._settle(entry, Appended(self._context.proof.cursor(document), duplicate))

    async def _give_way(self) -> None:
        """For some seconds after a race, pause after each write, so that the losers get their turn."""
        if time.monotonic() - self._lost_at < RACE_SECONDS:
            await asyncio.sleep(self._average * _TURN)

    def _settle(self, entry: Entry, outcome: Appended | EventsError) -> None:
        if not entry.outcome.done():
            entry.outcome.set_result(outcome)
            self._pending.pop(entry.draft.ukey, None)


async def _pause(steps: int, longest: float) -> None:
    """Wait at random, up to twice as long with each step; not at all before the first step."""
    if steps > 0:
        await asyncio.sleep(uniform(0, min(longest, FIRST_WAIT * 2**steps)))  # noqa: S311 - no secret


def _as_duplicate(outcome: asyncio.Future[Appended | EventsError]) -> asyncio.Future[Appended | EventsError]:
    """The outcome of an event that came again while the first one was queued."""
    shared: asyncio.Future[Appended | EventsError] = outcome.get_loop().create_future()

    def share(first: asyncio.Future[Appended | EventsError]) -> None:
        if not shared.done():
            result = first.result()
            shared.set_result(Appended(result.cursor, duplicate=True) if isinstance(result, Appended) else result)

    outcome.add_done_callback(share)
    return shared
