"""Appending: one writer task a stream and process, which commits whatever has gathered in one request.

The next position is taken optimistically, and the id of the document decides every race with other processes.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from logging import getLogger
from random import uniform

from events_core.adapters.cosmos.client import CosmosDatabase
from events_core.adapters.cosmos.failures import Failure, Meaning, failure_of, refusal
from events_core.adapters.cosmos.streams.cursors import CursorDocuments
from events_core.adapters.cosmos.streams.documents import CursorProof, Document, Draft
from events_core.adapters.cosmos.streams.duplicates import Duplicates
from events_core.adapters.cosmos.streams.heads import Head, Heads
from events_core.adapters.cosmos.streams.names import partition, position_id, segment_of
from events_core.adapters.cosmos.streams.queries import STREAMS, StreamQueries
from events_core.common import errors
from events_core.common.errors import EventsError
from events_core.feeds.ports import Appended
from events_core.feeds.stream import Stream

_log = getLogger(__name__)

GROUP_OPERATIONS = 100
GROUP_BYTES = 1_000_000
"""Cosmos DB takes 2 MB; beyond 1 MiB the HTTP client warns that writing the body holds up the event loop."""
ATTEMPT_SECONDS = 6.0
FIRST_WAIT = 0.03
LONGEST_WAIT = 0.25
LONGEST_OUTAGE_WAIT = 2.0
RACE_SECONDS = 5.0
_PATIENCE = 2
_TURN = 3
"""How many writes' time a loser needs to ask and to write before the winner comes again."""
# Measured, 8 processes with 16 publishers each: with waits of up to 2 s and a second of giving way, whoever writes
# back to back keeps winning while the others sleep (p99 over 4 s); with these p99 is 1.2 s at the same throughput.


@dataclass(eq=False, slots=True)
class Entry:
    """An event on its way: `token` tells its document from one that another writer made of the same event.

    Its outcome is a result in any case, so that nobody has to ask for it. It is stored only once `after` is.
    """

    draft: Draft
    token: str
    outcome: asyncio.Future[Appended | EventsError]
    after: Entry | None = None
    asked_to: int = 0

    @property
    def failed(self) -> bool:
        """Whether it is settled that the event is not stored, as far as anybody knows."""
        return self.outcome.done() and isinstance(self.outcome.result(), EventsError)


@dataclass(frozen=True, slots=True)
class WriterContext:
    """What every writer of a process shares. `clock` gives microseconds since the epoch."""

    database: CosmosDatabase
    queries: StreamQueries
    cursors: CursorDocuments
    heads: Heads
    duplicates: Duplicates
    proof: CursorProof
    segment_size: int
    clock: Callable[[], int]
    idle_seconds: float = 60.0
    deadline_seconds: float = 20.0
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(8))


