"""A token issuer on loopback, and keys that sign any claims, well-formed or not.

    async with IssuerServer() as issuer:
        token = issuer.token({"urn:altinn:org": "ttd", "scope": "altinn:events.publish"})

Switches: `issuer.keys` (the keys of the JWKS; `entries` adds raw JWKs), `down` (requests get 503), `gate` (an
asyncio.Event that each response waits for), `fetches` (the number of requests for the JWKS).

App owners have a JWKS each, below `/keys`: `owners` are their keys, by name. Other names get 404. `statuses` replaces
the answer for a name, and `owner_fetches` counts requests by name.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any, Self

import jwt
import orjson
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def _rsa(name: str, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def _ec(name: str, curve: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key({"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}[curve])


def _jwk(key: PrivateKey | rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        return RSAAlgorithm.to_jwk(key, as_dict=True)
    return ECAlgorithm.to_jwk(key, as_dict=True)


@dataclass(frozen=True)
class SigningKey:
    """A private key with its id; keys of one name are one key for the whole test run."""

    kid: str
    private: PrivateKey
    algorithm: str

    @classmethod
    def rsa(cls, kid: str = "rsa", *, bits: int = 2048, algorithm: str = "RS256") -> SigningKey:
        """An RSA key."""
        return cls(kid, _rsa(kid, bits), algorithm)

    @classmethod
    def ec(cls, kid: str = "ec", *, curve: str = "P-256") -> SigningKey:
        """An elliptic-curve key; quick to make."""
        return cls(kid, _ec(kid, curve), {"P-256": "ES256", "P-384": "ES384"}[curve])

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key as a JWK."""
        return {**_jwk(self.private.public_key()), "kid": self.kid, "use": "sig"}

    @property
    def private_jwk(self) -> dict[str, Any]:
        """The private key as a JWK, which an issuer must never publish."""
        return {**_jwk(self.private), "kid": self.kid, "use": "sig"}

    def sign(self, payload: Mapping[str, Any] | bytes, **header: Any) -> str:
        """Sign claims or bytes; `header` adds to or replaces `alg` and `kid`, and None leaves a member out."""
        body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
        merged = {"typ": "JWT", "alg": self.algorithm, "kid": self.kid, **header}
        return self.sign_raw(orjson.dumps({name: value for name, value in merged.items() if value is not None}), body)

    def sign_raw(self, header: bytes, body: bytes) -> str:
        """Sign a header and a body byte for byte with this key's own algorithm, whatever the header says."""
        signing_input = f"{base64url(header)}.{base64url(body)}"
        algorithm = jwt.PyJWS().get_algorithm_by_name(self.algorithm)
        return f"{signing_input}.{base64url(algorithm.sign(signing_input.encode(), self.private))}"


def base64url(value: bytes) -> str:
    """Base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def claims_of(issuer: str, claims: Mapping[str, Any] | None = None, *, now: float | None = None) -> dict[str, Any]:
    """`claims` with `iss`, `iat` and an `exp` in an hour, unless they are given."""
    issued = int(time.time() if now is None else now)
    return {"iss": issuer, "iat": issued, "exp": issued + 3600, **(claims or {})}


class IssuerServer:
    """Serves `/jwks` and the OpenID discovery document while it is entered."""

    def __init__(self, keys: Sequence[SigningKey] | None = None) -> None:
        self.keys = [SigningKey.rsa()] if keys is None else list(keys)
        self.entries: list[Any] = []
        self.raw: bytes | None = None
        self.discovery: dict[str, Any] = {}
        self.down = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        self.fetches = 0
        self.owners: dict[str, list[SigningKey]] = {}
        self.statuses: dict[str, int] = {}
        self.owner_fetches: Counter[str] = Counter()
        self.url = ""

    @property
    def jwks_uri(self) -> str:
        """The address of the JWKS."""
        return f"{self.url}/jwks"

    @property
    def owners_jwks_uri(self) -> str:
        """The address of the JWKS of an app owner, with a placeholder for its name."""
        return f"{self.url}/keys/{{iss}}/jwks"

    def token(self, claims: Mapping[str, Any] | None = None, *, now: float | None = None) -> str:
        """A token of this issuer, signed by its first key."""
        return self.keys[0].sign(claims_of(self.url, claims, now=now))

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/jwks", self._jwks)
        app.router.add_get("/keys/{iss}/jwks", self._owner_jwks)
        app.router.add_get("/.well-known/openid-configuration", self._configuration)
        app.router.add_get("/elsewhere", self._elsewhere)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop listening; later connections are refused."""
        self.gate.set()
        await self._runner.cleanup()

    async def _jwks(self, request: web.Request) -> web.Response:
        self.fetches += 1
        return await self._key_set(self.keys)

    async def _owner_jwks(self, request: web.Request) -> web.Response:
        owner = request.match_info["iss"]
        self.owner_fetches[owner] += 1
        if owner in self.statuses or owner not in self.owners:
            return web.Response(status=self.statuses.get(owner, 404), headers={"Location": "/jwks"})
        return await self._key_set(self.owners[owner])

    async def _key_set(self, keys: Iterable[SigningKey]) -> web.Response:
        self.asked.set()
        await self.gate.wait()
        if self.down:
            return web.Response(status=503)
        if self.raw is not None:
            return web.Response(body=self.raw)
        return web.Response(body=orjson.dumps({"keys": [*(key.jwk for key in keys), *self.entries]}))

    async def _configuration(self, request: web.Request) -> web.Response:
        document = {"issuer": self.url, "jwks_uri": self.jwks_uri, **self.discovery}
        return web.Response(status=503 if self.down else 200, body=orjson.dumps(document))

    async def _elsewhere(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/jwks"})
