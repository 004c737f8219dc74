"""Queries find the same documents on the emulator as on Cosmos DB."""

from __future__ import annotations

import pytest

from tests.emulator.conftest import PARTITION, Database
from tests.support.cosmos import ours_only
from tests.support.cosmos_probe import creating, document

IN_PARTITION = "c.partition = @partition"


@pytest.fixture
async def stored(database: Database) -> Database:
    """A database with documents 1 to 120 in a partition, and the first ten of them in another."""
    for partition, batch in ((PARTITION, range(1, 61)), (PARTITION, range(61, 121)), ("another", range(1, 11))):
        await database.streams.execute_item_batch(creating(*(document(partition, seq) for seq in batch)), partition)
    return database


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (f"{IN_PARTITION} AND c.seq >= @seq ORDER BY c.partition, c.seq", [117, 118, 119]),
        (f"{IN_PARTITION} ORDER BY c.partition DESC, c.seq DESC", [120, 119, 118]),
        (f"{IN_PARTITION} AND c.seq < @seq ORDER BY c.partition DESC, c.seq DESC", [116, 115, 114]),
        (f"{IN_PARTITION} AND c.ukey IN ('key 2', 'key 7', 'key 500') ORDER BY c.partition, c.seq", [2, 7]),
        (f"{IN_PARTITION} AND (c.seq > @seq OR c.ukey IN ('key 2', 'key 7')) ORDER BY c.partition, c.seq", [2, 7, 118]),
        (f"{IN_PARTITION} AND NOT (c.seq > 2) ORDER BY c.partition, c.seq", [1, 2]),
        (f"{IN_PARTITION} AND c.seq IN (3, 4) AND c.seq != 3 ORDER BY c.partition, c.seq", [4]),
        (f"{IN_PARTITION} AND LOWER(c.ukey) = 'key 5' AND STARTSWITH(c.id, '0000') ORDER BY c.partition, c.seq", [5]),
        (f"{IN_PARTITION} AND IS_DEFINED(c.nothing) ORDER BY c.partition, c.seq", []),
        ("c.seq <= 2 ORDER BY c.seq", [1, 2]),
        ("c.partition = 'another' ORDER BY c.partition, c.seq", []),
    ],
)
async def test_conditions_orders_and_tops(stored: Database, condition: str, expected: list[int]) -> None:
    """A query on one partition finds the first three matches in its order."""
    found = await stored.query(
        f"SELECT TOP @top c.seq FROM c WHERE {condition}",
        top=3,
        partition=PARTITION,
        seq=117,
    )
    assert [row["seq"] for row in found] == expected


@pytest.mark.parametrize(("order", "first"), [("", [1, 2]), (" DESC", [120, 119])])
async def test_a_composite_index_serves_both_of_its_orders(stored: Database, order: str, first: list[int]) -> None:
    """All of it as it is, or all of it the other way round."""
    by = ", ".join(f"c.{name}{order}" for name in ("partition", "registered", "seq"))
    found = await stored.query(f"SELECT TOP 2 c.seq FROM c WHERE c.partition = '{PARTITION}' ORDER BY {by}")
    assert [row["seq"] for row in found] == first


async def test_a_query_across_partitions(stored: Database) -> None:
    """It finds the matches of every partition."""
    found = await stored.query("SELECT c.partition FROM c WHERE c.seq = 7", within=None)
    assert sorted(row["partition"] for row in found) == ["another", PARTITION]


async def test_a_computed_property(stored: Database) -> None:
    """The page queries of the store leave a property out of one row."""
    sql = "SELECT c.seq, (c.seq = 1 ? null : c.ukey) AS ukey FROM c WHERE c.seq <= 2 ORDER BY c.seq"
    assert await stored.query(sql) == [{"seq": 1, "ukey": None}, {"seq": 2, "ukey": "key 2"}]


@ours_only
@pytest.mark.parametrize(("page", "requests"), [(0, 2), (-1, 1), (1000, 1), (50, 3)])
async def test_a_page_has_a_hundred_rows_by_default(stored: Database, page: int, requests: int) -> None:
    """With -1 the server chooses."""
    await stored.counts()
    assert await stored.query("SELECT VALUE c.seq FROM c ORDER BY c.seq", page=page) == [*range(1, 121)]
    assert await stored.counts() == {"query": requests}


@ours_only
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_a_page_has_at_most_four_megabytes(database: Database) -> None:
    """Further pages have the rest, in order."""
    for seq in range(1, 7):
        await database.streams.create_item({**document(PARTITION, seq), "json": "x" * 1_500_000})
    await database.counts()
    rows = await database.query("SELECT TOP 5 c.seq, c.json FROM c WHERE c.seq > 0 ORDER BY c.seq")
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5]
    assert await database.counts() == {"query": 3}
