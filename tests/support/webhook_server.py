"""A webhook receiver on loopback that answers as a test needs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web
from standardwebhooks.webhooks import Webhook


@dataclass(frozen=True)
class Received:
    """A request as the receiver got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The event in the body."""
        document: dict[str, Any] = orjson.loads(self.body)
        return document

    def verified_by(self, secret: str) -> bool:
        """Whether a library other than ours accepts the signature."""
        try:
            Webhook(secret).verify(self.body.decode(), self.headers)
        except Exception:  # noqa: BLE001 - whatever it says, it is a no
            return False
        return True


Answer = Callable[[Received], Awaitable[web.StreamResponse] | web.StreamResponse | None]


def accepting(_: Received) -> web.Response:
    """Accept every request."""
    return web.Response()


@dataclass
class WebhookServer:
    """Serves while it is entered.

    `answer` gives the response to each request; None closes the connection. `arrived` is set when a request comes.
    """

    answer: Answer = accepting
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    port: int = 0

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        made = self._runner.server
        assert made is not None

        def counted() -> asyncio.Protocol:
            self.connections += 1
            return made()

        self._server = await asyncio.get_running_loop().create_server(counted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(request.method, request.path_qs, headers, await request.read())
        self.received.append(received)
        self.arrived.set()
        answer = self.answer(received)
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return answer if isinstance(answer, web.StreamResponse) else await answer

    def events(self, path: str | None = None) -> list[dict[str, Any]]:
        """The delivered events, without validations."""
        posted = [request for request in self.received if request.method == "POST" and path in (None, request.path)]
        events = [request.event for request in posted]
        return [event for event in events if event.get("type") != "platform.events.validatesubscription"]

    async def until(self, count: int, seconds: float = 15, path: str | None = None) -> list[dict[str, Any]]:
        """Wait for a number of delivered events; return them."""
        async with asyncio.timeout(seconds):
            while len(self.events(path)) < count:
                self.arrived.clear()
                await self.arrived.wait()
        return self.events(path)
