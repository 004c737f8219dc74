"""Webhooks over HTTP, to endpoints that others chose: guarded where it dials, bounded in time and size."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp

from events_core.common import clock
from events_core.common.clock import SECOND
from events_core.delivery.delivery import Attempt
from events_core.delivery.endpoint import EndpointPolicy, ForbiddenEndpointError
from events_core.delivery.ports import Outgoing, Response
from events_core.delivery.webhook import seconds_of

MAX_RESPONSE_BYTES = 16 * 1024
CONNECTIONS, CONNECTIONS_PER_HOST = 256, 16
_KEPT_HEADERS = ("webhook-allowed-origin", "webhook-allowed-rate")

_log = logging.getLogger(__name__)


class _RefusedError(OSError):
    """The address that a name leads to must not be dialled."""


class HttpWebhookSender:
    """Sends with aiohttp; the address is checked when its socket is made, after DNS, for each connection anew.

    No attempt takes longer than `timeout_seconds`. Redirects are not followed, cookies and proxies not used. `clock`
    gives microseconds since the epoch.
    """

    def __init__(
        self, policy: EndpointPolicy, *, timeout_seconds: float = 30.0, clock: Callable[[], int] = clock.now
    ) -> None:
        self._policy = policy
        self._timeout = timeout_seconds
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def send(self, outgoing: Outgoing, timeout_seconds: float | None = None) -> Response:
        """Send; see `WebhookSender.send`."""
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
            error = _named(failure)
        if status is not None and not 200 <= status < 300:
            error = "redirect" if 300 <= status < 400 else "refused"
        attempt = Attempt(began, status, error, round((time.perf_counter() - started) * 1_000))
        moment = datetime.fromtimestamp(self._clock() / SECOND, UTC)
        return Response(attempt, seconds_of(headers.get("retry-after"), moment), _kept(headers))

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _exchange(self, outgoing: Outgoing) -> tuple[int, dict[str, str]]:
        method = "OPTIONS" if outgoing.body is None else "POST"
        async with self._opened().request(
            method, outgoing.endpoint, data=outgoing.body, headers=dict(outgoing.headers), allow_redirects=False
        ) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            await self._read(response)
            return response.status, headers

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        """Read what keeps the connection usable; whoever sends more is cut off, and has answered all the same."""
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > MAX_RESPONSE_BYTES:
                response.close()
                return

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=CONNECTIONS,
                limit_per_host=CONNECTIONS_PER_HOST,
                socket_factory=self._socket,
                use_dns_cache=False,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
                max_line_size=8_190,
                max_field_size=8_190,
            )
        return self._session

    def _socket(self, address_info: Any) -> socket.socket:
        """A socket for an address that DNS gave, or that the URL spelled out: the last place to refuse it."""
        family, kind, protocol, _, address = address_info
        try:
            self._policy.check_address(ipaddress.ip_address(str(address[0]).partition("%")[0]))
        except ForbiddenEndpointError as error:
            _log.warning("A webhook's name leads to an address that must not be reached")
            raise _RefusedError(str(error)) from None
        opened = socket.socket(family, kind, protocol)
        opened.setblocking(False)  # noqa: FBT003 - the call has no names
        return opened


def _named(failure: Exception) -> str:
    """What went wrong, in words that hold nothing of the endpoint's."""
    cause: BaseException | None = failure
    while cause is not None:
        if isinstance(cause, _RefusedError):
            return "forbidden address"
        cause = cause.__cause__ or cause.__context__ or getattr(cause, "os_error", None)
    kinds: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
        (TimeoutError, "timeout"),
        ((aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError, ssl.SSLError), "TLS failed"),
        (aiohttp.ClientConnectorDNSError, "unknown host"),
        (aiohttp.ClientConnectorError, "no connection"),
        ((aiohttp.ServerDisconnectedError, ConnectionError), "connection closed"),
    )
    return next((name for kind, name in kinds if isinstance(failure, kind)), "no HTTP answer")


def _kept(headers: dict[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in _KEPT_HEADERS if name in headers}
