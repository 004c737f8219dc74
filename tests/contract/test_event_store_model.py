"""The port EventStore against a list, which must always tell the same."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from events_core.cloudevent import CloudEvent
from events_core.feeds.patterns import AnyPattern
from events_core.feeds.ports import EventStore, ReadRequest, StoredEvent
from events_core.feeds.stream import START, Cursor, Filters, Stream
from tests.contract.event_store import ANY, APP, OTHER_APP, PARTY, PERSON, SECOND, Harness, event, everything, ids, walk
from tests.contract.harnesses import HARNESSES

SUBJECTS = [None, PARTY, "/party/1", PERSON]
RESOURCES = [APP, OTHER_APP, ANY]
STREAMS = [
    *map(Stream.of_resource, RESOURCES),
    *(Stream.of_subject(subject) for subject in SUBJECTS if subject),
    Stream.of_org("ttd"),
]
_few = st.integers(0, 6).map(str)
EVENTS = st.builds(
    event,
    _few,
    source=st.sampled_from(["urn:a", "urn:B_c"]),
    type=st.sampled_from(["a.b", "A.ø", "ab"]),
    subject=st.sampled_from(SUBJECTS),
    alternativesubject=st.sampled_from(SUBJECTS),
    resource=st.sampled_from(RESOURCES),
)
FILTERS = st.builds(
    Filters,
    types=st.lists(st.sampled_from(["a.%", "A.Ø", "%b", "_b"]), max_size=2).map(tuple),
    sources=st.lists(st.sampled_from(["URN:A", "%_C", "%n%a%"]), max_size=2).map(tuple),
    subject=st.sampled_from([None, None, *SUBJECTS]),
    alternative_subject=st.sampled_from([None, None, *SUBJECTS]),
    org=st.sampled_from([None, None, "ttd", "nobody"]),
    resource=st.sampled_from([None, None, *RESOURCES]),
)
# seconds since the model began; the clock moves by whole seconds, so these bounds tell any two registrations apart
TIMES = st.none() | st.integers(-3, 12)
EXAMPLES = {"sqlite": 40, "cosmos": 8, "cosmos, prefix batches": 8}
"""Fewer where a step takes many requests to another process. The last server differs in batches alone."""


@dataclass
class Row:
    """A row as the model knows it."""

    event: CloudEvent
    registered: int
    cursor: Cursor
    erased: bool = False

    @property
    def subject(self) -> str | None:
        """A tombstone keeps its subject when it is a party."""
        subject = self.event.subject
        return None if self.erased and not (subject or "").startswith("/party/") else subject

    @property
    def alternative(self) -> str | None:
        """A tombstone keeps no alternative subject."""
        return None if self.erased else self.event.alternative_subject

    @property
    def key(self) -> tuple[str, str, str]:
        """The event's identity."""
        return (self.event.resource, self.event.source, self.event.id)

    def may_stand_in(self, stream: Stream) -> bool:
        """Whether the row belongs to the stream, or did before its erasure; a store may leave it there."""
        return self.stands_in(stream) or (stream.kind == "subject" and self.event.subject == stream.key)

    def stands_in(self, stream: Stream) -> bool:
        """Whether the row belongs to the stream."""
        app = self.event.resource != ANY
        of_kind = {"resource": self.event.resource == stream.key, "subject": app and self.subject == stream.key}
        return of_kind.get(stream.kind, app and stream.key == "ttd")

    def passes(self, filters: Filters) -> bool:
        """Whether the row passes the filters."""
        org = None if self.event.resource == ANY else "ttd"
        return (
            (not filters.types or AnyPattern(filters.types).matches(self.event.type))
            and (not filters.sources or AnyPattern(filters.sources).matches(self.event.source))
            and filters.subject in (None, self.subject)
            and filters.alternative_subject in (None, self.alternative)
            and filters.org in (None, org)
            and filters.resource in (None, self.event.resource)
        )