class Appender:
    """The writers of a process, one for each stream that is written to."""

    def __init__(self, context: WriterContext) -> None:
        self._context = context
        self._writers: dict[str, _Writer] = {}
        self._closed = False
        self._numbers = count()

    def submit(
        self, stream: Stream, name: str, drafts: Sequence[Draft], *, in_order: bool = False
    ) -> list[asyncio.Future[Appended | EventsError]]:
        """Hand over events of one stream; a future for each, done when it is durable, a duplicate, or failed.

        An event that is on its way already is a duplicate of that one. With `in_order` each is stored only once the
        one before it is; else each that can be stored is.

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
        """Finish what was submitted and end the writers."""
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
        """Start the task; `on_end` is called when nothing came for a while and it ended."""
        self._task = asyncio.create_task(self._run(on_end))

    def submit(
        self, drafts: Sequence[Draft], tokens: Iterator[str], *, in_order: bool
    ) -> list[asyncio.Future[Appended | EventsError]]:
        """Queue events; see `Appender.submit`."""
        futures, before = [], None
        for draft in drafts:
            entry = self._pending.get(draft.ukey)
            if entry is None:
                outcome = asyncio.get_running_loop().create_future()
                entry = Entry(draft, next(tokens), outcome, before if in_order else None)
                self._pending[draft.ukey] = entry
                self._queue.append(entry)
                futures.append(outcome)
            else:
                futures.append(_as_duplicate(entry.outcome))
            before = entry
        self._arrived.set()
        return futures

    async def finish(self) -> None:
        """Finish what is queued and end the task."""
        self._finishing = True
        self._arrived.set()
        if self._task is not None:
            await self._task

    async def _run(self, on_end: Callable[[], object]) -> None:
        try:
            while await self._something():
                await self._serve(self._gather())
        finally:
            on_end()

    async def _something(self) -> bool:
        """Wait for an event; False when none came for a while, or none will."""
        if not self._queue and not self._finishing:
            self._arrived.clear()
            try:
                async with asyncio.timeout(self._context.idle_seconds):
                    await self._arrived.wait()
            except TimeoutError:
                return bool(self._queue)
        return bool(self._queue)

    def _gather(self) -> list[Entry]:
        group: list[Entry] = []
        size = 0
        while self._queue and len(group) < GROUP_OPERATIONS:
            size += self._queue[0].draft.size
            if group and size > GROUP_BYTES:
                break
            group.append(self._queue.popleft())
        return group

    async def _serve(self, group: Sequence[Entry]) -> None:
        """Settle every entry of a group, whatever happens."""
        reason = errors.unavailable("The event store did not answer in time.")
        try:
            async with asyncio.timeout(self._context.deadline_seconds):
                await self._commit(list(group))
        except TimeoutError:
            _log.warning("The outcome of %d events is unknown after the deadline", len(group))
        except EventsError as error:
            reason = error
        except Exception:  # noqa: BLE001 - the callers get it, and the writer lives on
            _log.exception("A group of events could not be stored")
        finally:
            for entry in group:
                self._settle(entry, reason)

    async def _commit(self, entries: list[Entry]) -> None:
        """Try until every entry is settled; the caller sets the deadline."""
        failures = 0
        while entries := self._unsettled(entries):
            head, attempt = None, entries
            try:
                head = await self._prepare(entries)
                if not (entries := self._unsettled(entries)):
                    return
                attempt = entries[: self._room(head)]
                await self._write(attempt, head)
            except Exception as error:  # noqa: BLE001 - whatever it is, the outcome is unknown and the loop finds out
                failures += 1
                failure = failure_of(error)
                if failure.meaning is Meaning.UNKNOWN:
                    _log.warning("The outcome of a write is unknown: %s %d", type(error).__name__, failure.status)
                await self._recover(attempt, entries, head, failure, failures)
            else:
                failures = 0
                await self._give_way()

    def _unsettled(self, entries: Sequence[Entry]) -> list[Entry]:
        for entry in entries:
            if entry.after is not None and entry.after.failed:
                self._settle(entry, errors.unavailable("An event before this one was not stored."))
        return [entry for entry in entries if not entry.outcome.done()]

    async def _prepare(self, entries: Sequence[Entry]) -> Head:
        """The head to write after; entries that stand in older segments are settled on the way."""
        context = self._context
        if await context.cursors.begin(self._stream, self._name):
            context.heads.learn(self._name, Head())
        head = await context.heads.warm(self._name)
        segment = segment_of(head.position + 1, context.segment_size)
        ukeys = [entry.draft.ukey for entry in entries if entry.asked_to < segment]
        asked_to = min((entry.asked_to for entry in entries), default=segment)
        if ukeys and segment:
            self._recognise(entries, await context.duplicates.before(self._name, segment, asked_to, ukeys))
            for entry in entries:
                entry.asked_to = segment
        return head

    def _room(self, head: Head) -> int:
        """How many entries the segment of the next position has room for."""
        return self._context.segment_size - head.position % self._context.segment_size

    async def _write(self, attempt: Sequence[Entry], head: Head) -> None:
        documents = self._documents(attempt, head)
        place = documents[0]["partition"]
        began = time.monotonic()
        async with asyncio.timeout(ATTEMPT_SECONDS):
            if len(documents) == 1:
                await self._context.database.create("append", STREAMS, documents[0])
            else:
                operations = [("create", (document,)) for document in documents]
                await self._context.database.batch("append", STREAMS, operations, place)
        self._average += (time.monotonic() - began - self._average) / 8
        self._context.heads.learn(self._name, Head.of(documents[-1]))
        for entry, document in zip(attempt, documents, strict=True):
            self._settle(entry, Appended(self._context.proof.cursor(document), duplicate=False))

    def _documents(self, attempt: Sequence[Entry], head: Head) -> list[Document]:
        """The documents that the entries become right after the head."""
        registered = max(self._context.clock(), head.registered)
        place = partition(self._name, segment_of(head.position + 1, self._context.segment_size))
        return [
            {
                "id": position_id(position),
                "partition": place,
                "stream": self._name,
                "seq": position,
                "ukey": entry.draft.ukey,
                "writer": entry.token,
                "registered": registered,
                **entry.draft.properties,
            }
            for position, entry in enumerate(attempt, start=head.position + 1)
        ]

    async def _recover(
        self, attempt: Sequence[Entry], entries: Sequence[Entry], head: Head | None, failure: Failure, failures: int
    ) -> None:
        """Do what a failed attempt calls for, so that another one may follow."""
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
        """Split a group that was refused until the offender stands alone; only it fails."""
        if len(attempt) == 1:
            _log.warning("Cosmos DB refused an event: %d", failure.status)
            self._settle(attempt[0], refusal(failure.status))
            return
        half = len(attempt) // 2
        await self._commit(list(attempt[:half]))
        await self._commit(list(attempt[half:]))

    async def _look(self, entries: Sequence[Entry], head: Head) -> None:
        """Learn the head, and which of the entries stand in its segment."""
        segment = segment_of(head.position + 1, self._context.segment_size)
        ukeys = [entry.draft.ukey for entry in entries]
        try:
            found = await self._context.queries.since(self._name, segment, head.position, ukeys)
        except EventsError:
            return  # the next attempt conflicts again, until the deadline
        self._recognise(entries, found)
        newest = max(found, key=lambda each: int(each["seq"]), default=None)
        if newest is not None:
            self._context.heads.learn(self._name, Head.of(newest))

    def _recognise(self, entries: Sequence[Entry], found: Sequence[Document]) -> None:
        """Settle the entries that stand; one that stands by this very entry's own hand is no duplicate."""
        standing = {each["ukey"]: each for each in found}
        for entry in entries:
            document = standing.get(entry.draft.ukey)
            if document is not None:
                self._settle(
                    entry,
                    Appended(self._context.proof.cursor(document), duplicate=document.get("writer") != entry.token),
                )

    async def _give_way(self) -> None:
        """After a race, for some seconds, wait as long as it takes whoever lost it to have a turn."""
        if time.monotonic() - self._lost_at < RACE_SECONDS:
            await asyncio.sleep(self._average * _TURN)

    def _settle(self, entry: Entry, outcome: Appended | EventsError) -> None:
        if not entry.outcome.done():
            entry.outcome.set_result(outcome)
            self._pending.pop(entry.draft.ukey, None)


async def _pause(steps: int, longest: float) -> None:
    """Wait at random, twice as long at most with each step; not at all before the first."""
    if steps > 0:
        await asyncio.sleep(uniform(0, min(longest, FIRST_WAIT * 2**steps)))  # noqa: S311 - no secret


def _as_duplicate(outcome: asyncio.Future[Appended | EventsError]) -> asyncio.Future[Appended | EventsError]:
    """The outcome of an event that came again while the first was on its way."""
    shared: asyncio.Future[Appended | EventsError] = outcome.get_loop().create_future()

    def share(first: asyncio.Future[Appended | EventsError]) -> None:
        if not shared.done():
            result = first.result()
            shared.set_result(Appended(result.cursor, duplicate=True) if isinstance(result, Appended) else result)

    outcome.add_done_callback(share)
    return shared
