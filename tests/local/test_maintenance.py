"""`replay-parked` and `restored`, which an operator runs on the store that the settings name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from events_core.feeds.ports import CheckpointStore, Quarantined, ReadRequest
from events_core.feeds.stream import Stream
from events_core.operations.application import Application
from local import maintenance
from local.__main__ import cli
from local.errors import LocalError
from tests.contract.event_store import APP, OTHER_APP, PARTY, event, everything, ids
from tests.support.cosmos import cosmos_server
from tests.support.following import application_on_cosmos, store_on

APPS, SUBJECT = Stream.of_resource(APP), Stream.of_subject(PARTY)


@pytest.fixture
async def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Application]:
    """The application on Cosmos DB."""
    async with application_on_cosmos(tmp_path, monkeypatch) as events:
        yield events


def ledger_of(events: Application) -> CheckpointStore:
    """What the application follows up with."""
    return events.checkpoints


async def test_what_is_parked_is_brought_to_its_stream(events: Application) -> None:
    """From the first event that was held back on."""
    await events.store.append([event(name) for name in ("a", "b", "c")])
    checkpoints = ledger_of(events)
    quarantined = [Quarantined("projection", SUBJECT.name, 2, "ValueError")]
    await checkpoints.advance(
        APPS, await checkpoints.checkpoint(APPS), 3, catch_up_pending=False, quarantined=quarantined
    )
    assert await maintenance.done(maintenance._replay) == 0
    assert ids(await everything(events.store, SUBJECT)) == ["b", "c"]
    assert await checkpoints.quarantined() == []


async def test_a_store_that_does_not_answer_is_one_line(events: Application) -> None:
    """And no traceback."""
    await events.store.close()
    with pytest.raises(LocalError, match="event store"):
        await maintenance.done(maintenance._replay)


def test_on_the_embedded_store_nothing_is_ever_parked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says so and ends well."""
    monkeypatch.setenv("AZURE_FUNCTIONS_ENVIRONMENT", "Development")
    monkeypatch.setenv("EVENTS_DATA_DIR", str(tmp_path))
    ended = CliRunner().invoke(cli, ["replay-parked"])
    assert (ended.exit_code, ended.stdout) == (0, "nothing is parked any more\n")


def test_streams_that_refuse_again_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command fails, so that whoever calls it by a script sees it."""
    monkeypatch.setattr(maintenance, "replay_parked", lambda: 2)
    ended = CliRunner().invoke(cli, ["replay-parked"])
    assert (ended.exit_code, ended.stderr) == (1, "2 streams refuse an event again; the log says which\n")


def test_a_bad_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere."""
    monkeypatch.setenv("AZURE_FUNCTIONS_ENVIRONMENT", "Production")
    monkeypatch.setenv("EVENTS_DATA_DIR", str(tmp_path))
    ended = CliRunner().invoke(cli, ["replay-parked"])
    assert ended.exit_code == 2
    assert ended.stderr.startswith("EVENTS_")


async def test_a_restored_database_is_gone_on_from(events: Application) -> None:
    """Checkpoints that are beyond their streams are set back, so that what comes is followed up; and once only."""
    await events.store.append([event("a"), event("b", resource=OTHER_APP)])
    checkpoints = ledger_of(events)
    await checkpoints.advance(
        APPS,
        await checkpoints.checkpoint(APPS),
        7,
        catch_up_pending=False,
        quarantined=[Quarantined("projection", SUBJECT.name, 5, "lost")],
    )
    assert await events.follow_up.restored() == 1
    checkpoint = await checkpoints.checkpoint(APPS)
    assert (checkpoint.position, checkpoint.catch_up_pending, list(checkpoint.quarantined)) == (1, True, [])
    assert await events.follow_up.restored() == 0
    await events.store.append([event("c")])
    await events.follow_up.sweep()
    assert "c" in ids(await everything(events.store, SUBJECT))


async def test_a_checkpoint_far_beyond_a_long_stream_is_set_back_to_its_end(events: Application) -> None:
    """Not to its beginning: what was followed up long ago would come again."""
    await events.store.append([event(f"{n}") for n in range(40)])
    checkpoints = ledger_of(events)
    await checkpoints.advance(APPS, await checkpoints.checkpoint(APPS), 700, catch_up_pending=False, quarantined=[])
    events.store._heads._known.clear()  # type: ignore[attr-defined] # as a process that has just begun
    assert await events.follow_up.restored() == 1
    assert (await checkpoints.checkpoint(APPS)).position == 40


async def test_cursors_from_before_a_restore_are_unknown() -> None:
    """Whoever comes with one starts with the oldest event, rather again than not at all."""
    async with cosmos_server() as server, server.database() as database:
        async with store_on(server, database) as store:
            await store.append([event("a"), event("b")])
            cursor = (await store.read(ReadRequest(APPS, limit=1))).end
            await store.checkpoints.restored()
        async with store_on(server, database) as store:
            assert ids((await store.read(ReadRequest(APPS, cursor))).rows) == ["a", "b"]


def test_a_store_in_a_file_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cursors tell by themselves, and how far it was followed stands in the same file."""
    monkeypatch.setenv("AZURE_FUNCTIONS_ENVIRONMENT", "Development")
    monkeypatch.setenv("EVENTS_DATA_DIR", str(tmp_path))
    ended = CliRunner().invoke(cli, ["restored"])
    assert (ended.exit_code, ended.stdout) == (0, "a store in a file needs nothing\n")


def test_what_was_done_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the number of streams."""
    monkeypatch.setattr(maintenance, "restored", lambda: 3)
    ended = CliRunner().invoke(cli, ["restored"])
    assert "3 streams had been followed up further" in ended.stdout
