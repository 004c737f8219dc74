"""Tokens of Microsoft Entra for the service's own calls: of a managed identity, or of a client and its secret."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

import aiohttp

from events_core.common.errors import EventsError, unavailable

RENEW_SECONDS = 290
"""From this long before its end a token is renewed while it still serves; msal itself stops keeping it at 300."""
LAST_SECONDS = 60
"""A kept token with less than this left is not handed out any more."""
RETRY_SECONDS = 30
"""How often a renewal is tried while the kept token still serves."""
DEADLINE_SECONDS = 8.0
MAX_ANSWER_BYTES = 256 * 1024

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, section 2.1."""
_log = logging.getLogger(__name__)

SessionFactory = Callable[[], aiohttp.ClientSession]
Acquire = Callable[[str, str | None], Mapping[str, Any]]


class AccessToken(NamedTuple):
    """A bearer token and its end in seconds since the epoch: what the Azure SDK calls an access token."""

    token: str
    expires_on: int

    def __repr__(self) -> str:
        return f"AccessToken(expires_on={self.expires_on})"


@dataclass(slots=True)
class _Kept:
    access: AccessToken
    renew_at: float


class EntraCredential:
    """Acquires tokens, each scope's once at a time, and keeps them until shortly before their end.

    With `client_secret` it is the client `client_id` at `authority` (OAuth 2.0 client credentials, RFC 6749 section
    4.4), else the managed identity `client_id`, or the system-assigned one. It is an asynchronous token credential
    of the Azure SDK too. `session` gives the HTTP client to use and is closed by its owner.
    """

    def __init__(
        self,
        session: SessionFactory,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        authority: str | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._session = session
        self._client = (client_id, client_secret, authority)
        self._deadline = deadline_seconds
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._flights: dict[tuple[str, str | None], asyncio.Task[AccessToken]] = {}
        self._making = threading.Lock()
        self._acquire: Acquire | None = None

    async def token(self, scope: str) -> str:
        """A token for a scope such as `api://pdp/.default`.

        Raises:
            EventsError: UNAVAILABLE when none can be had in time.
        """
        return (await self.get_token(scope)).token

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,  # noqa: ARG002 - of the SDK's protocol; the tenant is the authority's
        enable_cae: bool = False,  # noqa: ARG002 - of the SDK's protocol
        **kwargs: Any,  # noqa: ARG002 - of the SDK's protocol
    ) -> AccessToken:
        """A token for the one scope; `claims`, a resource's challenge, asks for a new one that meets it.

        Raises:
            EventsError: UNAVAILABLE when none can be had in time.
            ValueError: not one scope.
        """
        (scope,) = scopes
        kept, now = None if claims else self._kept.get(scope), self._clock()
        if kept is None or now >= kept.access.expires_on - LAST_SECONDS:
            return await self._landed(scope, self._flight(scope, claims))
        if now >= kept.renew_at:
            kept.renew_at = now + RETRY_SECONDS
            self._flight(scope, None)
        return kept.access

    async def close(self) -> None:
        """Return: the session is its owner's."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self.close()

    def _flight(self, scope: str, claims: str | None) -> asyncio.Task[AccessToken]:
        """The acquisition under way, or a new one; it ends in its own time, whoever gives up waiting."""
        key = (scope, claims)
        if key not in self._flights:
            self._flights[key] = asyncio.create_task(self._fly(scope, claims))
            self._flights[key].add_done_callback(lambda done: self._land(key, done))
        return self._flights[key]

    async def _landed(self, scope: str, flight: asyncio.Task[AccessToken]) -> AccessToken:
        done, _ = await asyncio.wait({flight}, timeout=self._deadline)
        if not done:
            raise _down(scope, "deadline")
        return flight.result()

    async def _fly(self, scope: str, claims: str | None) -> AccessToken:
        now = self._clock()
        try:
            found = await asyncio.to_thread(self._ask, asyncio.get_running_loop(), scope, claims)
            match found:
                case {"access_token": str() as token, "expires_in": seconds} if _TOKEN.fullmatch(token):
                    return AccessToken(token, int(now) + int(seconds))
            why = _refusal(found)
        except Exception as error:  # noqa: BLE001 - msal raises whatever a bad answer breaks in it
            why = type(error).__name__
        raise _down(scope, why)

    def _land(self, key: tuple[str, str | None], flight: asyncio.Task[AccessToken]) -> None:
        del self._flights[key]
        if not flight.cancelled() and flight.exception() is None:
            access = flight.result()
            self._kept[key[0]] = _Kept(access, max(access.expires_on - RENEW_SECONDS, self._clock() + RETRY_SECONDS))

    def _ask(self, loop: asyncio.AbstractEventLoop, scope: str, claims: str | None) -> Mapping[str, Any]:
        """Ask msal, in a thread of its own: it blocks, and so does making its client, which reads the authority."""
        with self._making:
            if self._acquire is None:
                self._acquire = _acquirer(_Http(self._session, loop, self._deadline), *self._client)
        return self._acquire(scope, claims)


def _acquirer(http: _Http, client_id: str | None, client_secret: str | None, authority: str | None) -> Acquire:
    """Make the msal client; of a managed identity the scope's resource is asked for."""
    import msal  # type: ignore[import-untyped]  # noqa: PLC0415 - 0.2 s, and only when a scope is configured

    logging.getLogger("msal").setLevel(logging.CRITICAL)  # below that it quotes what it was answered
    if client_secret is not None:
        app = msal.ConfidentialClientApplication(
            client_id, client_credential=client_secret, authority=authority, instance_discovery=False, http_client=http
        )
        return lambda scope, claims: app.acquire_token_for_client([scope], claims_challenge=claims)
    identity = (
        msal.UserAssignedManagedIdentity(client_id=client_id) if client_id else msal.SystemAssignedManagedIdentity()
    )
    managed = msal.ManagedIdentityClient(identity, http_client=http)
    return lambda scope, claims: managed.acquire_token_for_client(
        resource=scope.removesuffix("/.default"), claims_challenge=claims
    )


