"""Tokens for the service's own calls: of a managed identity, and of a client with a secret."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
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
    """An identity endpoint, known to this process as Azure makes it known, and an authority."""
    async with EntraServer() as server:
        monkeypatch.setenv("IDENTITY_ENDPOINT", server.identity_endpoint)
        monkeypatch.setenv("IDENTITY_HEADER", server.secret)
        yield server


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """The session to ask through, which trusts the authority."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust())) as session:
        yield session


@pytest.fixture
def clock() -> Clock:
    """The time, until it is moved."""
    clock = Clock()
    clock.now = time.time()
    return clock


@pytest.fixture
def managed(server: EntraServer, session: aiohttp.ClientSession, clock: Clock) -> EntraCredential:
    """The system-assigned identity."""
    return EntraCredential(lambda: session, clock=clock)


@pytest.fixture
def client(server: EntraServer, session: aiohttp.ClientSession, clock: Clock) -> EntraCredential:
    """A client with its secret."""
    return EntraCredential(
        lambda: session, client_id="me", client_secret=SECRET, authority=server.authority, clock=clock
    )


@pytest.fixture(params=["managed", "client"])
def credential(request: pytest.FixtureRequest) -> EntraCredential:
    """Either kind."""
    found: EntraCredential = request.getfixturevalue(request.param)
    return found


async def _assert_unavailable(credential: EntraCredential) -> None:
    with pytest.raises(EventsError) as caught:
        await credential.token(SCOPE)
    assert caught.value.problem is Problem.UNAVAILABLE
    assert int(caught.value.headers["Retry-After"]) > 0


async def _renewed(credential: EntraCredential) -> None:
    await asyncio.wait(set(credential._flights.values()))


async def test_managed_identity_is_asked_for_the_scopes_resource(managed: EntraCredential, server: EntraServer) -> None:
    """The identity endpoint takes a resource, which is the scope without `/.default`, and its own header."""
    assert await managed.token(SCOPE) == "token-1"
    assert server.asked == [{"api-version": "2019-08-01", "resource": "api://pdp"}]
    assert server.headers[0]["X-IDENTITY-HEADER"] == server.secret


async def test_user_assigned_identity_is_named(server: EntraServer, session: aiohttp.ClientSession) -> None:
    """With a client id and no secret that identity is asked for."""
    await EntraCredential(lambda: session, client_id="mine").token(SCOPE)
    assert server.asked[0]["client_id"] == "mine"


async def test_client_shows_its_secret_to_its_authority(client: EntraCredential, server: EntraServer) -> None:
    """With a secret it is the client credentials grant for the whole scope."""
    assert await client.token(SCOPE) == "token-1"
    names = ("grant_type", "client_id", "client_secret", "scope")
    assert [server.asked[0][name] for name in names] == ["client_credentials", "me", SECRET, SCOPE]


async def test_authority_must_prove_itself(server: EntraServer) -> None:
    """An authority whose certificate is not trusted never sees the secret."""
    async with aiohttp.ClientSession() as session:
        wary = EntraCredential(lambda: session, client_id="me", client_secret=SECRET, authority=server.authority)
        await _assert_unavailable(wary)
    assert (server.discoveries, server.asked) == (0, [])


async def test_token_is_kept(credential: EntraCredential, server: EntraServer) -> None:
    """A token that is far from its end is asked for once."""
    assert [await credential.token(SCOPE) for _ in range(3)] == ["token-1"] * 3
    assert len(server.asked) == 1


async def test_each_scope_has_its_token(credential: EntraCredential, server: EntraServer) -> None:
    """A token of one scope is never sent for another, also when both are asked for at once."""
    first, second = await asyncio.gather(credential.token(SCOPE), credential.token("api://register/.default"))
    assert {first, second} == {"token-1", "token-2"}
    assert [await credential.token(SCOPE), await credential.token("api://register/.default")] == [first, second]


