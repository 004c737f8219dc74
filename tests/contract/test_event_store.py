"""The port EventStore, its writing side: order, durability, idempotency, erasure, retention."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from events_core.common.errors import EventsError, Problem
from events_core.feeds.ports import EventStore, ReadRequest
from events_core.feeds.stream import START, Stream
from tests.contract.event_store import (
    ANY,
    APP,
    OTHER_APP,
    PARTY,
    PERSON,
    SECOND,
    Harness,
    event,
    events,
    everything,
    ids,
    published,
    walk,
)

RESOURCE = Stream.of_resource(APP)


async def test_events_come_back_in_order_as_published(store: EventStore) -> None:
    """The order is that of the appends, and the text is the same, byte for byte."""
    batches = [events(3), events(1), events(5)]
    for batch in batches:
        await store.append(batch)
    assert [row.json for row in await everything(store)] == [event.json for batch in batches for event in batch]


async def test_a_row_knows_its_attributes(store: EventStore) -> None:
    """A row has the id, source, type, subject, resource and instance of its event."""
    published_ = event(resourceinstance="50002108/3f1c", type="æøå.created")
    await store.append([published_])
    (row,) = await everything(store)
    assert (row.id, row.source, row.type) == (published_.id, published_.source, published_.type)
    assert (row.subject, row.resource, row.resource_instance) == (PARTY, APP, "50002108/3f1c")


async def test_attributes_survive_any_spelling_in_json(store: EventStore) -> None:
    """JSON may escape a text, or hold it elsewhere too."""
    plain = event('say "hei"\\', source="urn:ø", subject="/party/1", resource=ANY, resourceinstance="1")
    escaped = replace(plain, json=plain.json.replace(b"/", b"\\/"))
    await store.append([escaped])
    (row,) = await everything(store, ANY)
    assert (row.id, row.source, row.subject, row.resource_instance) == (plain.id, "urn:ø", "/party/1", "1")
    assert row.json == escaped.json


async def test_absent_attributes_are_none(store: EventStore) -> None:
    """Subject and instance are optional."""
    await store.append([event(subject=None)])
    (row,) = await everything(store)
    assert (row.subject, row.resource_instance) == (None, None)


async def test_appending_nothing_changes_nothing(store: EventStore) -> None:
    """An empty batch has no outcomes."""
    assert await store.append([]) == []
    assert await store.head(RESOURCE) == 0


async def test_outcomes_have_the_order_of_the_batch(store: EventStore) -> None:
    """The cursor of an outcome is that of its event."""
    batch = events(3)
    outcomes = await store.append(batch)
    assert [outcome.cursor for outcome in outcomes] == [row.cursor for row in await everything(store)]


async def test_an_app_event_is_in_three_streams(store: EventStore) -> None:
    """The streams are those of its resource, its subject and its org."""
    batch = [event(), event(resource=OTHER_APP)]
    await store.append(batch)
    assert ids(await everything(store, OTHER_APP)) == [batch[1].id]
    assert ids(await everything(store, Stream.of_subject(PARTY))) == ids(batch)
    assert ids(await everything(store, Stream.of_org("ttd"))) == ids(batch)


async def test_other_events_are_in_their_resource_stream_only(store: EventStore) -> None:
    """Subject streams hold app events only."""
    await store.append([event(resource=ANY)])
    assert len(await everything(store, ANY)) == 1
    assert await everything(store, Stream.of_subject(PARTY)) == []


async def test_a_repeat_is_a_duplicate_and_changes_nothing(store: EventStore) -> None:
    """The same (resource, source, id) has the cursor of the first event, whatever else differs."""
    first = event("a", type="first")
    (outcome,) = await store.append([first])
    (repeat,) = await store.append([event("a", type="second")])
    assert repeat == replace(outcome, duplicate=True)
    assert [row.json for row in await everything(store)] == [first.json]


async def test_a_repeat_within_a_batch_is_a_duplicate(store: EventStore) -> None:
    """Of equal events in a batch the first is stored."""
    outcomes = await store.append([event("a"), event("b"), event("a")])
    assert [outcome.duplicate for outcome in outcomes] == [False, False, True]
    assert outcomes[0].cursor == outcomes[2].cursor


async def test_an_id_may_occur_under_several_sources_and_resources(store: EventStore) -> None:
    """Identity is (resource, source, id)."""
    batch = [event("a"), event("a", source="urn:x"), event("a", resource=ANY), event("b")]
    assert not any(outcome.duplicate for outcome in await store.append(batch))


async def test_simultaneous_repeats_are_stored_once(harness: Harness) -> None:
    """Two stores append the event 20 times at once."""
    stores = [harness.open(), harness.open()]
    outcomes = await asyncio.gather(*(stores[n % 2].append([event("a")]) for n in range(20)))
    assert [outcome.duplicate for (outcome,) in outcomes].count(False) == 1
    assert len(await everything(stores[0])) == 1


async def test_a_batch_that_was_stored_in_part_is_completed_without_repeats(store: EventStore) -> None:
    """Only the missing events are added."""
    batch = events(10)
    await store.append(batch[:4])
    outcomes = await store.append(batch)
    assert [outcome.duplicate for outcome in outcomes] == [True] * 4 + [False] * 6
    assert ids(await everything(store)) == ids(batch)


async def test_acknowledged_events_outlive_the_store(harness: Harness) -> None:
    """Events and cursors are the same after reopening."""
    store = harness.open()
    await store.append(events(3))
    before = [(row.cursor, row.json) for row in await everything(store)]
    await harness.close()
    assert [(row.cursor, row.json) for row in await everything(harness.open())] == before


PUBLISHERS, OWN = 8, 30


async def _publish(store: EventStore, publisher: int) -> None:
    for start in range(0, OWN, 3):
        await store.append([event(f"{publisher}-{start + n}") for n in range(3)])


async def _follow(store: EventStore, size: int, count: int) -> list[str]:
    seen: list[str] = []
    cursor = START
    while len(seen) < count:
        chunk = await store.read(ReadRequest(RESOURCE, cursor=cursor, limit=size))
        seen += ids(chunk.rows)
        cursor = chunk.end
        if chunk.caught_up:
            await asyncio.sleep(0.01)  # a poll without a pause would keep the publishers from the processor
    return seen


@pytest.mark.slow
async def test_readers_miss_and_repeat_nothing_while_publishers_write(harness: Harness) -> None:
    """Four readers of two stores see one order of the events of eight publishers, and the order of each publisher."""
    stores = [harness.open(), harness.open()]
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for publisher in range(PUBLISHERS):
            group.create_task(_publish(stores[publisher % 2], publisher))
        sizes = [1, 7, 50, 1000]
        readers = [group.create_task(_follow(stores[n % 2], size, PUBLISHERS * OWN)) for n, size in enumerate(sizes)]
    (first, *others) = [reader.result() for reader in readers]
    assert all(other == first for other in others)
    assert len(set(first)) == PUBLISHERS * OWN
    for publisher in range(PUBLISHERS):
        assert [event_id for event_id in first if event_id.startswith(f"{publisher}-")] == [
            f"{publisher}-{n}" for n in range(OWN)
        ]


async def test_a_cancelled_caller_harms_no_other(store: EventStore) -> None:
    """The events of other callers are neither lost nor delayed."""
    given_up = [asyncio.ensure_future(store.append([event()])) for _ in range(20)]
    await asyncio.sleep(0)
    for task in given_up:
        task.cancel()
    await asyncio.gather(*given_up, return_exceptions=True)
    await store.append([event("last")])
    assert ids(await everything(store))[-1] == "last"


async def test_head_is_the_newest_position(store: EventStore) -> None:
    """Every stream has its own head."""
    await published(store, event(), event(resource=ANY), event(resource=OTHER_APP, subject="/party/1"))
    for stream in (RESOURCE, Stream.of_resource(ANY), Stream.of_subject("/party/1"), Stream.of_org("ttd")):
        assert await store.head(stream) == (await everything(store, stream))[-1].position


async def test_one_look_up_tells_which_streams_have_grown(store: EventStore) -> None:
    """Each stream that holds more than is known of it is named with its newest position."""
    streams = [RESOURCE, Stream.of_resource(ANY), Stream.of_subject("/party/1"), Stream.of_org("ttd")]
    assert await store.changed(dict.fromkeys(streams, 0)) == {}
    await published(store, event(), event(resource=OTHER_APP, subject="/party/1"))
    heads = {stream: await store.head(stream) for stream in streams}
    assert await store.changed(dict.fromkeys(streams, 0)) == {stream: head for stream, head in heads.items() if head}
    assert await store.changed(heads) == {}
    await published(store, event(resource=ANY))
    assert await store.changed(heads) == {Stream.of_resource(ANY): await store.head(Stream.of_resource(ANY))}


async def test_an_erased_event_is_a_tombstone_in_every_stream(store: EventStore) -> None:
    """Cursor, id and source are left."""
    erased = event("a", resourceinstance="1/2", alternativesubject=PERSON)
    await store.append([event("before"), erased, event("after")])
    before = [row.cursor for row in await everything(store)]
    assert await store.erase(APP, erased.source, "a")
    for stream in (RESOURCE, Stream.of_subject(PARTY), Stream.of_org("ttd")):
        rows = await everything(store, stream)
        assert [row.cursor for row in rows] == before
        assert (rows[1].json, rows[1].id, rows[1].source) == (None, "a", erased.source)
        assert rows[1].resource_instance is None


async def test_erasing_is_idempotent_and_exact(store: EventStore) -> None:
    """Only the event of that resource, source and id is erased."""
    await store.append([event("a"), event("a", source="urn:x")])
    assert [await store.erase(APP, "urn:x", "a") for _ in range(2)] == [True, True]
    assert not await store.erase(APP, "urn:x", "b")
    assert not await store.erase(ANY, "urn:x", "a")
    assert [row.json is None for row in await everything(store)] == [False, True]


async def test_an_erased_event_is_not_published_again(store: EventStore) -> None:
    """A repeat of it is a duplicate."""
    await store.append([event("a")])
    await store.erase(APP, event().source, "a")
    (outcome,) = await store.append([event("a")])
    assert outcome.duplicate
    assert [row.json for row in await everything(store)] == [None]


@pytest.mark.parametrize(("subject", "left"), [(PARTY, PARTY), (PERSON, None), ("/partyless", None)])
async def test_a_tombstone_keeps_only_a_party_as_its_subject(store: EventStore, subject: str, left: str | None) -> None:
    """Any other subject may name a person."""
    await store.append([event("a", subject=subject)])
    await store.erase(APP, event().source, "a")
    (row,) = await everything(store)
    assert row.subject == left


async def test_reading_goes_on_after_a_tombstone(store: EventStore) -> None:
    """Its cursor and its id are valid starts."""
    await store.append([event("a"), event("b")])
    await store.erase(APP, event().source, "a")
    by_id = await walk(store, ReadRequest(RESOURCE, event_id="a"))
    by_cursor = await walk(store, ReadRequest(RESOURCE, cursor=(await everything(store))[0].cursor))
    assert ids(by_id) == ids(by_cursor) == ["b"]


async def test_retention_removes_the_oldest(harness: Harness, store: EventStore) -> None:
    """An event that was registered exactly at the limit stays."""
    await store.append(events(3))
    harness.clock.now += SECOND
    kept = events(2)
    await store.append(kept)
    await store.expire(harness.clock.now)
    assert ids(await everything(store)) == ids(kept)


@pytest.mark.slow
async def test_retention_of_many_events_is_complete(harness: Harness, store: EventStore) -> None:
    """One call removes all of them."""
    for _ in range(11):
        await store.append(events(100))
    harness.clock.now += SECOND
    await store.expire(harness.clock.now)  # more than one transaction, and many segments
    assert await everything(store) == []


async def test_positions_rise_even_over_retention(harness: Harness, store: EventStore) -> None:
    """An event after an empty stream has a position after all earlier ones."""
    (last,) = await published(store, event())
    harness.clock.now += SECOND
    await store.expire(harness.clock.now)
    (later,) = await published(store, event())
    assert later.position > last.position


async def test_an_expired_cursor_starts_from_the_oldest_kept_row(harness: Harness, store: EventStore) -> None:
    """A reader that was away for longer than the retention misses no kept row."""
    (old,) = await published(store, event())
    harness.clock.now += SECOND
    await store.append([event("kept"), event("newer")])
    await store.expire(harness.clock.now)
    assert ids(await walk(store, ReadRequest(RESOURCE, cursor=old))) == ["kept", "newer"]


async def test_a_store_that_is_up_answers_a_ping(store: EventStore) -> None:
    """Health relies on it."""
    await store.ping()


async def test_a_closed_store_is_unavailable(store: EventStore) -> None:
    """Every call raises UNAVAILABLE, and closing again is fine."""
    await store.append([event()])
    await store.close()
    await store.close()
    calls = [store.append([event()]), store.read(ReadRequest(RESOURCE)), store.head(RESOURCE), store.ping()]
    for call in [*calls, store.erase(APP, "urn:x", "a")]:
        with pytest.raises(EventsError) as caught:
            await call
        assert caught.value.problem is Problem.UNAVAILABLE


async def test_closing_finishes_pending_appends(harness: Harness) -> None:
    """They are stored and acknowledged."""
    store = harness.open()
    appends = [asyncio.ensure_future(store.append([event()])) for _ in range(10)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*appends)
    assert len(await everything(harness.open())) == 10
