"""Waiting readers (long polls).

A publish in this process wakes them at once. For other processes, one poll per stream serves all its readers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
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


class Slot:
    """A waiting request of a caller. `deadline` ends its wait."""

    def __init__(self, caller: str) -> None:
        self.caller = caller
        self.deadline: asyncio.Timeout | None = None
        self.displaced = False

    def displace(self) -> None:
        """End the wait at once, because another caller needs the slot."""
        self.displaced = True
        if self.deadline is not None and not self.deadline.expired():
            self.deadline.reschedule(asyncio.get_running_loop().time())


class WaitingReaders:
    """Lets at most `max_waiters` requests of this process wait for streams to grow, without holding a thread."""

    def __init__(self, store: EventStore, max_waiters: int) -> None:
        self._store = store
        self._max_waiters = max_waiters
        self._slots: list[Slot] = []  # taken ones, the oldest first
        self._watches: dict[Stream, _Watch] = {}
        self._listeners: list[Callable[[set[Stream]], None]] = []
        self.closed = False

    @contextmanager
    def slot(self, caller: str) -> Iterator[Slot | None]:
        """Take a slot for a request of a caller. None when too many wait already, or the process stops.

        When every slot is taken, a caller that holds none displaces the oldest request of the caller that holds most,
        if that is two or more. So nobody can hold every slot.
        """
        slot = Slot(caller) if self._makes_room_for(caller) else None
        if slot is not None:
            self._slots.append(slot)
        try:
            yield slot
        finally:
            if slot in self._slots:
                self._slots.remove(slot)

    def _makes_room_for(self, caller: str) -> bool:
        if self.closed or len(self._slots) < self._max_waiters:
            return not self.closed
        held = Counter(slot.caller for slot in self._slots)
        if not held or caller in held:
            return False
        greediest, most = held.most_common(1)[0]
        if most < 2:
            return False
        oldest = next(slot for slot in self._slots if slot.caller == greediest)
        self._slots.remove(oldest)
        oldest.displace()
        return True

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
        """Watch a stream. Every change from now on sets `changed`.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        watch = await self._enter(stream)
        try:
            yield watch
        finally:
            self._leave(stream, watch)

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
