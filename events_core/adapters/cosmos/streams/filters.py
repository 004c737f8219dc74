"""Filters of a page as a condition of Cosmos DB's SQL, and as a test in this process.

The server selects a superset of the matching rows, with functions that every server has. This process then compares the
rows with the filters. The superset is exact, with two exceptions: a pattern with text between two `%`; and too many or
too long patterns, for which the server gets no condition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from events_core.adapters.cosmos.streams.documents import Row
from events_core.common.texts import storable
from events_core.feeds.patterns import WILDCARD, AnyPattern
from events_core.feeds.stream import Filters

_MOST_PATTERNS = 50
_LONGEST_TEXT = 2_048


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on a document `c`, with its parameters. Without a text every document meets it."""

    sql: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def always(self) -> bool:
        """Whether every document meets the condition."""
        return not self.sql


ALWAYS = Condition()


def superset(filters: Filters) -> Condition:
    """A condition that every row meets that passes the filters, and hardly any other row."""
    conditions = [*_patterns("type", filters.types), *_patterns("source", filters.sources)]
    exact = {
        "subject": filters.subject,
        "alternativesubject": filters.alternative_subject,
        "org": filters.org,
        "resource": filters.resource,
    }
    conditions += [
        Condition(f"c.{name} = @{name}", {name: storable(wanted)})
        for name, wanted in exact.items()
        if wanted is not None
    ]
    values = {name: value for condition in conditions for name, value in condition.values.items()}
    return Condition(" AND ".join(condition.sql for condition in conditions), values)


class RowFilter:
    """Filters, ready to be compared with many rows."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self._types, self._sources = AnyPattern(filters.types), AnyPattern(filters.sources)

    def passes(self, row: Row) -> bool:
        """Whether a row passes the filters."""
        filters = self._filters
        return (
            (not filters.types or self._types.matches(row.type))
            and (not filters.sources or self._sources.matches(row.source))
            and filters.subject in (None, row.subject)
            and filters.alternative_subject in (None, row.alternative_subject)
            and filters.org in (None, row.document.get("org"))
            and filters.resource in (None, row.resource)
        )


def _patterns(name: str, patterns: Sequence[str]) -> Iterator[Condition]:
    """The condition that an attribute matches one of the patterns; no condition if it would exclude nothing."""
    lowered = [storable(pattern.lower()) for pattern in patterns]
    wild = [pattern for pattern in lowered if WILDCARD in pattern]
    if not patterns or len(wild) > _MOST_PATTERNS or any(len(pattern) > _LONGEST_TEXT for pattern in wild):
        return
    exact = [pattern for pattern in lowered if WILDCARD not in pattern and len(pattern) <= _LONGEST_TEXT]
    if len(exact) > _MOST_PATTERNS:
        return
    conditions = [_one_of(name, exact)] if exact else []
    for n, pattern in enumerate(wild):
        condition = _wild(name, f"{name}{n}", pattern)
        if condition.always:
            return
        conditions.append(condition)
    if not conditions:  # every pattern is longer than any attribute
        conditions = [Condition("false")]
    texts = [condition.sql for condition in conditions]
    values = {label: value for condition in conditions for label, value in condition.values.items()}
    yield Condition(texts[0] if len(texts) == 1 else f"({' OR '.join(texts)})", values)


def _one_of(name: str, texts: Sequence[str]) -> Condition:
    """An attribute equals one of the texts."""
    values = {f"{name}_{n}": text for n, text in enumerate(texts)}
    return Condition(f"c.{name} IN ({', '.join(f'@{label}' for label in values)})", values)


def _wild(name: str, label: str, pattern: str) -> Condition:
    """An attribute begins, ends and contains as a pattern with `%` says; the order of inner parts is not tested."""
    head, *middle, tail = pattern.split(WILDCARD)
    tests = [("STARTSWITH", head), *(("CONTAINS", part) for part in middle), ("ENDSWITH", tail)]
    wanted = {f"{label}_{n}": (function, part) for n, (function, part) in enumerate(tests) if part}
    sql = " AND ".join(f"{function}(c.{name}, @{parameter})" for parameter, (function, _) in wanted.items())
    return Condition(sql, {parameter: part for parameter, (_, part) in wanted.items()})
