"""Streams and filters as SQL conditions, and the index that finds their rows fastest."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from json import dumps, loads

from events_core.adapters.sqlite.hashes import Hashes
from events_core.adapters.sqlite.rows import text_sql
from events_core.common.texts import storable
from events_core.feeds.stream import Filters, Stream, matches

NAMED = "(SELECT id FROM names WHERE text = ?)"
"""The id of an interned text, NULL if the file does not have the text."""

_NOT_PLAIN = "*[^ -~]*"
_INDEXES = {"resource": "by_resource", "subject": "by_subject", "org": "by_org"}
_LONGEST_LIKE = 2_048
_MOST_LIKES = 50


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


def add_functions(connection: sqlite3.Connection) -> None:
    """Give the connection the SQL function for patterns that LIKE cannot match."""
    connection.create_function("matches_any", 2, _matches_any, deterministic=True)


def _conditions(filters: Filters, hashes: Hashes) -> Iterable[Condition]:
    if filters.types:
        yield _patterns("(SELECT text FROM names WHERE id = type)", filters.types)
    if filters.sources:
        yield _patterns(text_sql("source_text"), filters.sources)
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


def _patterns(text: str, patterns: Sequence[str]) -> Condition:
    """LIKE for printable ASCII, where SQLite agrees with `stream.matches`; otherwise `stream.matches` itself."""
    slow = Condition(f"matches_any(?, {text})", (dumps(patterns),))
    if len(patterns) > _MOST_LIKES or not all(_is_plain(pattern) for pattern in patterns):
        return slow
    likes = " OR ".join(f"{text} LIKE ? ESCAPE '\\'" for _ in patterns)
    sql = f"CASE WHEN {text} GLOB '{_NOT_PLAIN}' THEN {slow.sql} ELSE {likes} END"
    return Condition(sql, (*slow.values, *map(_like, patterns)))


def _is_plain(pattern: str) -> bool:
    return pattern.isascii() and pattern.isprintable() and len(pattern) <= _LONGEST_LIKE


def _like(pattern: str) -> str:
    return pattern.replace("\\", "\\\\").replace("_", "\\_")


@lru_cache(maxsize=10)
def _loaded(patterns: str) -> tuple[str, ...]:
    return tuple(loads(patterns))


def _matches_any(patterns: str, text: str) -> bool:
    return any(matches(pattern, text) for pattern in _loaded(patterns))
