"""The emulator refuses what no index serves, where Azure would read every document or refuse it too."""

from __future__ import annotations

import pytest
from azure.core.exceptions import HttpResponseError

from tests.emulator.conftest import PARTITION, Database
from tests.support.cosmos import ours_only

pytestmark = ours_only

OF_PARTITION = "SELECT c.id FROM c WHERE c.partition = @partition"


@pytest.mark.parametrize(
    ("sql", "within"),
    [
        (f"{OF_PARTITION} AND c.seq > 1 ORDER BY c.partition, c.seq", PARTITION),
        (f"{OF_PARTITION} AND c.seq > 1 ORDER BY c.partition DESC, c.seq DESC", PARTITION),
        (f"{OF_PARTITION} AND c.json = 'not indexed'", PARTITION),
        (f"{OF_PARTITION} AND ARRAY_CONTAINS(@ukeys, c.ukey)", PARTITION),
        ("SELECT c.id FROM c WHERE c.ukey IN ('a', 'b')", None),
        ("SELECT c.id FROM c WHERE c._ts > 1 AND c.id = 'a' AND c.json = 'not indexed'", None),
    ],
)
async def test_a_query_that_an_index_serves_is_answered(database: Database, sql: str, within: str | None) -> None:
    """The partition and the order in one composite index, or an index of each property across partitions."""
    assert await database.query(sql, within, partition=PARTITION, ukeys=["a"]) == []


@pytest.mark.parametrize(
    ("sql", "within", "reason"),
    [
        (f"{OF_PARTITION} ORDER BY c.seq", PARTITION, "does not begin with partition"),
        (f"{OF_PARTITION} ORDER BY c.partition, c.seq DESC", PARTITION, "no composite index"),
        (f"{OF_PARTITION} ORDER BY c.partition, c.ukey", PARTITION, "no composite index"),
        (f"{OF_PARTITION} AND (c.seq > 1 OR ARRAY_CONTAINS(@ukeys, c.ukey))", PARTITION, "use IN"),
        ("SELECT c.id FROM c WHERE ARRAY_CONTAINS(@ukeys, c.ukey)", None, "use IN"),
        ("SELECT c.id FROM c WHERE c.json = 'not indexed'", None, "no condition has an index"),
        ("SELECT c.id FROM c WHERE c.ukey = 'a' OR IS_DEFINED(c.json[0])", None, "no condition has an index"),
    ],
)
async def test_a_query_without_an_index_is_refused(
    database: Database, sql: str, within: str | None, reason: str
) -> None:
    """The message says which index is missing."""
    with pytest.raises(HttpResponseError, match=reason):
        await database.query(sql, within, partition=PARTITION, ukeys=["a"])
