"""An app's HTTP triggers behind the local host and a real server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import azure.functions as func
import uvicorn

from local.asgi import HttpHost
from local.host import functions_of
from local.listener import listen, url_of
from local.routing import Router


class _Server(uvicorn.Server):
    """A uvicorn that signals when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: object = None) -> None:
        await super().startup(sockets)  # type: ignore[arg-type]  # passed on as it came
        self.listens.set()


@dataclass(frozen=True)
class Hosted:
    """A running host: its URL and port, and the ASGI application."""

    url: str
    port: int
    host: HttpHost

    async def raw(self, request: bytes) -> bytes:
        """Send bytes on a new connection; return everything the host sends until it closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()


@asynccontextmanager
async def hosted(app: func.FunctionApp) -> AsyncIterator[Hosted]:
    """Run an app until the context ends."""
    host = HttpHost(Router(functions_of(app), ""))
    with listen("127.0.0.1", 0) as listener:
        config = uvicorn.Config(host, http="httptools", ws="none", lifespan="off", log_config=None)
        server = _Server(config)
        url, port = url_of(listener), listener.getsockname()[1]
        running = asyncio.create_task(server.serve([listener]))
        try:
            await server.listens.wait()
            yield Hosted(url, port, host)
        finally:
            server.should_exit = True
            await running
