"""Functions without a request, called as the Functions host calls them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest
from azure.cosmos.aio import CosmosClient
from azure.functions.queue import QueueMessage

import function_app
from events_core import app
from events_core.adapters.cosmos.streams.documents import placeholder
from events_core.common.clock import SECOND
from events_core.compose import compose
from events_core.delivery.delivery import SETTLED_DAYS
from events_core.feeds.follow_up import FEED_ROUND_SECONDS, ROUND_SECONDS, FollowUp
from events_core.feeds.stream import Stream
from events_core.operations.application import Application
from events_core.operations.background import streams_of
from events_core.settings import Settings
from local.host import functions_of
from local.queues import LocalQueue
from tests.contract.event_store import ANY, APP, OTHER_APP, PARTY, PERSON, event, everything, ids
from tests.support.cosmos import cosmos_server
from tests.support.delivering import Deployment, deployment_on, names
from tests.support.following import ROOT, application_on_cosmos, store_on

APPS, SUBJECT = Stream.of_resource(APP), Stream.of_subject(PARTY)
FUNCTIONS = {function.name: function for function in functions_of(function_app.app)}
TICK: Any = None
"""The request of a timer, which no function reads."""


@pytest.fixture
async def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Application]:
    """The application on Cosmos DB."""
    async with application_on_cosmos(tmp_path, monkeypatch) as events:
        yield events


def change(resource: str) -> func.DocumentList:
    """A batch of the change feed with a document of a resource's stream."""
    return func.DocumentList([func.Document({"stream": f"resource:{resource}", "resource": resource})])


async def test_documents_of_the_change_feed_name_resource_streams() -> None:
    """Each stream comes once, however long its name; projected events name none."""
    long = f"{ANY}-{'long' * 400}"
    async with cosmos_server() as server, server.database() as database:
        async with store_on(server, database) as store:
            await store.append([event(resource=resource, subject=PERSON) for resource in (APP, OTHER_APP, long, APP)])
            rows = (await store.checkpoints.read_after(APPS, 0, 10)).rows
            for target in (SUBJECT, Stream.of_subject(PERSON), Stream.of_org("ttd")):
                await store.projection.project(target, rows)
        async with server.client() as client:
            documents = await _all_of(client, database)
    assert len(documents) == 4 + 3 * 2
    assert {*streams_of(documents)} == {APPS, Stream.of_resource(OTHER_APP), Stream.of_resource(long)}


async def test_a_document_without_a_resource_fails_no_batch(events: Application) -> None:
    """A failed batch comes again forever, so a placeholder of retention must be skipped."""
    await events.store.append([event("a"), event("b")])
    left = placeholder({"id": "2", "partition": "p", "stream": APPS.name, "seq": 2, "registered": 1})
    await FUNCTIONS["follow_up"](func.DocumentList([*map(func.Document.from_dict, [left, {"id": "x"}]), *change(APP)]))
    assert ids(await everything(events.store, SUBJECT)) == ["a", "b"]


async def _all_of(client: CosmosClient, database: str) -> list[dict[str, Any]]:
    container = client.get_database_client(database).get_container_client("streams")
    return [dict(document) async for document in container.read_all_items()]


async def test_the_change_feed_brings_events_to_their_subjects(events: Application) -> None:
    """The batch names the stream, and the events come from the store."""
    await events.store.append([event("a"), event("b")])
    await FUNCTIONS["follow_up"](change(APP))
    assert ids(await everything(events.store, SUBJECT)) == ["a", "b"]


async def test_the_change_feed_wakes_waiting_readers(events: Application) -> None:
    """Another process has appended the events."""
    with events.waiting.watching(APPS) as watch:
        changed = watch.changed
        await FUNCTIONS["follow_up"](change(APP))
        assert changed.is_set()


