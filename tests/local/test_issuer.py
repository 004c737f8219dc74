"""The development issuer: its tokens, its key, and how it is served."""

from __future__ import annotations

import hashlib
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import jwt
import orjson
import pytest

from events_core.access.identity import Caller, Kind, caller_from_claims, caller_from_platform_claims
from events_core.adapters.tokens.verifier import Issuer, JwtVerifier
from events_core.common.errors import EventsError
from local.errors import LocalError
from local.issuer import DEFAULT_ISSUER, DevelopmentIssuer, serve_issuer
from tests.support.issuer import base64url

ROOT = Path(__file__).parents[2]
MAKE = """
import sys
from pathlib import Path
from local.issuer import DevelopmentIssuer
print(DevelopmentIssuer(Path(sys.argv[1])).jwks())
"""
SERVE = """
import sys
from pathlib import Path
from local.issuer import DevelopmentIssuer, serve_issuer
serve_issuer(DevelopmentIssuer(Path(sys.argv[1])), port=0, ready=lambda url: print(url, flush=True))
"""
UUID = "6b3c2f7e-9a41-4d0b-8a57-0d1f6f1c2a10"


@pytest.fixture
def issuer(tmp_path: Path) -> DevelopmentIssuer:
    """The issuer of an empty data directory."""
    return DevelopmentIssuer(tmp_path)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client."""
    async with aiohttp.ClientSession() as client:
        yield client


@pytest.fixture
def verifier(issuer: DevelopmentIssuer, session: aiohttp.ClientSession) -> JwtVerifier:
    """A verifier that trusts the issuer as the local host does."""
    keys = issuer.jwks_path.as_uri()
    return JwtVerifier([Issuer(issuer.issuer, keys)], {"*": keys}, lambda: session)


async def caller(verifier: JwtVerifier, token: str) -> Caller:
    """The caller that a token identifies."""
    return caller_from_claims(await verifier.claims(token), token)


async def test_an_org_token_identifies_a_service_owner(issuer: DevelopmentIssuer, verifier: JwtVerifier) -> None:
    """It has the organisation number, scopes and level 3."""
    made = await caller(verifier, issuer.token_for_org("ttd", "altinn:events.publish altinn:events.subscribe"))
    assert (made.kind, made.consumer, made.level) == (Kind.SERVICE_OWNER, "/org/ttd", 3)
    assert made.scopes == {"altinn:events.publish", "altinn:events.subscribe"}
    assert ("urn:altinn:organization:identifier-no", "405003309") in made.attributes


async def test_an_organisation_number_can_be_given(issuer: DevelopmentIssuer, verifier: JwtVerifier) -> None:
    """Only the number of ttd is known."""
    plain = await caller(verifier, issuer.token_for_org("skd"))
    numbered = await caller(verifier, issuer.token_for_org("skd", org_number="974761076"))
    assert (plain.attributes, plain.scopes) == ((("urn:altinn:authlevel", "3"), ("urn:altinn:org", "skd")), frozenset())
    assert ("urn:altinn:organization:identifier-no", "974761076") in numbered.attributes


async def test_a_user_token_identifies_an_end_user(issuer: DevelopmentIssuer, verifier: JwtVerifier) -> None:
    """It has the user, the party and the scopes."""
    token = issuer.token_for_user(20012345, 50002108, "altinn:events.subscribe", level=2)
    made = await caller(verifier, token)
    assert (made.kind, made.consumer, made.level) == (Kind.USER, "/user/20012345", 2)
    assert (await verifier.claims(token))["urn:altinn:partyid"] == 50002108
    assert made.has_scope("altinn:events.subscribe")


async def test_a_user_token_needs_no_party(issuer: DevelopmentIssuer, verifier: JwtVerifier) -> None:
    """The token then has no party."""
    made = await caller(verifier, issuer.token_for_user(20012345))
    assert made.attributes == (("urn:altinn:authlevel", "3"), ("urn:altinn:userid", "20012345"))


async def test_a_system_user_token_identifies_a_system_user(issuer: DevelopmentIssuer, verifier: JwtVerifier) -> None:
    """It has the system user's organisation."""
    token = issuer.token_for_system_user(UUID, "974760673")
    made = await caller(verifier, token)
    assert (made.kind, made.consumer, made.level) == (Kind.SYSTEM_USER, f"/systemuser/{UUID}", 3)
    assert (await verifier.claims(token))["consumer"] == {"authority": "iso6523-actorid-upis", "ID": "0192:974760673"}


async def test_an_organisation_token_identifies_an_organisation(
    issuer: DevelopmentIssuer, verifier: JwtVerifier
) -> None:
    """It looks like a token of Maskinporten that Altinn has not exchanged."""
    made = await caller(verifier, issuer.token_for_organisation("974760673", "altinn:events.subscribe"))
    assert (made.kind, made.consumer, made.level) == (Kind.ORGANISATION, "/organisation/974760673", 3)


async def test_a_platform_token_identifies_an_app(issuer: DevelopmentIssuer, verifier: JwtVerifier) -> None:
    """It is not valid as a bearer token."""
    token = issuer.platform_token("ttd/apps-test")
    claims = await verifier.platform_claims(token)
    assert caller_from_platform_claims(claims, token).consumer == "/app/ttd/apps-test"
    with pytest.raises(EventsError, match="401"):
        await verifier.claims(token)


