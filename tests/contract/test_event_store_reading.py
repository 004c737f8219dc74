"""The port EventStore, its reading side: starts, bounds, budgets, filters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from events_core.feeds.ports import FOUND, EventStore, ReadRequest
from events_core.feeds.stream import START, Cursor, Filters, Stream
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


async def _ids(store: EventStore, request: ReadRequest) -> list[str]:
    return ids(await walk(store, request))


@pytest.fixture
async def abc(store: EventStore) -> list[Cursor]:
    """The cursors of three events a, b and c in the store."""
    return await published(store, event("a"), event("b"), event("c"))


async def test_a_read_without_a_start_begins_at_the_oldest(store: EventStore, abc: list[Cursor]) -> None:
    """So does a read from the start of the stream."""
    assert await _ids(store, ReadRequest(RESOURCE)) == ["a", "b", "c"]
    assert await _ids(store, ReadRequest(RESOURCE, cursor=START)) == ["a", "b", "c"]


async def test_a_cursor_starts_just_after_its_row(store: EventStore, abc: list[Cursor]) -> None:
    """The row of the cursor is not read again."""
    assert await _ids(store, ReadRequest(RESOURCE, cursor=abc[0])) == ["b", "c"]


async def test_a_cursor_before_its_row_starts_with_it(store: EventStore, abc: list[Cursor]) -> None:
    """The row of the cursor comes first."""
    assert await _ids(store, ReadRequest(RESOURCE, cursor=replace(abc[1], before=True))) == ["b", "c"]


async def test_an_id_starts_just_after_its_event(store: EventStore, abc: list[Cursor]) -> None:
    """The event of the id is not read again."""
    assert await _ids(store, ReadRequest(RESOURCE, event_id="b")) == ["c"]


@pytest.mark.parametrize("event_id", ["unknown", "", "\ud800", "a\0"])
async def test_an_unknown_id_starts_at_the_oldest(store: EventStore, abc: list[Cursor], event_id: str) -> None:
    """Nothing is lost."""
    assert await _ids(store, ReadRequest(RESOURCE, event_id=event_id)) == ["a", "b", "c"]


async def test_a_valid_cursor_decides_over_the_id(store: EventStore, abc: list[Cursor]) -> None:
    """The id counts only without a valid cursor."""
    assert await _ids(store, ReadRequest(RESOURCE, cursor=abc[0], event_id="c")) == ["b", "c"]


@pytest.mark.parametrize("filters", [Filters(), Filters(types=("app.%",))])
async def test_the_start_decides_over_the_id(harness: Harness, store: EventStore, filters: Filters) -> None:
    """The cursor before the first row is always valid, also with a time and after retention."""
    await store.append([event("old")])
    harness.clock.now += SECOND
    await store.append([event("a"), event("b")])
    request = ReadRequest(RESOURCE, cursor=START, event_id="a", filters=filters)
    assert await _ids(store, replace(request, registered_from=harness.clock.now)) == ["a", "b"]
    await store.expire(harness.clock.now)
    assert await _ids(store, request) == ["a", "b"]


@pytest.mark.parametrize("filters", [Filters(), Filters(types=("app.%",))])
async def test_an_invalid_cursor_makes_the_id_unknown_too(
    store: EventStore, abc: list[Cursor], filters: Filters
) -> None:
    """In a store before its restore other events may have stood before the event with this id."""
    for forged in (replace(abc[1], proof=b"forged!!"), replace(abc[1], position=2**64 - 1), replace(abc[1], proof=b"")):
        request = ReadRequest(RESOURCE, cursor=forged, filters=filters)
        assert await _ids(store, request) == ["a", "b", "c"]
        assert await _ids(store, replace(request, event_id="a")) == ["a", "b", "c"]


@pytest.mark.parametrize("filters", [Filters(), Filters(types=("app.%",))])
async def test_a_cursor_of_another_stream_is_invalid(store: EventStore, filters: Filters) -> None:
    """A cursor counts in its own stream only."""
    await store.append([event("a")])
    (foreign,) = await published(store, event(resource=ANY))
    await store.append([event("b")])
    assert await _ids(store, ReadRequest(RESOURCE, cursor=foreign, filters=filters)) == ["a", "b"]


async def test_an_app_event_has_a_cursor_in_each_stream(store: EventStore, abc: list[Cursor]) -> None:
    """Each stream gives a valid cursor of its own."""
    for stream in (Stream.of_subject(PARTY), Stream.of_org("ttd")):
        first = (await everything(store, stream))[0].cursor
        assert await _ids(store, ReadRequest(stream, cursor=first)) == ["b", "c"]


async def test_a_cursor_of_a_wiped_store_is_unknown(harness: Harness, store: EventStore, abc: list[Cursor]) -> None:
    """Other events have its position now, and reading starts over."""
    store = await harness.wipe()
    await store.append([event(name) for name in "abc"])
    assert await _ids(store, ReadRequest(RESOURCE, cursor=abc[1])) == ["a", "b", "c"]


async def test_a_cursor_from_after_a_backup_is_unknown_after_the_restore(harness: Harness) -> None:
    """Another event may have its position; earlier cursors stay valid."""
    store = harness.open()
    (kept,) = await published(store, event("a"))
    await harness.back_up()
    (lost,) = await published(harness.open(), event("lost"))
    store = await harness.restore()
    await store.append([event("b"), event("c")])
    assert await _ids(store, ReadRequest(RESOURCE, cursor=kept)) == ["b", "c"]
    assert await _ids(store, ReadRequest(RESOURCE, cursor=lost)) == ["a", "b", "c"]


async def test_an_id_under_several_sources_is_the_first_of_them(store: EventStore) -> None:
    """Only events of this stream count."""
    elsewhere = event("x", resource=ANY)
    here = [event("a"), event("x", source="urn:2"), event("b"), event("x", source="urn:1"), event("c")]
    await store.append([elsewhere, *here])
    assert await _ids(store, ReadRequest(RESOURCE, event_id="x")) == ["b", "x", "c"]


async def test_registration_bounds_are_inclusive(harness: Harness, store: EventStore) -> None:
    """An event registered exactly at a bound is read."""
    times = [harness.clock.now + n * SECOND for n in range(4)]
    for n, harness.clock.now in enumerate(times):
        await store.append([event(f"{n}a"), event(f"{n}b")])
    request = ReadRequest(RESOURCE, registered_from=times[1], registered_to=times[2])
    for filters in (Filters(), Filters(types=("%",))):
        assert await _ids(store, replace(request, filters=filters)) == ["1a", "1b", "2a", "2b"]
        assert await _ids(store, replace(request, filters=filters, limit=1)) == ["1a", "1b", "2a", "2b"]


async def test_the_later_of_cursor_and_time_is_the_start(harness: Harness, store: EventStore) -> None:
    """Both bound the rows."""
    (a,) = await published(store, event("a"))
    harness.clock.now += SECOND
    time = harness.clock.now
    (b, _) = await published(store, event("b"), event("c"))
    assert await _ids(store, ReadRequest(RESOURCE, cursor=a, registered_from=time)) == ["b", "c"]
    assert await _ids(store, ReadRequest(RESOURCE, cursor=START, registered_from=time)) == ["b", "c"]
    assert await _ids(store, ReadRequest(RESOURCE, cursor=b, registered_from=time)) == ["c"]


async def test_registration_never_decreases_along_a_stream(harness: Harness) -> None:
    """Clocks may disagree or step back."""
    ahead, behind = harness.open(), harness.open(lambda: harness.clock.now - 60 * SECOND)
    for store in (ahead, behind, ahead, behind):
        await store.append([event()])
        harness.clock.now -= SECOND
    registered = [row.registered for row in await everything(ahead)]
    assert registered == sorted(registered)


async def test_a_late_clock_hides_no_event_from_a_time(harness: Harness) -> None:
    """A reader that asks from the last registration it saw gets every later event."""
    ahead, behind = harness.open(), harness.open(lambda: harness.clock.now - 60 * SECOND)
    await ahead.append([event("a")])
    seen = (await everything(ahead))[0].registered
    await behind.append([event("b")])
    assert await _ids(ahead, ReadRequest(RESOURCE, registered_from=seen)) == ["a", "b"]


@pytest.mark.parametrize("filters", [Filters(), Filters(types=("%",))])
async def test_a_read_from_a_future_time_is_empty(harness: Harness, store: EventStore, filters: Filters) -> None:
    """Going on from its end misses nothing."""
    await store.append(events(3))
    request = ReadRequest(RESOURCE, registered_from=harness.clock.now + SECOND, filters=filters)
    chunk = await store.read(request)
    assert (chunk.rows, chunk.caught_up) == ([], True)
    assert chunk.end == (await everything(store))[-1].cursor
    await store.append([event("early")])
    harness.clock.now += SECOND
    await store.append([event("x")])
    assert await _ids(store, replace(request, cursor=chunk.end)) == ["x"]


@pytest.mark.parametrize("filters", [Filters(), Filters(types=("%",)), Filters(types=("none",))])
async def test_the_end_of_a_bounded_read_is_the_last_row_within(
    harness: Harness, store: EventStore, filters: Filters
) -> None:
    """Once `to` is reached, the reader is caught up."""
    (_, last) = await published(store, event(), event())
    request = ReadRequest(RESOURCE, registered_to=harness.clock.now, filters=filters)
    harness.clock.now += SECOND
    await store.append(events(3))
    chunk = await store.read(request)
    assert (chunk.caught_up, chunk.end) == (True, last)
    again = await store.read(replace(request, cursor=chunk.end))
    assert (again.rows, again.caught_up, again.end) == ([], True, last)


async def test_a_cursor_beyond_the_bound_is_kept(harness: Harness, abc: list[Cursor], store: EventStore) -> None:
    """A read without rows ends where it started."""
    request = ReadRequest(RESOURCE, cursor=abc[1], registered_to=harness.clock.now - SECOND)
    chunk = await store.read(request)
    assert (chunk.rows, chunk.caught_up, chunk.end) == ([], True, abc[1])


async def test_bounds_of_any_size_are_understood(store: EventStore, abc: list[Cursor]) -> None:
    """Times beyond 64 bits are only early or late."""
    assert await _ids(store, ReadRequest(RESOURCE, registered_from=-(2**70), registered_to=2**70)) == ["a", "b", "c"]
    assert await _ids(store, ReadRequest(RESOURCE, registered_from=2**70)) == []


@pytest.mark.slow
async def test_walks_of_every_page_size_read_the_same(store: EventStore) -> None:
    """Only the number of pages differs."""
    batch = events(150)
    for start in range(0, 150, 50):
        await store.append(batch[start : start + 50])
    for limit in (1, 2, 3, 7, 49, 50, 51, 64, 1000):
        for filters in (Filters(), Filters(types=("app.%",))):
            assert await _ids(store, ReadRequest(RESOURCE, limit=limit, filters=filters)) == ids(batch), limit


async def test_a_page_that_ends_with_the_stream_is_caught_up(store: EventStore, abc: list[Cursor]) -> None:
    """No row stands beyond a caught-up page."""
    for limit, caught_up in ((2, False), (3, True), (4, True)):
        assert (await store.read(ReadRequest(RESOURCE, limit=limit))).caught_up is caught_up


async def test_an_empty_stream_ends_where_it_starts(store: EventStore) -> None:
    """Reading an unknown stream is fine, and its end is a valid start."""
    chunk = await store.read(ReadRequest(Stream.of_resource("urn:altinn:resource:unknown")))
    assert (chunk.rows, chunk.end, chunk.caught_up) == ([], START, True)


async def test_a_chunk_ends_before_its_texts_grow_too_large(store: EventStore) -> None:
    """`max_bytes` limits the texts of a chunk, and a walk returns every row."""
    batch = [event(data="x" * 1_000) for _ in range(10)]
    await store.append(batch)
    size = len(batch[0].json)
    for filters in (Filters(), Filters(types=("app.%",))):
        request = ReadRequest(RESOURCE, max_bytes=3 * size, filters=filters)
        chunk = await store.read(request)
        assert (len(chunk.rows), chunk.caught_up) == (3, False)
        assert await _ids(store, request) == ids(batch)


async def test_one_event_always_fits(store: EventStore) -> None:
    """An event larger than `max_bytes` comes alone."""
    await store.append([event("large", data="x" * 1_000), event("next")])
    chunk = await store.read(ReadRequest(RESOURCE, max_bytes=100))
    assert (ids(chunk.rows), chunk.caught_up) == (["large"], False)
    assert await _ids(store, ReadRequest(RESOURCE, max_bytes=1)) == ["large", "next"]


async def test_a_rare_filter_examines_no_more_rows_than_asked(store: EventStore) -> None:
    """A chunk without a match moves on by `scan` rows and is not caught up."""
    batch = [*events(95), event("rare", type="rare"), *events(5)]
    await store.append(batch)
    request = ReadRequest(RESOURCE, filters=Filters(types=("rare",)), scan=20)
    chunk = await store.read(request)
    assert (chunk.rows, chunk.caught_up) == ([], False)
    assert chunk.end == (await everything(store))[19].cursor
    assert await _ids(store, request) == ["rare"]


async def test_a_scan_that_ends_with_the_stream_is_caught_up(store: EventStore) -> None:
    """The budget makes no difference."""
    await store.append(events(20))
    for scan, caught_up in ((19, False), (20, True), (21, True)):
        chunk = await store.read(ReadRequest(RESOURCE, filters=Filters(types=("rare",)), scan=scan))
        assert chunk.caught_up is caught_up


@pytest.mark.parametrize("start", [None, 0, 1])
async def test_the_end_of_a_filtered_read_is_the_end_of_the_stream(store: EventStore, start: int | None) -> None:
    """It is the newest row, even if only old rows match."""
    rare = events(3, subject="/party/1")
    cursors = await published(store, *rare, *events(5))
    cursor = None if start is None else cursors[start]
    chunk = await store.read(ReadRequest(RESOURCE, cursor, filters=Filters(subject="/party/1")))
    assert ids(chunk.rows) == ids(rare[0 if start is None else start + 1 :])
    assert (chunk.end, chunk.caught_up) == (cursors[-1], True)


FILTERED = [
    (Filters(types=("A.b",)), "1"),
    (Filters(types=("a.%",)), "124"),
    (Filters(types=("a.b", "A.C")), "12"),
    (Filters(types=("æ_%",)), "3"),
    (Filters(types=("a_b",)), ""),
    (Filters(sources=("URN:S:1",)), "13"),
    (Filters(sources=("%:2", "%:3")), "24"),
    (Filters(sources=("urn:%", "x"), types=("%c",)), "2"),
    (Filters(subject="/party/1"), "12"),
    (Filters(subject="/PARTY/1"), ""),
    (Filters(alternative_subject=PERSON), "23"),
    (Filters(subject="/party/1", alternative_subject=PERSON), "2"),
    (Filters(org="ttd"), "1234"),
    (Filters(org="nobody"), ""),
    (Filters(resource=APP), "123"),
    (Filters(resource=OTHER_APP), "4"),
    (Filters(resource="urn:altinn:resource:nothing"), ""),
    (Filters(resource=APP, subject="/party/1", types=("a.b",)), "1"),
    (Filters(resource=APP, alternative_subject=PERSON), "23"),
]


@pytest.mark.parametrize(("filters", "matching"), FILTERED)
async def test_rows_match_all_filters(store: EventStore, filters: Filters, matching: str) -> None:
    """Types and sources match any of their patterns without regard to case; other filters match exactly."""
    await store.append(
        [
            event("1", type="a.b", source="urn:s:1", subject="/party/1"),
            event("2", type="a.c", source="urn:s:2", subject="/party/1", alternativesubject=PERSON),
            event("3", type="Æ_d", source="urn:s:1", subject="/party/2", alternativesubject=PERSON),
            event("4", type="a.d", source="urn:s:3", subject="/party/2", resource=OTHER_APP),
        ]
    )
    assert await _ids(store, ReadRequest(Stream.of_org("ttd"), filters=filters)) == list(matching)
    in_app = [name for name in matching if name != "4"]
    assert await _ids(store, ReadRequest(RESOURCE, filters=filters)) == in_app
    of_party = [name for name in matching if name in "12"]
    assert await _ids(store, ReadRequest(Stream.of_subject("/party/1"), filters=filters)) == of_party


@pytest.mark.parametrize("count", [51, 2_000])
async def test_any_number_of_patterns_is_understood(store: EventStore, count: int) -> None:
    """So are long and odd patterns."""
    await store.append([event("a", type="wanted"), event("b")])
    many = ("x" * 60_000, "\ud800", "\0", "%" * 100, *(f"t{n}" for n in range(count)))
    assert await _ids(store, ReadRequest(RESOURCE, filters=Filters(types=(*many[:3], "wanted")))) == ["a"]
    assert await _ids(store, ReadRequest(RESOURCE, filters=Filters(types=many))) == ["a", "b"]


async def test_rows_are_read_by_their_positions(store: EventStore) -> None:
    """Rows come in order, tombstones included; unknown positions are left out."""
    a, b, c = await published(store, event("a"), event("b", alternativesubject="/person/1"), event("c"))
    (other,) = await published(store, event("d", resource=ANY))
    await store.erase(APP, event().source, "c")
    rows = await store.at(RESOURCE, [c.position, b.position, other.position + 100, a.position])
    assert ids(rows) == ["a", "b", "c"]
    assert [row.json is None for row in rows] == [False, False, True]
    assert [row.alternative_subject for row in rows] == [None, "/person/1", None]
    assert await store.at(RESOURCE, [other.position + 100]) == []


async def test_rows_are_found_by_source_and_id_in_every_resource(store: EventStore) -> None:
    """The source compares exactly."""
    some = [event("a"), event("a", resource=ANY), event("a", source="urn:Other"), event("b")]
    await store.append(some)
    found = await store.find(some[0].source, "a")
    assert sorted(row.resource for row in found) == sorted([APP, ANY])
    assert [row.source for row in await store.find("urn:Other", "a")] == ["urn:Other"]
    assert await store.find("urn:other", "a") == []
    assert await store.find(some[0].source, "\ud800") == []


async def test_rows_are_found_by_id_alone(store: EventStore) -> None:
    """In every resource, once for each event, and not more than a hundred."""
    some = [event("a", subject="/party/1"), event("a", resource=ANY), event("a", source="urn:Other"), event("b")]
    await store.append([*some, *(event("many", source=f"urn:{number}") for number in range(FOUND + 1))])
    found = await store.find(None, "a")
    assert sorted((row.resource, row.source) for row in found) == sorted(
        (str(known.resource), known.source) for known in some[:3]
    )
    assert len(await store.find(None, "many")) == FOUND
    assert await store.find(None, "c") == []