async def test_the_change_feed_gets_short_rounds(events: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nightly comparison may take longer, since nothing waits for it."""
    given: list[float] = []

    async def follow(_: FollowUp, __: Stream, seconds: float = ROUND_SECONDS) -> None:
        given.append(seconds)

    monkeypatch.setattr(FollowUp, "follow", follow)
    await events.store.append([event("a")])
    await FUNCTIONS["follow_up"](change(APP))
    await FUNCTIONS["compare"](TICK)
    assert given == [FEED_ROUND_SECONDS, ROUND_SECONDS]


async def test_the_nightly_comparison_finds_missed_events(events: Application) -> None:
    """A wake-up may be lost."""
    await events.store.append([event("a")])
    await FUNCTIONS["compare"](TICK)
    assert ids(await everything(events.store, SUBJECT)) == ["a"]


async def test_the_sweep_follows_pending_streams(events: Application) -> None:
    """Streams without the flag are left alone."""
    checkpoints = events.checkpoints
    await events.store.append([event("a"), event("b", resource=OTHER_APP)])
    await checkpoints.advance(
        APPS, await checkpoints.checkpoint(APPS), {"projection": 0}, catch_up_pending=True, quarantined=()
    )
    await FUNCTIONS["sweep"](TICK)
    assert ids(await everything(events.store, SUBJECT)) == ["a"]


@pytest.mark.parametrize("name", ["follow_up", "sweep", "compare"])
async def test_on_sqlite_there_is_nothing_to_project(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row of an event serves all of its streams."""
    files = {"policy_file": ROOT / "local/policy.json", "register_file": ROOT / "local/register.json"}
    embedded = compose(Settings(data_dir=tmp_path, development=True, **files))
    monkeypatch.setattr(app, "_application", embedded)
    await embedded.store.append([event("a")])
    await FUNCTIONS[name](change(APP) if name == "follow_up" else TICK)
    assert ids(await everything(embedded.store, SUBJECT)) == ["a"]
    await embedded.close()


# -- Delivering -------------------------------------------------------------------------------------------------------


def message(text: str) -> Any:
    """A message of the queue."""
    return QueueMessage(id="1", body=text, dequeue_count=1)  # type: ignore[no-untyped-call] # the library's


async def sent(deployment: Deployment, name: str, argument: Any) -> list[str]:
    """The wake-ups that a function sends."""
    binding = FUNCTIONS[name].outputs[0]
    await FUNCTIONS[name](argument)
    queue = FUNCTIONS[name].queues.of(binding)
    assert isinstance(queue, LocalQueue)
    texts, queue.waiting = [*queue.waiting], {}
    return texts


@pytest.fixture
async def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Deployment]:
    """The application on SQLite, with an endpoint."""
    async with deployment_on("sqlite", tmp_path) as deployment:
        monkeypatch.setattr(app, "_application", deployment.application)
        yield deployment


async def test_following_up_sends_a_wakeup_that_delivers(deployment: Deployment) -> None:
    """A subscription gets one wake-up for a page of events."""
    subscription = await deployment.subscribe()
    await deployment.application.store.append([event("a"), event("b")])
    assert await sent(deployment, "follow_up", change(APP)) == [f"{subscription.id}"]
    assert await sent(deployment, "deliver", message(f"{subscription.id}")) == []
    assert names(deployment.receiver) == ["a", "b"]


async def test_the_sweep_repeats_a_lost_wakeup(deployment: Deployment) -> None:
    """A message may be lost."""
    subscription = await deployment.subscribe()
    await deployment.application.store.append([event("a")])
    await sent(deployment, "follow_up", change(APP))
    assert await sent(deployment, "sweep_deliveries", TICK) == [f"{subscription.id}"]


@pytest.mark.parametrize("text", ["", "x", "-1", "1r", "99999", "\ud800".encode(errors="replace").decode()])
async def test_a_message_without_a_lane_is_ignored(deployment: Deployment, text: str) -> None:
    """It may come from anywhere."""
    assert await sent(deployment, "deliver", message(text)) == []


async def test_a_message_that_cannot_be_served_is_left_to_the_sweep(deployment: Deployment) -> None:
    """It does not become poison, since the store knows the lane."""
    subscription = await deployment.subscribe()
    await deployment.application.store.close()
    assert await sent(deployment, "deliver", message(f"{subscription.id}")) == []


async def test_finished_deliveries_are_kept_for_thirty_days(deployment: Deployment) -> None:
    """Retention removes later ones with their events."""
    subscription = await deployment.subscribe()
    await deployment.publish(event("a"))
    await deployment.deliver()
    await FUNCTIONS["retention"](TICK)
    assert await deployment.states(subscription) == ["delivered"]
    monthly = deployment.clock() + 31 * 86_400 * SECOND
    await deployment.application.subscriber.deliveries.expire(monthly - SETTLED_DAYS * 86_400 * SECOND, 0)
    assert await deployment.states(subscription) == []
