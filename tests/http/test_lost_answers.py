"""A change of a subscription succeeds although Cosmos DB's answer to the write is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.asgi import Answer
from tests.support.cosmos import CosmosServer, Fault, cosmos_server, ours_only
from tests.support.service import Service, ids, running
from tests.support.subscribing import LOOPBACK, SUBSCRIPTIONS, deliveries_of, published, settled, subscribed
from tests.support.webhook_server import WebhookServer

pytestmark = ours_only
lost = pytest.mark.parametrize("fault", [Fault(status=503, after=True), Fault(cut=True, after=True)], ids=str)


@pytest.fixture
async def server() -> AsyncIterator[CosmosServer]:
    """The emulator."""
    async with cosmos_server() as server:
        yield server


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: CosmosServer) -> AsyncIterator[Service]:
    """The service on a database of its own, with permission to deliver to loopback."""
    async with server.database() as database:
        settings = {"EVENTS_COSMOS": server.connection_string, "EVENTS_COSMOS_DATABASE": database, **LOOPBACK}
        async with running(tmp_path, monkeypatch, **settings) as service:
            yield service


async def asked(service: Service, method: str, number: int, path: str = "", **body: object) -> Answer:
    """Send a request about a subscription as its owner."""
    url = f"{SUBSCRIPTIONS}/{number}{path}"
    return await service.request(method, url, token=service.org(), json_body=body or None)


async def lose(server: CosmosServer, fault: Fault) -> None:
    """Lose the answer to the next replacement of a subscription."""
    await server.inject(replace(fault, operation="replace", container="subscriptions"))


@lost
async def test_a_deletion_is_no_404(
    service: Service, server: CosmosServer, receiver: WebhookServer, fault: Fault
) -> None:
    """The subscription is gone, and whoever deleted it is told so."""
    made = await subscribed(service, receiver)
    await lose(server, fault)
    assert (await asked(service, "DELETE", made["id"])).status == 200
    assert (await asked(service, "GET", made["id"])).status == 404


@lost
async def test_a_rotation_keeps_the_secret_before(
    service: Service, server: CosmosServer, receiver: WebhookServer, fault: Fault
) -> None:
    """Deliveries are signed with the secret that the answer shows, and with the one that the receiver still uses."""
    made = await subscribed(service, receiver)
    await lose(server, fault)
    answer = await asked(service, "POST", made["id"], "/rotate-secret")
    assert answer.status == 200
    await published(service)
    await settled()
    last = receiver.received[-1]
    assert last.verified_by(made["secret"])
    assert last.verified_by(answer.json()["secret"])


@lost
async def test_a_pause_and_its_end_hold(
    service: Service, server: CosmosServer, receiver: WebhookServer, fault: Fault
) -> None:
    """What was published during the pause is sent after it, once."""
    made = await subscribed(service, receiver)
    await lose(server, fault)
    assert (await asked(service, "PATCH", made["id"], paused=True)).status == 200
    names = await published(service)
    await settled()
    assert receiver.events("/hook") == []
    await lose(server, fault)
    assert (await asked(service, "PATCH", made["id"], paused=False)).status == 200
    await settled()
    assert ids(receiver.events("/hook")) == names
    assert [row["state"] for row in await deliveries_of(service, made["id"])] == ["delivered"]