@pytest.mark.parametrize("app", ["ttd", "ttd/", "/apps-test", "ttd/apps/test", ""])
def test_an_app_is_named_by_org_and_app(issuer: DevelopmentIssuer, app: str) -> None:
    """Any other form is an error."""
    with pytest.raises(ValueError, match="ttd/apps-test"):
        issuer.platform_token(app)


def test_tokens_are_valid_for_twelve_hours(issuer: DevelopmentIssuer) -> None:
    """One token is enough for a working day."""
    claims = jwt.decode(issuer.sign({"a": 1}), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 12 * 3600
    assert abs(claims["iat"] - time.time()) < 60


async def test_sign_takes_any_claims(issuer: DevelopmentIssuer, verifier: JwtVerifier) -> None:
    """A given claim replaces the default, such as `exp`."""
    with pytest.raises(EventsError, match="expired"):
        await verifier.claims(issuer.sign({"exp": 1}))


async def test_each_data_directory_has_one_key(
    issuer: DevelopmentIssuer, verifier: JwtVerifier, tmp_path: Path
) -> None:
    """Every process with the same data directory signs with the same key."""
    assert await verifier.claims(DevelopmentIssuer(tmp_path).token_for_org("ttd"))
    with pytest.raises(EventsError, match="401"):
        await verifier.claims(DevelopmentIssuer(tmp_path / "other").token_for_org("ttd"))


def test_only_the_owner_may_read_the_key(issuer: DevelopmentIssuer, tmp_path: Path) -> None:
    """Other users can read neither file nor directory, and no temporary file is left."""
    directory = tmp_path / "issuer"
    assert stat.S_IMODE((directory / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert sorted(path.name for path in directory.iterdir()) == ["jwks.json", "key.pem"]


def test_the_key_set_holds_the_public_key_only(issuer: DevelopmentIssuer) -> None:
    """The file beside the key and the served document are the same."""
    served = orjson.loads(issuer.jwks_path.read_bytes())
    assert served == issuer.jwks()
    assert served["keys"][0].keys() == {"crv", "kty", "x", "y", "kid", "use", "alg"}


def test_the_key_id_is_the_thumbprint(issuer: DevelopmentIssuer) -> None:
    """The key id is the SHA-256 thumbprint of the required members in order (RFC 7638, section 3)."""
    (key,) = issuer.jwks()["keys"]
    text = f'{{"crv":"P-256","kty":"EC","x":"{key["x"]}","y":"{key["y"]}"}}'
    assert key["kid"] == base64url(hashlib.sha256(text.encode()).digest())


def test_processes_that_start_together_use_one_key(tmp_path: Path) -> None:
    """The first process makes the key; the others use it."""
    command = [sys.executable, "-c", MAKE, str(tmp_path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(4)]
    assert len({process.communicate(timeout=30)[0] for process in started}) == 1
    assert [process.returncode for process in started] == [0] * 4


@pytest.mark.parametrize(
    "content", [b"", b"rubbish", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_broken_key_file_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    """The issuer never overwrites a key file."""
    (tmp_path / "issuer").mkdir()
    (tmp_path / "issuer" / "key.pem").write_bytes(content)
    with pytest.raises(ValueError, match=r"key\.pem holds no P-256 private key"):
        DevelopmentIssuer(tmp_path)


@pytest.mark.parametrize("recorded", ["", "rubbish", "file:///x", "http://127.0.0.1:1/?q", "http://127.0.0.1:1\n"])
def test_a_broken_recorded_url_is_ignored(issuer: DevelopmentIssuer, tmp_path: Path, recorded: str) -> None:
    """The default URL is used instead."""
    (tmp_path / "issuer" / "url").write_text(recorded)
    assert issuer.issuer == DEFAULT_ISSUER


@pytest.fixture
def served(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The issuer in a new process, on a free port."""
    command = [sys.executable, "-c", SERVE, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield process
        process.kill()


async def test_the_issuer_is_found_where_it_was_last_served(
    served: subprocess.Popen[str], tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """Tokens name the recorded URL, and discovery there finds the key that verifies them."""
    assert served.stdout
    url = served.stdout.readline().strip()
    issuer = DevelopmentIssuer(tmp_path)
    assert issuer.issuer == url
    assert await JwtVerifier([Issuer(url)], {}, lambda: session).claims(issuer.token_for_org("ttd"))


async def test_the_served_key_set_is_the_one_in_the_file(
    served: subprocess.Popen[str], issuer: DevelopmentIssuer, session: aiohttp.ClientSession
) -> None:
    """`/jwks` has the media type of a JWK set (RFC 7517, section 8.5)."""
    assert served.stdout
    async with session.get(f"{served.stdout.readline().strip()}/jwks") as response:
        assert response.content_type == "application/jwk-set+json"
        assert await response.json(content_type=None) == issuer.jwks()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_served_issuer_stops_cleanly(served: subprocess.Popen[str], number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C end the process with status 0."""
    assert served.stdout
    served.stdout.readline()
    served.send_signal(number)
    assert served.wait(timeout=10) == 0


def test_a_port_in_use_is_an_error(issuer: DevelopmentIssuer, served: subprocess.Popen[str]) -> None:
    """The URL is not recorded."""
    assert served.stdout
    port = int(served.stdout.readline().rpartition(":")[2])
    issuer.record(DEFAULT_ISSUER)
    with pytest.raises(LocalError, match="in use"):
        serve_issuer(issuer, port=port)
    assert issuer.issuer == DEFAULT_ISSUER
