"""Microsoft Entra tokens for the service's own calls: of a managed identity, or of a client with a secret."""

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

from events_core.adapters.neighbours.http_client import SessionFactory, read_body
from events_core.common.errors import EventsError, unavailable

RENEW_SECONDS = 290
"""A token is renewed at least this long before its end; msal drops it from its own cache 300 seconds before."""
LAST_SECONDS = 60
"""A cached token with less than this left is not handed out."""
RETRY_SECONDS = 30
"""Time between attempts to renew a token that is still handed out."""
DEADLINE_SECONDS = 8.0
MAX_BODY_BYTES = 256 * 1024

_BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, section 2.1."""
_log = logging.getLogger(__name__)

Acquire = Callable[[str, str | None], Mapping[str, Any]]


class AccessToken(NamedTuple):
    """A bearer token and its end in seconds since the epoch, with the Azure SDK's field names."""

    token: str
    expires_on: int

    def __repr__(self) -> str:
        return f"AccessToken(expires_on={self.expires_on})"


@dataclass(slots=True)
class _CachedToken:
    access: AccessToken
    renew_at: float


class EntraCredential:
    """Acquires tokens with msal, one request a scope at a time, and renews them in the background.

    msal decides when a token is due for renewal, and returns the old token if the renewal fails. But msal blocks its
    thread, renews while the caller waits, and does not join concurrent calls. So tokens are cached here too: a cached
    token is returned without a thread, and nobody waits for a renewal.

    With `client_secret` the credential is the client `client_id` at `authority` (OAuth 2.0 client credentials, RFC
    6749 section 4.4), else the managed identity `client_id`, or the system-assigned one. It is also an asynchronous
    token credential of the Azure SDK. `session` returns the HTTP client; its owner closes it.
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
        self._cached: dict[str, _CachedToken] = {}
        self._acquisitions: dict[tuple[str, str | None], asyncio.Task[AccessToken]] = {}
        self._creating = threading.Lock()
        self._acquire: Acquire | None = None

    async def token(self, scope: str) -> str:
        """Return a token for a scope such as `api://pdp/.default`.

        Raises:
            EventsError: UNAVAILABLE when no token arrives in time.
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
        """Return a token for the one scope; `claims`, a resource's challenge, requests a new token.

        Raises:
            EventsError: UNAVAILABLE when no token arrives in time.
            ValueError: There is not exactly one scope.
        """
        (scope,) = scopes
        cached, now = None if claims else self._cached.get(scope), self._clock()
        if cached is None or now >= cached.access.expires_on - LAST_SECONDS:
            acquisition = self._start_acquisition(scope, claims)
            done, _ = await asyncio.wait({acquisition}, timeout=self._deadline)
            if not done:
                raise _unavailable(scope, "deadline")
            return acquisition.result()
        if now >= cached.renew_at:
            cached.renew_at = now + RETRY_SECONDS
            self._start_acquisition(scope, None)
        return cached.access

    async def close(self) -> None:
        """Do nothing; the owner of the session closes it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self.close()

    def _start_acquisition(self, scope: str, claims: str | None) -> asyncio.Task[AccessToken]:
        """Return the running acquisition, or start one; a caller that gives up does not cancel it."""
        key = (scope, claims)
        if key not in self._acquisitions:
            self._acquisitions[key] = asyncio.create_task(self._acquire_with_msal(scope, claims))
            self._acquisitions[key].add_done_callback(lambda done: self._end_acquisition(key, done))
        return self._acquisitions[key]

    def _end_acquisition(self, key: tuple[str, str | None], acquisition: asyncio.Task[AccessToken]) -> None:
        del self._acquisitions[key]
        if not acquisition.cancelled():
            acquisition.exception()  # asyncio reports an exception that nobody has looked at

    async def _acquire_with_msal(self, scope: str, claims: str | None) -> AccessToken:
        now = self._clock()
        try:
            answer = await asyncio.to_thread(self._call_msal, asyncio.get_running_loop(), scope, claims)
            match answer:
                case {"access_token": str() as token, "expires_in": seconds} if _BEARER_TOKEN.fullmatch(token):
                    access = AccessToken(token, int(now) + int(seconds))
                    refresh = answer.get("refresh_on")
                    due = access.expires_on - RENEW_SECONDS
                    due = min(due, refresh) if isinstance(refresh, int) else due
                    self._cached[scope] = _CachedToken(access, max(due, self._clock() + RETRY_SECONDS))
                    return access
            reason = _refusal(answer)
        except Exception as error:  # noqa: BLE001 - msal raises whatever a bad response breaks in it
            reason = type(error).__name__
        raise _unavailable(scope, reason)

    def _call_msal(self, loop: asyncio.AbstractEventLoop, scope: str, claims: str | None) -> Mapping[str, Any]:
        """Call msal in the current thread; creating its client blocks too, since msal reads the authority."""
        with self._creating:
            if self._acquire is None:
                self._acquire = _msal_client(_BlockingHttp(self._session, loop, self._deadline), *self._client)
        return self._acquire(scope, claims)


def _msal_client(
    http: _BlockingHttp, client_id: str | None, client_secret: str | None, authority: str | None
) -> Acquire:
    """Create the msal client; a managed identity takes the scope's resource."""
    import msal  # type: ignore[import-untyped]  # noqa: PLC0415 - 0.2 s, and only when a scope is configured

    logging.getLogger("msal").setLevel(logging.CRITICAL)  # lower levels quote responses
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


def _unavailable(scope: str, reason: str) -> EventsError:
    _log.warning('token acquisition failed scope=%s reason="%s"', scope, reason)
    return unavailable("The service's own identity provider gives no token.")


def _refusal(answer: Mapping[str, Any]) -> str:
    """The error of RFC 6749 section 5.2 and Entra's codes, without the description, which may quote a secret."""
    codes = [code for code in answer.get("error_codes") or () if isinstance(code, int)]
    error = str(answer.get("error"))
    return f"{error if error.isidentifier() else 'refused'} {codes}"


@dataclass(frozen=True, slots=True)
class _HttpResponse:
    status_code: int
    text: str
    headers: Mapping[str, str]


class _BlockingHttp:
    """The HTTP client that msal calls from its thread; the event loop's session sends the requests.

    Redirects are not followed, since they would carry a secret elsewhere. A request takes at most the deadline.
    """

    def __init__(self, session: SessionFactory, loop: asyncio.AbstractEventLoop, deadline_seconds: float) -> None:
        self._session = session
        self._loop = loop
        self._deadline = deadline_seconds

    def get(self, url: str, **options: Any) -> _HttpResponse:
        """Send a GET with `params` and `headers`."""
        return self._send("GET", url, options)

    def post(self, url: str, **options: Any) -> _HttpResponse:
        """Send `data` as a form, with `params` and `headers`."""
        return self._send("POST", url, options)

    def _send(self, method: str, url: str, options: Mapping[str, Any]) -> _HttpResponse:
        return asyncio.run_coroutine_threadsafe(self._request(method, url, options), self._loop).result()

    async def _request(self, method: str, url: str, options: Mapping[str, Any]) -> _HttpResponse:
        request = self._session().request(method, url, allow_redirects=False, **options)
        async with asyncio.timeout(self._deadline), request as response:
            body = await read_body(response, MAX_BODY_BYTES)
            return _HttpResponse(response.status, body.decode(errors="replace"), dict(response.headers))
