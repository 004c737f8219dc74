"""Key sets of token issuers (RFC 7517): reading them, choosing usable keys, caching."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from events_core.adapters.neighbours.http_client import SessionFactory, read_body
from events_core.common import errors

REREAD_SECONDS = 600
"""While their issuer answers, keys are at most this old."""
EARLY_SECONDS = 540
"""From this age on, keys are read again in the background while requests use the known ones."""
KEEP_SECONDS = 24 * 3600
"""During an outage of the issuer, keys up to this age are used."""
RETRY_SECONDS = 30
"""Time between attempts to reach an issuer that is down, while its keys are still used."""
UNKNOWN_KEY_SECONDS = 60
"""Shortest time between two readings caused by unknown key ids."""
DEADLINE_SECONDS = 5.0
MAX_DOCUMENT_BYTES = 256 * 1024
MAX_LISTED = 500
"""How many keys of a document are looked at."""
MAX_KEYS = 25
MAX_KID_CHARACTERS = 256

_RSA_ALGORITHMS = frozenset({"RS256", "RS512", "PS256"})
_EC_ALGORITHMS = frozenset({"ES256"})
ALGORITHMS = _RSA_ALGORITHMS | _EC_ALGORITHMS
_RSA_BITS = range(2048, 8192 + 1)
_UNUSABLE = (
    PyJWTError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    NotImplementedError,  # a key that names the algorithm `none`
    UnsupportedAlgorithm,
)
"""Errors by which PyJWK and cryptography refuse a key."""

_log = logging.getLogger(__name__)

PublicKey = RSAPublicKey | EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class Key:
    """A public key: its id, the algorithms it may verify, and its DER bytes, by which keys are compared."""

    kid: str | None
    algorithms: frozenset[str]
    der: bytes
    public: PublicKey = field(compare=False, repr=False)


def read_keys(document: bytes) -> frozenset[Key]:
    """Return the first keys of a JWK set that may verify a token, and ignore the other keys (RFC 7517, section 5).

    PyJWKSet would refuse a set without keys, by which an issuer withdraws them all.

    Raises:
        ValueError: The document is not a JWK set.
    """
    match orjson.loads(document):
        case {"keys": [*keys]}:
            return frozenset(islice(filter(None, map(_key, keys[:MAX_LISTED])), MAX_KEYS))
        case _:
            raise ValueError("The document is not a JWK set.")


def _key(jwk: Any) -> Key | None:
    if not isinstance(jwk, dict) or not _is_for_signatures(jwk):
        return None
    public = _public_key(jwk)
    if public is None:
        return None
    algorithms = _EC_ALGORITHMS if isinstance(public, EllipticCurvePublicKey) else _RSA_ALGORITHMS
    if jwk.get("alg") is not None:
        algorithms &= {str(jwk["alg"])}
    kid = jwk.get("kid")
    if isinstance(kid, str) and len(kid) > MAX_KID_CHARACTERS:
        return None
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Key(kid if isinstance(kid, str) else None, algorithms, der, public) if algorithms else None


def _is_for_signatures(jwk: dict[str, Any]) -> bool:
    """Whether the key is meant for signatures (RFC 7517, sections 4.2 and 4.3)."""
    operations = jwk.get("key_ops")
    return jwk.get("use", "sig") == "sig" and (
        operations is None or (isinstance(operations, list) and "verify" in operations)
    )


def _public_key(jwk: dict[str, Any]) -> PublicKey | None:
    """The public key, None if it is too weak or too large, of another kind, or a private key that was published."""
    try:
        key = PyJWK(jwk).key
    except _UNUSABLE:
        return None
    match key:
        case RSAPublicKey() if key.key_size in _RSA_BITS:
            return key
        case EllipticCurvePublicKey() if isinstance(key.curve, SECP256R1):
            return key
    return None


class NoKeySetError(ValueError):
    """There is no key set at its URL (404)."""


class KeySource:
    """Reads an issuer's key set from `jwks_uri` (http, https, file), else from the URI found by discovery.

    `session` returns the HTTP client for each reading; its owner closes it.
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

    async def read(self) -> frozenset[Key]:
        """Return the keys of the JWK set, of at most 256 KiB, within the deadline, without following a redirect.

        Raises:
            NoKeySetError: The issuer answers 404.
            aiohttp.ClientError, OSError, ValueError: The key set cannot be read.
        """
        async with asyncio.timeout(self._deadline):
            if self._jwks_uri and self._jwks_uri.startswith("file:"):
                return read_keys(await asyncio.to_thread(_read_file, self._jwks_uri))
            return read_keys(await self._get(self._jwks_uri or await self._discover()))

    async def ping(self) -> None:
        """Return when the issuer answers with a status below 500.

        Raises:
            aiohttp.ClientError, OSError, ValueError: The issuer does not answer.
        """
        async with asyncio.timeout(self._deadline):
            if self._jwks_uri and self._jwks_uri.startswith("file:"):
                await asyncio.to_thread(_read_file, self._jwks_uri)
                return
            async with self._session().get(self._jwks_uri or self._discovery_url, allow_redirects=False) as response:
                if response.status >= 500:
                    raise ValueError(f"The issuer answers {response.status}.")

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
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with self._session().get(url, allow_redirects=False, headers=headers) as response:
            if response.status == 404:
                raise NoKeySetError("The issuer answers 404.")
            if response.status != 200:
                raise ValueError(f"The issuer answers {response.status}.")
            return await read_body(response, MAX_DOCUMENT_BYTES)


