"""Look-ups of endpoints' names while name services are silent. `socket.getaddrinfo` alone is replaced: it blocks."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from events_core.adapters.neighbours import names
from events_core.adapters.neighbours.names import THREADS, THREADS_PER_CONSUMER, NameLookups
from events_core.adapters.neighbours.webhooks import HttpWebhookSender
from events_core.delivery.endpoint import EndpointPolicy
from events_core.delivery.ports import Outgoing
from local.data_dir import open_issuer
from tests.support.command_line import served
from tests.support.raw_server import RawServer, answering

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
real = socket.getaddrinfo


@dataclass
class Resolver:
    """Names below `silent.example` get no answer until `answers` is set. All names lead to this machine."""

    loop: asyncio.AbstractEventLoop
    answers: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def getaddrinfo(self, host: str, port: int, *rest: Any, **options: Any) -> Any:
        """Block as the C library does."""
        if options.get("flags") == socket.AI_NUMERICHOST:
            return real(host, port, *rest, **options)
        self.asked.append(host)
        self.loop.call_soon_threadsafe(self.news.set)
        if host.endswith(".silent.example"):
            self.answers.wait()
        return real("127.0.0.1", port, *rest, **options)

    async def until(self, count: int) -> None:
        """Wait until so many look-ups have begun."""
        async with asyncio.timeout(10):
            while len(self.asked) < count:
                self.news.clear()
                await self.news.wait()


@pytest.fixture
async def resolver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Resolver]:
    """The name service of the machine."""
    resolver = Resolver(asyncio.get_running_loop())
    monkeypatch.setattr(socket, "getaddrinfo", resolver.getaddrinfo)
    yield resolver
    resolver.answers.set()


@pytest.fixture
async def sender() -> AsyncIterator[HttpWebhookSender]:
    """A sender that may reach this machine."""
    sender = HttpWebhookSender(EndpointPolicy.of(http=True, networks=["127.0.0.0/8"]))
    yield sender
    await sender.close()


def hanging(lookups: NameLookups, consumer: str, count: int = 100) -> list[asyncio.Task[Any]]:
    """Look-ups of silent names of one consumer."""
    return [
        asyncio.create_task(lookups.addresses_of(f"n{number}.silent.example", 443, consumer)) for number in range(count)
    ]


async def cancel(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_silent_names_of_one_consumer_hold_up_nothing_else(resolver: Resolver, sender: HttpWebhookSender) -> None:
    """Other consumers' deliveries and the default executor, which looks up the neighbours' names, go on at once."""
    async with RawServer(answering(OK)) as server:
        silent = [f"http://n{number}.silent.example:{server.port}/" for number in range(100)]
        hostile = [asyncio.create_task(sender.send(Outgoing(url, "/org/hostile", {}, b"{}"))) for url in silent]
        await resolver.until(THREADS_PER_CONSUMER)
        async with asyncio.timeout(2):
            quick = Outgoing(f"http://quick.example:{server.port}/", "/org/ttd", {}, b"{}")
            assert (await sender.send(quick)).attempt.succeeded
            loop = asyncio.get_running_loop()
            await asyncio.gather(*(loop.getaddrinfo("register.example", 443) for _ in range(50)))
        assert len([name for name in resolver.asked if "silent" in name]) == THREADS_PER_CONSUMER
        await cancel(hostile)


async def test_fifteen_consumers_with_silent_names_leave_threads_for_another(resolver: Resolver) -> None:
    """Threads whose look-ups hang count against their consumers."""
    lookups = NameLookups()
    hostile = [task for number in range(15) for task in hanging(lookups, f"/org/hostile{number}")]
    await resolver.until(15 * THREADS_PER_CONSUMER)
    assert THREADS > 15 * THREADS_PER_CONSUMER
    async with asyncio.timeout(2):
        for number in range(20):
            assert await lookups.addresses_of(f"n{number}.quick.example", 443, "/org/ttd")
    await cancel(hostile)


async def test_a_name_without_an_answer_in_time_is_unknown(
    resolver: Resolver, sender: HttpWebhookSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the look-up hangs or waits for a thread of its consumer."""
    monkeypatch.setattr(names, "SECONDS", 0.2)
    urls = [f"http://n{number}.silent.example/" for number in range(THREADS_PER_CONSUMER + 3)]
    async with asyncio.timeout(5):
        attempts = await asyncio.gather(*(sender.send(Outgoing(url, "/org/ttd", {}, b"{}")) for url in urls))
    assert {(response.attempt.status, response.attempt.error) for response in attempts} == {(None, "unknown host")}
    assert len(resolver.asked) == THREADS_PER_CONSUMER