def _down(scope: str, why: str) -> EventsError:
    _log.warning("No token can be had for %s: %s", scope, why)
    return unavailable("The service's own identity provider gives no token.")


def _refusal(found: Mapping[str, Any]) -> str:
    """The error of RFC 6749 section 5.2 and the codes of Entra; descriptions may quote a secret."""
    codes = [code for code in found.get("error_codes") or () if isinstance(code, int)]
    error = str(found.get("error"))
    return f"{error if error.isidentifier() else 'refused'} {codes}"


@dataclass(frozen=True, slots=True)
class _Answer:
    status_code: int
    text: str
    headers: Mapping[str, str]


class _Http:
    """What msal calls from its thread, sent by the session of the event loop.

    No redirect is followed, which would carry a secret elsewhere, and no answer takes longer than the deadline.
    """

    def __init__(self, session: SessionFactory, loop: asyncio.AbstractEventLoop, deadline_seconds: float) -> None:
        self._session = session
        self._loop = loop
        self._deadline = deadline_seconds

    def get(
        self, url: str, *, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> _Answer:
        """Send a GET."""
        return self._send("GET", url, params, headers, None)

    def post(
        self, url: str, *, params: Mapping[str, str] | None, headers: Mapping[str, str], data: Mapping[str, str]
    ) -> _Answer:
        """Send a form."""
        form = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
        return self._send("POST", url, params, form, urlencode(data))

    def _send(self, *request: Any) -> _Answer:
        return asyncio.run_coroutine_threadsafe(self._request(*request), self._loop).result()

    async def _request(
        self,
        method: str,
        url: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        body: str | None,
    ) -> _Answer:
        sent = self._session().request(method, url, params=params, headers=headers, data=body, allow_redirects=False)
        async with asyncio.timeout(self._deadline), sent as response:
            answer = bytearray()
            async for part in response.content.iter_any():
                answer += part
                if len(answer) > MAX_ANSWER_BYTES:
                    raise aiohttp.ClientPayloadError("the answer is too large")
            return _Answer(response.status, answer.decode(errors="replace"), dict(response.headers))
