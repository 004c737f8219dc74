"""Waiting readers: at once by a publish in this process, by one shared head poll for everything else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from events_core.common.errors import EventsError
from events_core.feeds.ports import EventStore
from events_core.feeds.stream import Stream

POLL_SECONDS = 0.5


class _Watch:
    """What the readers of one stream wait for: a flag that each change replaces, and the poll for changes."""

    def __init__(self, head: int) -> None:
        self.head = head
        self.changed = asyncio.Event()
        self.readers = 0
        self.poll: asyncio.Task[None] | None = None

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class WaitingReaders:
    """Lets at most `max_waiters` requests of this process wait for streams to grow, holding no thread."""

    def __init__(self, store: EventStore, max_waiters: int) -> None:
        self._store = store
        self._most = self._places = max_waiters
        self._watches: dict[Stream, _Watch] = {}
        self._listeners: list[Callable[[set[Stream]], None]] = []
        self.closed = False

    @property
    def full(self) -> bool:
        """Whether no further request may wait now."""
        return self.closed or self._places <= 0

    @property
    def half_full(self) -> bool:
        """Whether half of the places or more are taken."""
        return self._places * 2 <= self._most

    def wake(self, streams: Iterable[Stream]) -> None:
        """Wake the readers that wait for one of the streams."""
        if self._watches or self._listeners:
            woken = set(streams)
            for stream in self._watches.keys() & woken:
                self._watches[stream].wake()
            for listener in self._listeners:
                listener(woken)

    @contextmanager
    def listening(self, listener: Callable[[set[Stream]], None]) -> Iterator[None]:
        """Tell `listener` of every stream that is woken, whether or not anybody waits."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def close(self) -> None:
        """Wake everybody and let nobody wait any more, so that the process can stop."""
        self.closed = True
        for watch in self._watches.values():
            watch.wake()

    @asynccontextmanager
    async def watching(self, stream: Stream) -> AsyncIterator[_Watch]:
        """Take a place and watch a stream; no change after entering is missed by `changed`.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        self._places -= 1
        try:
            watch = await self._enter(stream)
            try:
                yield watch
            finally:
                self._leave(stream, watch)
        finally:
            self._places += 1

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
            with suppress(EventsError):  # the reader's own next read says what is wrong
                head = await self._store.head(stream)
                if head > watch.head:
                    watch.head = head
                    watch.wake()
