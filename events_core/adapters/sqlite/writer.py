"""The one writer of a process: a thread that commits whatever has gathered in one transaction."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from logging import getLogger
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from events_core.adapters.sqlite.schema import failures_as_unavailable, retry_while_busy
from events_core.adapters.sqlite.write import Transaction
from events_core.common import errors

_log = getLogger(__name__)

T = TypeVar("T")

_GROUP_BYTES = 1024 * 1024


@dataclass(eq=False, slots=True)
class _Job:
    """Something to do in a transaction, and who waits for its outcome."""

    work: Callable[[Transaction], Any]
    weight: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = field(default=None)


class Writer:
    """Runs jobs in the order they came, each in a savepoint of its group's transaction.

    Who waits holds no thread; who stops waiting stops nothing. `commit` makes a transaction durable.
    """

    def __init__(
        self,
        open_transaction: Callable[[], Transaction],
        commit: Callable[[sqlite3.Connection], None],
        *,
        busy_timeout: float,
        idle: float,
    ) -> None:
        self._open_transaction = open_transaction
        self._commit = commit
        self._busy_timeout = busy_timeout
        self._idle = idle
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._transaction: Transaction | None = None
        self._written = False
        self._thread = threading.Thread(target=self._run, name="events-writer", daemon=True)

    async def submit(self, work: Callable[[Transaction], T], weight: int = 0) -> T:
        """Do `work`, which writes about `weight` bytes, in a transaction; return its result when that is durable.

        Raises:
            EventsError: UNAVAILABLE when it failed, or nobody knows whether it did.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._gate:
            if self._closed:
                raise errors.unavailable("The event store is closed.")
            if self._thread.ident is None:
                self._thread.start()
            self._queue.put(_Job(work, weight, loop, future))
        return await future

    async def close(self) -> None:
        """Finish what was submitted, move it into the file proper, and end the thread."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        open_ = True
        while open_:
            group, open_ = self._gather()
            if group:
                self._serve(group)
        if self._transaction is not None:
            self._checkpoint()
            self._transaction.connection.close()

    def _gather(self) -> tuple[list[_Job], bool]:
        """Wait for a job, take those that came meanwhile; False when none will come any more."""
        group: list[_Job] = []
        weight = 0
        job = self._next()
        while job is not None:
            group.append(job)
            weight += job.weight
            if weight >= _GROUP_BYTES or self._queue.empty():
                return group, True
            job = self._queue.get()
        return group, False

    def _next(self) -> _Job | None:
        while True:
            try:
                return self._queue.get(timeout=self._idle if self._written else None)
            except Empty:
                self._checkpoint()

    def _checkpoint(self) -> None:
        """Move everything into the file proper and cut the log to nothing; again later while readers are in it."""
        with suppress(sqlite3.Error):
            assert self._transaction is not None
            (busy, *_) = self._transaction.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._written = bool(busy)

    def _serve(self, group: Sequence[_Job]) -> None:
        try:
            with failures_as_unavailable():
                self._transact(group)
        except Exception as error:  # noqa: BLE001  whatever it is, the callers get it and the thread lives on
            self._recover()
            for job in group:
                job.error = job.error or error
        for loop, jobs in groupby(group, key=lambda job: job.loop):
            # a loop that is closed has nobody left who waits
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, list(jobs))

    def _transact(self, group: Sequence[_Job]) -> None:
        self._transaction = transaction = self._transaction or self._open_transaction()
        retry_while_busy(lambda: transaction.connection.execute("BEGIN IMMEDIATE"), self._busy_timeout)
        transaction.begin()
        for job in group:
            self._attempt(transaction, job)
        self._commit(transaction.connection)
        self._written = True

    @staticmethod
    def _attempt(transaction: Transaction, job: _Job) -> None:
        """Do one job so that its failure undoes itself alone, unless SQLite gave the whole transaction up."""
        connection = transaction.connection
        connection.execute("SAVEPOINT job")
        try:
            with failures_as_unavailable():
                job.result = job.work(transaction)
        except Exception as error:
            transaction.forget()
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO job")
            job.error = error
        connection.execute("RELEASE job")

    def _recover(self) -> None:
        """Undo the transaction; a connection that cannot even do that is replaced by the next one."""
        transaction = self._transaction
        if transaction is None:
            return
        transaction.forget()
        try:
            if transaction.connection.in_transaction:
                transaction.connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._transaction = None
            with suppress(sqlite3.Error):
                transaction.connection.close()


def _settle(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is None:
            job.future.set_result(job.result)
        else:
            job.future.set_exception(job.error)
