"""Queries find on the emulator what they find on Cosmos DB."""

from __future__ import annotations

import pytest

from tests.emulator.conftest import PARTITION, Place
from tests.support.cosmos import ours_only
from tests.support.cosmos_probe import creating, document

IN_PARTITION = "c.partition = @partition"


@pytest.fixture
async def stored(place: Place) -> Place:
    """With documents 1 to 120 in a partition, and the first ten of them in another."""
    for partition, batch in ((PARTITION, range(1, 61)), (PARTITION, range(61, 121)), ("another", range(1, 11))):
        await place.streams.execute_item_batch(creating(*(document(partition, seq) for seq in batch)), partition)
    return place


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (f"{IN_PARTITION} AND c.seq >= @seq ORDER BY c.seq", [117, 118, 119]),
        (f"{IN_PARTITION} ORDER BY c.seq DESC", [120, 119, 118]),
        (f"{IN_PARTITION} AND c.seq < @seq ORDER BY c.id DESC", [116, 115, 114]),
        (f"{IN_PARTITION} AND ARRAY_CONTAINS(@keys, c.ukey) ORDER BY c.seq", [2, 7]),
        (f"{IN_PARTITION} AND (c.seq > @seq OR ARRAY_CONTAINS(@keys, c.ukey)) ORDER BY c.seq", [2, 7, 118]),
        (f"{IN_PARTITION} AND NOT (c.seq > 2) ORDER BY c.seq", [1, 2]),
        (f"{IN_PARTITION} AND c.seq IN (3, 4) AND c.seq != 3 ORDER BY c.seq", [4]),
        (f"{IN_PARTITION} AND LOWER(c.ukey) = 'key 5' AND STARTSWITH(c.id, '0000') ORDER BY c.seq", [5]),
        (f"{IN_PARTITION} AND IS_DEFINED(c.nothing) ORDER BY c.seq", []),
        ("c.seq <= 2 ORDER BY c.seq", [1, 2]),
        ("c.partition = 'another' ORDER BY c.seq", []),
    ],
)
async def test_conditions_orders_and_tops(stored: Place, condition: str, expected: list[int]) -> None:
    """A query on one partition finds the first three that match in its order."""
    found = await stored.query(
        f"SELECT TOP @top c.seq FROM c WHERE {condition}",
        top=3,
        partition=PARTITION,
        seq=117,
        keys=["key 2", "key 7", "key 500"],
    )
    assert [each["seq"] for each in found] == expected


async def test_a_query_everywhere(stored: Place) -> None:
    """A query without a partition finds what matches in each."""
    found = await stored.query("SELECT c.partition FROM c WHERE c.seq = 7", within=None)
    assert sorted(each["partition"] for each in found) == ["another", PARTITION]


async def test_a_computed_property(stored: Place) -> None:
    """A property may be left out of one row, which the page queries of the store do."""
    sql = "SELECT c.seq, (c.seq = 1 ? null : c.ukey) AS ukey FROM c WHERE c.seq <= 2 ORDER BY c.seq"
    assert await stored.query(sql) == [{"seq": 1, "ukey": None}, {"seq": 2, "ukey": "key 2"}]


@ours_only
@pytest.mark.parametrize(("page", "requests"), [(0, 2), (-1, 1), (1000, 1), (50, 3)])
async def test_a_page_has_a_hundred_rows_unless_it_says_otherwise(stored: Place, page: int, requests: int) -> None:
    """Without a size an answer comes in pages of 100; -1 leaves the size to the server."""
    await stored.counts()
    assert await stored.query("SELECT VALUE c.seq FROM c ORDER BY c.seq", page=page) == [*range(1, 121)]
    assert await stored.counts() == {"query": requests}


@ours_only
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_a_page_has_at_most_four_megabytes(place: Place) -> None:
    """An answer of more than 4 MB comes in several pages, in order and complete."""
    for seq in range(1, 7):
        await place.streams.create_item({**document(PARTITION, seq), "json": "x" * 1_500_000})
    await place.counts()
    rows = await place.query("SELECT TOP 5 c.seq, c.json FROM c WHERE c.seq > 0 ORDER BY c.seq")
    assert [each["seq"] for each in rows] == [1, 2, 3, 4, 5]
    assert await place.counts() == {"query": 3}
