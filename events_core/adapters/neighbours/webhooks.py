"""Webhooks over HTTP to endpoints chosen by subscribers: addresses are checked, time and size are bounded."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import aiohttp
from typing_extensions import override

from events_core.adapters.neighbours.http_client import BodyTooLargeError, HttpClient, read_body
from events_core.common import clock
from events_core.common.clock import SECOND
from events_core.delivery.delivery import Attempt
from events_core.delivery.endpoint import EndpointPolicy, ForbiddenEndpointError
from events_core.delivery.ports import Outgoing, Response, WebhookSender
from events_core.delivery.webhook import seconds_of

MAX_RESPONSE_BYTES = 16 * 1024
CONNECTIONS, CONNECTIONS_PER_HOST = 256, 16
_KEPT_HEADERS = ("webhook-allowed-origin", "webhook-allowed-rate")

_log = logging.getLogger(__name__)


class _ForbiddenAddressError(OSError):
    """The endpoint's host resolves to a forbidden address."""


class HttpWebhookSender(WebhookSender):
    """Sends with aiohttp, and checks the resolved address of each connection when its socket is made.

    No attempt takes longer than `timeout_seconds`. Cookies and proxies are not used. `clock` returns microseconds
    since the epoch.
    """

    def __init__(
        self, policy: EndpointPolicy, *, timeout_seconds: float = 30.0, clock: Callable[[], int] = clock.now
    ) -> None:
        self._policy = policy
        self._timeout = timeout_seconds
        self._clock = clock
        self._client = HttpClient(self._new_session)

    @override
    async def send(self, outgoing: Outgoing, timeout_seconds: float | None = None) -> Response:
        began, started = self._clock(), time.perf_counter()
        status: int | None = None
        error: str | None = None
        headers: dict[str, str] = {}
        try:
            self._policy.check(outgoing.endpoint)
            async with asyncio.timeout(min(timeout_seconds or self._timeout, self._timeout)):
                status, headers = await self._exchange(outgoing)
        except ForbiddenEndpointError:
            error = "forbidden address"
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            error = _reason_of(failure)
        if status is not None and not 200 <= status < 300:
            error = "redirect" if 300 <= status < 400 else "refused"
        attempt = Attempt(began, status, error, round((time.perf_counter() - started) * 1_000))
        now = datetime.fromtimestamp(self._clock() / SECOND, UTC)
        kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
        return Response(attempt, seconds_of(headers.get("retry-after"), now), kept)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _exchange(self, outgoing: Outgoing) -> tuple[int, dict[str, str]]:
        """Send the request, and read the response so that the connection can be used again."""
        method = "OPTIONS" if outgoing.body is None else "POST"
        async with self._client.session.request(
            method, outgoing.endpoint, data=outgoing.body, headers=dict(outgoing.headers), allow_redirects=False
        ) as response:
            with suppress(BodyTooLargeError):  # the status of an endless response counts all the same
                await read_body(response, MAX_RESPONSE_BYTES)
            return response.status, {name.lower(): value for name, value in response.headers.items()}

    def _new_session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=CONNECTIONS, limit_per_host=CONNECTIONS_PER_HOST, socket_factory=self._socket, use_dns_cache=False
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            max_line_size=8_190,
            max_field_size=8_190,
        )

    def _socket(self, address_info: Any) -> socket.socket:
        """Create the socket for a resolved or literal address: the last chance to refuse the address."""
        family, kind, protocol, _, address = address_info
        try:
            self._policy.check_address(ipaddress.ip_address(str(address[0]).partition("%")[0]))
        except ForbiddenEndpointError as error:
            _log.warning('webhook not sent reason="the host resolves to a forbidden address"')
            raise _ForbiddenAddressError(str(error)) from None
        created = socket.socket(family, kind, protocol)
        created.setblocking(False)  # noqa: FBT003 - the call has no names
        return created


def _reason_of(failure: Exception) -> str:
    """Name the kind of failure, without any text of the endpoint."""
    cause: BaseException | None = failure
    while cause is not None:
        if isinstance(cause, _ForbiddenAddressError):
            return "forbidden address"
        cause = cause.__cause__ or cause.__context__ or getattr(cause, "os_error", None)
    kinds: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
        (TimeoutError, "timeout"),
        ((aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError, ssl.SSLError), "TLS failed"),
        (aiohttp.ClientConnectorDNSError, "unknown host"),
        (aiohttp.ClientConnectorError, "no connection"),
        ((aiohttp.ServerDisconnectedError, ConnectionError), "connection closed"),
    )
    return next((reason for kind, reason in kinds if isinstance(failure, kind)), "no HTTP answer")
