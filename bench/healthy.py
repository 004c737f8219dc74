"""The healthy consumer that `bench.neighbours` measures, and the decision point, each in a process of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from aiohttp import web

from bench.callers import Callers
from tests.support.pdp_server import PdpServer
from tests.support.webhook_server import Received, WebhookServer

ORG, RESOURCE = "ttd", "urn:altinn:resource:ttd-mail"
PUBLISHES_PER_SECOND = 25
LATEST_SECONDS = 2.0
"""How long the last events of a window are waited for."""
SLOW_PATH, SLOW_SECONDS = "/slow", 3.0
"""Paths of other subscribers on the healthy consumer's host."""


@dataclass
class Inbox:
    """The healthy endpoint. `arrived` says when each event arrived, by id; `arrival` is set then.

    It keeps no connection open, so each delivery needs a look-up of its name and a connection.
    """

    arrived: dict[str, float] = field(default_factory=dict)
    arrival: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, received: Received) -> web.Response:
        """Accept at once, but on the slow paths."""
        is_validation = received.method == "OPTIONS" or b"validatesubscription" in received.body
        if received.path.startswith(SLOW_PATH):
            await asyncio.sleep(0 if is_validation else SLOW_SECONDS)
        elif not is_validation:
            self.arrived.setdefault(received.event["id"], time.monotonic())
            self.arrival.set()
        response = web.Response()
        response.force_close()
        return response

    async def until_arrived(self, event_ids: Iterable[str], seconds: float) -> None:
        """Wait for these events, but no longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while set(event_ids) - self.arrived.keys():
                    self.arrival.clear()
                    await self.arrival.wait()


async def consume(pipe: Connection, url: str, data_dir: Path) -> None:
    """Subscribe and send the endpoint's URL. Then answer each number of seconds with a window of that length."""
    inbox = Inbox()
    async with WebhookServer(inbox.answer) as receiver, Callers.of(url, data_dir) as callers:
        await callers.subscribe([(ORG, {"endPoint": f"{_by_name(receiver)}/hook", "resourceFilter": RESOURCE})])
        await _validated(receiver)
        pipe.send(_by_name(receiver))
        window = 0
        while True:
            window += 1
            seconds = await asyncio.to_thread(pipe.recv)
            pipe.send(await _window(callers, inbox, f"{window}", round(PUBLISHES_PER_SECOND * seconds)))


def _by_name(receiver: WebhookServer) -> str:
    return f"http://healthy.localhost:{receiver.port}"


async def _validated(receiver: WebhookServer) -> None:
    while not any(request.method == "POST" for request in receiver.received):
        receiver.arrived.clear()
        await receiver.arrived.wait()


async def _window(callers: Callers, inbox: Inbox, name: str, count: int) -> tuple[list[float], int]:
    """Publish events at a steady rate, whatever the service does. Return the seconds until each arrived.

    The number is of events that did not arrive in time. Their seconds are those until the end of the window.
    """
    began: dict[str, float] = {}
    publishing: list[asyncio.Task[None]] = []
    start = time.monotonic()
    for number in range(count):
        await asyncio.sleep(start + number / PUBLISHES_PER_SECOND - time.monotonic())
        event_id = f"{name}-{number}"
        began[event_id] = time.monotonic()
        event = {"id": event_id, "resource": RESOURCE, "subject": f"/box/{event_id}"}
        publishing.append(asyncio.create_task(callers.publish(ORG, event)))
    await inbox.until_arrived(began, LATEST_SECONDS)
    now, missing = time.monotonic(), len(began.keys() - inbox.arrived.keys())
    for task in publishing:
        task.cancel()
    return [inbox.arrived.get(event_id, now) - since for event_id, since in began.items()], missing


async def decide(pipe: Connection) -> None:
    """Be the decision point, which permits everything. Send its URL."""
    async with PdpServer() as server:
        pipe.send(server.url.replace("127.0.0.1", "pdp.localhost"))
        await asyncio.Event().wait()