def _may_lead_to(uri: str, issuer: str) -> bool:
    """Whether discovery may lead to `uri`: over TLS, or in plain text if the issuer's own URL is."""
    return uri.startswith("https://") or (uri.startswith("http://") and issuer.startswith("http://"))


def _read_file(uri: str) -> bytes:
    with Path(unquote(urlsplit(uri).path)).open("rb") as file:
        document = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(document) > MAX_DOCUMENT_BYTES:
        raise ValueError("The key set's file is too large.")
    return document


class KeySet:
    """Caches the keys of one issuer; concurrent requests share one reading.

    Keys are read again every 10 minutes, and for an unknown key id at most once a minute. While the issuer is down,
    the known keys are used for 24 hours. `clock` returns seconds since the epoch.

    An EventsError of `read` says that the issuer was not asked, or is not trusted. It is no outage: the next request
    may try again, and requests that lack keys get that error.
    """

    def __init__(self, read: Callable[[], Awaitable[frozenset[Key]]], name: str, clock: Callable[[], float]) -> None:
        self._read = read
        self._name = name
        self._clock = clock
        self._keys: frozenset[Key] = frozenset()
        self._read_at = self._tried_at = self._tried_for_unknown_at = -math.inf
        self._readings = 0
        self._failure: Exception | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def is_usable(self) -> bool:
        """Whether the keys were read within the last 24 hours."""
        return self._seconds_since(self._read_at) < KEEP_SECONDS

    async def current(self) -> frozenset[Key]:
        """Return the keys that are valid now.

        Raises:
            EventsError: UNAVAILABLE when the issuer has been down for 24 hours, or since the start.
        """
        age, since_attempt = self._seconds_since(self._read_at), self._seconds_since(self._tried_at)
        if age >= KEEP_SECONDS or since_attempt >= REREAD_SECONDS:
            await self._refresh()
        elif age >= EARLY_SECONDS and since_attempt >= RETRY_SECONDS:
            self._start_reading()
        if not self.is_usable:
            raise self._error()
        return self._keys

    async def matching(self, kid: str | None, algorithm: str) -> list[Key]:
        """Return the keys that may verify a token with this header; without `kid`, the only suitable key, if any.

        Raises:
            EventsError: UNAVAILABLE when the issuer is down and the key might be a new one.
        """
        if kid is None:
            suitable = [key for key in await self.current() if algorithm in key.algorithms]
            return suitable if len(suitable) == 1 else []
        return [key for key in await self._with_id(kid) if algorithm in key.algorithms]

    async def _with_id(self, kid: str) -> list[Key]:
        """The keys with this id; an unknown id causes a reading."""
        readings = self._readings
        known = _with_id(await self.current(), kid)
        if not known and self._readings == readings and self._may_read_for_unknown():
            await self._refresh()
        found = _with_id(self._keys, kid)
        if not found and self._failure is not None:
            raise self._error()
        return found

    def _may_read_for_unknown(self) -> bool:
        """Whether an unknown key id may start, or join, a reading now."""
        if self._reading is not None:
            return True
        if self._seconds_since(self._tried_for_unknown_at) < UNKNOWN_KEY_SECONDS:
            return False
        self._tried_for_unknown_at = self._clock()
        return True

    def _seconds_since(self, time: float) -> float:
        return elapsed(time, self._clock())

    async def _refresh(self) -> None:
        await asyncio.shield(self._start_reading())

    def _start_reading(self) -> asyncio.Task[None]:
        """Return the task that is reading the keys, or start one."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_keys())
        return self._reading

    async def _read_keys(self) -> None:
        started = self._clock()
        try:
            self._keys = await self._read()
            self._read_at, self._tried_at, self._failure = started, started, None
        except errors.EventsError as error:
            self._tried_for_unknown_at, self._failure = -math.inf, error
        except Exception as error:  # noqa: BLE001 - any other failure is an outage of the issuer
            self._tried_at, self._failure = started, error
            _log.warning("key set not read issuer=%s error=%s", self._name, type(error).__name__)
        finally:
            self._readings += 1
            self._reading = None

    def _error(self) -> errors.EventsError:
        """The error of a request that lacks keys; a new one for each, as a raised error keeps its traceback."""
        if isinstance(self._failure, errors.EventsError):
            return replace(self._failure)
        return errors.unavailable("The issuer of the token does not answer.")


def elapsed(since: float, now: float) -> float:
    """Seconds from `since` to `now`; infinite if the clock was set back before `since`."""
    return now - since if now >= since else math.inf


def _with_id(keys: Iterable[Key], kid: str) -> list[Key]:
    return [key for key in keys if key.kid == kid]
