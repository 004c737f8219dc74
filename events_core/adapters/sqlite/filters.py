"""Streams and filters as SQL conditions, and the index that finds their rows fastest."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from events_core.adapters.sqlite.hashes import Hashes
from events_core.adapters.sqlite.rows import text_sql
from events_core.common.texts import storable
from events_core.feeds.patterns import AnyPattern
from events_core.feeds.stream import Filters, Stream

NAMED = "(SELECT id FROM names WHERE text = ?)"
"""The id of an interned text, NULL if the file does not have the text."""

_NOT_PLAIN = "*[^ -~]*"
_INDEXES = {"resource": "by_resource", "subject": "by_subject", "org": "by_org"}
_LONGEST_LIKES = 50
"""The characters of all patterns that LIKE compares. It takes quadratic time, but no turn of the interpreter."""

Patterns = dict[str, AnyPattern]
"""The patterns of a connection's current statement, by name."""


@dataclass(frozen=True, slots=True)
class Condition:
    """An SQL condition and its values."""

    sql: str
    values: tuple[int | str, ...] = ()


def all_of(conditions: Iterable[Condition]) -> Condition:
    """The condition that all these conditions hold."""
    parts = list(conditions)
    sql = " AND ".join(part.sql for part in parts) or "TRUE"
    return Condition(sql, tuple(value for part in parts for value in part.values))


def rows_of(stream: Stream, hashes: Hashes) -> Condition:
    """The condition that a row is in the stream. The index `index_of` finds such rows in order."""
    if stream.kind == "subject":
        return all_of([Condition("org IS NOT NULL"), _subject("subject", stream.key, hashes)])
    return _named("org" if stream.kind == "org" else "resource", stream.key)


def index_of(stream: Stream) -> str:
    """The index of the rows of the stream."""
    return _INDEXES[stream.kind]


def passing(filters: Filters, hashes: Hashes) -> Condition:
    """The condition that a row matches the filters."""
    return all_of(_conditions(filters, hashes))


def index_for(stream: Stream, filters: Filters) -> tuple[str, Filters]:
    """The index that finds the fewest other rows, and the filters that the index covers."""
    has_resource = stream.kind == "resource" or filters.resource is not None
    if has_resource and (filters.subject is not None or stream.kind == "subject"):
        return "by_subject_and_resource", Filters(subject=filters.subject, resource=filters.resource)
    if has_resource and filters.alternative_subject is not None:
        covered = Filters(alternative_subject=filters.alternative_subject, resource=filters.resource)
        return "by_alternative_and_resource", covered
    if stream.kind == "org" and filters.subject is not None:
        return "by_subject", Filters(subject=filters.subject)
    if stream.kind == "org" and has_resource:
        return "by_resource", Filters(resource=filters.resource)
    return index_of(stream), Filters()


def narrowing(filters: Filters, hashes: Hashes) -> Condition:
    """The condition on the columns of an index alone. Its rows still have to be compared as text."""
    hashed = {"subject": filters.subject, "alternative": filters.alternative_subject}
    conditions = [
        Condition(f"{column} = ?", (hashes.subject(storable(text)),))
        for column, text in hashed.items()
        if text is not None
    ]
    if filters.resource is not None:
        conditions.append(_named("resource", filters.resource))
    return all_of(conditions)


def add_functions(connection: sqlite3.Connection, patterns: Patterns) -> None:
    """Give the connection the SQL function for patterns that LIKE cannot match, or not fast enough."""
    connection.create_function("matches_any", 2, lambda name, text: patterns[name].matches(text))


def patterns_of(filters: Filters) -> Patterns:
    """The patterns that `matches_any` compares with the rows of a filtered statement."""
    return {"types": AnyPattern(filters.types), "sources": AnyPattern(filters.sources)}


def _conditions(filters: Filters, hashes: Hashes) -> Iterable[Condition]:
    if filters.types:
        yield _patterns("types", "(SELECT text FROM names WHERE id = type)", filters.types)
    if filters.sources:
        yield _patterns("sources", text_sql("source_text"), filters.sources)
    if filters.subject is not None:
        yield _subject("subject", filters.subject, hashes)
    if filters.alternative_subject is not None:
        yield _subject("alternative", filters.alternative_subject, hashes)
    if filters.org is not None:
        yield _named("org", filters.org)
    if filters.resource is not None:
        yield _named("resource", filters.resource)


def _named(column: str, text: str) -> Condition:
    return Condition(f"{column} = {NAMED}", (storable(text),))


def _subject(column: str, text: str, hashes: Hashes) -> Condition:
    text = storable(text)
    return Condition(f"{column} = ? AND {text_sql(f'{column}_text')} = ?", (hashes.subject(text), text))


def _patterns(name: str, text: str, patterns: Sequence[str]) -> Condition:
    """LIKE for few characters of printable ASCII, where SQLite agrees with `Pattern`; otherwise `Pattern` itself."""
    slow = f"matches_any('{name}', {text})"
    if sum(map(len, patterns)) > _LONGEST_LIKES or not all(map(_is_plain, patterns)):
        return Condition(slow)
    likes = " OR ".join(f"{text} LIKE ? ESCAPE '\\'" for _ in patterns)
    sql = f"CASE WHEN {text} GLOB '{_NOT_PLAIN}' THEN {slow} ELSE {likes} END"
    return Condition(sql, tuple(map(_like, patterns)))


def _is_plain(pattern: str) -> bool:
    return pattern.isascii() and pattern.isprintable()


def _like(pattern: str) -> str:
    return pattern.replace("\\", "\\\\").replace("_", "\\_")
