"""What runs without a request, as the Functions host calls it."""

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
from events_core.feeds.follow_up import FEED_ROUND_SECONDS, ROUND_SECONDS, FollowUp
from events_core.feeds.stream import Stream
from events_core.operations import background
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
"""The request of a timer, which nothing looks at."""


@pytest.fixture
async def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Application]:
    """The application on Cosmos DB."""
    async with application_on_cosmos(tmp_path, monkeypatch) as events:
        yield events


def change(resource: str) -> func.DocumentList:
    """A batch of the change feed with a document of a resource's stream."""
    return func.DocumentList([func.Document({"stream": f"resource:{resource}", "resource": resource})])


async def test_the_documents_of_the_container_name_the_streams_to_follow() -> None:
    """Each resource once, however long its name; what was projected is told of as well, and names none."""
    long = f"{ANY}-{'long' * 400}"
    async with cosmos_server() as server, server.database() as database:
        async with store_on(server, database) as store:
            await store.append([event(resource=resource, subject=PERSON) for resource in (APP, OTHER_APP, long, APP)])
            rows = await store.checkpoints.read_after(APPS, 0, 10)
            for target in (SUBJECT, Stream.of_subject(PERSON), Stream.of_org("ttd")):
                await store.projection.project(target, rows)
        async with server.client() as client:
            documents = await _all_of(client, database)
    assert len(documents) == 4 + 3 * 2
    assert {*streams_of(documents)} == {APPS, Stream.of_resource(OTHER_APP), Stream.of_resource(long)}


async def test_what_names_no_resource_holds_up_nobody(events: Application) -> None:
    """A batch comes again until its function returns: what retention leaves of an event does not keep it from that."""
    await events.store.append([event("a"), event("b")])
    left = placeholder({"id": "2", "partition": "p", "stream": APPS.name, "seq": 2, "registered": 1})
    await FUNCTIONS["follow_up"](func.DocumentList([*map(func.Document.from_dict, [left, {"id": "x"}]), *change(APP)]))
    assert ids(await everything(events.store, SUBJECT)) == ["a", "b"]


async def _all_of(client: CosmosClient, database: str) -> list[dict[str, Any]]:
    container = client.get_database_client(database).get_container_client("streams")
    return [dict(document) async for document in container.query_items("SELECT * FROM c")]


async def test_the_change_feed_brings_events_to_their_subjects(events: Application) -> None:
    """The trigger's batch says where, and the store says what."""
    await events.store.append([event("a"), event("b")])
    await FUNCTIONS["follow_up"](change(APP))
    assert ids(await everything(events.store, SUBJECT)) == ["a", "b"]


async def test_the_change_feed_is_given_short_rounds(events: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have longer ones: they keep nobody waiting."""
    given: list[float] = []

    async def follow(_: FollowUp, __: Stream, seconds: float = ROUND_SECONDS) -> None:
        given.append(seconds)

    monkeypatch.setattr(FollowUp, "follow", follow)
    await events.store.append([event("a")])
    await FUNCTIONS["follow_up"](change(APP))
    await FUNCTIONS["compare"](TICK)
    assert given == [FEED_ROUND_SECONDS, ROUND_SECONDS]


async def test_the_nightly_comparison_finds_what_was_missed(events: Application) -> None:
    """Whoever lost the wake-up."""
    await events.store.append([event("a")])
    await FUNCTIONS["compare"](TICK)
    assert ids(await everything(events.store, SUBJECT)) == ["a"]


async def test_the_sweep_follows_what_is_owed(events: Application) -> None:
    """And nothing else."""
    checkpoints = events.checkpoints
    await events.store.append([event("a"), event("b", resource=OTHER_APP)])
    await checkpoints.advance(APPS, await checkpoints.checkpoint(APPS), 0, catch_up_pending=True, quarantined=())
    await FUNCTIONS["sweep"](TICK)
    assert ids(await everything(events.store, SUBJECT)) == ["a"]


@pytest.mark.parametrize("name", ["follow_up", "sweep", "compare"])
async def test_on_the_embedded_store_nothing_is_left_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows serve every stream."""
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


async def told(deployment: Deployment, name: str, argument: Any) -> list[str]:
    """What the queue is told by a function."""
    binding = FUNCTIONS[name].outputs[0]
    await FUNCTIONS[name](argument)
    queue = FUNCTIONS[name].queues.of(binding)
    assert isinstance(queue, LocalQueue)
    texts, queue.waiting = [*queue.waiting], {}
    return texts


@pytest.fixture
async def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Deployment]:
    """The application on the embedded store, with an endpoint."""
    async with deployment_on("sqlite", tmp_path) as deployment:
        monkeypatch.setattr(app, "_application", deployment.application)
        yield deployment


async def test_what_is_followed_up_is_told_to_the_queue_and_delivered_by_its_message(deployment: Deployment) -> None:
    """Once for each subscription."""
    subscription = await deployment.subscribe()
    await deployment.application.store.append([event("a"), event("b")])
    assert await told(deployment, "follow_up", change(APP)) == [f"{subscription.id}"]
    assert await told(deployment, "deliver", message(f"{subscription.id}")) == []
    assert names(deployment.receiver) == ["a", "b"]


async def test_what_nobody_was_told_of_is_swept(deployment: Deployment) -> None:
    """A message may be lost."""
    subscription = await deployment.subscribe()
    await deployment.application.store.append([event("a")])
    await told(deployment, "follow_up", change(APP))
    assert await told(deployment, "sweep_deliveries", TICK) == [f"{subscription.id}"]


@pytest.mark.parametrize("text", ["", "x", "-1", "1r", "99999", "\ud800".encode(errors="replace").decode()])
async def test_a_message_that_names_no_lane_is_left(deployment: Deployment, text: str) -> None:
    """Whoever wrote it."""
    assert await told(deployment, "deliver", message(text)) == []


async def test_a_message_that_cannot_be_served_now_is_left_to_the_sweep(deployment: Deployment) -> None:
    """It is no poison: the lane stands in the store."""
    subscription = await deployment.subscribe()
    await deployment.application.store.close()
    assert await told(deployment, "deliver", message(f"{subscription.id}")) == []


async def test_records_of_deliveries_are_kept_for_thirty_days(deployment: Deployment) -> None:
    """Those that came to their end; retention takes them with the events that are too old."""
    subscription = await deployment.subscribe()
    await deployment.publish(event("a"))
    await deployment.deliver()
    await FUNCTIONS["retention"](TICK)
    assert await deployment.states(subscription) == ["delivered"]
    monthly = deployment.clock() + 31 * 86_400 * SECOND
    await deployment.application.subscriber.deliveries.expire(monthly - background.KEPT_DAYS * 86_400 * SECOND, 0)
    assert await deployment.states(subscription) == []
