"""Entra tokens for the service's own calls: of a managed identity, and of a client with a secret."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import pytest

from events_core.adapters.entra import AccessToken, EntraCredential
from events_core.common.errors import EventsError, Problem
from tests.support.clock import Clock
from tests.support.entra_server import EntraServer, trust

SCOPE = "api://pdp/.default"
SECRET = "canary-secret"


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EntraServer]:
    """An authority, and an identity endpoint in the environment variables that Azure sets."""
    async with EntraServer() as server:
        monkeypatch.setenv("IDENTITY_ENDPOINT", server.identity_endpoint)
        monkeypatch.setenv("IDENTITY_HEADER", server.secret)
        yield server


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP session that trusts the authority."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust())) as session:
        yield session


@pytest.fixture
def clock() -> Clock:
    """A clock that starts at the real time."""
    clock = Clock()
    clock.now = time.time()
    return clock


@pytest.fixture
def managed(server: EntraServer, session: aiohttp.ClientSession, clock: Clock) -> EntraCredential:
    """A credential of the system-assigned identity."""
    return EntraCredential(lambda: session, clock=clock)


@pytest.fixture
def client(server: EntraServer, session: aiohttp.ClientSession, clock: Clock) -> EntraCredential:
    """A credential of a client with a secret."""
    return EntraCredential(
        lambda: session, client_id="me", client_secret=SECRET, authority=server.authority, clock=clock
    )


@pytest.fixture(params=["managed", "client"])
def credential(request: pytest.FixtureRequest) -> EntraCredential:
    """Each kind of credential."""
    credential: EntraCredential = request.getfixturevalue(request.param)
    return credential


async def _assert_unavailable(credential: EntraCredential) -> None:
    with pytest.raises(EventsError) as caught:
        await credential.token(SCOPE)
    assert caught.value.problem is Problem.UNAVAILABLE
    assert int(caught.value.headers["Retry-After"]) > 0


async def _renewed(credential: EntraCredential) -> None:
    await asyncio.wait(set(credential._acquisitions.values()))


async def test_a_managed_identity_requests_the_resource_of_the_scope(
    managed: EntraCredential, server: EntraServer
) -> None:
    """The identity endpoint takes a resource, the scope without `/.default`, and its own header."""
    assert await managed.token(SCOPE) == "token-1"
    assert server.asked == [{"api-version": "2019-08-01", "resource": "api://pdp"}]
    assert server.headers[0]["X-IDENTITY-HEADER"] == server.secret


async def test_a_client_id_without_secret_names_a_user_assigned_identity(
    server: EntraServer, session: aiohttp.ClientSession
) -> None:
    """The identity endpoint gets the client id."""
    await EntraCredential(lambda: session, client_id="mine").token(SCOPE)
    assert server.asked[0]["client_id"] == "mine"


async def test_a_client_sends_its_secret_to_its_authority(client: EntraCredential, server: EntraServer) -> None:
    """A secret means the client credentials grant, for the whole scope."""
    assert await client.token(SCOPE) == "token-1"
    names = ("grant_type", "client_id", "client_secret", "scope")
    assert [server.asked[0][name] for name in names] == ["client_credentials", "me", SECRET, SCOPE]


async def test_an_untrusted_authority_gets_no_secret(server: EntraServer) -> None:
    """The credential sends nothing to an authority without a trusted certificate."""
    async with aiohttp.ClientSession() as session:
        wary = EntraCredential(lambda: session, client_id="me", client_secret=SECRET, authority=server.authority)
        await _assert_unavailable(wary)
    assert (server.discoveries, server.asked) == (0, [])


async def test_a_token_is_cached(credential: EntraCredential, server: EntraServer) -> None:
    """A token far from its end is requested once."""
    assert [await credential.token(SCOPE) for _ in range(3)] == ["token-1"] * 3
    assert len(server.asked) == 1


async def test_each_scope_has_its_own_token(credential: EntraCredential, server: EntraServer) -> None:
    """Two scopes requested at once get different tokens, and keep them."""
    first, second = await asyncio.gather(credential.token(SCOPE), credential.token("api://register/.default"))
    assert {first, second} == {"token-1", "token-2"}
    assert [await credential.token(SCOPE), await credential.token("api://register/.default")] == [first, second]


async def test_the_authoritys_configuration_is_read_once(client: EntraCredential, server: EntraServer) -> None:
    """Two scopes requested at once share one reading."""
    await asyncio.gather(client.token(SCOPE), client.token("api://register/.default"))
    assert server.discoveries == 1


async def test_concurrent_calls_share_one_request(credential: EntraCredential, server: EntraServer) -> None:
    """Fifty calls for one scope cause one acquisition."""
    tokens = await asyncio.gather(*(credential.token(SCOPE) for _ in range(50)))
    assert (set(tokens), len(server.asked)) == ({"token-1"}, 1)


async def test_a_cancelled_call_does_not_cancel_the_others(credential: EntraCredential, server: EntraServer) -> None:
    """The acquisition goes on when the call that started it is cancelled."""
    server.gate.clear()
    first, second = (asyncio.create_task(credential.token(SCOPE)) for _ in range(2))
    await server.arrived.wait()
    first.cancel()
    server.gate.set()
    assert await second == "token-1"


async def test_nobody_waits_for_a_renewal(credential: EntraCredential, server: EntraServer, clock: Clock) -> None:
    """Minutes before its end the cached token is still returned at once, while a new one is acquired."""
    server.lifetime = 280
    await credential.token(SCOPE)
    clock.now += 100
    server.gate.clear()
    assert await credential.token(SCOPE) == "token-1"
    server.gate.set()
    await _renewed(credential)
    assert await credential.token(SCOPE) == "token-2"


@pytest.fixture
def aging(server: EntraServer, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Moves the clock, which msal reads too, past half the life of a token of 24 hours."""
    server.lifetime = 86_400
    monkeypatch.setattr(time, "time", clock)

    def age() -> None:
        clock.now += 43_210

    return age


