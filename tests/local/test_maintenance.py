"""`replay-parked` and `restored`, which operators run on the configured store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from events_core.adapters.stores import open_file
from events_core.feeds.ports import Quarantined, ReadRequest
from events_core.feeds.stream import Stream
from events_core.operations.application import Application
from local import maintenance
from local.__main__ import cli
from local.errors import LocalError
from tests.contract.event_store import APP, PARTY, event, everything, ids
from tests.support.following import application_on_cosmos

APPS, SUBJECT = Stream.of_resource(APP), Stream.of_subject(PARTY)


@pytest.fixture
async def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Application]:
    """The application on Cosmos DB."""
    async with application_on_cosmos(tmp_path, monkeypatch) as application:
        yield application


async def replay() -> int | None:
    """Replay parked events on the running event loop."""
    return await maintenance.with_application(lambda application: application.follow_up.replay_quarantined())


async def test_parked_events_are_replayed_to_their_stream(application: Application) -> None:
    """The replay begins with the first quarantined event."""
    await application.store.append([event(name) for name in ("a", "b", "c")])
    checkpoints = application.checkpoints
    quarantined = [Quarantined("projection", SUBJECT.name, 2, "ValueError")]
    await checkpoints.advance(
        APPS, await checkpoints.checkpoint(APPS), {"projection": 3}, catch_up_pending=False, quarantined=quarantined
    )
    assert await replay() == 0
    assert ids(await everything(application.store, SUBJECT)) == ["b", "c"]
    assert await checkpoints.quarantined() == []


async def test_a_store_that_does_not_answer_is_a_one_line_error(application: Application) -> None:
    """The operator sees no traceback."""
    await application.store.close()
    with pytest.raises(LocalError, match="event store"):
        await replay()


def test_an_empty_embedded_store_has_nothing_parked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says so and exits with status 0."""
    monkeypatch.setenv("AZURE_FUNCTIONS_ENVIRONMENT", "Development")
    monkeypatch.setenv("EVENTS_DATA_DIR", str(tmp_path))
    ended = CliRunner().invoke(cli, ["replay-parked"])
    assert (ended.exit_code, ended.stdout) == (0, "nothing is parked any more\n")


def test_targets_that_still_refuse_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command fails, so that a script notices."""
    monkeypatch.setattr(maintenance, "replay_parked", lambda: 2)
    ended = CliRunner().invoke(cli, ["replay-parked"])
    assert (ended.exit_code, ended.stderr) == (
        1,
        "2 streams or subscriptions still refuse an event; the log names them\n",
    )


def test_a_missing_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit status is 2, as for `serve`."""
    monkeypatch.setenv("AZURE_FUNCTIONS_ENVIRONMENT", "Production")
    monkeypatch.setenv("EVENTS_DATA_DIR", str(tmp_path))
    ended = CliRunner().invoke(cli, ["replay-parked"])
    assert ended.exit_code == 2
    assert ended.stderr.startswith("EVENTS_")


async def test_cursors_from_before_a_restore_of_an_embedded_store_are_unknown(tmp_path: Path) -> None:
    """Other events may have stood before theirs. The key of the file stays, so the cursors open."""
    for restores, read in ((0, ["b"]), (1, ["a", "b"])):
        path = tmp_path / f"{restores}.db"
        stores = open_file(path, None)
        await stores.events.append([event("a"), event("b")])
        cursor = (await stores.events.read(ReadRequest(APPS, limit=1))).end
        if restores:
            await stores.restored()
        await stores.events.close()
        again = open_file(path, None)
        assert again.secret == stores.secret
        assert ids((await again.events.read(ReadRequest(APPS, cursor, event_id="a"))).rows) == read
        await again.events.close()


def test_restored_sets_an_embedded_store_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store that the settings name."""
    monkeypatch.setenv("AZURE_FUNCTIONS_ENVIRONMENT", "Development")
    monkeypatch.setenv("EVENTS_DATA_DIR", str(tmp_path))
    ended = CliRunner().invoke(cli, ["restored"])
    assert (ended.exit_code, ended.stdout) == (
        0,
        "every older cursor is unknown now; streams that are followed up again: 0\n",
    )


def test_restored_prints_how_many_streams_it_follows_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator learns what happens next."""
    monkeypatch.setattr(maintenance, "restored", lambda: 3)
    ended = CliRunner().invoke(cli, ["restored"])
    assert "followed up again: 3" in ended.stdout
