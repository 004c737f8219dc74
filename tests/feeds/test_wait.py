"""Waiting readers: slots, wake-ups, and the shared look-up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from events_core.adapters.sqlite import SqliteEventStore
from events_core.cloudevent import CloudEvent
from events_core.feeds import wait as module
from events_core.feeds.stream import Stream
from events_core.feeds.wait import WaitingReaders
from tests.support.waiting import until_readers_wait

MAIL, OTHER = Stream.of_resource("urn:altinn:resource:ttd-mail"), Stream.of_resource("urn:altinn:resource:other")


class CountingStore(SqliteEventStore):
    """A store that remembers the look-ups."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.looked_up: list[set[Stream]] = []
        self.asked = asyncio.Event()

    async def changed(self, heads: Mapping[Stream, int]) -> Mapping[Stream, int]:
        """The streams that have grown."""
        self.looked_up.append(set(heads))
        self.asked.set()
        return await super().changed(heads)

    async def until_asked(self, times: int) -> None:
        """Return once so many look-ups more have begun."""
        async with asyncio.timeout(10):
            for _ in range(times):
                self.asked.clear()
                await self.asked.wait()


@contextmanager
def reader(waiting: WaitingReaders, stream: Stream = MAIL, position: int = 0) -> Iterator[asyncio.Task[None]]:
    """A reader that waits for a stream to change. The task ends when it wakes."""
    with waiting.watching(stream) as watch:
        waits = asyncio.create_task(waiting.until(watch.changed, watch, position))
        yield waits
        waits.cancel()


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
    with waiting.watching(MAIL) as mail, waiting.watching(OTHER) as other:
        mail_changed, other_changed = mail.changed, other.changed
        waiting.wake([MAIL])
        assert (mail_changed.is_set(), other_changed.is_set()) == (True, False)


async def test_every_change_wakes_readers_again(store: CountingStore) -> None:
    """After a change, readers wait for a new event."""
    waiting = WaitingReaders(store, 1)
    with waiting.watching(MAIL) as watch:
        waiting.wake([MAIL])
        assert not watch.changed.is_set()
        changed = watch.changed
        waiting.wake([MAIL])
        assert changed.is_set()


async def test_waking_a_stream_without_readers_does_nothing(store: CountingStore) -> None:
    """A publish costs nothing while no reader waits."""
    WaitingReaders(store, 1).wake([MAIL, OTHER])
    assert store.looked_up == []


async def test_a_publish_of_another_process_is_seen_within_a_second(store: CountingStore, tmp_path: Path) -> None:
    """The streams are looked up once a second."""
    elsewhere = SqliteEventStore(tmp_path / "events.db")
    with reader(WaitingReaders(store, 1)) as waits:
        await elsewhere.append([_event("e1")])
        begun = time.perf_counter()
        await asyncio.wait_for(waits, 10)
        assert time.perf_counter() - begun < 1.5
    await elsewhere.close()


async def test_an_unchanged_stream_wakes_no_reader(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reader has seen the newest event."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    await store.append([_event("e1")])
    with reader(WaitingReaders(store, 1), position=await store.head(MAIL)) as waits:
        await store.until_asked(5)
        assert not waits.done()


async def test_all_waiting_readers_share_one_look_up(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever their streams are."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    waiting = WaitingReaders(store, 3)
    with reader(waiting), reader(waiting), reader(waiting, OTHER):
        await store.until_asked(3)
    assert set(map(frozenset, store.looked_up)) == {frozenset({MAIL, OTHER})}


async def test_a_stream_nobody_waits_for_is_not_looked_up(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reader still reads, or has left."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    waiting = WaitingReaders(store, 3)
    with waiting.watching(OTHER), reader(waiting) as waits:
        await store.until_asked(2)
    assert set(map(frozenset, store.looked_up)) == {frozenset({MAIL})}
    await asyncio.wait([waits])
    await asyncio.sleep(0)
    assert (waiting._poll, waiting._watches) == (None, {})


async def test_five_hundred_streams_take_turns(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up is about 200 of them at most, and after three every stream has had its turn."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    waiting = WaitingReaders(store, 500)
    streams = [Stream.of_resource(f"urn:altinn:resource:{n}") for n in range(500)]
    with ExitStack() as stack:
        readers = [stack.enter_context(reader(waiting, stream)) for stream in streams]
        await store.until_asked(3)
        assert [len(asked) for asked in store.looked_up[:3]] == [200, 200, 200]
        assert set().union(*store.looked_up[:3]) == set(streams)
        await store.append([_event(f"e{n}", stream) for n, stream in enumerate(streams)])
        async with asyncio.timeout(10):
            await asyncio.wait(readers)


async def test_a_reader_that_has_read_further_wakes_the_others(store: CountingStore) -> None:
    """What it has seen is new to them."""
    waiting = WaitingReaders(store, 2)
    with reader(waiting, position=1) as behind:
        await until_readers_wait(waiting, 1)
        with reader(waiting, position=2):
            await asyncio.wait_for(behind, 10)
    assert store.looked_up == []


async def test_a_reader_whose_page_ends_early_is_woken_once(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its page may have ended before rows that its filters leave out. It would otherwise read again each second."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    waiting = WaitingReaders(store, 2)
    await store.append([_event("e1")])
    with waiting.watching(MAIL):
        with reader(waiting) as first:
            await asyncio.wait_for(first, 10)
        with reader(waiting) as again:
            await store.until_asked(5)
            assert not again.done()


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


async def test_look_ups_go_on_after_a_failure_of_the_store(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They find what was stored meanwhile."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    with reader(WaitingReaders(store, 1)) as waits:
        store._closed = True
        await store.until_asked(2)
        store._closed = False
        await store.append([_event("e1")])
        await asyncio.wait_for(waits, 10)


async def test_the_change_feed_wakes_readers_and_no_listener(store: CountingStore) -> None:
    """A listener follows up what is appended; told of what is being followed up, it would do so for ever."""
    waiting = WaitingReaders(store, 1)
    heard: list[set[Stream]] = []
    with waiting.listening(heard.append), waiting.watching(MAIL) as watch:
        changed = watch.changed
        waiting.wake_readers([MAIL])
        assert (changed.is_set(), heard) == (True, [])


async def test_closing_wakes_all_readers_and_admits_no_more(store: CountingStore) -> None:
    """So the process can stop."""
    waiting = WaitingReaders(store, 5)
    with waiting.watching(MAIL) as mail, waiting.watching(OTHER) as other:
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
