"""The attacks that `bench.neighbours` runs, in a process of their own. Each holds until its process is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.callers import Callers
from bench.healthy import SLOW_PATH
from bench.silent_names import SILENT
from tests.support.raw_server import Handler, RawServer, answering, request_from

RESOURCE = "urn:altinn:resource:hostile"
WILDCARDS, BATCH_SECONDS = 10, 2.0
_ACCEPTED = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_INTERIM = b"HTTP/1.1 103 Early Hints\r\n" + b"".join(b"Link: <https://x.example/%d>\r\n" % n for n in range(100))
_VALIDATED_WITHIN = 15.0

Deliver = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Attacker:
    """Hostile consumers, and their servers, which live as long as `stack`. `validated` counts validation events."""

    callers: Callers
    healthy_url: str
    stack: AsyncExitStack
    validated: int = 0
    validation: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def ports(self, number: int, handler: Handler) -> list[str]:
        """Start servers. Return their URLs."""
        return [(await self.stack.enter_async_context(RawServer(handler))).url for _ in range(number)]

    async def subscribe(self, endpoints: Sequence[str], org: str = "hostile0", **filters: str) -> None:
        """Subscribe a consumer at each endpoint."""
        bodies = [{"endPoint": endpoint, "resourceFilter": RESOURCE, **filters} for endpoint in endpoints]
        await self.callers.subscribe([(org, body) for body in bodies])

    async def publish(self, number: int, batch: str = "", **attributes: str) -> None:
        """Publish events about as many subjects in one request."""
        ids = [f"{batch}{each}" for each in range(number)]
        events = [{"id": name, "resource": RESOURCE, "subject": f"/box/{name}", **attributes} for name in ids]
        await self.callers.publish("hostile0", *events)

    async def until_validated(self, number: int) -> None:
        """Wait until so many validation events arrived. The attack begins without those that are late."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_VALIDATED_WITHIN):
                while self.validated < number:
                    self.validation.clear()
                    await self.validation.wait()

    def every(self, seconds: float, act: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        """Act again and again, without waiting for the answer."""

        async def repeat() -> None:
            async with asyncio.TaskGroup() as group:
                for number in count():
                    group.create_task(act(number))
                    await asyncio.sleep(seconds)

        self.tasks.append(asyncio.create_task(repeat()))

    def endpoint(self, deliver: Deliver) -> Handler:
        """An endpoint that takes validations at once, and answers deliveries by `deliver`."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                head, body = await request_from(reader)
                is_validation = b"validatesubscription" in body
                if is_validation or head.startswith(b"OPTIONS"):
                    writer.write(_ACCEPTED)
                    self.validated += is_validation
                    self.validation.set()
                else:
                    await deliver(writer)

        return serve


def _after(seconds: float) -> Deliver:
    async def deliver(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        writer.write(_ACCEPTED)

    return deliver


async def _for_ever(writer: asyncio.StreamWriter) -> None:
    """Answer with interim responses of a hundred headers, without end."""
    while True:
        writer.write(_INTERIM + b"\r\n")
        await writer.drain()


def _paths(urls: Sequence[str], each: int) -> list[str]:
    return [f"{url}/{path}" for url in urls for path in range(each)]


async def endless(attacker: Attacker) -> None:
    """Four endpoints, eight events: responses without end."""
    endpoints = await attacker.ports(4, attacker.endpoint(_for_ever))
    await attacker.subscribe(endpoints)
    await attacker.until_validated(len(endpoints))
    await attacker.publish(8)


async def slow(attacker: Attacker) -> None:
    """One consumer with 96 subscriptions on six ports, each answering after 5 s."""
    endpoints = _paths(await attacker.ports(6, attacker.endpoint(_after(5))), 16)
    await attacker.subscribe(endpoints)
    await attacker.until_validated(len(endpoints))
    await attacker.publish(100)


async def seven(attacker: Attacker) -> None:
    """Seven consumers with 32 such subscriptions each, on two ports of their own."""
    for number in range(7):
        endpoints = _paths(await attacker.ports(2, attacker.endpoint(_after(5))), 16)
        await attacker.subscribe(endpoints, f"hostile{number}")
    await attacker.until_validated(7 * 32)
    await attacker.publish(50)


async def one_host(attacker: Attacker) -> None:
    """One consumer with 200 paths that answer after 3 s, on the host where the healthy consumer has its own path."""
    await attacker.subscribe(_paths([attacker.healthy_url + SLOW_PATH], 200))
    await asyncio.sleep(2)
    await attacker.publish(20)


async def hanging(attacker: Attacker) -> None:
    """Four consumers with 80 endpoints each on five ports that never answer; 35 are asked for again each second."""
    asked = []
    for number in range(4):
        endpoints = _paths(await attacker.ports(5, answering(hold=True)), 16)
        asked += [(f"hostile{number}", endpoint) for endpoint in endpoints]
        await attacker.subscribe(endpoints, f"hostile{number}")

    async def ask_again(number: int) -> None:
        org, endpoint = asked[number % len(asked)]
        await attacker.subscribe([endpoint], org)

    attacker.every(1 / 35, ask_again)


async def silent(attacker: Attacker) -> None:
    """One consumer with 100 names whose server never answers."""
    await attacker.subscribe([f"http://n{number}{SILENT}:8080/hook" for number in range(100)])


async def wildcards(attacker: Attacker) -> None:
    """Two consumers with 400 filters of ten wildcards each. 100 events nearly match them, again and again."""
    (url,) = await attacker.ports(1, attacker.endpoint(_after(0)))
    kind, subject = "%a" * (WILDCARDS - 1) + "%", "%a" * (WILDCARDS - 2) + "%b"
    filters = {"resourceFilter": RESOURCE, "typeFilter": kind}
    await attacker.callers.subscribe(
        [
            (f"hostile{number % 2}", {"endPoint": endpoint, "subjectFilter": f"{subject}{number}%", **filters})
            for number, endpoint in enumerate(_paths([url], 800))
        ]
    )
    await attacker.until_validated(800)

    async def publish(number: int) -> None:
        await attacker.publish(100, f"{number}-", subject="a" * 500, type="a" * 250)

    attacker.every(BATCH_SECONDS, publish)


ATTACKS: dict[str, tuple[str, Callable[[Attacker], Awaitable[None]]]] = {
    "A1": ("103 responses without end", endless),
    "A2": ("96 slow subscriptions on six ports", slow),
    "A2-seven": ("seven consumers, 32 slow each", seven),
    "A2-host": ("200 slow paths of one host", one_host),
    "A3": ("320 hanging validations, 35/s again", hanging),
    "A4": ("100 names of a silent server", silent),
    "B1": ("800 filters, ten wildcards each", wildcards),
}
"""What the table calls each attack, by the name that `--only` takes."""


async def attack(pipe: Connection, name: str, url: str, data_dir: Path, healthy_url: str) -> None:
    """Begin an attack, say so, and hold it."""
    async with Callers.of(url, data_dir) as callers, AsyncExitStack() as stack:
        attacker = Attacker(callers, healthy_url, stack)
        await ATTACKS[name][1](attacker)
        pipe.send("begun")
        await asyncio.Event().wait()
