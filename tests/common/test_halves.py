"""Asking in halves, with a neighbour that refuses every request that holds a bad item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_core.common.halves import Requests, ask_in_halves


class Neighbour:
    """Refuses requests that hold one of the `bad` items, and remembers every request."""

    def __init__(self, *bad: int) -> None:
        self.bad = set(bad)
        self.asked: list[list[int]] = []

    async def __call__(self, items: Sequence[int]) -> Mapping[int, str] | None:
        """The text of each item."""
        self.asked.append([*items])
        return None if self.bad & set(items) else {item: str(item) for item in items}


async def test_one_bad_item_is_found_by_halving() -> None:
    """Two requests for each halving."""
    neighbour = Neighbour(5)
    answers, refused = await ask_in_halves(range(8), neighbour, Requests(32))
    assert refused == [5]
    assert answers == {item: str(item) for item in range(8) if item != 5}
    assert neighbour.asked == [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [6, 7], [4], [5]]


async def test_the_first_parts_are_as_many_as_are_sent_side_by_side() -> None:
    """So that nobody waits for what could have been asked at once."""
    neighbour = Neighbour(0)
    await ask_in_halves(range(16), neighbour, Requests(32), side_by_side=4)
    assert [len(items) for items in neighbour.asked] == [4, 4, 4, 4, 2, 2, 1, 1]


@given(
    size=st.integers(0, 120),
    bad=st.sets(st.integers(0, 119)),
    limit=st.integers(0, 130),
    side_by_side=st.integers(1, 9),
)
async def test_what_is_found_is_true_and_bounded(size: int, bad: set[int], limit: int, side_by_side: int) -> None:
    """Refused items are bad, answered ones good, and no more requests are sent than allowed."""
    neighbour, requests = Neighbour(*bad), Requests(limit)
    answers, refused = await ask_in_halves(range(size), neighbour, requests, side_by_side=side_by_side)
    assert len(neighbour.asked) == limit - requests.left <= limit
    assert set(refused) <= bad
    assert bad.isdisjoint(answers)
    if requests.left > 0:
        assert sorted([*answers, *refused]) == [*range(size)]


@pytest.mark.parametrize(("size", "limit"), [(1, 1), (2, 2), (100, 8), (500, 10), (1_000, 12)])
async def test_the_first_item_is_decided_however_many_are_bad(size: int, limit: int) -> None:
    """So that a reader moves on."""
    _, refused = await ask_in_halves(range(size), Neighbour(*range(size)), Requests(limit), side_by_side=8)
    assert refused[0] == 0
