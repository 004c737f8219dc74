"""The drill of a restore: each container of the database may be as of another time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from events_core.adapters.cosmos.client import Document
from events_core.delivery.replay import ReplayRequest
from events_core.feeds.ports import ReadRequest
from events_core.feeds.stream import Cursor, Stream
from tests.contract.event_store import APP, OTHER_APP, PARTY, event, everything, ids
from tests.support.cosmos import cosmos_server, ours_only
from tests.support.delivering import TTD, Deployment, deployment_on, names
from tests.support.webhook_server import Received

CONTAINERS = ("streams", "cursors", "subscriptions", "deliveries", "due")
ORG, SUBJECT = Stream.of_org("ttd"), Stream.of_subject(PARTY)
SKD, NAV = "/org/skd", "/org/nav"

pytestmark = ours_only

Snapshot = Mapping[str, Sequence[Document]]
"""The documents of each container."""


@dataclass
class Lived:
    """A database at two times, and what the outside knows of it."""

    url: str = ""
    snapshots: list[Snapshot] = field(default_factory=list)
    cursor: Cursor = field(default_factory=lambda: Cursor(0, b""))
    second: int = 0
    webhook_ids: dict[str, str] = field(default_factory=dict)


@cache
def lived() -> Lived:
    """The life of the database. The first test fills it."""
    return Lived()


async def documents(deployment: Deployment) -> Snapshot:
    """Every document of the deployment's database."""
    async with cosmos_server() as server, server.client() as client:
        database = client.get_database_client(deployment.application.settings.cosmos_database)
        return {
            name: [dict(item) async for item in database.get_container_client(name).read_all_items()]
            for name in CONTAINERS
        }


async def fill(deployment: Deployment, snapshot: Snapshot, before: str) -> None:
    """Store documents in the deployment's database. The receiver had the URL `before`."""
    async with cosmos_server() as server, server.client() as client:
        database = client.get_database_client(deployment.application.settings.cosmos_database)
        for name, items in snapshot.items():
            container = database.get_container_client(name)
            for item in items:
                text = orjson.dumps({key: value for key, value in item.items() if not key.startswith("_")})
                await container.create_item(
                    orjson.loads(text.replace(before.encode(), deployment.receiver.url.encode()))
                )


def webhook_ids(received: Sequence[Received]) -> dict[str, set[str]]:
    """The events that each webhook-id named."""
    named: dict[str, set[str]] = {}
    for each in received:
        if each.method == "POST" and b"validatesubscription" not in each.body:
            named.setdefault(each.headers["webhook-id"], set()).add(str(each.event["id"]))
    return named


def refusing_one(received: Received) -> web.Response:
    """Refuse deliveries to the path `/one`."""
    is_delivery = received.method == "POST" and b"validatesubscription" not in received.body
    return web.Response(status=500 if is_delivery and received.path == "/one" else 200)


async def live(directory: Path) -> Lived:
    """Let a database live, once, and take a snapshot before and after its last events."""
    life = lived()
    if life.snapshots:
        return life
    async with deployment_on("cosmos", directory) as deployment:
        life.url = deployment.receiver.url
        first = await deployment.subscribe(TTD, "/one")
        await deployment.publish(*[event(name, resource=APP, subject=PARTY) for name in ("e1", "e2", "e3")])
        await deployment.deliver()
        life.snapshots.append(await documents(deployment))
        life.second = (await deployment.subscribe(SKD, "/two")).id
        await deployment.publish(event("e4", resource=APP, subject=PARTY))
        await deployment.deliver()
        deployment.receiver.answer = refusing_one
        await deployment.publish(*[event(name, resource=APP, subject=PARTY) for name in ("e5", "e6")])
        await deployment.publish(event("o1", resource=OTHER_APP, subject=PARTY))
        await deployment.application.replays.begin(deployment.caller(TTD), first.id, ReplayRequest(start=0))
        await deployment.deliver()
        end = (await everything(deployment.application.store, Stream.of_resource(APP)))[-1]
        life.cursor = end.cursor
        life.webhook_ids = {
            name: next(iter(events)) for name, events in webhook_ids(deployment.receiver.received).items()
        }
        life.snapshots.append(await documents(deployment))
    return life


@asynccontextmanager
async def restored(directory: Path, when: Sequence[int]) -> AsyncIterator[Deployment]:
    """A deployment on the restored database, whose containers are as of these snapshots."""
    life = await live(directory)
    async with deployment_on("cosmos", directory) as deployment:
        parts = {name: life.snapshots[at][name] for name, at in zip(CONTAINERS, when, strict=True)}
        await fill(deployment, parts, life.url)
        yield deployment


TIMES = list(product((0, 1), repeat=len(CONTAINERS)))


@pytest.mark.parametrize("when", TIMES, ids=lambda when: "".join(map(str, when)))
async def test_a_restored_database_misses_and_confuses_nothing(tmp_path: Path, when: Sequence[int]) -> None:
    """Whatever was stored is read and delivered, and nothing new is taken for something old."""
    async with restored(tmp_path, when) as deployment:
        life = lived()
        await deployment.application.restored()
        application = deployment.application = deployment.start()  # the service starts again
        again = [event(name, resource=APP, subject=PARTY) for name in ("n1", "e6", "e4", "e5")]
        await deployment.publish(*again, event("o1", resource=OTHER_APP, subject=PARTY))
        await application.follow_up.compare()
        await deployment.publish(event("n2", resource=APP, subject=PARTY))
        for _ in range(3):
            deployment.clock.add(120)
            await deployment.deliver()
        await check_feeds(deployment, are_kept=when[0] == 1)
        await check_deliveries(deployment, life, second_is_kept=when[2] == 1)
        request = ReadRequest(Stream.of_resource(APP), life.cursor, event_id="e6", limit=100)
        assert ids((await application.store.read(request)).rows)[0] == "e1"  # a reader from before begins anew


async def check_feeds(deployment: Deployment, *, are_kept: bool) -> None:
    """Every feed holds every event once, in one order."""
    store = deployment.application.store
    of_app = ["e4", "e5", "e6", "n1", "n2"] if are_kept else ["n1", "e6", "e4", "e5", "n2"]
    assert ids(await everything(store, Stream.of_resource(APP))) == ["e1", "e2", "e3", *of_app]
    for feed in (ORG, SUBJECT):
        rows = await everything(store, feed)
        assert [row.id for row in rows if row.resource == APP] == ["e1", "e2", "e3", *of_app]
        assert [row.id for row in rows if row.resource == OTHER_APP] == ["o1"]


async def check_deliveries(deployment: Deployment, life: Lived, *, second_is_kept: bool) -> None:
    """What was not delivered is; no webhook-id names another event; no subscription takes over another's deliveries."""
    first = names(deployment.receiver, "/one")
    assert {"e5", "e6", "n1", "n2"} <= set(first)
    assert first.index("n1") < first.index("n2")
    for name, events in webhook_ids(deployment.receiver.received).items():
        assert events == {life.webhook_ids.get(name, next(iter(events)))}
    if second_is_kept:
        assert {"n1", "n2"} <= set(names(deployment.receiver, "/two"))
    new = await deployment.subscribe(NAV, "/three")
    await deployment.publish(event("n3", resource=APP, subject=PARTY))
    await deployment.deliver()
    assert new.id != life.second
    assert names(deployment.receiver, "/three") == ["n3"]
    assert [delivery.event_id for delivery in await deployment.deliveries(new)] == ["n3"]