async def test_msal_decides_when_a_token_is_due_for_renewal(
    managed: EntraCredential, server: EntraServer, aging: Callable[[], None]
) -> None:
    """For a managed identity's token of two hours or more, that is half its life."""
    await managed.token(SCOPE)
    aging()
    assert await managed.token(SCOPE) == "token-1"
    await _renewed(managed)
    assert [await managed.token(SCOPE) for _ in range(2)] == ["token-2", "token-2"]


async def test_an_outage_at_half_a_tokens_life_fails_no_call(
    managed: EntraCredential, server: EntraServer, clock: Clock, aging: Callable[[], None]
) -> None:
    """The old token is returned, and the renewal is tried again half a minute later."""
    await managed.token(SCOPE)
    aging()
    server.status = 404
    for _ in range(3):
        assert await managed.token(SCOPE) == "token-1"
        if managed._acquisitions:
            await _renewed(managed)
    assert len(server.asked) == 2
    server.status = 200
    clock.now += 30
    await managed.token(SCOPE)
    await _renewed(managed)
    assert await managed.token(SCOPE) == "token-3"


async def test_a_failed_renewal_is_tried_again_later(
    credential: EntraCredential, server: EntraServer, clock: Clock
) -> None:
    """While the cached token is valid, a failed renewal is no error, and is tried again each half minute."""
    server.lifetime = 280
    await credential.token(SCOPE)
    clock.now += 100
    server.status = 404
    for wait in (0, 29, 1):
        clock.now += wait
        assert await credential.token(SCOPE) == "token-1"
        if credential._acquisitions:
            await _renewed(credential)
    assert len(server.asked) == 3


async def test_a_token_is_not_returned_in_its_last_minute(
    credential: EntraCredential, server: EntraServer, clock: Clock
) -> None:
    """With less than a minute left the cached token is not returned, even if the provider is down."""
    server.lifetime = 280
    await credential.token(SCOPE)
    clock.now += 221
    await server.stop()
    await _assert_unavailable(credential)


