from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from events_core.adapters.tokens.verifier import MAX_TOKEN_CHARACTERS, Issuer, JwtVerifier
from events_core.common.errors import EventsError, Problem
from tests.support.issuer import IssuerServer, SigningKey, base64url, claims_of

NOW = 1_800_000_000
RSA = SigningKey.rsa("rsa")
EC = SigningKey.ec("ec")
ATTACKER = SigningKey.rsa("attacker")

Forge = Callable[[dict[str, Any]], str]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client."""
    async with aiohttp.ClientSession() as client:
        yield client


@pytest.fixture
async def issuer() -> AsyncIterator[IssuerServer]:
    """An issuer with an RSA and an EC key."""
    async with IssuerServer([RSA, EC]) as server:
        yield server


@pytest.fixture
def verifier(issuer: IssuerServer, session: aiohttp.ClientSession) -> JwtVerifier:
    """A verifier that trusts the issuer, with a fixed clock."""
    trusted = Issuer(issuer.url, issuer.jwks_uri)
    return JwtVerifier([trusted], {"ttd": issuer.jwks_uri}, lambda: session, lambda: NOW)


async def refusal(verifier: JwtVerifier, token: str) -> EventsError:
    """Verify that the token is refused; returns the error."""
    with pytest.raises(EventsError) as caught:
        await verifier.claims(token)
    assert caught.value.problem is Problem.UNAUTHORIZED
    assert caught.value.headers == {"WWW-Authenticate": "Bearer"}
    return caught.value


@pytest.mark.parametrize(
    "key", [RSA, EC, SigningKey("rsa", RSA.private, "RS512"), SigningKey("rsa", RSA.private, "PS256")]
)
async def test_a_token_of_each_algorithm_is_verified(
    verifier: JwtVerifier, issuer: IssuerServer, key: SigningKey
) -> None:
    """RS256, RS512, PS256 and ES256 are accepted, and the token's claims are returned."""
    claims = claims_of(issuer.url, {"urn:altinn:org": "ttd", "nested": {"a": [1]}}, now=NOW)
    assert await verifier.claims(key.sign(claims)) == claims


def alg_none(spelling: str) -> Forge:
    """An unsigned token with this spelling of `none`."""
    return lambda claims: f"{base64url(orjson.dumps({'alg': spelling}))}.{base64url(orjson.dumps(claims))}."


def hmac_signed(secret: bytes, **header: Any) -> Forge:
    """A token signed by HMAC with a public value."""

    def forge(claims: dict[str, Any]) -> str:
        head = orjson.dumps({"alg": "HS256", "kid": "rsa", **header})
        signing_input = f"{base64url(head)}.{base64url(orjson.dumps(claims))}"
        return f"{signing_input}.{base64url(hmac.digest(secret, signing_input.encode(), hashlib.sha256))}"

    return forge


def signed(key: SigningKey = RSA, changes: dict[str, Any] | None = None, **header: Any) -> Forge:
    """A signed token with changed claims or header; a claim of None is left out."""

    def forge(claims: dict[str, Any]) -> str:
        merged = {**claims, **(changes or {})}
        return key.sign({name: value for name, value in merged.items() if value is not None}, **header)

    return forge


def header_text(text: str) -> Forge:
    """A token with this header text, signed by the right key."""
    return lambda claims: RSA.sign_raw(text.encode(), orjson.dumps(claims))


def payload_text(edit: Callable[[bytes], bytes]) -> Forge:
    """A token with an edited payload text, signed by the right key."""
    return lambda claims: RSA.sign(edit(orjson.dumps(claims)))


def respelled(edit: Callable[[str, str, str], str]) -> Forge:
    """A valid token, edited after signing."""
    return lambda claims: edit(*RSA.sign(claims).split("."))


def with_member(member: bytes) -> Callable[[bytes], bytes]:
    """Add a member to the text of an object."""
    return lambda text: text[:-1] + b"," + member + b"}"