async def test_a_thread_that_hangs_counts_until_it_ends(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its consumer gets no other thread for it after the deadline, and gets one when the C library gives up."""
    monkeypatch.setattr(names, "SECONDS", 0.2)
    lookups = NameLookups()
    await asyncio.wait(hanging(lookups, "/org/ttd", THREADS_PER_CONSUMER))
    with pytest.raises(socket.gaierror):
        await lookups.addresses_of("quick.example", 443, "/org/ttd")
    assert len(resolver.asked) == THREADS_PER_CONSUMER
    monkeypatch.setattr(names, "SECONDS", 5)
    waiting = asyncio.create_task(lookups.addresses_of("quick.example", 443, "/org/ttd"))
    resolver.answers.set()
    assert await waiting


def test_a_look_up_that_ends_as_the_loop_does_leaves_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its slot is given back within the turn of the loop that hears of it."""
    loop = asyncio.new_event_loop()
    resolver = Resolver(loop)
    monkeypatch.setattr(socket, "getaddrinfo", resolver.getaddrinfo)

    async def hang() -> None:
        looking = hanging(NameLookups(), "/org/ttd", THREADS_PER_CONSUMER)
        await resolver.until(THREADS_PER_CONSUMER)
        await cancel(looking)

    loop.run_until_complete(hang())
    resolver.answers.set()
    for thread in [thread for thread in threading.enumerate() if thread.name == "look-up"]:
        thread.join()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert not asyncio.all_tasks(loop)
    loop.close()


async def test_a_machine_without_threads_left_keeps_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is unknown for now."""

    class NoThread:
        def __init__(self, **_: Any) -> None: ...

        def start(self) -> None:
            message = "can't start new thread"
            raise RuntimeError(message)

    lookups = NameLookups()
    with monkeypatch.context() as few:
        few.setattr(names, "Thread", NoThread)
        for _ in range(THREADS_PER_CONSUMER + 1):
            with pytest.raises(socket.gaierror):
                await lookups.addresses_of("quick.example", 443, "/org/ttd")


async def test_a_look_up_that_is_cancelled_while_it_waits_keeps_no_slot(resolver: Resolver) -> None:
    """Nor does one whose thread has ended."""
    lookups = NameLookups()
    waiting = hanging(lookups, "/org/ttd")
    await resolver.until(THREADS_PER_CONSUMER)
    await cancel(waiting)
    resolver.answers.set()
    async with asyncio.timeout(5):
        for _ in range(2 * THREADS):
            assert await lookups.addresses_of("quick.example", 443, "/org/ttd")
    assert len(resolver.asked) == THREADS_PER_CONSUMER + 2 * THREADS


async def test_a_literal_address_needs_no_look_up(resolver: Resolver) -> None:
    """It waits for no thread."""
    lookups = NameLookups()
    waiting = hanging(lookups, "/org/ttd")
    await resolver.until(THREADS_PER_CONSUMER)
    async with asyncio.timeout(2):
        [(family, _, _, _, address)] = await lookups.addresses_of("93.184.216.34", 443, "/org/ttd")
        [(family6, _, _, _, address6)] = await lookups.addresses_of("2606:4700::1", 443, "/org/ttd")
    assert (family, address) == (socket.AF_INET, ("93.184.216.34", 443))
    assert (family6, address6[:2]) == (socket.AF_INET6, ("2606:4700::1", 443))
    assert len(resolver.asked) == THREADS_PER_CONSUMER
    await cancel(waiting)


async def test_an_unknown_name_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is that of the C library."""

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(socket.gaierror) as caught:
        await NameLookups().addresses_of("nobody.example", 443, "/org/ttd")
    assert caught.value.errno == socket.EAI_NONAME


async def test_a_few_addresses_of_a_large_answer_are_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two of each family: an answer with thousands would open thousands of sockets."""
    v4 = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{number}", 443)) for number in range(200)]
    v6 = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (f"2001:db8::{number}", 443, 0, 0)) for number in range(200)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [*v6, *v4])
    assert await NameLookups().addresses_of("large.example", 443, "/org/ttd") == [*v6[:2], *v4[:2]]


def test_the_service_stops_while_a_look_up_hangs(tmp_path: Path) -> None:
    """A thread that cannot be stopped does not hold up the exit of the process."""
    asked = tmp_path / "asked"
    os.mkfifo(asked)
    (tmp_path / "sitecustomize.py").write_text(
        "import socket, threading\n"
        "real = socket.getaddrinfo\n"
        "def getaddrinfo(host, *rest, **options):\n"
        "    if host == 'hooks.silent.example':\n"
        f"        open({str(asked)!r}, 'w').close()\n"
        "        threading.Event().wait()\n"
        "    return real(host, *rest, **options)\n"
        "socket.getaddrinfo = getaddrinfo\n"
    )
    with served(tmp_path / "data", PYTHONPATH=str(tmp_path)) as running:
        body = {"endPoint": "https://hooks.silent.example/", "resourceFilter": "urn:altinn:resource:app_ttd_apps-test"}
        token = open_issuer(running.data_dir).token_for_org("ttd", "altinn:events.subscribe")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        url = f"{running.url}/events/api/v1/subscriptions"
        with urllib.request.urlopen(urllib.request.Request(url, orjson.dumps(body), headers)) as response:
            assert response.status == 201
        asked.read_text()
        begun = time.perf_counter()
        assert running.stop() == 0
        assert time.perf_counter() - begun < 4
