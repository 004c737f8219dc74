"""Webhooks over HTTP to endpoints chosen by subscribers: addresses are checked, time and size are bounded."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from typing_extensions import override

from events_core.adapters.neighbours.http_connections import HttpConnections, NoConnectionError
from events_core.adapters.neighbours.http_response import IncomingResponse, MalformedResponseError
from events_core.adapters.neighbours.names import AddressInfo
from events_core.common import clock
from events_core.common.clock import SECOND
from events_core.delivery.delivery import Attempt
from events_core.delivery.endpoint import Endpoint, EndpointPolicy, ForbiddenEndpointError
from events_core.delivery.ports import Outgoing, Response, WebhookSender
from events_core.delivery.shares import CONNECTIONS
from events_core.delivery.webhook import seconds_of

UNSUPPORTED_MEDIA_TYPE = 415
_KEPT_HEADERS = ("webhook-allowed-origin", "webhook-allowed-rate")
_RECEIVE_BUFFER_BYTES = 32 * 1024
"""Of each socket, so that an endless response fills little memory before it is cut off."""

_log = logging.getLogger(__name__)


class _ForbiddenAddressError(OSError):
    """The endpoint's host resolves to a forbidden address."""


def _public_tls() -> ssl.SSLContext:
    """Check certificates against the authorities that the machine trusts."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class HttpWebhookSender(WebhookSender):
    """Sends over connections of its own, and checks the resolved address of each one when its socket is made.

    No attempt takes longer than `timeout_seconds`. `clock` returns microseconds since the epoch. `tls` makes the
    context of connections with TLS.
    """

    def __init__(
        self,
        policy: EndpointPolicy,
        *,
        timeout_seconds: float = 30.0,
        clock: Callable[[], int] = clock.now,
        tls: Callable[[], ssl.SSLContext] = _public_tls,
    ) -> None:
        self._policy = policy
        self._timeout = timeout_seconds
        self._clock = clock
        self._connections = HttpConnections(self._socket, tls, CONNECTIONS)

    @override
    async def send(self, outgoing: Outgoing, timeout_seconds: float | None = None) -> Response:
        limit = min(timeout_seconds or self._timeout, self._timeout)
        began, started = self._clock(), time.perf_counter()
        media_types: Sequence[str | None] = outgoing.media_types or (None,)
        response, media_type, error = IncomingResponse(), media_types[0], None
        try:
            endpoint = self._policy.check(outgoing.endpoint)
            async with asyncio.timeout(limit):
                for media_type in media_types:
                    response = IncomingResponse({"retry-after", *_KEPT_HEADERS}, response.left)
                    request = _request(endpoint, outgoing, media_type)
                    await self._connections.send(endpoint, request, response, outgoing.consumer)
                    if response.status != UNSUPPORTED_MEDIA_TYPE or not response.left:
                        break
        except (ForbiddenEndpointError, OSError, MalformedResponseError) as failure:
            error = _reason_of(failure)
        status, headers = response.status, response.headers
        if status is not None:  # a status counts, whatever went wrong after it
            error = None if 200 <= status < 300 else "redirect" if 300 <= status < 400 else "refused"
        attempt = Attempt(began, status, error, round((time.perf_counter() - started) * 1_000))
        now = datetime.fromtimestamp(self._clock() / SECOND, UTC)
        kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
        return Response(attempt, seconds_of(headers.get("retry-after"), now), kept, media_type != media_types[0])

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()

    def _socket(self, address_info: AddressInfo) -> socket.socket:
        """Create the socket for a resolved or literal address: the last chance to refuse the address."""
        family, kind, protocol, _, address = address_info
        try:
            self._policy.check_address(ipaddress.ip_address(str(address[0]).partition("%")[0]))
        except ForbiddenEndpointError as error:
            _log.warning('webhook not sent reason="the host resolves to a forbidden address"')
            raise _ForbiddenAddressError(str(error)) from None
        created = socket.socket(family, kind, protocol)
        created.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        return created


def _request(endpoint: Endpoint, outgoing: Outgoing, media_type: str | None) -> bytes:
    """A request as it goes over the wire."""
    headers = {"Host": endpoint.authority, "Accept": "*/*", **outgoing.headers}
    if media_type is not None:
        headers["Content-Type"] = media_type
    if outgoing.body is not None:
        headers["Content-Length"] = str(len(outgoing.body))
    method = "OPTIONS" if outgoing.body is None else "POST"
    lines = [f"{method} {endpoint.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    assert not any(char in line for line in lines for char in "\r\n")  # or a value could begin another request
    return "\r\n".join([*lines, "", ""]).encode() + (outgoing.body or b"")


def _reason_of(failure: Exception) -> str:
    """Name the kind of failure, without any text of the endpoint."""
    kinds: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
        ((ForbiddenEndpointError, _ForbiddenAddressError), "forbidden address"),
        (NoConnectionError, "no connection"),
        (TimeoutError, "timeout"),
        (ssl.SSLError, "TLS failed"),
        (socket.gaierror, "unknown host"),
        (ConnectionError, "connection closed"),
    )
    causes = (failure.__cause__, failure)
    return next((reason for kind, reason in kinds for cause in causes if isinstance(cause, kind)), "no HTTP answer")
