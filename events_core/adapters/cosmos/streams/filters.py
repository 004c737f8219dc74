"""Filters as conditions of Cosmos DB's SQL, and once more in the process.

The server picks a superset with functions that every server has; what it picks is compared here. The superset is the
same but for patterns with text between two `%`, and for very many or very long patterns, which the server gets none of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from events_core.adapters.cosmos.streams.documents import Row, storable
from events_core.feeds.stream import Filters, matches

_MOST_PATTERNS = 50
_LONGEST_TEXT = 2_048
_ANY = "%"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on a document `c`, and its parameters; without a text every document passes."""

    sql: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def always(self) -> bool:
        """Whether every document passes."""
        return not self.sql


ALWAYS = Condition()


def superset(filters: Filters) -> Condition:
    """The condition that the rows which pass the filters hold, and hardly any other."""
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
    values = {name: value for each in conditions for name, value in each.values.items()}
    return Condition(" AND ".join(each.sql for each in conditions), values)


def passes(filters: Filters, row: Row) -> bool:
    """Whether a row passes the filters."""
    document = row.document
    return (
        (not filters.types or any(matches(pattern, row.type) for pattern in filters.types))
        and (not filters.sources or any(matches(pattern, row.source) for pattern in filters.sources))
        and filters.subject in (None, row.subject)
        and filters.alternative_subject in (None, document.get("alternativesubject"))
        and filters.org in (None, document.get("org"))
        and filters.resource in (None, row.resource)
    )


def _patterns(name: str, patterns: Sequence[str]) -> Iterator[Condition]:
    """Any of the patterns; nothing when there is none, or none that is worth a condition."""
    lowered = [storable(pattern.lower()) for pattern in patterns]
    wild = [pattern for pattern in lowered if _ANY in pattern]
    if not patterns or len(wild) > _MOST_PATTERNS or any(len(pattern) > _LONGEST_TEXT for pattern in wild):
        return
    exact = [pattern for pattern in lowered if _ANY not in pattern and len(pattern) <= _LONGEST_TEXT]
    one_of = _one_of(name, exact)
    either, values = [one_of.sql] if exact else [], dict(one_of.values)
    for n, pattern in enumerate(wild):
        condition = _wild(name, f"{name}{n}", pattern)
        if condition.always:
            return
        either.append(condition.sql)
        values |= condition.values
    if not either:  # only texts longer than any attribute
        either = ["false"]
    yield Condition(either[0] if len(either) == 1 else f"({' OR '.join(either)})", values)


def _one_of(name: str, texts: Sequence[str]) -> Condition:
    if len(texts) > _MOST_PATTERNS:
        return Condition(f"ARRAY_CONTAINS(@{name}s, c.{name})", {f"{name}s": texts})
    wanted = {f"{name}_{n}": text for n, text in enumerate(texts)}
    return Condition(f"c.{name} IN ({', '.join(f'@{each}' for each in wanted)})", wanted)


def _wild(name: str, label: str, pattern: str) -> Condition:
    head, *middle, tail = pattern.split(_ANY)
    tests = [("STARTSWITH", head), *(("CONTAINS", part) for part in middle), ("ENDSWITH", tail)]
    wanted = {f"{label}_{n}": (function, part) for n, (function, part) in enumerate(tests) if part}
    sql = " AND ".join(f"{function}(c.{name}, @{each})" for each, (function, _) in wanted.items())
    return Condition(sql, {each: part for each, (_, part) in wanted.items()})