def other_spelling(segment: str) -> str:
    """Another base64url text of the same bytes: sets the unused bits of the last character."""
    return segment[:-1] + chr(ord(segment[-1]) + 1)


PEM = RSA.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
DER = RSA.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

ATTACKS: dict[str, Forge] = {
    **{f"alg {spelling}": alg_none(spelling) for spelling in ("none", "None", "NONE", "nOnE", "", "none ")},
    "alg none with a signature": lambda claims: alg_none("none")(claims) + base64url(b"x"),
    "alg missing": lambda claims: RSA.sign(claims, alg=None),
    "alg null": header_text('{"alg":null,"kid":"rsa"}'),
    "alg a list": header_text('{"alg":["RS256"],"kid":"rsa"}'),
    "alg an object": header_text('{"alg":{"RS256":1},"kid":"rsa"}'),
    "alg unlisted": lambda claims: SigningKey("rsa", RSA.private, "RS384").sign(claims),
    "HMAC with the public key as PEM": hmac_signed(PEM),
    "HMAC with the public key as DER": hmac_signed(DER),
    "HMAC with the modulus": hmac_signed(RSA.jwk["n"].encode()),
    "HMAC with nothing": hmac_signed(b""),
    "HMAC with an RSA header": hmac_signed(PEM, alg="RS256"),
    "another key under a known id": signed(ATTACKER, kid="rsa"),
    "another key under its own id": signed(ATTACKER),
    "RSA header with an EC key": signed(SigningKey("ec", RSA.private, "RS256")),
    "EC header with an RSA key": signed(SigningKey("rsa", EC.private, "ES256")),
    "RSA header, EC signature": lambda claims: EC.sign_raw(b'{"alg":"RS256","kid":"ec"}', orjson.dumps(claims)),
    "EC signature of zeros": lambda claims: f"{EC.sign(claims).rpartition('.')[0]}.{base64url(bytes(64))}",
    "kid a path": signed(kid="../../../../dev/null"),
    "kid a file URL": signed(kid="file:///dev/null"),
    "kid of SQL": signed(kid="rsa' UNION SELECT 'key'--"),
    "kid with a NUL": signed(kid="rsa\0"),
    "kid in other case": signed(kid="RSA"),
    "kid twice": header_text('{"alg":"RS256","kid":"rsa","kid":"rsa"}'),
    "kid empty": signed(kid=""),
    "kid very long": signed(kid="r" * 5_000),
    "kid a number": signed(kid=1),
    "kid a list": signed(kid=["rsa"]),
    "kid an object": signed(kid={"rsa": "rsa"}),
    "kid false": signed(kid=False),
    "crit": signed(crit=["exp"], exp=1),
    "crit empty": signed(crit=[]),
    "b64": signed(b64=False),
    "b64 in crit": signed(b64=True, crit=["b64"]),
    "jwk embedded": signed(ATTACKER, kid="x", jwk=ATTACKER.jwk),
    "jwk embedded under a known id": signed(ATTACKER, kid="rsa", jwk={**ATTACKER.jwk, "kid": "rsa"}),
    "x5c embedded": signed(ATTACKER, kid="rsa", x5c=[base64.b64encode(DER).decode()]),
    "issuer missing": signed(changes={"iss": None}),
    "issuer unknown": signed(changes={"iss": "http://127.0.0.1:1"}),
    "issuer a list": lambda claims: RSA.sign({**claims, "iss": [claims["iss"]]}),
    "issuer with a slash": lambda claims: RSA.sign({**claims, "iss": claims["iss"] + "/"}),
    "issuer in upper case": lambda claims: RSA.sign({**claims, "iss": claims["iss"].upper()}),
    "exp missing": signed(changes={"exp": None}),
    "exp null": payload_text(lambda text: text.replace(b'"exp":', b'"exp":null,"was":')),
    "exp in the past": signed(changes={"exp": NOW - 60}),
    "exp text": signed(changes={"exp": str(NOW + 3600)}),
    "exp negative": signed(changes={"exp": -1}),
    "exp a fraction in the past": signed(changes={"exp": NOW - 60.5}),
    "exp true": signed(changes={"exp": True}),
    "exp a list": signed(changes={"exp": [NOW + 3600]}),
    "exp beyond all dates": signed(changes={"exp": 2**63}),
    "exp of many digits": payload_text(lambda text: text.replace(b'"exp":', b'"exp":' + b"9" * 5_000)),
    "exp infinite": payload_text(lambda text: text.replace(b'"exp":', b'"exp":1e999,"was":')),
    "exp NaN": payload_text(lambda text: text.replace(b'"exp":', b'"exp":NaN,"was":')),
    "exp twice": payload_text(with_member(b'"exp":99999999999')),
    "nbf in the future": signed(changes={"nbf": NOW + 61}),
    "nbf text": signed(changes={"nbf": str(NOW)}),
    "nbf true": signed(changes={"nbf": True}),
    "nbf negative": signed(changes={"nbf": -1}),
    "iat in the future": signed(changes={"iat": NOW + 61}),
    "iat text": signed(changes={"iat": "now"}),
    "claims twice": payload_text(with_member(b'"urn:altinn:org":"skd"')),
    "claims twice within": payload_text(with_member(b'"consumer":{"ID":"1","ID":"2"}')),
    "claims twice by an escape": payload_text(with_member(b'"urn\\u003aaltinn:org":"skd"')),
    "claims a list": lambda claims: RSA.sign(orjson.dumps([claims])),
    "claims not JSON": lambda claims: RSA.sign(b"not JSON"),
    "claims not UTF-8": payload_text(lambda text: text.replace(b"ttd", b"\xff")),
    "claims with a lone surrogate": payload_text(lambda text: text.replace(b"ttd", b"\\ud800")),
    "claims in UTF-16": payload_text(lambda text: text.decode().encode("utf-16")),
    "claims with a byte order mark": payload_text(lambda text: b"\xef\xbb\xbf" + text),
    "claims nested deeply": payload_text(with_member(b'"x":' + b"[" * 1_020 + b"]" * 1_020)),
    "claims nested without end": payload_text(with_member(b'"x":' + b"[" * 5_000)),
    "header not JSON": header_text("RS256"),
    "header a list": header_text('[{"alg":"RS256","kid":"rsa"}]'),
    "signature cut off": respelled(lambda h, p, s: f"{h}.{p}.{s[:-8]}"),
    "signature of another length": respelled(lambda h, p, s: f"{h}.{p}.{s}AAAA"),
    "signature altered": respelled(lambda h, p, s: f"{h}.{p}.{'AAAA' if s[:4] != 'AAAA' else 'BBBB'}{s[4:]}"),
    "signature respelled": respelled(lambda h, p, s: f"{h}.{p}.{other_spelling(s)}"),
    "signature empty": respelled(lambda h, p, s: f"{h}.{p}."),
    "signature padded": respelled(lambda h, p, s: f"{h}.{p}.{s}=="),
    "claims altered": respelled(lambda h, p, s: f"{h}.{base64url(orjson.dumps(claims_of('x')))}.{s}"),
    "two parts": respelled(lambda h, p, s: f"{h}.{p}"),
    "four parts": respelled(lambda h, p, s: f"{h}.{p}.{s}.{s}"),
    "five parts, as if encrypted": respelled(lambda h, p, s: f"{h}.{p}.{s}.{s}.{s}"),
    "JSON serialization": respelled(
        lambda h, p, s: orjson.dumps({"protected": h, "payload": p, "signature": s}).decode()
    ),
    "a space within": respelled(lambda h, p, s: f"{h}. {p}.{s}"),
    "a line feed at the end": respelled(lambda h, p, s: f"{h}.{p}.{s}\n"),
    "letters beyond ASCII": respelled(lambda h, p, s: f"{h}.{p}.{s[:-1]}é"),
    "a lone surrogate": respelled(lambda h, p, s: f"{h}.{p}.{s}\ud800"),
    "nothing": lambda claims: "",
    "dots": lambda claims: "..",
    "oversized": signed(changes={"padding": "x" * MAX_TOKEN_CHARACTERS}),
    "oversized garbage": lambda claims: "a." * 5_000_000,
}  # fmt: skip


