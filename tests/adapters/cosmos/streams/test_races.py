"""Several processes write to one stream: each conflict costs one query and one more try."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from events_core.adapters.cosmos import CosmosEventStore
from tests.adapters.cosmos.database import RESOURCE, Database, positions
from tests.contract.event_store import event, events, everything, ids


async def _two(database: Database) -> tuple[CosmosEventStore, CosmosEventStore]:
    """Two stores that know the same head. The first has written since; the second is about to."""
    first, second = database.open(), database.open()
    await first.append([event()])
    await second.append([event()])
    await first.append([event()])
    await database.counts()
    return first, second


async def test_a_lost_race_is_one_query_and_one_try(database: Database) -> None:
    """A writer whose position is taken asks once and tries once more."""
    _, second = await _two(database)
    await second.append([event("late")])
    assert await database.counts() == {"create": 2, "query": 1}
    assert ids(await everything(second))[-1] == "late"


async def test_a_lost_race_of_a_batch_is_one_query_and_one_try(database: Database) -> None:
    """The failed try has stored no event of the group."""
    _, second = await _two(database)
    await second.append(events(10))
    assert await database.counts() == {"batch": 2, "query": 1}
    assert positions(await database.documents()) == list(range(1, 14))


async def test_the_query_after_a_conflict_finds_duplicates(database: Database) -> None:
    """The events of the group that another process has stored are duplicates; the others are written."""
    first, second = await _two(database)
    (there,) = await first.append([event("b")])
    await database.counts()
    outcomes = await second.append([event("a"), event("b"), event("c")])
    assert [outcome.duplicate for outcome in outcomes] == [False, True, False]
    assert outcomes[1].cursor == there.cursor
    assert await database.counts() == {"batch": 2, "query": 1}


async def test_one_event_from_two_processes_is_stored_by_one(database: Database) -> None:
    """If both take the same position for the same event, only one outcome is no duplicate."""
    first, second = await _two(database)
    await second.head(RESOURCE)
    outcomes = await asyncio.gather(first.append([event("a")]), second.append([event("a")]))
    assert Counter(outcome.duplicate for (outcome,) in outcomes) == {True: 1, False: 1}


@pytest.mark.parametrize("database", ["atomic", "prefix"], indirect=True)
async def test_racing_processes_leave_no_gap_and_no_repeat(database: Database) -> None:
    """Every event is stored once and positions are dense, also on a server whose failed batches leave a prefix."""
    stores = [database.open(segment_size=50) for _ in range(4)]
    batches = [[event(f"{n}-{i}-{k}") for k in range(5)] for n in range(4) for i in range(8)]
    outcomes = await asyncio.gather(*(stores[n % 4].append(batch) for n, batch in enumerate(batches)))
    assert not any(outcome.duplicate for batch in outcomes for outcome in batch)
    documents = await database.documents()
    assert positions(documents) == list(range(1, 161))
    assert Counter(document["eventId"] for document in documents) == Counter(
        published.id for batch in batches for published in batch
    )


async def test_events_of_a_batch_keep_their_order_under_races(database: Database) -> None:
    """A process that loses a race writes its events later, in the given order."""
    stores = [database.open() for _ in range(3)]
    batches = [[event(f"{n}.{k:02}") for k in range(20)] for n in range(3)]
    await asyncio.gather(*(store.append(batch) for store, batch in zip(stores, batches, strict=True)))
    stored = [str(document["eventId"]) for document in await database.documents()]
    for n in range(3):
        assert [event_id for event_id in stored if event_id.startswith(f"{n}.")] == ids(batches[n])


async def test_the_winner_of_a_race_gives_way(database: Database) -> None:
    """After a conflict a writer pauses about as long as its writes take, otherwise it does not pause."""
    _, second = await _two(database)
    (writer,) = second._appender._writers.values()
    pauses: list[float] = []
    give_way = writer._give_way

    async def measured() -> None:
        began = asyncio.get_running_loop().time()
        await give_way()
        pauses.append(asyncio.get_running_loop().time() - began)

    writer._give_way = measured  # type: ignore[method-assign]
    writer._average = 0.05
    await second.append([event()])
    writer._lost_at = float("-inf")
    await second.append([event()])
    await second.close()
    raced, quiet = pauses
    assert raced >= 0.04 > quiet
