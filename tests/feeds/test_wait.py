"""Waiting readers: slots, wake-ups, and the shared poll."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from events_core.adapters.sqlite import SqliteEventStore
from events_core.cloudevent import CloudEvent
from events_core.common.errors import EventsError
from events_core.feeds import wait as module
from events_core.feeds.stream import Stream
from events_core.feeds.wait import WaitingReaders

MAIL, OTHER = Stream.of_resource("urn:altinn:resource:ttd-mail"), Stream.of_resource("urn:altinn:resource:other")


class CountingStore(SqliteEventStore):
    """A store that counts how often a newest position was looked up."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.heads = 0
        self.asked = asyncio.Event()

    async def head(self, stream: Stream) -> int:
        """The head."""
        self.heads += 1
        self.asked.set()
        return await super().head(stream)

    async def until_asked(self, times: int) -> None:
        """Return once the head was asked for so many times more."""
        async with asyncio.timeout(10):
            for _ in range(times):
                self.asked.clear()
                await self.asked.wait()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CountingStore]:
    """A new store."""
    store = CountingStore(tmp_path / "events.db")
    yield store
    await store.close()


def _event(name: str, stream: Stream = MAIL) -> CloudEvent:
    return CloudEvent(name, "https://mail.example/box", "t", None, stream.key, None, None, b"{}")


async def test_a_publish_in_this_process_wakes_readers_at_once(store: CountingStore) -> None:
    """Only readers of the published stream wake."""
    waiting = WaitingReaders(store, 2)
    async with waiting.watching(MAIL) as mail, waiting.watching(OTHER) as other:
        mail_changed, other_changed = mail.changed, other.changed
        waiting.wake([MAIL])
        assert (mail_changed.is_set(), other_changed.is_set()) == (True, False)


async def test_every_change_wakes_readers_again(store: CountingStore) -> None:
    """After a change, readers wait for a new event."""
    waiting = WaitingReaders(store, 1)
    async with waiting.watching(MAIL) as watch:
        waiting.wake([MAIL])
        assert not watch.changed.is_set()
        changed = watch.changed
        waiting.wake([MAIL])
        assert changed.is_set()


async def test_waking_a_stream_without_readers_does_nothing(store: CountingStore) -> None:
    """A publish costs nothing while no reader waits."""
    WaitingReaders(store, 1).wake([MAIL, OTHER])
    assert store.heads == 0


async def test_the_poll_sees_a_publish_of_another_process(store: CountingStore, tmp_path: Path) -> None:
    """It looks up the newest position twice a second."""
    elsewhere = SqliteEventStore(tmp_path / "events.db")
    async with WaitingReaders(store, 1).watching(MAIL) as watch:
        changed, begun = watch.changed, time.perf_counter()
        await elsewhere.append([_event("e1")])
        async with asyncio.timeout(10):
            await changed.wait()
        assert time.perf_counter() - begun < 2 * module.POLL_SECONDS
    await elsewhere.close()