@pytest.mark.parametrize("forge", ATTACKS.values(), ids=ATTACKS)
async def test_an_attack_is_refused(verifier: JwtVerifier, issuer: IssuerServer, forge: Forge) -> None:
    """The attacks of RFC 8725 and malformed tokens are 401, without details."""
    token = forge(claims_of(issuer.url, {"urn:altinn:org": "ttd"}, now=NOW))
    error = await refusal(verifier, token)
    assert error.detail in {"The token is not valid.", "The token has expired."}


async def test_the_forgers_tokens_are_valid_without_the_attack(verifier: JwtVerifier, issuer: IssuerServer) -> None:
    """Each way of forging a token yields an accepted token if nothing is changed."""
    claims = claims_of(issuer.url, {"urn:altinn:org": "ttd"}, now=NOW)
    for forge in (
        signed(),
        signed(EC),
        header_text('{"alg":"RS256","kid":"rsa"}'),
        payload_text(with_member(b'"x":1')),
    ):
        assert (await verifier.claims(forge(claims)))["urn:altinn:org"] == "ttd"


async def test_an_expired_token_has_its_own_error(verifier: JwtVerifier, issuer: IssuerServer) -> None:
    """The error tells an expired token from an invalid one."""
    assert (await refusal(verifier, issuer.token({"exp": NOW - 60}))).detail == "The token has expired."


