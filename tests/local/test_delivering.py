"""Deliveries of the service as it is served: it is killed and started again, and its queue is a real one."""

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
from aiohttp import web

from local.data_dir import open_issuer
from tests.support.azurite import azurite
from tests.support.documents import ROOT
from tests.support.served import clean_environment
from tests.support.webhook_server import Received, WebhookServer

RESOURCE = "urn:altinn:resource:ttd-mail"
SETTINGS = {"EVENTS_WEBHOOK_RETRY_SECONDS": "1,1,1"}


class Host:
    """A served service, in a process that a test may kill."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        command = [
            sys.executable,
            "-m",
            "local",
            "serve",
            "--port",
            "0",
            "--no-sample-data",
            "--data-dir",
            str(data_dir),
        ]
        environment = {**clean_environment(), **SETTINGS, **settings}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().removeprefix("listening on ").strip()

    async def post(self, path: str, body: object, content_type: str = "application/json") -> dict[str, Any]:
        """Make a request as a service owner who may do everything."""
        scopes = "altinn:events.publish.admin altinn:events.subscribe"
        token = open_issuer(self.data_dir).token_for_org("ttd", scopes)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url + path, data=json.dumps(body), headers=headers) as answer,
        ):
            assert answer.status < 300, await answer.text()
            return dict(await answer.json())

    async def subscribe(self, receiver: WebhookServer) -> None:
        """Subscribe a receiver to the resource, and wait for its validation event."""
        body = {"endPoint": receiver.url, "resourceFilter": RESOURCE}
        await self.post("/events/api/v1/subscriptions", body)
        async with asyncio.timeout(20):
            while not any(each.method == "POST" for each in receiver.received):
                receiver.arrived.clear()
                await receiver.arrived.wait()

    async def publish(self, *names: str) -> None:
        """Publish events of the resource."""
        event = {"specversion": "1.0", "type": "t", "source": "https://mail.example/box", "resource": RESOURCE}
        some = [{**event, "id": name} for name in names]
        await self.post("/events/api/v1/events", some, "application/cloudevents-batch+json")

    def kill(self) -> None:
        """End it as a power cut does."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def hosts() -> Iterator[list[Host]]:
    """Hosts that a test starts; whichever still run are stopped."""
    started: list[Host] = []
    try:
        yield started
    finally:
        for each in started:
            each.process.kill()
            each.process.communicate(timeout=20)


async def test_what_was_sent_and_not_recorded_when_the_process_was_killed_is_sent_again(tmp_path: Path) -> None:
    """At once: whoever starts ends the leases of the dead. In order, and nothing is lost."""
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
    assert [each["id"] for each in arrived] == ["a", "a", "b", "c"]


async def test_what_was_published_a_moment_before_the_process_was_killed_is_delivered(tmp_path: Path) -> None:
    """By the next one, which finds what was not followed up."""
    with hosts() as started:
        async with WebhookServer() as receiver:
            started.append(Host(tmp_path))
            await started[0].subscribe(receiver)
            await started[0].publish("a")
            started[0].kill()
            started.append(Host(tmp_path))
            arrived = await receiver.until(1, seconds=60)
    assert {each["id"] for each in arrived} == {"a"}


async def test_deliveries_are_woken_through_a_queue_of_a_storage_account(tmp_path: Path) -> None:
    """Real messages, where `AzureWebJobsStorage` names an account."""
    with azurite() as connection, hosts() as started:
        async with WebhookServer() as receiver:
            started.append(Host(tmp_path, AzureWebJobsStorage=connection))
            await started[0].subscribe(receiver)
            await started[0].publish("a", "b")
            arrived = await receiver.until(2, seconds=30)
    assert [each["id"] for each in arrived] == ["a", "b"]
