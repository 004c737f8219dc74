"""`replay-parked`, which an operator runs once the reason is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from events_core.app import Events
from events_core.feed import Stream
from events_core.ports import Parked, StreamLedger
from local import replay
from local.__main__ import cli
from local.errors import LocalError
from tests.contract.event_store import APP, PARTY, event, everything, ids
from tests.support.following import application_on_cosmos

APPS, SUBJECT = Stream.of_resource(APP), Stream.of_subject(PARTY)


@pytest.fixture
async def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Events]:
    """The application on Cosmos DB."""
    async with application_on_cosmos(tmp_path, monkeypatch) as events:
        yield events


def ledger_of(events: Events) -> StreamLedger:
    """What the application follows up with."""
    assert events.follow_up is not None
    return events.follow_up._ledger


async def test_what_is_parked_is_brought_to_its_stream(events: Events) -> None:
    """From the first event that was held back on."""
    await events.store.append([event(name) for name in ("a", "b", "c")])
    ledger = ledger_of(events)
    parked = [Parked(SUBJECT, 2, "subject: ValueError")]
    await ledger.advance(APPS, await ledger.checkpoint(APPS), 3, owed=False, parked=parked)
    assert await replay.replayed() == 0
    assert ids(await everything(events.store, SUBJECT)) == ["b", "c"]
    assert await ledger.parked() == []


async def test_a_store_that_does_not_answer_is_one_line(events: Events) -> None:
    """And no traceback."""
    await events.store.close()
    with pytest.raises(LocalError, match="event store"):
        await replay.replayed()


def test_on_the_embedded_store_nothing_is_ever_parked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says so and ends well."""
    monkeypatch.setenv("AZURE_FUNCTIONS_ENVIRONMENT", "Development")
    monkeypatch.setenv("EVENTS_DATA_DIR", str(tmp_path))
    ended = CliRunner().invoke(cli, ["replay-parked"])
    assert (ended.exit_code, ended.stdout) == (0, "nothing is parked any more\n")


def test_streams_that_refuse_again_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command fails, so that whoever calls it by a script sees it."""
    monkeypatch.setattr(replay, "replay_parked", lambda: 2)
    ended = CliRunner().invoke(cli, ["replay-parked"])
    assert (ended.exit_code, ended.stderr) == (1, "2 streams refuse an event again; the log says which\n")


def test_a_bad_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere."""
    monkeypatch.setenv("AZURE_FUNCTIONS_ENVIRONMENT", "Production")
    monkeypatch.setenv("EVENTS_DATA_DIR", str(tmp_path))
    ended = CliRunner().invoke(cli, ["replay-parked"])
    assert ended.exit_code == 2
    assert ended.stderr.startswith("EVENTS_")
