"""The stand-in for the change feed on a developer's machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import function_app
from events_core import app
from events_core.adapters.sqlite import SqliteEventStore
from events_core.common import errors
from events_core.compose import compose
from events_core.feeds.stream import Stream
from events_core.operations.application import Application
from events_core.settings import Settings
from local import change_feed as module
from local.background import background
from local.host import Function, functions_of
from tests.contract.event_store import ANY, APP, PARTY, event, everything, ids
from tests.support.following import ROOT, application_on_cosmos

APPS, SUBJECT = Stream.of_resource(APP), Stream.of_subject(PARTY)
FOLLOW_UP = [function for function in functions_of(function_app.app) if function.name == "follow_up"]


@pytest.fixture
async def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Application]:
    """The application on Cosmos DB."""
    async with application_on_cosmos(tmp_path, monkeypatch) as application:
        yield application


async def projected(application: Application, count: int) -> list[str]:
    """Wait until the subject's stream has `count` events. Returns their ids."""
    with application.waiting.watching(SUBJECT) as watch:
        async with asyncio.timeout(20):
            while True:
                changed = watch.changed
                rows = await everything(application.store, SUBJECT)
                if len(rows) >= count:
                    return ids(rows)
                await application.waiting.until(changed, watch, rows[-1].position if rows else 0)


async def test_events_that_this_process_appends_are_followed_up(application: Application) -> None:
    """No change feed is needed."""
    async with background(FOLLOW_UP):
        for name in ("a", "b"):
            await application.store.append([event(name)])
            application.waiting.wake([APPS, SUBJECT])
            await projected(application, 1)
        assert await projected(application, 2) == ["a", "b"]


async def test_earlier_events_are_followed_up_at_the_start(application: Application) -> None:
    """Another process may have appended them."""
    await application.store.append([event("a")])
    async with background(FOLLOW_UP):
        assert await projected(application, 1) == ["a"]


async def test_streams_with_catch_up_pending_are_swept(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have set the flag."""
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.05)
    checkpoints = application.checkpoints
    await application.store.append([event("a")])
    async with background(FOLLOW_UP):
        await projected(application, 1)
        await application.store.append([event("b")])
        flagged = None
        while flagged is None:
            seen = await checkpoints.checkpoint(APPS)
            flagged = await checkpoints.advance(APPS, seen, seen.positions, catch_up_pending=True, quarantined=())
        assert await projected(application, 2) == ["a", "b"]


async def test_a_failed_call_is_repeated(
    application: Application, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It gets the same stream, as by the trigger's retry policy. Other streams are followed meanwhile."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0)
    calls: list[str] = []
    third = asyncio.Event()

    async def fails_twice(documents: Any) -> None:
        (document,) = documents
        calls.append(document["resource"])
        match calls.count(APP), document["resource"] == APP:
            case 1, True:
                raise errors.unavailable("The store does not answer.")
            case 2, True:
                raise ValueError
            case 3, True:
                third.set()

    async with background([Function("follow_up", FOLLOW_UP[0].trigger, fails_twice)]):
        while not application.waiting._listeners:  # noqa: ASYNC110 - nothing signals a new listener
            await asyncio.sleep(0)
        application.waiting.wake([APPS, Stream.of_resource(ANY), SUBJECT])
        await asyncio.wait_for(third.wait(), 5)
    assert sorted(calls) == sorted([APP] * 3 + [ANY])
    assert {"follow-up postponed: The store does not answer.", "follow-up failed"} <= {*caplog.messages}


async def test_events_that_another_process_appends_to_the_same_file_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded store notifies no other process."""
    files = {"policy_file": ROOT / "local/policy.json", "register_file": ROOT / "local/register.json"}
    application = compose(Settings(data_dir=tmp_path, development=True, **files))
    monkeypatch.setattr(app, "_application", application)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    followed: asyncio.Queue[str] = asyncio.Queue()

    async def follow_up(documents: Any) -> None:
        for document in documents:
            followed.put_nowait(document["resource"])

    other = SqliteEventStore(tmp_path / "events.db")
    async with background([Function("follow_up", FOLLOW_UP[0].trigger, follow_up)]):
        await other.append([event("a")])
        assert await asyncio.wait_for(followed.get(), 10) == APP
    await other.close()
    await application.close()
