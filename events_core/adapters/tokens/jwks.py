"""Key sets of token issuers (RFC 7517): where they are read, which keys count, how long they are kept."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from events_core.common import errors

REREAD_SECONDS = 600
"""Keys are never older than this while their issuer answers."""
EARLY_SECONDS = 540
"""From this age on keys are read again in the background, so that nobody waits for it."""
KEEP_SECONDS = 24 * 3600
"""Through an outage of the issuer, keys of this age still serve."""
RETRY_SECONDS = 30
"""How often an issuer that is down is asked again while its keys still serve."""
UNKNOWN_KEY_SECONDS = 60
"""How often a key id that is not known may cause a reading."""
DEADLINE_SECONDS = 5.0
MAX_DOCUMENT_BYTES = 256 * 1024

_RSA_ALGORITHMS = frozenset({"RS256", "RS512", "PS256"})
_EC_ALGORITHMS = frozenset({"ES256"})
ALGORITHMS = _RSA_ALGORITHMS | _EC_ALGORITHMS
_MIN_RSA_BITS = 2048

_log = logging.getLogger(__name__)

PublicKey = RSAPublicKey | EllipticCurvePublicKey
SessionFactory = Callable[[], aiohttp.ClientSession]


@dataclass(frozen=True, slots=True)
class Key:
    """A public key: its id, the algorithms that it may verify, and its DER bytes, which make it the same key."""

    kid: str | None
    algorithms: frozenset[str]
    der: bytes
    public: PublicKey = field(compare=False, repr=False)


def read_keys(document: bytes) -> frozenset[Key]:
    """The keys of a JWK set that may verify a token; all others are left out (RFC 7517, section 5).

    Raises:
        ValueError: the document is no JWK set.
    """
    match orjson.loads(document):
        case {"keys": [*keys]}:
            return frozenset(filter(None, map(_key, keys)))
        case _:
            raise ValueError("The document is not a JWK set.")


def _key(jwk: Any) -> Key | None:
    if not isinstance(jwk, dict) or not _verifies(jwk):
        return None
    public = _public_key(jwk)
    if public is None:
        return None
    algorithms = _EC_ALGORITHMS if isinstance(public, EllipticCurvePublicKey) else _RSA_ALGORITHMS
    if jwk.get("alg") is not None:
        algorithms &= {str(jwk["alg"])}
    kid = jwk.get("kid")
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Key(kid if isinstance(kid, str) else None, algorithms, der, public) if algorithms else None


def _verifies(jwk: dict[str, Any]) -> bool:
    """Whether the key is meant for signatures (RFC 7517, sections 4.2 and 4.3)."""
    operations = jwk.get("key_ops")
    return jwk.get("use", "sig") == "sig" and (
        operations is None or (isinstance(operations, list) and "verify" in operations)
    )


def _public_key(jwk: dict[str, Any]) -> PublicKey | None:
    """The key itself; a private key is None, since one that is published is nobody's any more."""
    try:
        match jwk.get("kty"):
            case "RSA":
                key = RSAAlgorithm.from_jwk(jwk)
                return key if isinstance(key, RSAPublicKey) and key.key_size >= _MIN_RSA_BITS else None
            case "EC":
                curve = ECAlgorithm.from_jwk(jwk)
                is_p256 = isinstance(curve, EllipticCurvePublicKey) and isinstance(curve.curve, SECP256R1)
                return curve if isinstance(curve, EllipticCurvePublicKey) and is_p256 else None
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm):
        return None
    return None


