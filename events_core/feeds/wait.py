"""Waiting readers (long polls).

A publish in this process wakes them at once. For other processes, one look-up a second serves all readers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from events_core.common.errors import EventsError
from events_core.feeds.ports import EventStore
from events_core.feeds.stream import Stream

POLL_SECONDS = 1.0
"""How often the store is asked which of the streams with waiting readers have grown."""
STREAMS_AT_ONCE = 200
"""A look-up is about so many streams. If readers wait for more, the streams take turns."""


class Watch:
    """The readers of one stream. Every change sets `changed` and puts a new event in its place.

    Readers have seen the stream up to `head`, or were woken. `waiting` of the readers wait.
    """

    def __init__(self) -> None:
        self.head = 0
        self.changed = asyncio.Event()
        self.readers = 0
        self.waiting = 0

    def wake(self) -> None:
        """Wake every waiting reader."""
        self.changed.set()
        self.changed = asyncio.Event()

    def grow(self, head: int) -> None:
        """Wake every waiting reader if the stream has grown."""
        if head > self.head:
            self.head = head
            self.wake()


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
        self._watches: dict[Stream, Watch] = {}
        self._poll: asyncio.Task[None] | None = None
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
        """Wake the readers of streams that this process has appended to, and call the listeners."""
        if self._watches or self._listeners:
            woken = set(streams)
            self.wake_readers(woken)
            for listener in self._listeners:
                listener(woken)

    def wake_readers(self, streams: Iterable[Stream]) -> None:
        """Wake the readers of streams."""
        for stream in self._watches.keys() & set(streams):
            self._watches[stream].wake()

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

    @contextmanager
    def watching(self, stream: Stream) -> Iterator[Watch]:
        """Watch a stream. Every change in this process from now on sets `changed`."""
        watch = self._watches.setdefault(stream, Watch())
        watch.readers += 1
        try:
            yield watch
        finally:
            watch.readers -= 1
            if not watch.readers:
                del self._watches[stream]

    async def until(self, changed: asyncio.Event, watch: Watch, position: int) -> None:
        """Wait for `changed` of a watch, which was taken before the stream was read up to `position`."""
        if watch.waiting:
            watch.grow(position)  # the others have not read so far
        watch.head = max(watch.head, position)
        watch.waiting += 1
        if self._poll is None:
            self._poll = asyncio.create_task(self._look_up_again_and_again())
        try:
            await changed.wait()
        finally:
            watch.waiting -= 1
            if not any(each.waiting for each in self._watches.values()):
                self._poll.cancel()
                self._poll = None

    async def _look_up_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            with suppress(EventsError):  # the next read of a reader reports what is wrong
                await self._look_up()

    async def _look_up(self) -> None:
        waiting = [stream for stream, watch in self._watches.items() if watch.waiting][:STREAMS_AT_ONCE]
        for stream in waiting:  # the next look-up begins with the others
            self._watches[stream] = self._watches.pop(stream)
        heads = {stream: self._watches[stream].head for stream in waiting}
        for stream, head in (await self._store.changed(heads)).items():
            if watch := self._watches.get(stream):
                watch.grow(head)