async def test_authority_is_read_once(client: EntraCredential, server: EntraServer) -> None:
    """Two scopes asked for at once cause one reading of the authority's configuration."""
    await asyncio.gather(client.token(SCOPE), client.token("api://register/.default"))
    assert server.discoveries == 1


async def test_many_at_once_cause_one_request(credential: EntraCredential, server: EntraServer) -> None:
    """Fifty who need the token at once share one acquisition."""
    tokens = await asyncio.gather(*(credential.token(SCOPE) for _ in range(50)))
    assert (set(tokens), len(server.asked)) == ({"token-1"}, 1)


async def test_an_asker_who_gives_up_takes_nothing_from_the_others(
    credential: EntraCredential, server: EntraServer
) -> None:
    """The acquisition goes on when the first who asked is cancelled."""
    server.gate.clear()
    first, second = (asyncio.create_task(credential.token(SCOPE)) for _ in range(2))
    await server.arrived.wait()
    first.cancel()
    server.gate.set()
    assert await second == "token-1"


async def test_token_is_renewed_while_it_serves(credential: EntraCredential, server: EntraServer, clock: Clock) -> None:
    """Minutes before its end the kept token is still handed out at once, while a new one is acquired."""
    server.lifetime = 280
    await credential.token(SCOPE)
    clock.now += 100
    server.gate.clear()
    assert await credential.token(SCOPE) == "token-1"
    server.gate.set()
    await _renewed(credential)
    assert await credential.token(SCOPE) == "token-2"


async def test_failed_renewal_is_tried_again_later(
    credential: EntraCredential, server: EntraServer, clock: Clock
) -> None:
    """While the kept token serves, a renewal that fails is nobody's error and is tried each half minute."""
    server.lifetime = 280
    await credential.token(SCOPE)
    clock.now += 100
    server.status = 404
    for wait in (0, 29, 1):
        clock.now += wait
        assert await credential.token(SCOPE) == "token-1"
        if credential._flights:
            await _renewed(credential)
    assert len(server.asked) == 3


async def test_token_is_not_handed_out_in_its_last_minute(
    credential: EntraCredential, server: EntraServer, clock: Clock
) -> None:
    """With less than a minute left the token is no longer handed out, whatever the provider does."""
    server.lifetime = 280
    await credential.token(SCOPE)
    clock.now += 221
    await server.stop()
    await _assert_unavailable(credential)


