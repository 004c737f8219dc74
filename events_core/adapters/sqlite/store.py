"""The event store on one SQLite file (the embedded edition)."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from events_core.adapters.sqlite import read
from events_core.adapters.sqlite.filters import add_functions
from events_core.adapters.sqlite.hashes import Digest, keyed_digest
from events_core.adapters.sqlite.rows import Names
from events_core.adapters.sqlite.schema import KEY, Session, connect, failures_as_unavailable
from events_core.adapters.sqlite.write import Transaction
from events_core.adapters.sqlite.writer import Writer
from events_core.cloudevent import CloudEvent
from events_core.common import clock, errors
from events_core.feeds.ports import Appended, Chunk, ReadRequest, StoredEvent
from events_core.feeds.stream import Stream

T = TypeVar("T")
P = ParamSpec("P")

SCAN_ROWS = 10_000
_LOG_PAGES = 4_000
"""A log of 16 MB: while publishers never pause, a page that many events touch is moved into the file once."""


class SqliteEventStore:
    """An EventStore in a file that several processes may share.

    Positions rise in the order of commits across all streams. `clock` gives microseconds since the epoch,
    `busy_timeout` says how many seconds to wait for another process's transaction, `idle` after how many seconds
    without writes the write-ahead log is moved into the file proper, and `digest` hashes for the indexes.
    The file is opened when first used.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], int] = clock.now,
        readers: int = 2,
        busy_timeout: float = 5.0,
        idle: float = 0.5,
        digest: Digest = keyed_digest,
    ) -> None:
        self._path = path.absolute()
        self._clock = clock
        self._busy_timeout = busy_timeout
        self._connect = partial(connect, path, busy_timeout=busy_timeout, digest=digest)
        self._names = Names()
        self._closed = False
        self._local = threading.local()
        self._sessions: list[Session] = []
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="events-reader")
        self._writer = Writer(self._open_transaction, self._commit, busy_timeout=busy_timeout, idle=idle)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def scan_rows(self) -> int:
        """As many rows as are compared in some milliseconds."""
        return SCAN_ROWS

    def key(self) -> bytes:
        """The file's own secret, 16 bytes, made with the file, which this opens.

        Raises:
            EventsError: UNAVAILABLE when it cannot be opened.
        """
        with failures_as_unavailable(), closing(self._connect().connection) as connection:
            (key,) = connection.execute(KEY).fetchone()
        return bytes(key)

    async def append(self, events: Sequence[CloudEvent]) -> list[Appended]:
        """Store events durably in the given order; see `EventStore.append`."""
        if not events:
            return []
        return await self._writer.submit(
            lambda transaction: transaction.append(events), weight=sum(len(event.json) for event in events)
        )

    async def read(self, request: ReadRequest) -> Chunk:
        """Read a chunk of a stream; see `EventStore.read`."""
        return await self._in_reader(read.read, self._names, request)

    async def head(self, stream: Stream) -> int:
        """The newest position of a stream, 0 when it holds nothing."""
        return await self._in_reader(read.head, stream)

    async def at(self, stream: Stream, positions: Sequence[int]) -> Sequence[StoredEvent]:
        """The rows at positions of a stream; see `EventStore.at`."""
        return await self._in_reader(read.at, self._names, stream, positions)

    async def after(self, stream: Stream, position: int, limit: int) -> Sequence[StoredEvent]:
        """The next rows of a stream, tombstones among them; see `StreamLedger.read_after`."""
        return await self._in_reader(read.after, self._names, stream, position, limit)

    async def find(self, source: str, event_id: str) -> Sequence[StoredEvent]:
        """The rows of events with this source and id; see `EventStore.find`."""
        return await self._in_reader(read.find, self._names, source, event_id)

    async def erase(self, resource: str, source: str, event_id: str) -> bool:
        """Replace an event by a tombstone, also one that is a tombstone already; False when there is none."""
        return await self._writer.submit(lambda transaction: transaction.erase(resource, source, event_id))

    async def expire(self, registered_before: int) -> int:
        """Remove the oldest events in small transactions, between which publishers have their turn."""
        removed = 0
        while at_once := await self._writer.submit(lambda transaction: transaction.expire(registered_before)):
            removed += at_once
        return removed

    async def ping(self) -> None:
        """Return when the file can be read, and written to.

        Raises:
            EventsError: UNAVAILABLE when it cannot.
        """
        await self._in_reader(_ping, self._path)
        await self._writer.submit(lambda _: None)

    async def close(self) -> None:
        """Finish what was submitted and close the file; whatever is called later is UNAVAILABLE."""
        self._closed = True
        await asyncio.to_thread(self._readers.shutdown)
        while self._sessions:
            self._sessions.pop().connection.close()
        await self._writer.close()

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in a transaction of the file's one writer; return its result when that is durable.

        Raises:
            EventsError: UNAVAILABLE when it failed, or nobody knows whether it did.
        """
        return await self._writer.submit(lambda transaction: work(transaction.connection))

    async def query(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work`, which only reads, on a connection of a reader.

        Raises:
            EventsError: UNAVAILABLE when the file cannot be read.
        """
        return await self._in_reader(lambda session: work(session.connection))

    def _commit(self, connection: sqlite3.Connection) -> None:
        """Make a transaction durable; a benchmark puts its delay here."""
        connection.execute("COMMIT")

    def _open_transaction(self) -> Transaction:
        session = self._connect()
        session.connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        return Transaction(session, self._clock)

    async def _in_reader(self, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise errors.unavailable("The event store is closed.")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, partial(self._with_session, work, *args, **kwargs))

    def _with_session(self, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        with failures_as_unavailable():
            session = self._session()
            try:
                return work(session, *args, **kwargs)
            except sqlite3.Error:
                self._discard(session)
                raise

    def _session(self) -> Session:
        """This thread's own connection."""
        session: Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._connect()
            session.connection.execute(f"PRAGMA busy_timeout = {int(self._busy_timeout * 1_000)}")
            session.connection.execute("PRAGMA query_only = ON")
            add_functions(session.connection)
            self._sessions.append(session)
            self._local.session = session
        return session

    def _discard(self, session: Session) -> None:
        """Close a connection that failed; the thread opens another when it next needs one."""
        self._local.session = None
        self._sessions.remove(session)
        session.connection.close()


def _ping(session: Session, path: Path) -> None:
    """Read the file anew: connections that are open do not see that it was removed or overwritten."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        if connection.execute(KEY).fetchone() != session.connection.execute(KEY).fetchone():
            raise sqlite3.DatabaseError("another file stands in its place")
