"""The SQLite file: hashes, erasure, size, and reads along indexes."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from events_core.adapters.sqlite import SqliteEventStore, read
from events_core.adapters.sqlite.rows import Names
from events_core.feeds.ports import ReadRequest
from events_core.feeds.stream import Cursor, Filters, Stream
from tests.contract.event_store import ANY, APP, OTHER_APP, PARTY, PERSON, Clock, event, events, everything, ids, walk

RESOURCE = Stream.of_resource(APP)


@pytest.fixture
def colliding(open_store: Callable[..., SqliteEventStore]) -> SqliteEventStore:
    """A store in which all texts have the same hash."""
    return open_store(digest=lambda _key, _data, size: bytes(size))


async def test_colliding_identities_are_told_apart(colliding: SqliteEventStore) -> None:
    """The store compares the events that a hash finds as text."""
    batch = [event("a"), event("b"), event("a", source="urn:x"), event("a", resource=ANY), event("ab")]
    assert not any(outcome.duplicate for outcome in await colliding.append(batch))
    assert all(outcome.duplicate for outcome in await colliding.append(batch))
    assert ids(await walk(colliding, ReadRequest(RESOURCE, event_id="b"))) == ["a", "ab"]
    assert await colliding.erase(APP, "urn:x", "a")
    assert [row.json is None for row in await everything(colliding)] == [False, False, True, False]


async def test_colliding_subjects_are_told_apart(colliding: SqliteEventStore) -> None:
    """No feed and no filter contains events about another subject."""
    parties = ["/party/1", "/party/2", "/party/1"]
    await colliding.append([event(str(n), subject=party, alternativesubject=PERSON) for n, party in enumerate(parties)])
    assert ids(await everything(colliding, Stream.of_subject("/party/1"))) == ["0", "2"]
    assert await colliding.head(Stream.of_subject("/party/2")) == (await everything(colliding))[1].position
    for filters, count in ((Filters(subject="/party/2"), 1), (Filters(alternative_subject="x"), 0)):
        request = ReadRequest(RESOURCE, filters=filters, scan=1)
        assert len(await walk(colliding, request)) == count


def _size(path: Path) -> int:
    return path.stat().st_size


async def _until_checkpointed(path: Path) -> None:
    log = path.with_name(f"{path.name}-wal")
    async with asyncio.timeout(10):
        while log.stat().st_size:  # noqa: ASYNC110 - a file's size cannot be awaited
            await asyncio.sleep(0.01)


async def test_the_log_is_emptied_when_nothing_is_written(path: Path, store: SqliteEventStore) -> None:
    """It happens soon after the last write, while the store is open."""
    await store.append(events(10))
    await _until_checkpointed(path)
    assert len(await everything(store)) == 10


@pytest.mark.parametrize("size", [10, 300, 20_000])
async def test_an_erased_event_is_in_no_file(path: Path, store: SqliteEventStore, size: int) -> None:
    """Only its id and source remain in the file and its log, whatever the size of its neighbours."""
    secrets_ = [f"secret-{uuid4()}" for _ in range(40)]
    batch = [
        event(f"{n}", subject=f"urn:x:{secret}", alternativesubject=secret, data=secret + "x" * size * (n % 3))
        for n, secret in enumerate(secrets_)
    ]
    for start in range(0, 40, 8):
        await store.append(batch[start : start + 8])
    for published in random.sample(batch, len(batch)):
        assert await store.erase(APP, published.source, published.id)
    await _until_checkpointed(path)
    stored = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"secret-" not in stored
    assert batch[0].source.encode() in stored


async def test_registration_never_decreases_even_over_retention(open_store: Callable[..., SqliteEventStore]) -> None:
    """A clock that steps back after everything expired makes no difference."""
    clock = Clock()
    store = open_store(clock=clock)
    await store.append([event()])
    (row,) = await everything(store)
    await store.expire(clock.now + 1)
    clock.now -= 100_000_000
    await store.append([event()])
    assert (await everything(store))[0].registered >= row.registered


async def test_the_space_of_expired_events_is_used_again(
    path: Path, open_store: Callable[..., SqliteEventStore]
) -> None:
    """The file keeps its size when publishing and expiring alternate."""
    clock = Clock()
    store = open_store(clock=clock)
    sizes = []
    for _ in range(6):
        await store.append(events(1_000))
        clock.now += 1
        await store.expire(clock.now)
        await _until_checkpointed(path)
        sizes.append(_size(path))
    assert sizes[-1] <= 1.2 * sizes[1]


async def test_each_time_of_registration_is_found(open_store: Callable[..., SqliteEventStore]) -> None:
    """`from` and `to` find exactly the rows that were registered between them."""
    clock = Clock()
    store = open_store(clock=clock)
    for n in range(100):
        clock.now += 10
        await store.append([event(str(n))])
    first = clock.now - 990
    for n in range(0, 100, 7):
        request = ReadRequest(RESOURCE, registered_from=first + 10 * n - 5, registered_to=first + 10 * n + 15)
        assert ids(await walk(store, request)) == [str(number) for number in (n, n + 1) if number < 100]


def _plans(connection: sqlite3.Connection, request: ReadRequest, store: SqliteEventStore) -> str:
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    read.read(store._session(), Names(), request)
    connection.set_trace_callback(None)
    selects = [sql for sql in statements if sql.lstrip().startswith("SELECT")]
    return "\n".join(row[3] for sql in selects for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}"))


FILTERS = [
    Filters(),
    Filters(types=("a%",), sources=("b",)),
    Filters(subject=PARTY),
    Filters(alternative_subject=PERSON),
    Filters(org="ttd", resource=OTHER_APP),
    Filters(subject=PARTY, resource=OTHER_APP),
]


@pytest.mark.parametrize("stream", [RESOURCE, Stream.of_subject(PARTY), Stream.of_org("ttd")])
@pytest.mark.parametrize("filters", FILTERS)
async def test_every_page_is_read_along_an_index(store: SqliteEventStore, stream: Stream, filters: Filters) -> None:
    """No read sorts rows or scans a table, so every page costs the same at any depth."""
    await store.append([event(), event(resource=OTHER_APP)])
    cursor = (await everything(store, stream))[0].cursor
    for request in (ReadRequest(stream, cursor, filters=filters), ReadRequest(stream, None, None, 1, 2**60, filters)):
        plan = _plans(store._session().connection, request, store)
        assert "SCAN events" not in plan
        assert "SCAN names" not in plan
        assert "TEMP B-TREE" not in plan


def _sized(number: int, *, per_instance: int) -> dict[str, str]:
    party, guid = 50_000_000 + number // per_instance, UUID(int=number // per_instance + 2**126)
    source = f"https://ttd.apps.altinn.no/ttd/apps-test/instances/{party}/{guid}"
    return {"source": source, "subject": f"/party/{party}", "resourceinstance": f"{party}/{guid}"}


@pytest.mark.parametrize("per_instance", [1, 3])
async def test_an_event_takes_at_most_700_bytes_of_disk(path: Path, store: SqliteEventStore, per_instance: int) -> None:
    """That holds for an event of 430 bytes with its indexes, even if no two share source and subject."""
    count = 6_000
    for start in range(0, count, 500):
        batch = [event(str(uuid4()), **_sized(n, per_instance=per_instance)) for n in range(start, start + 500)]
        await store.append(
            [event(short.id, **json.loads(short.json), data="x" * (418 - len(short.json))) for short in batch]
        )
    assert {len(row.json or b"") for row in await everything(store)} == {430}
    await store.close()
    assert _size(path) / count <= 700


async def test_a_position_beyond_sqlites_integers_is_unknown(store: SqliteEventStore) -> None:
    """A cursor may contain any 64-bit number."""
    await store.append([event("a")])
    for position in (2**63 - 1, 2**63, 2**64 - 1):
        assert ids((await store.read(ReadRequest(RESOURCE, Cursor(position, b"12345678")))).rows) == ["a"]


async def test_each_file_has_a_key_of_its_own(path: Path, open_store: Callable[..., SqliteEventStore]) -> None:
    """The key is drawn when the file is made, and does not change."""
    keys = [open_store().key(), open_store().key()]
    path.unlink()  # noqa: ASYNC240 - nothing else runs
    keys.append(open_store().key())
    assert keys[0] == keys[1] != keys[2]