@pytest.mark.parametrize(
    "times",
    [
        {"exp": NOW - 59},
        {"exp": NOW + 3600.5},
        {"exp": 253_402_300_799},
        {"nbf": NOW + 60},
        {"iat": NOW + 60},
        {"iat": 0, "nbf": 0.5},
        {"iat": None, "nbf": None},
    ],
)
async def test_clocks_may_disagree_by_a_minute(
    verifier: JwtVerifier, issuer: IssuerServer, times: dict[str, Any]
) -> None:
    """60 seconds of skew are allowed, and times may have fractions (RFC 7519, section 2)."""
    assert await verifier.claims(issuer.token(times, now=NOW))


async def test_a_cached_token_expires(issuer: IssuerServer, session: aiohttp.ClientSession) -> None:
    """A token that was verified before is not accepted beyond its end."""
    now = float(NOW)
    verifier = JwtVerifier([Issuer(issuer.url, issuer.jwks_uri)], {}, lambda: session, lambda: now)
    token = issuer.token({"exp": NOW + 10}, now=NOW)
    assert await verifier.claims(token) == await verifier.claims(token)
    now += 70
    assert (await refusal(verifier, token)).detail == "The token has expired."


@pytest.mark.parametrize(
    ("audience", "accepted"),
    [("events", True), (["x", "events"], True), ("other", False), (["x"], False), ([], False), (None, False),
     ("", False), ("events ", False), ({"events": 1}, False), ([["events"]], False)],
)  # fmt: skip
async def test_the_audience_is_checked_if_the_issuer_has_one(
    issuer: IssuerServer,
    session: aiohttp.ClientSession,
    audience: Any,
    accepted: bool,  # noqa: FBT001 - a table
) -> None:
    """If an audience is configured, `aud` must equal or contain it."""
    verifier = JwtVerifier([Issuer(issuer.url, issuer.jwks_uri, "events")], {}, lambda: session, lambda: NOW)
    token = issuer.token({"aud": audience}, now=NOW)
    if accepted:
        assert await verifier.claims(token)
    else:
        await refusal(verifier, token)