async def test_short_token_serves_who_asked_for_it(credential: EntraCredential, server: EntraServer) -> None:
    """A token that comes with seconds to live is handed out once, and the next asker has a new one."""
    server.lifetime = 20
    assert [await credential.token(SCOPE) for _ in range(2)] == ["token-1", "token-2"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
async def test_refusal_is_unavailable(credential: EntraCredential, server: EntraServer, status: int) -> None:
    """Whatever the provider refuses with, the service says 503."""
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
async def test_nonsense_is_unavailable(credential: EntraCredential, server: EntraServer, body: bytes) -> None:
    """An answer without a token that could be a header's value is none."""
    server.body = body
    await _assert_unavailable(credential)


async def test_absent_provider_is_unavailable(credential: EntraCredential, server: EntraServer) -> None:
    """Nobody at the address gives no token."""
    await server.stop()
    await _assert_unavailable(credential)


async def test_failure_is_not_kept(credential: EntraCredential, server: EntraServer) -> None:
    """Once the provider answers again, so does the credential."""
    server.status, server.body = 401, b'{"error": "invalid_client"}'
    await _assert_unavailable(credential)
    server.status, server.body = 200, None
    assert await credential.token(SCOPE) == "token-2"


@pytest.mark.parametrize("status", [404, 503])
async def test_authority_that_cannot_be_read_is_read_again(
    client: EntraCredential, server: EntraServer, status: int
) -> None:
    """An authority that is down at the start is asked again by the next who needs a token."""
    server.discovery_status = status
    await _assert_unavailable(client)
    server.discovery_status = 200
    assert await client.token(SCOPE) == "token-1"


async def test_slow_provider_is_unavailable(server: EntraServer, session: aiohttp.ClientSession) -> None:
    """Nobody waits beyond the deadline."""
    server.gate.clear()
    credential = EntraCredential(lambda: session, deadline_seconds=0.3)
    await _assert_unavailable(credential)
    await server.arrived.wait()


async def test_busy_process_is_unavailable(server: EntraServer, session: aiohttp.ClientSession) -> None:
    """Nobody waits beyond the deadline for a thread either."""
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
async def test_secret_follows_no_redirect(credential: EntraCredential, server: EntraServer, status: int) -> None:
    """A redirect would carry the secret to another place, so it is refused."""
    async with EntraServer() as elsewhere:
        server.status, server.location = status, elsewhere.identity_endpoint
        await _assert_unavailable(credential)
        assert elsewhere.asked == []


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_nothing_secret_is_logged(
    credential: EntraCredential, server: EntraServer, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """A failure is logged with its class; no secret, no token and nothing that was answered, at any level."""
    caplog.set_level("DEBUG")
    await credential.token("api://other/.default")
    server.status, server.body = status, b'canary-answer {"error_description": "canary-secret"}'
    await _assert_unavailable(credential)
    assert f"No token can be had for {SCOPE}" in caplog.text
    assert not [word for word in ("canary", "token-1", server.secret) if word in caplog.text]


async def test_refusal_is_logged_with_its_code(
    client: EntraCredential, server: EntraServer, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator finds Entra's code of what is wrong."""
    server.status, server.body = 401, b'{"error": "invalid_client", "error_codes": [7000215]}'
    await _assert_unavailable(client)
    assert "invalid_client [7000215]" in caplog.text


async def test_texts_of_a_token_and_of_a_credential_show_no_secret(client: EntraCredential) -> None:
    """Printing either shows no token and no secret."""
    access = await client.get_token(SCOPE)
    assert "token-1" not in f"{access} {access!r}"
    assert SECRET not in f"{client!r}"


async def test_azure_sdk_gets_token_and_end(credential: EntraCredential, server: EntraServer) -> None:
    """The Azure SDK asks with keywords of its own and reads the token and its end in seconds since the epoch."""
    async with credential as entered:
        access = await entered.get_token(SCOPE, tenant_id=None, enable_cae=True)
    assert access == AccessToken("token-1", access.expires_on)
    assert access.expires_on == pytest.approx(time.time() + server.lifetime, abs=5)


async def test_challenge_makes_a_new_token(client: EntraCredential, server: EntraServer) -> None:
    """A resource that wants more than the kept token is answered with a new one, which then is the kept one."""
    await client.token(SCOPE)
    claims = '{"access_token": {"nbf": {"essential": true, "value": "1"}}}'
    assert (await client.get_token(SCOPE, claims=claims)).token == "token-2"
    assert server.asked[1]["claims"] == claims
    assert await client.token(SCOPE) == "token-2"


@pytest.mark.parametrize("scopes", [(), (SCOPE, SCOPE)])
async def test_one_scope_is_asked_for(managed: EntraCredential, scopes: tuple[str, ...]) -> None:
    """No provider gives one token for several resources."""
    with pytest.raises(ValueError, match="unpack"):
        await managed.get_token(*scopes)


async def test_kept_token_is_handed_out_without_a_thread(managed: EntraCredential) -> None:
    """Who has a kept token waits for nothing: a thousand are handed out without a turn of the event loop."""
    await managed.token(SCOPE)
    turns = 0

    async def count() -> None:
        nonlocal turns
        turns += 1

    task = asyncio.create_task(count())
    for _ in range(1000):
        await managed.token(SCOPE)
    assert turns == 0
    await task


def test_msal_is_imported_when_a_token_is_asked_for() -> None:
    """A service that acquires no token does not pay for msal at its start."""
    code = "import sys, events_core.app, events_core.adapters.entra; assert 'msal' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
