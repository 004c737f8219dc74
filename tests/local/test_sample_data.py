"""The sample data of the local host."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events_core.access.names import Resource
from events_core.adapters.sqlite import SqliteEventStore
from events_core.cloudevent import read_structured, validate
from events_core.common.clock import now
from events_core.feeds.ports import ReadRequest
from events_core.feeds.stream import Stream
from local.persona import PARTY
from local.sample_data import RESOURCE, insert_sample_data, sample_events

NOW = 1_795_219_200_000_000  # 2026-11-21T00:00:00Z
TTD = Stream.of_org("ttd")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteEventStore]:
    """An empty store."""
    store = SqliteEventStore(tmp_path / "events.db")
    yield store
    await store.close()


def test_there_are_about_300_events() -> None:
    """They belong to several apps and orgs, and to a resource that is not an app."""
    events = list(sample_events(NOW))
    apps = Counter(str(Resource.parse(event.resource).app) for event in events)
    assert 250 <= len(events) <= 350
    assert {"ttd/apps-test", "ttd/other", "skd/mva"} < set(apps)
    assert any(event.resource == RESOURCE for event in events)


def test_the_ids_of_the_events_never_change() -> None:
    """A restart then stores no event twice."""
    ids = [event.id for event in sample_events(NOW)]
    assert ids == [event.id for event in sample_events(now())]
    assert len(set(ids)) == len(ids)


def test_the_events_are_valid_and_ordered_by_time() -> None:
    """They happened in the week before."""
    events = [validate(read_structured(event.json)) for event in sample_events(NOW)]
    times = [str(read_structured(event.json).attributes["time"]) for event in events]
    assert times == sorted(times)
    assert "2026-11-14" <= times[0] < times[-1] == "2026-11-21T00:00:00Z"


def test_the_sample_party_has_app_events() -> None:
    """The printed command of the party feed shows them."""
    about_party = [
        event
        for event in sample_events(NOW)
        if event.subject == f"/party/{PARTY}" and Resource.parse(event.resource).app
    ]
    assert len(about_party) > 50


async def test_an_empty_store_is_filled_once(store: SqliteEventStore) -> None:
    """The second call stores nothing, also with a progress bar."""
    stored = await insert_sample_data(store, progress=True)
    head = await store.head(TTD)
    assert stored == len(list(sample_events(NOW)))
    assert await insert_sample_data(store, progress=True) == 0
    assert await store.head(TTD) == head


async def test_a_store_with_events_is_left_alone(store: SqliteEventStore) -> None:
    """A single event is enough."""
    stored = next(event for event in sample_events(NOW) if event.resource == RESOURCE)
    await store.append([stored])
    assert await insert_sample_data(store, progress=False) == 0
    assert (await store.read(ReadRequest(TTD))).rows == []