async def test_any_audience_is_accepted_if_none_is_configured(verifier: JwtVerifier, issuer: IssuerServer) -> None:
    """`aud` is checked only if the issuer has an audience."""
    assert await verifier.claims(issuer.token({"aud": "somebody else"}, now=NOW))


async def test_an_issuers_keys_never_verify_another_issuers_tokens(
    issuer: IssuerServer, session: aiohttp.ClientSession
) -> None:
    """`iss` selects the keys, even if two issuers use the same key id."""
    theirs = SigningKey("rsa", ATTACKER.private, "RS256")
    async with IssuerServer([theirs]) as other:
        trusted = [Issuer(issuer.url, issuer.jwks_uri), Issuer(other.url, other.jwks_uri)]
        verifier = JwtVerifier(trusted, {}, lambda: session, lambda: NOW)
        assert await verifier.claims(other.token(now=NOW))
        await refusal(verifier, theirs.sign(claims_of(issuer.url, now=NOW)))


@pytest.mark.parametrize("name", ["jku", "x5u"])
async def test_a_token_never_chooses_the_url_of_the_keys(
    verifier: JwtVerifier, issuer: IssuerServer, name: str
) -> None:
    """The verifier does not read `jku` and `x5u`."""
    async with IssuerServer([ATTACKER]) as attacker:
        token = ATTACKER.sign(claims_of(issuer.url, now=NOW), **{name: attacker.jwks_uri})
        await refusal(verifier, token)
        assert attacker.fetches == 0


async def test_without_issuers_every_token_is_refused(issuer: IssuerServer, session: aiohttp.ClientSession) -> None:
    """A deployment without issuers trusts no token."""
    await refusal(JwtVerifier([], {}, lambda: session, lambda: NOW), issuer.token(now=NOW))


async def test_a_platform_token_is_verified_by_its_issuers_keys(verifier: JwtVerifier) -> None:
    """`iss` selects the key set of a PlatformAccessToken."""
    claims = claims_of("ttd", {"urn:altinn:app": "apps-test"}, now=NOW)
    assert await verifier.platform_claims(RSA.sign(claims)) == claims


@pytest.mark.parametrize("iss", ["skd", "*", "TTD", ""])
async def test_a_platform_token_of_an_unknown_issuer_is_refused(verifier: JwtVerifier, iss: str) -> None:
    """A key set verifies only tokens of its own `iss`."""
    with pytest.raises(EventsError, match="401"):
        await verifier.platform_claims(RSA.sign(claims_of(iss, now=NOW)))


async def test_the_two_kinds_of_token_are_not_interchangeable(verifier: JwtVerifier, issuer: IssuerServer) -> None:
    """A PlatformAccessToken is refused as bearer token and vice versa, even after it was verified."""
    platform, bearer = RSA.sign(claims_of("ttd", now=NOW)), issuer.token(now=NOW)
    assert await verifier.platform_claims(platform)
    assert await verifier.claims(bearer)
    await refusal(verifier, platform)
    with pytest.raises(EventsError, match="401"):
        await verifier.platform_claims(bearer)


async def test_one_key_set_may_verify_every_platform_issuer(
    issuer: IssuerServer, session: aiohttp.ClientSession
) -> None:
    """In development the issuer `*` stands for all issuers that are not named."""
    verifier = JwtVerifier([], {"*": issuer.jwks_uri}, lambda: session, lambda: NOW)
    for iss in ("ttd", "skd"):
        assert await verifier.platform_claims(RSA.sign(claims_of(iss, now=NOW)))


async def test_claims_cannot_be_changed(verifier: JwtVerifier, issuer: IssuerServer) -> None:
    """Each request gets claims of its own."""
    token = issuer.token(now=NOW)
    claims: Any = await verifier.claims(token)
    claims["urn:altinn:org"] = "skd"
    assert "urn:altinn:org" not in await verifier.claims(token)
