"""A server on loopback that answers with bytes, as a test wrote them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RawServer:
    """A server, for `async with`. `handler` serves a connection; `accepted` counts them, `closed` those that ended."""

    handler: Handler
    tls: ssl.SSLContext | None = None
    accepted: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    _serving: set[asyncio.Task[None] | None] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._serving:
            assert task is not None
            task.cancel()

    @property
    def url(self) -> str:
        """The URL without a path."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        self._serving.add(task)
        try:
            await self.handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._serving.discard(task)
            writer.close()
            self.ended.set()


async def request_from(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read a request: its head, and its body of the length that the head gives.

    Raises:
        asyncio.IncompleteReadError: The client closed the connection.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((line[16:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length: ")), b"0")
    return head, await reader.readexactly(int(length))


def answering(*answers: bytes, hold: bool = False) -> Handler:
    """Answer the requests of each connection with these bytes. Then close it, or `hold` it open."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await request_from(reader)
            writer.write(answer)
            await writer.drain()
        if hold:
            await reader.read()

    return serve