class Model(RuleBasedStateMachine):
    """An event store and a list. Every rule does the same to both."""

    make: Any
    ordered_together: Any
    """Groups of resources whose events have one order: on SQLite all, on Cosmos DB those of each resource."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = TemporaryDirectory()
        self.harness: Harness = self.make(Path(self.directory.name))
        self.store: EventStore = self.harness.open()
        self.began = self.harness.clock.now
        self.rows: list[Row] = []
        self.gone: dict[Stream, list[Cursor]] = {}
        self.newest = 0
        self.retired = 0

    def teardown(self) -> None:
        """Close the store and delete its data."""
        self.runner.run(self.harness.discard())
        self.runner.close()
        self.directory.cleanup()

    @initialize(batch=st.lists(EVENTS, max_size=30))
    def begin(self, batch: list[CloudEvent]) -> None:
        """Publish a first batch, so that there is something to read."""
        self.append(batch)

    @rule(batch=st.lists(EVENTS, max_size=6))
    def append(self, batch: list[CloudEvent]) -> None:
        """Publish a batch."""
        outcomes = self.runner.run(self.store.append(batch))
        self.newest = max(self.newest, self.harness.clock.now) if batch else self.newest
        for appended, outcome in zip(batch, outcomes, strict=True):
            standing = self._standing(appended)
            assert outcome.duplicate == (standing is not None)
            if standing is None:
                self.rows.append(Row(appended, self.newest, outcome.cursor))
            else:
                assert outcome.cursor == standing.cursor

    @rule(seconds=st.integers(-2, 3))
    def pass_time(self, seconds: int) -> None:
        """Move the clock, backwards too, but not by as much as the retention."""
        self._set_clock(self.harness.clock.now + seconds * SECOND)

    @rule(wanted=EVENTS)
    def erase(self, wanted: CloudEvent) -> None:
        """Erase an event that may be stored or not."""
        standing = self._standing(wanted)
        erased = self.runner.run(self.store.erase(wanted.resource, wanted.source, wanted.id))
        assert erased == (standing is not None)
        if standing is not None:
            standing.erased = True

    @rule(seconds=st.integers(-3, 3))
    def expire(self, seconds: int) -> None:
        """Remove the rows registered before a time, which is in the past."""
        before = self.began + seconds * SECOND
        self.retired = max(self.retired, before)
        self._set_clock(self.harness.clock.now)
        for stream in STREAMS:
            gone = [row.cursor for row in self._rows(stream) if row.registered < before]
            self.gone.setdefault(stream, []).extend(gone)
        kept = [row for row in self.rows if row.registered >= before]
        self.runner.run(self.store.expire(before))
        self.rows = kept

    @rule()
    def reopen(self) -> None:
        """Close the store and open it again."""
        self.runner.run(self.harness.close())
        self.store = self.harness.open()

    @precondition(lambda self: self.rows)
    @rule(
        data=st.data(),
        stream=st.sampled_from(STREAMS),
        filters=st.just(Filters()) | FILTERS,
        bounds=st.tuples(TIMES, TIMES),
        event_id=st.none() | _few,
        limit=st.integers(1, 9),
        scan=st.integers(1, 30),
    )
    def read(  # noqa: PLR0917 - Hypothesis gives arguments by name
        self,
        data: st.DataObject,
        stream: Stream,
        filters: Filters,
        bounds: tuple[int | None, int | None],
        event_id: str | None,
        limit: int,
        scan: int,
    ) -> None:
        """Walk a stream from any cursor: its own, expired ones, and those of other streams, which are unknown in it."""
        rows = self._rows(stream)
        elsewhere = [row.cursor for row in self.rows if not row.may_stand_in(stream)]
        cursors = [START, *elsewhere, *self.gone.get(stream, [])[-3:], *(row.cursor for row in rows)]
        drawn = data.draw(st.none() | st.sampled_from(cursors))
        cursor = Cursor(drawn.position, drawn.proof, data.draw(st.booleans())) if drawn else None
        first, last = (None if n is None else self.began + n * SECOND for n in bounds)
        request = ReadRequest(stream, cursor, event_id, first, last, filters, limit, scan)
        walked = [row for row in self.runner.run(walk(self.store, request)) if not self._is_left(row, stream)]
        read = [(row.id, row.source, row.subject, row.resource, row.type, row.json, row.registered) for row in walked]
        assert read == [self._as_read(row) for row in self._expected(request, rows)]

    def _set_clock(self, now: int) -> None:
        self.harness.clock.now = max(now, self.retired)

    def _standing(self, wanted: CloudEvent) -> Row | None:
        key = (wanted.resource, wanted.source, wanted.id)
        return next((r for r in self.rows if (r.event.resource, r.event.source, r.event.id) == key), None)

    def _rows(self, stream: Stream) -> list[Row]:
        """The model's rows of a stream with the store's cursors, in the store's order across resources.

        The store has all of them and no other, in the model's order where it keeps one; the head is the newest.
        """
        stored = self.runner.run(everything(self.store, stream))
        assert self.runner.run(self.store.head(stream)) == (stored[-1].position if stored else 0)
        cursors = {(row.resource, row.source, row.id): row.cursor for row in stored if not self._is_left(row, stream)}
        mine = {row.key: row for row in self.rows if row.stands_in(stream)}
        for resources in self.ordered_together:
            assert [key for key in cursors if key[0] in resources] == [key for key in mine if key[0] in resources]
        return [replace(mine[key], cursor=cursor) for key, cursor in cursors.items()]

    @staticmethod
    def _is_left(row: StoredEvent, stream: Stream) -> bool:
        """Whether the row is a tombstone in the stream of a subject that it no longer names."""
        return stream.kind == "subject" and row.subject != stream.key

    def _expected(self, request: ReadRequest, rows: list[Row]) -> list[Row]:
        rows = self._after_start(rows, request)
        first = -1 if request.registered_from is None else request.registered_from
        last = 2**62 if request.registered_to is None else request.registered_to
        return [row for row in rows if first <= row.registered <= last and row.passes(request.filters)]

    @staticmethod
    def _after_start(rows: list[Row], request: ReadRequest) -> list[Row]:
        cursor = request.cursor
        if cursor is not None and (cursor.position, cursor.proof) == (START.position, START.proof):
            return rows
        for n, row in enumerate(rows):
            if cursor is not None and (row.cursor.position, row.cursor.proof) == (cursor.position, cursor.proof):
                return rows[n if cursor.before else n + 1 :]
        if cursor is not None:
            return rows
        by_id = [n for n, row in enumerate(rows) if row.event.id == request.event_id]
        return rows[by_id[0] + 1 :] if by_id else rows

    @staticmethod
    def _as_read(row: Row) -> tuple[Any, ...]:
        event = row.event
        json = None if row.erased else event.json
        return (event.id, event.source, row.subject, event.resource, event.type, json, row.registered)


@pytest.mark.slow
def test_a_store_reads_like_a_list(adapter: str) -> None:
    """Any sequence of appends, erasures, expiries and steps of the clock."""
    ordered_together = [RESOURCES] if adapter == "sqlite" else [[resource] for resource in RESOURCES]
    members = {"make": staticmethod(HARNESSES[adapter]), "ordered_together": ordered_together}
    machine: Any = type("Model", (Model,), members)
    case = machine.TestCase
    case.settings = settings(max_examples=EXAMPLES[adapter], stateful_step_count=25, deadline=None)
    case("runTest").debug()


TEXTS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=12)
PLAIN = st.text("abikAIK%_\\", min_size=1, max_size=6)
ALIKE = st.text("aAbiIkKÆæßẞİ\u212aΣς%_\\", min_size=1, max_size=6)


async def matching(store: EventStore, stream: Stream, values: list[str], patterns: list[str]) -> list[list[str]]:
    """Append events of these types and sources to an empty stream; return the ids that each filter lets through."""
    await store.append([event(str(n), type=v, source=v, resource=stream.key) for n, v in enumerate(values)])
    assert len(await everything(store, stream)) == len(values)
    filters = Filters(types=tuple(patterns)), Filters(sources=tuple(patterns))
    return [ids(await walk(store, ReadRequest(stream, filters=filter_))) for filter_ in filters]


@pytest.mark.slow
def test_patterns_match_as_they_are_defined(adapter: str, tmp_path: Path) -> None:
    """A filter lets through the types and sources that match any of its patterns, in any script."""
    harness = HARNESSES[adapter](tmp_path)
    store, streams = harness.open(), map(Stream.of_resource, (f"{ANY}-{n}" for n in itertools.count()))

    @settings(max_examples=10 if adapter == "cosmos, prefix batches" else 60, deadline=None)
    @given(
        values=st.lists(TEXTS | ALIKE, min_size=1, max_size=12, unique=True),
        patterns=st.lists(PLAIN, min_size=1, max_size=3) | st.lists(ALIKE, min_size=1, max_size=3),
    )
    @example(values=["a\u212a", "aK", "aø"], patterns=["ak"])
    @example(values=["İ", "a_", "ab"], patterns=["i%", "%_"])
    def match(values: list[str], patterns: list[str]) -> None:
        expected = [str(n) for n, value in enumerate(values) if AnyPattern(patterns).matches(value)]
        assert runner.run(matching(store, next(streams), values, patterns)) == [expected, expected]

    with asyncio.Runner() as runner:
        try:
            match()
        finally:
            runner.run(harness.discard())
