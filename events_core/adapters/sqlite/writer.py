"""The one writer of a process: a thread that commits all waiting requests in one transaction."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from events_core.adapters.sqlite.schema import failures_as_unavailable, retry_while_busy
from events_core.adapters.sqlite.write import Transaction
from events_core.common import errors

T = TypeVar("T")

_GROUP_BYTES = 1024 * 1024


@dataclass(eq=False, slots=True)
class _Request:
    """Work for a transaction, and the future that gets its outcome."""

    work: Callable[[Transaction], Any]
    weight: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class Writer:
    """Serves requests in the order of their arrival, each in a savepoint of its group's transaction.

    A caller that waits holds no thread, and its cancellation stops no request. `commit` makes a transaction durable.
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
        self._queue: SimpleQueue[_Request | None] = SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._transaction: Transaction | None = None
        self._written = False
        self._thread = threading.Thread(target=self._run, name="events-writer", daemon=True)

    async def submit(self, work: Callable[[Transaction], T], weight: int = 0) -> T:
        """Do `work`, which writes about `weight` bytes, in a transaction; return its result when that is durable.

        Raises:
            EventsError: UNAVAILABLE if the transaction failed or its outcome is unknown.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._gate:
            if self._closed:
                raise errors.unavailable("The event store is closed.")
            if self._thread.ident is None:
                self._thread.start()
            self._queue.put(_Request(work, weight, loop, future))
        return await future

    async def close(self) -> None:
        """Finish all submitted requests, move them from the log into the file, and end the thread."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        is_open = True
        while is_open:
            group, is_open = self._gather()
            if group:
                self._serve(group)
        if self._transaction is not None:
            self._checkpoint()
            self._transaction.connection.close()

    def _gather(self) -> tuple[list[_Request], bool]:
        """Wait for a request and take all that are waiting, up to a size. False means that no more will come."""
        group: list[_Request] = []
        weight = 0
        request = self._next()
        while request is not None:
            group.append(request)
            weight += request.weight
            if weight >= _GROUP_BYTES or self._queue.empty():
                return group, True
            request = self._queue.get()
        return group, False

    def _next(self) -> _Request | None:
        while True:
            try:
                return self._queue.get(timeout=self._idle if self._written else None)
            except Empty:
                self._checkpoint()

    def _checkpoint(self) -> None:
        """Move the log into the file and empty it. If readers are using the log, it is tried again later."""
        with suppress(sqlite3.Error):
            assert self._transaction is not None
            (busy, *_) = self._transaction.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._written = bool(busy)

    def _serve(self, group: Sequence[_Request]) -> None:
        try:
            with failures_as_unavailable():
                self._transact(group)
        except Exception as error:  # noqa: BLE001 - the callers get any error, and the thread goes on
            self._recover()
            for request in group:
                request.error = request.error or error
        for loop, requests in groupby(group, key=lambda request: request.loop):
            with suppress(RuntimeError):  # nobody waits in a loop that is closed
                loop.call_soon_threadsafe(_settle, list(requests))

    def _transact(self, group: Sequence[_Request]) -> None:
        self._transaction = transaction = self._transaction or self._open_transaction()
        retry_while_busy(lambda: transaction.connection.execute("BEGIN IMMEDIATE"), self._busy_timeout)
        transaction.begin()
        for request in group:
            self._attempt(transaction, request)
        self._commit(transaction.connection)
        self._written = True

    @staticmethod
    def _attempt(transaction: Transaction, request: _Request) -> None:
        """Do one request. Its failure undoes nothing else, unless SQLite has rolled the whole transaction back."""
        connection = transaction.connection
        connection.execute("SAVEPOINT request")
        try:
            with failures_as_unavailable():
                request.result = request.work(transaction)
        except Exception as error:
            transaction.forget()
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO request")
            request.error = error
        connection.execute("RELEASE request")

    def _recover(self) -> None:
        """Roll the transaction back. If that fails too, the next transaction opens another connection."""
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


def _settle(requests: Sequence[_Request]) -> None:
    for request in requests:
        if request.future.done():
            continue
        if request.error is None:
            request.future.set_result(request.result)
        else:
            request.future.set_exception(request.error)
