"""What stands in for the change feed on a developer's machine."""

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
async def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Application]:
    """The application on Cosmos DB."""
    async with application_on_cosmos(tmp_path, monkeypatch) as events:
        yield events


async def until_there(events: Application, count: int) -> list[str]:
    """The ids in the subject's stream, once there are so many."""
    async with asyncio.timeout(20), events.waiting.watching(SUBJECT) as watch:
        while True:
            changed = watch.changed
            rows = await everything(events.store, SUBJECT)
            if len(rows) >= count:
                return ids(rows)
            await changed.wait()


async def test_what_this_process_publishes_is_followed_up(events: Application) -> None:
    """Without a change feed."""
    async with background(FOLLOW_UP):
        for name in ("a", "b"):
            await events.store.append([event(name)])
            events.waiting.wake([APPS, SUBJECT])
            await until_there(events, 1)
        assert await until_there(events, 2) == ["a", "b"]


async def test_what_was_published_before_is_followed_up_at_the_start(events: Application) -> None:
    """By whichever process."""
    await events.store.append([event("a")])
    async with background(FOLLOW_UP):
        assert await until_there(events, 1) == ["a"]


async def test_what_is_owed_is_swept(events: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every few seconds."""
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.05)
    checkpoints = events.checkpoints
    await events.store.append([event("a")])
    async with background(FOLLOW_UP):
        await until_there(events, 1)
        await events.store.append([event("b")])
        catch_up_pending = False
        while not catch_up_pending:
            seen = await checkpoints.checkpoint(APPS)
            catch_up_pending = await checkpoints.advance(
                APPS, seen, seen.position, catch_up_pending=True, quarantined=()
            )
        assert await until_there(events, 2) == ["a", "b"]


async def test_a_call_that_fails_is_made_again(
    events: Application, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the same streams, as the trigger's retry policy has it."""
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0)
    calls: list[list[str]] = []
    third = asyncio.Event()

    async def fails_twice(documents: Any) -> None:
        calls.append(sorted(document["resource"] for document in documents))
        match len(calls):
            case 1:
                raise errors.unavailable("The store does not answer.")
            case 2:
                raise ValueError
        third.set()

    async with background([Function("follow_up", FOLLOW_UP[0].trigger, fails_twice)]):
        while not events.waiting._listeners:  # noqa: ASYNC110 - nobody tells when it listens
            await asyncio.sleep(0)
        events.waiting.wake([APPS, Stream.of_resource(ANY), SUBJECT])
        await asyncio.wait_for(third.wait(), 5)
    assert calls == [sorted([APP, ANY])] * 3
    assert {"following up has to wait: The store does not answer.", "following up failed"} <= {*caplog.messages}


async def test_what_another_process_appends_to_the_same_file_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the embedded store, where nobody tells of it."""
    files = {"policy_file": ROOT / "local/policy.json", "register_file": ROOT / "local/register.json"}
    events = compose(Settings(data_dir=tmp_path, development=True, **files))
    monkeypatch.setattr(app, "_application", events)
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
    await events.close()
