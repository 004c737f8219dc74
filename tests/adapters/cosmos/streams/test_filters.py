"""The condition of a filtered query stays small, whatever a request asks for."""

from __future__ import annotations

import pytest

from events_core.adapters.cosmos.streams.filters import superset
from events_core.feeds.stream import Filters
from events_core.http.feed_query import MAX_WILDCARDS
from events_core.http.query import MAX_LENGTH, MAX_VALUES

LARGEST_SQL, MOST_PARAMETERS = 4_000, 130


def texts(count: int, pattern: str = "") -> list[str]:
    """Different values of the largest size, which begin as a pattern does."""
    return [f"{pattern}{number:03}".ljust(MAX_LENGTH, "x") for number in range(count)]


@pytest.mark.parametrize(
    ("types", "sources"),
    [
        (texts(MAX_VALUES), texts(MAX_VALUES)),
        (texts(50), texts(50)),
        ([*texts(50), *texts(5, "a%b")], [*texts(50), *texts(5, "a%b")]),
        ([*texts(50), "%a" * MAX_WILDCARDS], texts(50)),
        (texts(50), [*texts(50), "a" + "%a" * MAX_WILDCARDS]),
        ([*texts(90), *texts(MAX_WILDCARDS, "a%b")], texts(MAX_VALUES)),
    ],
)
def test_the_largest_request_makes_a_small_query(types: list[str], sources: list[str]) -> None:
    """At most 4,000 characters of text and 130 parameters."""
    assert sum(value.count("%") for value in types + sources) <= MAX_WILDCARDS
    condition = superset(Filters(tuple(types), tuple(sources), "s", "a", "ttd", "urn:x"))
    assert len(condition.sql) <= LARGEST_SQL
    assert len(condition.values) <= MOST_PARAMETERS
