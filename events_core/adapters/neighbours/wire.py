"""A connection's bytes, with or without TLS: how many are taken from the network is bounded where they arrive."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from events_core.adapters.neighbours.http_response import MAX_BYTES, MalformedResponseError

MAX_WIRE_BYTES = 4 * MAX_BYTES
"""Of a handshake, and of an exchange. Session tickets, padding and key updates are no part of the response."""
READ_AHEAD_BYTES = 8 * 1024

T = TypeVar("T")


class Wire:
    """Reads and writes one connection.

    The TLS of asyncio streams reads without end what is no data, and has a buffer of 256 KiB for each connection.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._left = MAX_WIRE_BYTES
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None

    @property
    def is_drained(self) -> bool:
        """Whether all that was written has left the process."""
        return not self._writer.transport.get_write_buffer_size()

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Shake hands with a server that has the certificate of a host."""
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        await self._when_readable(self._tls.do_handshake)

    def renew(self) -> None:
        """Begin an exchange, which may take as many bytes."""
        self._left = MAX_WIRE_BYTES

    def write(self, data: bytes) -> None:
        """Send bytes, without waiting."""
        if self._tls is None:
            self._writer.write(data)
            return
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest) :]
        self._flush()

    async def read(self, size: int) -> bytes:
        """Read up to so many bytes.

        Raises:
            OSError: The connection ended.
            MalformedResponseError: The server sent more than may be taken.
        """
        if self._tls is None:
            return await self._receive(size)
        data = await self._when_readable(partial(self._tls.read, size))
        if not data:
            raise ConnectionResetError
        return data

    def close(self) -> None:
        """Close the connection at once. Bytes that were not sent are dropped."""
        self._writer.transport.abort()

    async def _when_readable(self, step: Callable[[], T]) -> T:
        """Take a step of TLS, as soon as enough bytes for it have arrived."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                pass
            finally:
                self._flush()
            self._incoming.write(await self._receive(READ_AHEAD_BYTES))

    def _flush(self) -> None:
        """Send what TLS has written, also by itself: a step of the handshake, or the answer to a key update."""
        if self._outgoing.pending:
            self._writer.write(self._outgoing.read())

    async def _receive(self, size: int) -> bytes:
        if not self._left:
            raise MalformedResponseError
        data = await self._reader.read(min(size, self._left))
        if not data:
            raise ConnectionResetError
        self._left -= len(data)
        return data
