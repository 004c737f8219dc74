"""Outgoing HTTP: the process's session, the reader of response bodies, and JSON services called by POST."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import orjson

from events_core.common.errors import EventsError, unavailable

DEADLINE_SECONDS = 10.0
PING_SECONDS = 5.0
MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_CONNECTIONS = 100

_log = logging.getLogger(__name__)


SessionFactory = Callable[[], aiohttp.ClientSession]


class HttpClient:
    """Holds one HTTP session without cookies and proxies, created on first use within the running event loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session; a new one after `close`."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS), cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def close(self) -> None:
        """Close the session and its connections, if there is one."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class BodyTooLargeError(aiohttp.ClientPayloadError):
    """A response body exceeds the reader's limit."""


async def read_body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the response body, or close the connection when the body exceeds `limit` bytes.

    Raises:
        BodyTooLargeError: The body exceeds `limit` bytes.
    """
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > limit:
            response.close()
            raise BodyTooLargeError(f"The response body exceeds {limit} bytes.")
    return bytes(body)


@dataclass(frozen=True, slots=True)
class Reply:
    """A service's response: the HTTP status code and the body."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class JsonService:
    """A service that takes JSON by POST, and the credentials it needs.

    `name` begins the sentence of an error ("The decision point"). `bearer`, `platform_token` and `traceparent` are
    called for each request. A request takes at most `deadline_seconds`, and redirects are not followed.
    """

    client: HttpClient
    name: str
    url: str
    subscription_key: str | None = None
    bearer: Callable[[], Awaitable[str]] | None = None
    platform_token: Callable[[], str] | None = None
    traceparent: Callable[[], str | None] | None = None
    deadline_seconds: float = DEADLINE_SECONDS
    max_body_bytes: int = MAX_BODY_BYTES

    async def post(self, document: object, path: str = "", *, bearer: str | None = None) -> Reply:
        """Send a document to `path` below the service's URL; `bearer` replaces the service's own provider.

        Raises:
            EventsError: UNAVAILABLE when no complete response arrives in time.
        """
        try:
            async with asyncio.timeout(self.deadline_seconds):
                headers = await self._headers(bearer)
                return await self._send_twice(
                    self.url.rstrip("/") + path if path else self.url, _encoded(document), headers
                )
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            raise self.down(type(error).__name__) from error

    async def ping(self) -> None:
        """Return when the service answers with a status below 500.

        Raises:
            EventsError: UNAVAILABLE when it does not.
        """
        try:
            async with (
                asyncio.timeout(min(PING_SECONDS, self.deadline_seconds)),
                self.client.session.get(self.url, headers=self._platform_header(), allow_redirects=False) as response,
            ):
                status = response.status
        except (aiohttp.ClientError, OSError) as error:
            raise self.down(type(error).__name__) from error
        if status >= 500:
            raise self.down(f"status {status}")

    def down(self, reason: str) -> EventsError:
        """Log `reason`, and return the error for a service without a usable response."""
        _log.warning('request failed service="%s" reason="%s"', self.name, reason)
        return unavailable(f"{self.name} does not answer.")

    async def _headers(self, bearer: str | None) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", **self._platform_header()}
        if self.subscription_key:
            headers["Ocp-Apim-Subscription-Key"] = self.subscription_key
        if bearer is None and self.bearer is not None:
            bearer = await self.bearer()
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        traceparent = self.traceparent() if self.traceparent is not None else None
        if traceparent:
            headers["traceparent"] = traceparent
        return headers

    def _platform_header(self) -> dict[str, str]:
        return {} if self.platform_token is None else {"PlatformAccessToken": self.platform_token()}

    async def _send_twice(self, url: str, body: bytes, headers: dict[str, str]) -> Reply:
        """Send, and send again when the service had closed the kept connection."""
        try:
            return await self._send(url, body, headers)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            return await self._send(url, body, headers)

    async def _send(self, url: str, body: bytes, headers: dict[str, str]) -> Reply:
        session = self.client.session
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            return Reply(response.status, await read_body(response, self.max_body_bytes))


def _encoded(document: object) -> bytes:
    try:
        return orjson.dumps(document)
    except TypeError:  # UTF-8 cannot hold a lone surrogate in a claim, but a JSON escape can
        return json.dumps(document).encode()