async def test_the_poll_wakes_readers_once_per_change(
    store: CountingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unchanged position wakes no reader."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    await store.append([_event("e1")])
    async with WaitingReaders(store, 1).watching(MAIL) as watch:
        changed = watch.changed
        await store.until_asked(5)
        assert not changed.is_set()


async def test_all_readers_of_a_stream_share_one_poll(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest position is looked up once when they begin and once per interval."""
    monkeypatch.setattr(module, "POLL_SECONDS", 3600)
    waiting = WaitingReaders(store, 3)
    async with waiting.watching(MAIL) as first, waiting.watching(MAIL) as second, waiting.watching(MAIL) as third:
        assert first is second is third
        assert store.heads == 1


async def test_the_poll_ends_with_its_last_reader(store: CountingStore) -> None:
    """Without readers nothing is polled."""
    waiting = WaitingReaders(store, 2)
    async with waiting.watching(MAIL) as watch:
        async with waiting.watching(MAIL):
            pass
        assert watch.poll is not None
        assert not watch.poll.done()
    await asyncio.wait([watch.poll])
    assert watch.poll.cancelled()


def takes_slot(waiting: WaitingReaders, caller: str = "/org/new") -> bool:
    """Whether a new request of a caller may wait."""
    with waiting.slot(caller) as slot:
        return slot is not None


async def test_waiting_readers_are_limited(store: CountingStore) -> None:
    """Every request takes a slot and returns it, also when it fails."""
    waiting = WaitingReaders(store, 2)
    with waiting.slot("/org/a"):
        assert takes_slot(waiting)
        with waiting.slot("/org/b"):
            assert not takes_slot(waiting)
        with suppress(TimeoutError), waiting.slot("/org/b"):
            raise TimeoutError
        assert takes_slot(waiting)


async def test_a_caller_without_a_slot_displaces_the_oldest_of_the_greediest(store: CountingStore) -> None:
    """It has two or more. The displaced request stops waiting at once, and the newcomer has its slot."""
    waiting = WaitingReaders(store, 4)
    with ExitStack() as stack:
        slots = [stack.enter_context(waiting.slot(caller)) for caller in ("/org/b", "/org/a", "/org/a", "/org/a")]
        oldest = slots[1]
        assert oldest is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(60) as deadline:
                oldest.deadline = deadline
                assert stack.enter_context(waiting.slot("/org/new")) is not None
                await asyncio.Event().wait()
        assert deadline.expired()
        assert [slot is not None and slot.displaced for slot in slots] == [False, True, False, False]


async def test_nobody_holds_every_slot(store: CountingStore) -> None:
    """Each newcomer finds a place until everybody has one; then it does not wait, nor does who has one already."""
    waiting = WaitingReaders(store, 3)
    with ExitStack() as stack:
        for caller in ("", "", "", "/org/a", "/org/b"):
            assert stack.enter_context(waiting.slot(caller)) is not None, caller
        for caller in ("/org/c", "", "/org/a"):
            assert not takes_slot(waiting, caller), caller


async def test_a_displaced_caller_that_asks_again_displaces_nobody(store: CountingStore) -> None:
    """It still has a slot until it is down to one like everybody else, so nobody displaces another in a loop."""
    waiting = WaitingReaders(store, 8)
    callers = [f"/org/{number}" for number in range(8)]
    with ExitStack() as stack:
        slots = [stack.enter_context(waiting.slot("/org/greedy")) for _ in range(8)]
        slots += [stack.enter_context(waiting.slot(caller)) for caller in callers]
        displaced = [slot is not None and slot.displaced for slot in slots]
        assert displaced == [True] * 7 + [False] * 9
        assert slots[-1] is None  # everybody holds one
        for caller in ["/org/greedy", *callers] * 3:
            assert not takes_slot(waiting, caller), caller
        assert [slot is not None and slot.displaced for slot in slots] == displaced


async def test_a_displaced_request_returns_no_slot(store: CountingStore) -> None:
    """Its slot is the newcomer's."""
    waiting = WaitingReaders(store, 2)
    with waiting.slot("/org/a"), ExitStack() as other:
        with waiting.slot("/org/a"):
            assert other.enter_context(waiting.slot("/org/b")) is not None
        assert takes_slot(waiting)
    assert waiting._slots == []


async def test_a_reader_whose_store_fails_gets_the_error(tmp_path: Path) -> None:
    """Nothing is watched."""
    closed = SqliteEventStore(tmp_path / "events.db")
    await closed.close()
    waiting = WaitingReaders(closed, 1)
    with pytest.raises(EventsError, match="503"):
        async with waiting.watching(MAIL):
            pass


async def test_the_poll_survives_a_failing_store(
    store: CountingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tries again and finds what was stored meanwhile."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    async with WaitingReaders(store, 1).watching(MAIL) as watch:
        changed = watch.changed
        store._closed = True
        await store.until_asked(2)
        store._closed = False
        await store.append([_event("e1")])
        async with asyncio.timeout(10):
            await changed.wait()


async def test_closing_wakes_all_readers_and_admits_no_more(store: CountingStore) -> None:
    """So the process can stop."""
    waiting = WaitingReaders(store, 5)
    async with waiting.watching(MAIL) as mail, waiting.watching(OTHER) as other:
        flags = [mail.changed, other.changed]
        waiting.close()
        assert [flag.is_set() for flag in flags] == [True, True]
    assert not takes_slot(waiting)


async def test_a_listener_is_called_with_every_woken_stream(store: CountingStore) -> None:
    """It is called also for streams without readers, until it unsubscribes."""
    waiting = WaitingReaders(store, 0)
    heard: list[set[Stream]] = []
    with waiting.listening(heard.append):
        waiting.wake([MAIL, OTHER])
    waiting.wake([MAIL])
    assert heard == [{MAIL, OTHER}]
