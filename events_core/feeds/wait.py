"""Waiting readers (long polls).

A publish in this process wakes them at once. For other processes, one poll per stream serves all its readers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from events_core.common.errors import EventsError
from events_core.feeds.ports import EventStore
from events_core.feeds.stream import Stream

POLL_SECONDS = 0.5
"""How often the newest position of a stream is looked up while a reader waits for it."""


class _Watch:
    """The readers of one stream. Every change sets `changed` and puts a new event in its place."""

    def __init__(self, head: int) -> None:
        self.head = head
        self.changed = asyncio.Event()
        self.readers = 0
        self.poll: asyncio.Task[None] | None = None

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class WaitingReaders:
    """Lets at most `max_waiters` requests of this process wait for streams to grow, without holding a thread."""

    def __init__(self, store: EventStore, max_waiters: int) -> None:
        self._store = store
        self._slots = self._free = max_waiters
        self._watches: dict[Stream, _Watch] = {}
        self._listeners: list[Callable[[set[Stream]], None]] = []
        self.closed = False

    @property
    def full(self) -> bool:
        """Whether every slot is taken, or the process stops."""
        return self.closed or self._free <= 0

    @property
    def half_full(self) -> bool:
        """Whether half of the slots or more are taken."""
        return self._free * 2 <= self._slots

    def wake(self, streams: Iterable[Stream]) -> None:
        """Wake the readers of streams, and call the listeners."""
        if self._watches or self._listeners:
            woken = set(streams)
            for stream in self._watches.keys() & woken:
                self._watches[stream].wake()
            for listener in self._listeners:
                listener(woken)

    @contextmanager
    def listening(self, listener: Callable[[set[Stream]], None]) -> Iterator[None]:
        """Call `listener` with every stream that is woken, also where no reader waits."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def close(self) -> None:
        """Wake every reader and admit no more, so that the process can stop."""
        self.closed = True
        for watch in self._watches.values():
            watch.wake()

    @asynccontextmanager
    async def watching(self, stream: Stream) -> AsyncIterator[_Watch]:
        """Take a slot and watch a stream. Every change from now on sets `changed`.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        self._free -= 1
        try:
            watch = await self._enter(stream)
            try:
                yield watch
            finally:
                self._leave(stream, watch)
        finally:
            self._free += 1

    async def _enter(self, stream: Stream) -> _Watch:
        head = 0 if stream in self._watches else await self._store.head(stream)
        watch = self._watches.get(stream)
        if watch is None:
            watch = self._watches[stream] = _Watch(head)
            watch.poll = asyncio.create_task(self._poll(stream, watch))
        watch.readers += 1
        return watch

    def _leave(self, stream: Stream, watch: _Watch) -> None:
        watch.readers -= 1
        if not watch.readers:
            del self._watches[stream]
            if watch.poll is not None:
                watch.poll.cancel()

    async def _poll(self, stream: Stream, watch: _Watch) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            with suppress(EventsError):  # the reader's next read reports what is wrong
                head = await self._store.head(stream)
                if head > watch.head:
                    watch.head = head
                    watch.wake()