class KeySource:
    """Where an issuer's key set is read: at `jwks_uri` (http, https, file), else by discovery from `issuer`.

    `session` gives the client to use and is asked when something is read; it is closed by its owner.
    """

    def __init__(
        self,
        issuer: str,
        jwks_uri: str | None,
        session: SessionFactory,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self.issuer = issuer
        self._jwks_uri = jwks_uri
        self._session = session
        self._deadline = deadline_seconds

    async def read(self) -> bytes:
        """The bytes of the JWK set, at most 256 KiB, within 5 seconds, following no redirect.

        Raises:
            aiohttp.ClientError, OSError, ValueError: it cannot be had.
        """
        async with asyncio.timeout(self._deadline):
            if self._jwks_uri and self._jwks_uri.startswith("file:"):
                return await asyncio.to_thread(_read_file, self._jwks_uri)
            return await self._get(self._jwks_uri or await self._discover())

    async def ping(self) -> None:
        """Return when the issuer answers with a status below 500.

        Raises:
            aiohttp.ClientError, OSError, ValueError: it does not.
        """
        async with asyncio.timeout(self._deadline):
            if self._jwks_uri and self._jwks_uri.startswith("file:"):
                await asyncio.to_thread(_read_file, self._jwks_uri)
                return
            async with self._session().get(self._jwks_uri or self._discovery_url, allow_redirects=False) as answer:
                if answer.status >= 500:
                    raise ValueError(f"The issuer answers {answer.status}.")

    @property
    def _discovery_url(self) -> str:
        return f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"

    async def _discover(self) -> str:
        """The `jwks_uri` of the issuer's discovery document (OpenID Connect Discovery 1.0, section 4)."""
        document = orjson.loads(await self._get(self._discovery_url))
        match document:
            case {"issuer": self.issuer, "jwks_uri": str() as uri} if _may_lead_to(uri, self.issuer):
                return uri
            case _:
                raise ValueError("The discovery document is not this issuer's.")

    async def _get(self, url: str) -> bytes:
        body = bytearray()
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with self._session().get(url, allow_redirects=False, headers=headers) as answer:
            if answer.status != 200:
                raise ValueError(f"The issuer answers {answer.status}.")
            async for chunk in answer.content.iter_chunked(16 * 1024):
                body += chunk
                if len(body) > MAX_DOCUMENT_BYTES:
                    raise ValueError("The issuer's document is too large.")
        return bytes(body)


def _may_lead_to(uri: str, issuer: str) -> bool:
    """Whether discovery may lead there: over TLS, unless the issuer itself is asked without."""
    return uri.startswith("https://") or (uri.startswith("http://") and issuer.startswith("http://"))


def _read_file(uri: str) -> bytes:
    with Path(unquote(urlsplit(uri).path)).open("rb") as file:
        document = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(document) > MAX_DOCUMENT_BYTES:
        raise ValueError("The key set's file is too large.")
    return document


class KeySet:
    """The keys of one issuer, cached; however many ask at once, its source is read once.

    Keys are read again every 10 minutes, or when a key id is asked for that is not among them, though that at most
    once a minute. While the issuer is down they serve for 24 hours. `clock` gives seconds since the epoch.
    """

    def __init__(self, read: Callable[[], Awaitable[bytes]], name: str, clock: Callable[[], float]) -> None:
        self._read = read
        self._name = name
        self._clock = clock
        self._keys: frozenset[Key] = frozenset()
        self._read_at = self._tried_at = self._looked_at = -math.inf
        self._readings = 0
        self._down = False
        self._flight: asyncio.Task[None] | None = None

    async def current(self) -> frozenset[Key]:
        """The keys that count now.

        Raises:
            EventsError: UNAVAILABLE when the issuer has been down for 24 hours, or since the start.
        """
        age, tried = self._since(self._read_at), self._since(self._tried_at)
        if age >= KEEP_SECONDS or tried >= REREAD_SECONDS:
            await self._refresh()
        elif age >= EARLY_SECONDS and tried >= RETRY_SECONDS:
            self._take_off()
        if self._since(self._read_at) >= KEEP_SECONDS:
            raise self._unavailable()
        return self._keys

    async def matching(self, kid: str | None, algorithm: str) -> list[Key]:
        """The keys that may verify a token with this header; without a key id, the only one that can, if any.

        Raises:
            EventsError: UNAVAILABLE when the issuer is down and the key might be a new one.
        """
        if kid is None:
            suited = [key for key in await self.current() if algorithm in key.algorithms]
            return suited if len(suited) == 1 else []
        named = await self._named(kid)
        return [key for key in named if algorithm in key.algorithms]

    async def _named(self, kid: str) -> list[Key]:
        readings = self._readings
        known = _with_id(await self.current(), kid)
        if not known and self._readings == readings and self._may_look():
            await self._refresh()
        named = _with_id(self._keys, kid)
        if not named and self._down:
            raise self._unavailable()
        return named

    def _may_look(self) -> bool:
        """Whether an unknown key id may cause, or join, a reading now."""
        if self._flight is not None:
            return True
        if self._since(self._looked_at) < UNKNOWN_KEY_SECONDS:
            return False
        self._looked_at = self._clock()
        return True

    def _since(self, moment: float) -> float:
        """Seconds since a moment; endless when the clock was set back beyond it."""
        elapsed = self._clock() - moment
        return elapsed if elapsed >= 0 else math.inf

    async def _refresh(self) -> None:
        await asyncio.shield(self._take_off())

    def _take_off(self) -> asyncio.Task[None]:
        if self._flight is None:
            self._flight = asyncio.create_task(self._fly())
        return self._flight

    async def _fly(self) -> None:
        started = self._clock()
        try:
            self._keys = read_keys(await self._read())
            self._read_at, self._down = started, False
        except Exception as error:  # noqa: BLE001 - whatever goes wrong there is an outage of the issuer
            self._down = True
            _log.warning("The keys of %s could not be read: %s", self._name, type(error).__name__)
        finally:
            self._tried_at = started
            self._readings += 1
            self._flight = None

    def _unavailable(self) -> errors.EventsError:
        return errors.unavailable("The issuer of the token does not answer.")


def _with_id(keys: Iterable[Key], kid: str) -> list[Key]:
    return [key for key in keys if key.kid == kid]
