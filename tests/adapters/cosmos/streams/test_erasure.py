"""Erasure on Cosmos DB: tombstones in every stream that holds an event, or is about to."""

from __future__ import annotations

from typing import Any

import pytest

from events_core.common.errors import EventsError
from events_core.feeds.ports import Quarantined
from events_core.feeds.stream import Stream
from tests.adapters.cosmos.database import RESOURCE, Database, follow, positions
from tests.contract.event_store import APP, PARTY, PERSON, event, everything, ids
from tests.support.cosmos import Fault

ORG = Stream.of_org("ttd")
SUBJECT = Stream.of_subject(PARTY)


async def _texts(database: Database) -> str:
    return str([await database.documents(stream) for stream in (RESOURCE, ORG, SUBJECT, Stream.of_subject(PERSON))])


@pytest.mark.parametrize("followed", [True, False])
async def test_erasing_reaches_every_projection(database: Database, followed: bool) -> None:  # noqa: FBT001 - a parameter
    """Whether the event is projected before or after: no stream holds its content."""
    store = database.open()
    secret = event("a", subject=PERSON, alternativesubject=PERSON, resourceinstance="1/2", data="secret")
    await store.append([event("before"), secret, event("after")])
    if followed:
        await follow(store)
    assert await store.erase(APP, secret.source, "a")
    await follow(store)
    texts = await _texts(database)
    assert not any(text in texts for text in ("secret", PERSON, "1/2"))
    tombstones = [row for row in await everything(store, ORG) if row.json is None]
    assert ids(tombstones) == ["a"]


async def test_an_event_read_before_its_erasure_is_not_projected_after_it(database: Database) -> None:
    """The tombstone has taken its unique key in every target."""
    store = database.open()
    await store.append([event("a", data="secret")])
    rows = (await store.checkpoints.read_after(RESOURCE, 0, 10)).rows
    assert await store.erase(APP, event().source, "a")
    for target in (ORG, SUBJECT):
        await store.projection.project(target, rows)
    assert "secret" not in await _texts(database)


async def test_erasing_again_completes_an_interrupted_erasure(database: Database) -> None:
    """The second call replaces the copies that the first one did not reach."""
    store = database.open()
    await store.append([event("a", data="secret")])
    await follow(store)
    await database.inject(Fault("replace", "streams", status=503, skip=1))
    with pytest.raises(EventsError):
        await store.erase(APP, event().source, "a")
    assert "secret" in await _texts(database)
    assert await store.erase(APP, event().source, "a")
    assert "secret" not in await _texts(database)


async def test_erasing_again_still_knows_the_persons_stream(database: Database) -> None:
    """An interrupted call keeps the original, which names the stream that the event may still be projected to."""
    store = database.open(deadline=0.5)
    secret = event("a", subject=PERSON, data="secret")
    await store.append([secret])
    rows = (await store.checkpoints.read_after(RESOURCE, 0, 10)).rows
    await database.inject(Fault("create", "streams", database=database.name, status=503, times=1_000))
    with pytest.raises(EventsError):
        await store.erase(APP, secret.source, "a")
    await database.server.heal()
    assert await store.erase(APP, secret.source, "a")
    for target in (ORG, Stream.of_subject(PERSON)):
        await store.projection.project(target, rows)
    assert "secret" not in await _texts(database)


async def test_an_event_projected_during_its_erasure_is_erased(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if its checkpoint moves before the first tombstone is written."""
    store, projector = database.open(), database.open()
    await store.append([event("a", data="secret")])
    replace = store._database.replace

    async def replace_late(*arguments: Any) -> None:
        monkeypatch.undo()
        await follow(projector)
        await replace(*arguments)

    monkeypatch.setattr(store._database, "replace", replace_late)
    assert await store.erase(APP, event().source, "a")
    assert "secret" not in await _texts(database)


async def test_a_quarantined_event_replayed_after_its_erasure_is_not_projected(database: Database) -> None:
    """The replay has read the event before, and finds the tombstone in its target."""
    store = database.open()
    await store.append([event("a", data="secret")])
    rows = (await store.checkpoints.read_after(RESOURCE, 0, 10)).rows
    await store.projection.project(ORG, rows)
    checkpoint, quarantined = (
        await store.checkpoints.checkpoint(RESOURCE),
        [Quarantined("projection", SUBJECT.name, 1, "ValueError")],
    )
    await store.checkpoints.advance(
        RESOURCE, checkpoint, {"projection": 1}, catch_up_pending=False, quarantined=quarantined
    )
    assert await store.erase(APP, event().source, "a")
    await store.projection.project(SUBJECT, rows)
    assert "secret" not in await _texts(database)


async def test_a_stream_that_refuses_the_tombstone_does_not_stop_the_erasure(database: Database) -> None:
    """A stream that refuses the tombstone refuses the event too."""
    store = database.open()
    await store.append([event("a", data="secret")])
    await database.inject(Fault("create", "streams", database=database.name, status=400, times=2))
    assert await store.erase(APP, event().source, "a")
    assert "secret" not in await _texts(database)


async def test_a_tombstone_expires_when_its_event_would_have(database: Database) -> None:
    """Otherwise a hole would be left among the events beside it, or the tombstone among none."""
    store = database.open()
    await store.append([event("a"), event("b"), event("c")])
    await database.advance(60)
    assert await store.erase(APP, event().source, "b")
    await database.advance(30)
    assert positions(await database.documents()) == [1, 2, 3]
    await database.advance(1.1)
    assert positions(await database.documents()) == []
