"""Deliveries across a killed process, and through a real queue."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from local.data_dir import open_issuer
from tests.support.azurite import azurite
from tests.support.documents import ROOT
from tests.support.served import clean_environment
from tests.support.webhook_server import Received, WebhookServer

RESOURCE = "urn:altinn:resource:ttd-mail"
SETTINGS = {"EVENTS_WEBHOOK_RETRY_SECONDS": "1,1,1"}


class Host:
    """`local serve` in a process that a test may kill."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        options = ["--port", "0", "--no-sample-data", "--data-dir", str(data_dir)]
        command = [sys.executable, "-m", "local", "serve", *options]
        environment = {**clean_environment(), **SETTINGS, **settings}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().removeprefix("listening on ").strip()

    async def post(self, path: str, body: object, content_type: str = "application/json") -> dict[str, Any]:
        """Send a request as a service owner with every scope that is needed."""
        scopes = "altinn:events.publish.admin altinn:events.subscribe"
        token = open_issuer(self.data_dir).token_for_org("ttd", scopes)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url + path, data=json.dumps(body), headers=headers) as response,
        ):
            assert response.status < 300, await response.text()
            return dict(await response.json())

    async def subscribe(self, receiver: WebhookServer) -> None:
        """Subscribe a receiver to the resource, and wait for its validation event."""
        body = {"endPoint": receiver.url, "resourceFilter": RESOURCE}
        await self.post("/events/api/v1/subscriptions", body)
        async with asyncio.timeout(20):
            while not any(request.method == "POST" for request in receiver.received):
                receiver.arrived.clear()
                await receiver.arrived.wait()

    async def publish(self, *names: str) -> None:
        """Publish events of the resource."""
        event = {"specversion": "1.0", "type": "t", "source": "https://mail.example/box", "resource": RESOURCE}
        batch = [{**event, "id": name} for name in names]
        await self.post("/events/api/v1/events", batch, "application/cloudevents-batch+json")

    def kill(self) -> None:
        """Kill the process without warning, as a power cut does."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def hosts() -> Iterator[list[Host]]:
    """A list of the hosts that a test starts. They are killed at the end of the block."""
    started: list[Host] = []
    try:
        yield started
    finally:
        for host in started:
            host.process.kill()
            host.process.communicate(timeout=20)


async def test_an_attempt_that_a_killed_process_did_not_record_is_repeated(tmp_path: Path) -> None:
    """A process ends the leases of dead processes at its start. The order stays, and no event is lost."""
    with hosts() as started:
        async with WebhookServer() as receiver:
            started.append(Host(tmp_path))
            await started[0].subscribe(receiver)

            def answer(received: Received) -> web.Response:
                if len(receiver.events()) == 1:
                    started[0].kill()
                return web.Response()

            receiver.answer = answer
            await started[0].publish("a", "b", "c")
            await receiver.until(1)
            started.append(Host(tmp_path))
            arrived = await receiver.until(4, seconds=20)
    assert [event["id"] for event in arrived] == ["a", "a", "b", "c"]


async def test_an_event_published_just_before_the_process_was_killed_is_delivered(tmp_path: Path) -> None:
    """The next process finds events that were not followed up."""
    with hosts() as started:
        async with WebhookServer() as receiver:
            started.append(Host(tmp_path))
            await started[0].subscribe(receiver)
            await started[0].publish("a")
            started[0].kill()
            started.append(Host(tmp_path))
            arrived = await receiver.until(1, seconds=60)
    assert {event["id"] for event in arrived} == {"a"}


@pytest.mark.slow
async def test_wake_ups_go_through_the_queue_of_a_storage_account(tmp_path: Path) -> None:
    """`AzureWebJobsStorage` names the account."""
    with azurite() as connection, hosts() as started:
        async with WebhookServer() as receiver:
            started.append(Host(tmp_path, AzureWebJobsStorage=connection))
            await started[0].subscribe(receiver)
            await started[0].publish("a", "b")
            arrived = await receiver.until(2, seconds=30)
    assert [event["id"] for event in arrived] == ["a", "b"]
