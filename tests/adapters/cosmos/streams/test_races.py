"""Many processes that write to one stream: each conflict is one question and one more try."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from events_core.adapters.cosmos import CosmosEventStore
from tests.adapters.cosmos.place import RESOURCE, Place, positions
from tests.contract.event_store import event, events, everything, ids


async def _two(place: Place) -> tuple[CosmosEventStore, CosmosEventStore]:
    """Two stores that know the same head, the second of which is about to write after it."""
    first, second = place.open(), place.open()
    await first.append([event()])
    await second.append([event()])
    await first.append([event()])
    await place.counts()
    return first, second


async def test_a_lost_race_is_one_question_and_one_try(place: Place) -> None:
    """Who finds its position taken asks once and tries once more."""
    _, second = await _two(place)
    await second.append([event("late")])
    assert await place.counts() == {"create": 2, "query": 1}
    assert ids(await everything(second))[-1] == "late"


async def test_a_lost_race_of_a_batch_is_one_question_and_one_try(place: Place) -> None:
    """It is the same for a group; nothing of it was stored by the try that failed."""
    _, second = await _two(place)
    await second.append(events(10))
    assert await place.counts() == {"batch": 2, "query": 1}
    assert positions(await place.documents()) == list(range(1, 14))


async def test_the_question_tells_which_keys_stand(place: Place) -> None:
    """Of a group that conflicts the events that another process stored are duplicates, and the rest is written."""
    first, second = await _two(place)
    (there,) = await first.append([event("b")])
    await place.counts()
    outcomes = await second.append([event("a"), event("b"), event("c")])
    assert [outcome.duplicate for outcome in outcomes] == [False, True, False]
    assert outcomes[1].cursor == there.cursor
    assert await place.counts() == {"batch": 2, "query": 1}


async def test_one_event_from_two_processes_is_stored_by_one(place: Place) -> None:
    """When both take the same position for the same event, only one of them says that it is new."""
    first, second = await _two(place)
    await second.head(RESOURCE)
    outcomes = await asyncio.gather(first.append([event("a")]), second.append([event("a")]))
    assert Counter(outcome.duplicate for (outcome,) in outcomes) == {True: 1, False: 1}


@pytest.mark.parametrize("place", ["atomic", "prefix"], indirect=True)
async def test_racing_processes_leave_no_gap_and_no_repeat(place: Place) -> None:
    """Whether batches are atomic or leave their prefix: every event stands once, and positions are dense."""
    stores = [place.open(segment_size=50) for _ in range(4)]
    batches = [[event(f"{n}-{i}-{k}") for k in range(5)] for n in range(4) for i in range(8)]
    outcomes = await asyncio.gather(*(stores[n % 4].append(batch) for n, batch in enumerate(batches)))
    assert not any(outcome.duplicate for some in outcomes for outcome in some)
    documents = await place.documents()
    assert positions(documents) == list(range(1, 161))
    assert Counter(each["eventId"] for each in documents) == Counter(each.id for batch in batches for each in batch)


async def test_events_of_a_batch_keep_their_order_under_races(place: Place) -> None:
    """Whoever loses a race writes its events later, and in the order that they were given."""
    stores = [place.open() for _ in range(3)]
    batches = [[event(f"{n}.{k:02}") for k in range(20)] for n in range(3)]
    await asyncio.gather(*(store.append(batch) for store, batch in zip(stores, batches, strict=True)))
    stored = [str(each["eventId"]) for each in await place.documents()]
    for n in range(3):
        assert [each for each in stored if each.startswith(f"{n}.")] == ids(batches[n])


async def test_the_winner_of_a_race_gives_way(place: Place) -> None:
    """After a conflict a writer pauses about as long as its writes take; without one it does not."""
    _, second = await _two(place)
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
