"""Connections to servers that nobody trusts: HTTP/1.1 on asyncio streams, kept alive, dialled by address.

The client resolves a name once, and dials the addresses for which its caller makes a socket, and no others.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property

import aiohappyeyeballs

from events_core.adapters.neighbours.http_response import IncomingResponse, MalformedResponseError
from events_core.adapters.neighbours.names import AddressInfo, NameLookups
from events_core.adapters.neighbours.wire import READ_AHEAD_BYTES, Wire
from events_core.delivery.endpoint import Endpoint

KEPT_SECONDS = 15.0
REST_SECONDS = 2.0
"""How long the rest of a response is waited for after its status line: it only lets the connection be kept."""
_NEXT_ADDRESS_SECONDS = 0.25


class NoConnectionError(OSError):
    """None of the addresses of a host could be dialled."""


class HttpConnections:
    """Sends requests over at most `most` connections, kept and new ones.

    `open_socket` makes the socket for an address, or refuses it.
    """

    def __init__(
        self, open_socket: Callable[[AddressInfo], socket.socket], tls: Callable[[], ssl.SSLContext], most: int
    ) -> None:
        self._open_socket = open_socket
        self._new_tls = tls
        self._most = most
        self._names = NameLookups()
        self._idle: list[_Connection] = []
        self._busy = 0

    async def send(self, endpoint: Endpoint, request: bytes, response: IncomingResponse, consumer: str) -> None:
        """Send a request and read its response into `response`, until its status is known and its rest has come.

        A kept connection that the server has closed is replaced by a new one. The caller sees to it that no more than
        `most` requests are sent at once.

        Raises:
            OSError: No connection, or none that lasted until a status arrived.
            MalformedResponseError: What arrived has no status.
        """
        self._busy += 1
        try:
            kept = await self._take(endpoint.origin)
            connection = kept or await self._open(endpoint, consumer)
            try:
                await self._exchange(connection, request, response)
            except OSError:
                if kept is None or response.read:
                    raise
                await self._exchange(await self._open(endpoint, consumer), request, response)
        finally:
            self._busy -= 1

    async def close(self) -> None:
        """Close the kept connections."""
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.end()
        await asyncio.sleep(0)  # closes the sockets of all connections that ended in this step

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = self._new_tls()
        context.options |= ssl.OP_NO_RENEGOTIATION  # or a server could interrupt a request
        return context

    async def _take(self, origin: str) -> _Connection | None:
        """Take the kept connection that was used last, of those that the server left open."""
        while connection := next((kept for kept in reversed(self._idle) if kept.origin == origin), None):
            self._idle.remove(connection)
            if await connection.wake():
                return connection
        return None

    async def _open(self, endpoint: Endpoint, consumer: str) -> _Connection:
        """Connect to one of the addresses of a host. The oldest idle connection makes room."""
        if self._idle and self._busy + len(self._idle) > self._most:
            await self._idle.pop(0).end()
        addresses = await self._names.addresses_of(endpoint.host, endpoint.port, consumer)
        try:
            dialled = await aiohappyeyeballs.start_connection(
                addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, socket_factory=self._open_socket
            )
        except OSError as error:
            raise NoConnectionError from error
        try:
            wire = Wire(*await asyncio.open_connection(sock=dialled, limit=READ_AHEAD_BYTES))
        except BaseException:
            dialled.close()
            raise
        try:
            if endpoint.scheme == "https":
                await wire.start_tls(self._tls, endpoint.host)
        except BaseException:
            wire.close()
            raise
        return _Connection(endpoint.origin, wire)

    async def _exchange(self, connection: _Connection, request: bytes, response: IncomingResponse) -> None:
        """Use a connection, and keep it if it can be used again. What goes wrong after the status does not matter."""
        kept = False
        try:
            kept = await connection.exchange(request, response)
        except (OSError, MalformedResponseError):
            if response.status is None:
                raise
        finally:
            if kept:
                self._idle.append(connection)
                connection.watch(self._forget)
            else:
                connection.close()

    def _forget(self, connection: _Connection) -> None:
        with suppress(ValueError):
            self._idle.remove(connection)


class _Connection:
    """One connection. While it is idle, a task watches it."""

    def __init__(self, origin: str, wire: Wire) -> None:
        self.origin = origin
        self._wire = wire
        self._watcher: asyncio.Task[None]

    async def exchange(self, request: bytes, response: IncomingResponse) -> bool:
        """Send a request and read its response. Return whether the connection can be used again.

        Raises:
            OSError: The connection ended, or the rest of the response did not come in time.
            MalformedResponseError: The bytes are no response, or no final status is among those that may be read.
        """
        self._wire.renew()
        self._wire.write(request)
        async with asyncio.timeout(None) as rest:
            while room := response.room:
                response.feed(await self._wire.read(room))
                if response.status is not None and rest.when() is None:
                    rest.reschedule(asyncio.get_running_loop().time() + REST_SECONDS)
        if response.status is None:
            raise MalformedResponseError
        return response.reusable and self._wire.is_drained

    def watch(self, ended: Callable[[_Connection], None]) -> None:
        """Watch the idle connection: it ends when the server closes it or sends anything, or after a while."""

        async def watch() -> None:
            with suppress(OSError, MalformedResponseError):  # a TimeoutError is an OSError
                async with asyncio.timeout(KEPT_SECONDS):
                    await self._wire.read(1)
            self.close()
            ended(self)

        self._watcher = asyncio.create_task(watch())

    async def wake(self) -> bool:
        """Stop watching. Return False if the connection has ended, or the server has sent anything."""
        try:
            await asyncio.sleep(0)  # a watcher that has just begun reads what is left of the last answer
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        except asyncio.CancelledError:
            self.close()
            raise
        return self._watcher.cancelled()

    async def end(self) -> None:
        """Close the idle connection."""
        await self.wake()
        self.close()

    def close(self) -> None:
        """Close the connection at once. Bytes that were not sent are dropped."""
        self._wire.close()
