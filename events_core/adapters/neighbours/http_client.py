"""HTTP out: one session for the process, and the JSON services that are called through it."""

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
MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_CONNECTIONS = 100

_log = logging.getLogger(__name__)


class HttpClient:
    """The one HTTP session of a process, created when first asked for, within the running event loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session; it keeps no cookies and reads no proxy settings."""
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


@dataclass(frozen=True, slots=True)
class Reply:
    """What a service answered: the HTTP status code and the bytes of the body."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class JsonService:
    """A service that takes JSON by POST, and what it wants with each request.

    `name` begins the sentence of an error ("The decision point"). `bearer` and `traceparent` are asked for each
    request. No request takes longer than `deadline_seconds`, and no redirect is followed.
    """

    client: HttpClient
    name: str
    url: str
    subscription_key: str | None = None
    bearer: Callable[[], Awaitable[str]] | None = None
    traceparent: Callable[[], str | None] | None = None
    deadline_seconds: float = DEADLINE_SECONDS
    max_answer_bytes: int = MAX_ANSWER_BYTES

    async def post(self, document: object, path: str = "", *, bearer: str | None = None) -> Reply:
        """Send a document to `path` below the service's URL; `bearer` goes before the service's own provider.

        Raises:
            EventsError: UNAVAILABLE when there is no whole answer in time.
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
        """Return when the service answers at all, with a status below 500.

        Raises:
            EventsError: UNAVAILABLE when it does not.
        """
        try:
            async with (
                asyncio.timeout(min(PING_SECONDS, self.deadline_seconds)),
                self.client.session.get(self.url, allow_redirects=False) as response,
            ):
                status = response.status
        except (aiohttp.ClientError, OSError) as error:
            raise self.down(type(error).__name__) from error
        if status >= 500:
            raise self.down(f"status {status}")

    def down(self, why: str) -> EventsError:
        """The error that this service gives no usable answer; `why` goes to the log alone."""
        _log.warning("%s gives no usable answer: %s", self.name, why)
        return unavailable(f"{self.name} does not answer.")

    async def _headers(self, bearer: str | None) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
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

    async def _send_twice(self, url: str, body: bytes, headers: dict[str, str]) -> Reply:
        """Send, and once more when the kept connection turns out to have been closed by the other side."""
        try:
            return await self._send(url, body, headers)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            return await self._send(url, body, headers)

    async def _send(self, url: str, body: bytes, headers: dict[str, str]) -> Reply:
        session = self.client.session
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            return Reply(response.status, await self._read(response))

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        answer = bytearray()
        async for part in response.content.iter_any():
            answer += part
            if len(answer) > self.max_answer_bytes:
                raise aiohttp.ClientPayloadError("the answer is too large")
        return bytes(answer)


def _encoded(document: object) -> bytes:
    try:
        return orjson.dumps(document)
    except TypeError:  # a lone surrogate in a claim has no UTF-8, but has an escape
        return json.dumps(document).encode()
