"""Publishing: the streams of an event, and the readers that it wakes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from events_core.access import scopes
from events_core.access.authorization import Authorization
from events_core.access.decisions import Decisions
from events_core.access.identity import Caller, Kind
from events_core.adapters.development.policy import LocalPolicy
from events_core.adapters.development.register import LocalRegister, RegisterFile
from events_core.adapters.sqlite import SqliteEventStore
from events_core.cloudevent import read_batch, read_structured
from events_core.common.errors import EventsError, Problem
from events_core.feeds.publish import Publisher, streams_of
from events_core.feeds.stream import Stream
from events_core.feeds.wait import WaitingReaders
from local.host import ROOT
from tests.support.askers import APP, APP_RESOURCE, OTHER_RESOURCE, USER, app_event, instance_url, other_event

ADMIN = Caller(Kind.SERVICE_OWNER, "/org/ttd", scopes=frozenset({scopes.PUBLISH_ADMIN}))


@pytest.fixture
async def publisher(tmp_path: Path) -> AsyncIterator[Publisher]:
    """Publishing on a new store, with the embedded policy and register."""
    store = SqliteEventStore(tmp_path / "events.db")
    file = ROOT / "local/register.json"
    policy, register = LocalPolicy(ROOT / "local/policy.json", RegisterFile.read(file)), LocalRegister(file)
    yield Publisher(store, Authorization(Decisions(policy), register), WaitingReaders(store, 8))
    await store.close()


def text(resource: str, **attributes: Any) -> dict[str, Any]:
    """An event as published."""
    source = instance_url() if resource == APP_RESOURCE else "https://letters.example/1"
    event = {"specversion": "1.0", "id": "e1", "type": "t", "source": source, "resource": resource}
    return {**event, "subject": "/party/50002108", **attributes}


async def woken(publisher: Publisher, streams: Sequence[Stream], *events: dict[str, Any]) -> list[bool]:
    """Publish as an administrator. Return for each stream whether its readers were woken."""
    with ExitStack() as stack:
        watches = [stack.enter_context(publisher.waiting.watching(stream)) for stream in streams]
        changes: list[asyncio.Event] = [watch.changed for watch in watches]
        await publisher.publish(ADMIN, list(read_batch(json.dumps(events).encode())))
        return [change.is_set() for change in changes]


def test_an_app_event_is_in_three_streams() -> None:
    """Those of its resource, of its org, and of its subject if it has one."""
    names = [stream.name for stream in streams_of(app_event())]
    assert names == [f"resource:{APP_RESOURCE}", "org:ttd", "subject:/party/50002108"]
    assert len(streams_of(app_event(subject=None))) == 2


def test_any_other_event_is_in_the_stream_of_its_resource() -> None:
    """Its subject makes no difference."""
    assert streams_of(other_event(subject="/party/1")) == [Stream.of_resource(OTHER_RESOURCE)]


async def test_publishing_wakes_the_readers_of_its_streams(publisher: Publisher) -> None:
    """One publish wakes readers of the resource, the org and the party, and no others."""
    streams = [*streams_of(app_event()), Stream.of_subject("/party/1"), Stream.of_resource(OTHER_RESOURCE)]
    assert await woken(publisher, streams, text(APP_RESOURCE)) == [True, True, True, False, False]


async def test_a_batch_wakes_the_readers_of_all_its_events(publisher: Publisher) -> None:
    """Every event of a batch counts."""
    streams = [Stream.of_resource(APP_RESOURCE), Stream.of_resource(OTHER_RESOURCE)]
    assert await woken(publisher, streams, text(OTHER_RESOURCE), text(APP_RESOURCE)) == [True, True]


async def test_a_refused_publish_wakes_no_reader(publisher: Publisher) -> None:
    """Nothing is stored, so no stream changes."""
    stream = Stream.of_resource(OTHER_RESOURCE)
    with publisher.waiting.watching(stream) as watch:
        changed = watch.changed
        with pytest.raises(EventsError) as refused:
            await publisher.publish(USER, list(read_batch(json.dumps([text(OTHER_RESOURCE)]).encode())))
        assert (refused.value.problem, changed.is_set()) == (Problem.FORBIDDEN, False)


async def test_only_an_app_publishes_as_an_app(publisher: Publisher) -> None:
    """Any other caller is refused, also an administrator."""
    raw = read_structured(json.dumps(text(APP_RESOURCE)).encode())
    with pytest.raises(EventsError) as refused:
        await publisher.publish_app_event(ADMIN, raw)
    assert refused.value.problem is Problem.FORBIDDEN
    assert (await publisher.publish_app_event(APP, raw)).event.id == "e1"