async def test_a_short_lived_token_is_returned_once(credential: EntraCredential, server: EntraServer) -> None:
    """A token that arrives with seconds to live goes to its call, and the next call gets a new token."""
    server.lifetime = 20
    assert [await credential.token(SCOPE) for _ in range(2)] == ["token-1", "token-2"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
async def test_a_refusal_is_503(credential: EntraCredential, server: EntraServer, status: int) -> None:
    """Any status of the provider but 200 means that the service is unavailable."""
    server.status, server.body = status, b'{"error": "invalid_client", "error_codes": [7000215]}'
    await _assert_unavailable(credential)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'"x"',
        b"{}",
        b'{"error": []}',
        b'{"error_codes": 7}',
        b'{"access_token": null, "expires_on": "9999999999", "expires_in": 60}',
        b'{"access_token": "a b", "expires_on": "9999999999", "expires_in": 60}',
        b'{"access_token": "a\\r\\nX: b", "expires_on": "9999999999", "expires_in": 60}',
        b'{"access_token": "a", "expires_on": "soon", "expires_in": "soon"}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"access_token": "a", "expires_on": "9999999999", "expires_in": 60}' + b" " * 300_000,
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_a_response_without_a_usable_token_is_503(
    credential: EntraCredential, server: EntraServer, body: bytes
) -> None:
    """A token must fit into a header."""
    server.body = body
    await _assert_unavailable(credential)


async def test_an_unreachable_provider_is_503(credential: EntraCredential, server: EntraServer) -> None:
    """A closed port means that the service is unavailable."""
    await server.stop()
    await _assert_unavailable(credential)


async def test_a_failure_is_not_cached(credential: EntraCredential, server: EntraServer) -> None:
    """Once the provider recovers, the next call gets a token."""
    server.status, server.body = 401, b'{"error": "invalid_client"}'
    await _assert_unavailable(credential)
    server.status, server.body = 200, None
    assert await credential.token(SCOPE) == "token-2"


@pytest.mark.parametrize("status", [404, 503])
async def test_the_authoritys_configuration_is_read_again_after_a_failure(
    client: EntraCredential, server: EntraServer, status: int
) -> None:
    """An authority that is down at the start is asked again by the next call."""
    server.discovery_status = status
    await _assert_unavailable(client)
    server.discovery_status = 200
    assert await client.token(SCOPE) == "token-1"


async def test_a_slow_provider_is_503(server: EntraServer, session: aiohttp.ClientSession) -> None:
    """No call waits longer than the deadline."""
    server.gate.clear()
    credential = EntraCredential(lambda: session, deadline_seconds=0.3)
    await _assert_unavailable(credential)
    await server.arrived.wait()


async def test_a_process_without_a_free_thread_is_503(server: EntraServer, session: aiohttp.ClientSession) -> None:
    """No call waits longer than the deadline for a thread either."""
    free, executor = threading.Event(), ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(executor)
    executor.submit(free.wait)
    credential = EntraCredential(lambda: session, deadline_seconds=0.1)
    try:
        await _assert_unavailable(credential)
    finally:
        free.set()
    await _renewed(credential)


@pytest.mark.parametrize("status", [302, 307, 308])
async def test_redirects_are_not_followed(credential: EntraCredential, server: EntraServer, status: int) -> None:
    """A redirect would carry the secret to another host."""
    async with EntraServer() as elsewhere:
        server.status, server.location = status, elsewhere.identity_endpoint
        await _assert_unavailable(credential)
        assert elsewhere.asked == []


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_nothing_secret_is_logged(
    credential: EntraCredential, server: EntraServer, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """At every level the log is without secrets, tokens and response bodies."""
    caplog.set_level("DEBUG")
    await credential.token("api://other/.default")
    server.status, server.body = status, b'canary-answer {"error_description": "canary-secret"}'
    await _assert_unavailable(credential)
    assert f"token acquisition failed scope={SCOPE}" in caplog.text
    assert not [word for word in ("canary", "token-1", server.secret) if word in caplog.text]


async def test_a_refusal_is_logged_with_its_code(
    client: EntraCredential, server: EntraServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Entra's error code tells an operator the cause."""
    server.status, server.body = 401, b'{"error": "invalid_client", "error_codes": [7000215]}'
    await _assert_unavailable(client)
    assert "invalid_client [7000215]" in caplog.text


async def test_printing_a_token_or_a_credential_shows_no_secret(client: EntraCredential) -> None:
    """`str` and `repr` hold neither the token nor the secret."""
    access = await client.get_token(SCOPE)
    assert "token-1" not in f"{access} {access!r}"
    assert SECRET not in f"{client!r}"


async def test_the_azure_sdk_gets_a_token_and_its_end(credential: EntraCredential, server: EntraServer) -> None:
    """The SDK passes keywords of its own, and reads the token and its end in seconds since the epoch."""
    async with credential as entered:
        access = await entered.get_token(SCOPE, tenant_id=None, enable_cae=True)
    assert access == AccessToken("token-1", access.expires_on)
    assert access.expires_on == pytest.approx(time.time() + server.lifetime, abs=5)


async def test_a_claims_challenge_requests_a_new_token(client: EntraCredential, server: EntraServer) -> None:
    """The new token meets the challenge of a resource, and replaces the cached one."""
    await client.token(SCOPE)
    claims = '{"access_token": {"nbf": {"essential": true, "value": "1"}}}'
    assert (await client.get_token(SCOPE, claims=claims)).token == "token-2"
    assert server.asked[1]["claims"] == claims
    assert await client.token(SCOPE) == "token-2"


@pytest.mark.parametrize("scopes", [(), (SCOPE, SCOPE)])
async def test_exactly_one_scope_is_required(managed: EntraCredential, scopes: tuple[str, ...]) -> None:
    """No provider issues one token for several resources."""
    with pytest.raises(ValueError, match="unpack"):
        await managed.get_token(*scopes)


async def test_a_cached_token_is_returned_without_waiting(managed: EntraCredential) -> None:
    """A thousand calls take no thread and do not yield to the event loop."""
    await managed.token(SCOPE)
    other = asyncio.create_task(asyncio.sleep(0))
    await asyncio.sleep(0)
    for _ in range(1000):
        await managed.token(SCOPE)
    assert not other.done()
    await other


def test_msal_is_imported_with_the_first_token() -> None:
    """A service that acquires no token does not load msal at its start."""
    code = "import sys, events_core.app, events_core.adapters.entra; assert 'msal' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
