"""Waiting readers: slots, wake-ups, and the shared poll."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
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


async def test_waiting_readers_are_limited(store: CountingStore) -> None:
    """Every reader takes a slot and returns it, whatever its stream."""
    waiting = WaitingReaders(store, 2)
    async with waiting.watching(MAIL):
        assert not waiting.full
        async with waiting.watching(OTHER):
            assert waiting.full
        assert not waiting.full


async def test_a_cancelled_reader_returns_its_slot(store: CountingStore) -> None:
    """So does a reader whose time is over."""
    waiting = WaitingReaders(store, 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), waiting.watching(MAIL) as watch:
            await watch.changed.wait()
    assert not waiting.full


async def test_a_reader_whose_store_fails_returns_its_slot(tmp_path: Path) -> None:
    """The reader gets the error."""
    closed = SqliteEventStore(tmp_path / "events.db")
    await closed.close()
    waiting = WaitingReaders(closed, 1)
    with pytest.raises(EventsError, match="503"):
        async with waiting.watching(MAIL):
            pass
    assert not waiting.full


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
    assert waiting.full


async def test_a_listener_is_called_with_every_woken_stream(store: CountingStore) -> None:
    """It is called also for streams without readers, until it unsubscribes."""
    waiting = WaitingReaders(store, 0)
    heard: list[set[Stream]] = []
    with waiting.listening(heard.append):
        waiting.wake([MAIL, OTHER])
    waiting.wake([MAIL])
    assert heard == [{MAIL, OTHER}]
