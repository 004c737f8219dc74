"""The event store on one SQLite file (the embedded edition)."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from typing_extensions import override

from events_core.adapters.sqlite import read
from events_core.adapters.sqlite.filters import add_functions
from events_core.adapters.sqlite.hashes import Digest, keyed_digest
from events_core.adapters.sqlite.rows import Names
from events_core.adapters.sqlite.schema import KEY, Session, connect, failures_as_unavailable
from events_core.adapters.sqlite.write import Transaction
from events_core.adapters.sqlite.writer import Writer
from events_core.cloudevent import CloudEvent
from events_core.common import clock, errors, private_files
from events_core.feeds.ports import Appended, Chunk, EventStore, ReadRequest, RowsAfter, StoredEvent
from events_core.feeds.stream import Stream

T = TypeVar("T")
P = ParamSpec("P")

_log = getLogger(__name__)

SCAN_ROWS = 10_000
_LOG_PAGES = 4_000
"""The log grows to 16 MB before it is moved into the file, so a page that many events touch is moved once."""


class SqliteEventStore(EventStore):
    """Events in a file that several processes may share.

    Positions rise in the order of commits across all streams. `clock` gives microseconds since the epoch.
    `busy_timeout` is how many seconds to wait for another process's transaction. After `idle` seconds without writes
    the write-ahead log is moved into the file. `digest` hashes texts for the indexes. The file is opened at its first
    use.
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
        if private_files.open_to_others(self._path.parent):
            _log.warning("the directory of EVENTS_DATA_DIR is open to other users of this machine")
        self._clock = clock
        self._busy_timeout = busy_timeout
        self._digest = digest
        self._key: bytes | None = None
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

    def key(self) -> bytes:
        """The file's own secret of 16 bytes, which is made with the file. Opens the file.

        Raises:
            EventsError: UNAVAILABLE if the file cannot be opened.
        """
        with failures_as_unavailable():
            self._connect().connection.close()
        assert self._key is not None
        return self._key

    # -- The port -----------------------------------------------------------------------------------------------------

    @property
    @override
    def scan_rows(self) -> int:
        return SCAN_ROWS  # SQLite compares them in some milliseconds

    @override
    async def append(self, events: Sequence[CloudEvent]) -> list[Appended]:
        if not events:
            return []
        return await self._writer.submit(
            lambda transaction: transaction.append(events), weight=sum(len(event.json) for event in events)
        )

    @override
    async def read(self, request: ReadRequest) -> Chunk:
        return await self._in_reader(read.read, self._names, request)

    @override
    async def head(self, stream: Stream) -> int:
        return await self._in_reader(read.head, stream)

    @override
    async def changed(self, heads: Mapping[Stream, int]) -> Mapping[Stream, int]:
        return await self._in_reader(read.changed, heads)

    @override
    async def at(self, stream: Stream, positions: Sequence[int]) -> Sequence[StoredEvent]:
        return await self._in_reader(read.at, self._names, stream, positions)

    @override
    async def find(self, source: str | None, event_id: str) -> Sequence[StoredEvent]:
        return await self._in_reader(read.find, self._names, source, event_id)

    @override
    async def erase(self, resource: str, source: str, event_id: str) -> bool:
        return await self._writer.submit(lambda transaction: transaction.erase(resource, source, event_id))

    @override
    async def expire(self, registered_before: int) -> int:
        removed = 0
        # Small transactions, so that publishers need not wait for all of it.
        while count := await self._writer.submit(lambda transaction: transaction.expire(registered_before)):
            removed += count
        return removed

    @override
    async def ping(self) -> None:
        await self._in_reader(_ping, self._path)
        await self._writer.submit(lambda _: None)

    @override
    async def close(self) -> None:
        self._closed = True
        await asyncio.to_thread(self._readers.shutdown)
        while self._sessions:
            self._sessions.pop().connection.close()
        await self._writer.close()

    # -- What the other stores in the file need -----------------------------------------------------------------------

    async def read_after(self, stream: Stream, position: int, limit: int) -> RowsAfter:
        """The next rows of a stream, tombstones among them.

        Raises:
            EventsError: UNAVAILABLE if the file cannot be read.
        """
        return await self._in_reader(read.read_after, self._names, stream, position, limit)

    async def fetch(self, sql: str, *values: int | str) -> list[Any]:
        """The rows of a statement that only reads.

        Raises:
            EventsError: UNAVAILABLE if the file cannot be read.
        """
        return await self.query(lambda connection: connection.execute(sql, values).fetchall())

    async def query(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work`, which only reads, on a reader's connection.

        Raises:
            EventsError: UNAVAILABLE if the file cannot be read.
        """
        return await self._in_reader(lambda session: work(session.connection))

    async def execute(self, sql: str, *values: int | str | None) -> int:
        """Run a statement in a transaction; return how many rows it changed when that is durable.

        Raises:
            EventsError: UNAVAILABLE if the transaction failed or its outcome is unknown.
        """
        return await self.write(lambda connection: connection.execute(sql, values).rowcount)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in a transaction; return its result when that is durable.

        Raises:
            EventsError: UNAVAILABLE if the transaction failed or its outcome is unknown.
        """
        return await self._writer.submit(lambda transaction: work(transaction.connection))

    # -- Connections --------------------------------------------------------------------------------------------------

    def _commit(self, connection: sqlite3.Connection) -> None:
        """Make a transaction durable. Tests and a benchmark override this to let it fail or wait."""
        connection.execute("COMMIT")

    def _connect(self) -> Session:
        """Open a connection. Only the first may make the file: an empty one must not take the place of a lost one."""
        session = connect(self._path, create=self._key is None, busy_timeout=self._busy_timeout, digest=self._digest)
        if self._key not in (None, session.key):
            session.connection.close()
            raise sqlite3.DatabaseError("another file has taken its place")
        self._key = session.key
        return session

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
                self._local.session = None  # the thread opens another connection when it next needs one
                self._sessions.remove(session)
                session.connection.close()
                raise

    def _session(self) -> Session:
        """This thread's own connection."""
        session: Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._connect()
            session.connection.execute(f"PRAGMA busy_timeout = {int(self._busy_timeout * 1_000)}")
            session.connection.execute("PRAGMA query_only = ON")
            add_functions(session.connection, session.patterns)
            self._sessions.append(session)
            self._local.session = session
        return session


def _ping(session: Session, path: Path) -> None:
    """Open the file again, since an open connection does not notice that the file was removed or overwritten."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        if connection.execute(KEY).fetchone() != session.connection.execute(KEY).fetchone():
            raise sqlite3.DatabaseError("another file has taken its place")
