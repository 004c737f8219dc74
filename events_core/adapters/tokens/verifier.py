"""Bearer tokens and PlatformAccessTokens: JWTs (RFC 7519) verified as RFC 8725 advises."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
import orjson
from cachetools import LRUCache
from jwt.types import Options
from jwt.utils import base64url_decode
from typing_extensions import override

from events_core.access.ports import TokenVerifier
from events_core.adapters.neighbours.http_client import SessionFactory
from events_core.adapters.tokens.jwks import ALGORITHMS, DEADLINE_SECONDS, MAX_KID_CHARACTERS, Key, KeySet, KeySource
from events_core.adapters.tokens.unlisted import PLACEHOLDER, UnlistedIssuers
from events_core.common import errors
from events_core.common.texts import digest

MAX_TOKEN_CHARACTERS = 16 * 1024
MAX_NESTED = 256
SKEW_SECONDS = 60
ANY_ISSUER = "*"
"""The name of the platform issuer that stands for all issuers that are not listed."""

_CACHED_BYTES = 4 * 1024 * 1024
"""How large the claims of cached tokens are together, each counted with 1,500 bytes for what is kept beside them."""
_LATEST = 253_402_300_799
"""The last second of the year 9999; a later NumericDate is refused."""
_COMPACT = re.compile(r"[A-Za-z0-9_-]++\.[A-Za-z0-9_-]++\.[A-Za-z0-9_-]++")
_TIMES_ARE_CHECKED_HERE: Options = {
    "require": ["exp"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_sub": False,
    "verify_jti": False,
}
"""PyJWT accepts strings and booleans as times and checks them once. `_Validity` is stricter and judges each use."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """A trusted issuer of bearer tokens.

    `jwks_uri` is an http, https or file URL; without it the OpenID discovery document is read. If `audience` is
    given, the token's `aud` must contain it.
    """

    issuer: str
    jwks_uri: str | None = None
    audience: str | None = None


class JwtVerifier(TokenVerifier):
    """Verifies tokens against the keys of configured issuers.

    `platform_issuers` maps `iss` of a PlatformAccessToken to its `jwks_uri`. `*` stands for all issuers that are not
    listed: with `{iss}` in its URL each has its own key set. Without it, which only development allows, one key set
    verifies the tokens of them all, `platform` included. `session` returns the HTTP client for reading keys; its owner
    closes it. `clock` returns seconds since the epoch.
    """

    def __init__(
        self,
        issuers: Sequence[Issuer],
        platform_issuers: Mapping[str, str],
        session: SessionFactory,
        clock: Callable[[], float] = time.time,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        def source(name: str, jwks_uri: str | None) -> KeySource:
            return KeySource(name, jwks_uri, session, deadline_seconds=deadline_seconds)

        def trust(name: str, jwks_uri: str | None, audience: str | None = None) -> _Trust:
            keys = source(name, jwks_uri)
            return _Trust(keys, KeySet(keys.read, name, clock), audience)

        bearer = {issuer.issuer: trust(issuer.issuer, issuer.jwks_uri, issuer.audience) for issuer in issuers}
        listed = {name: trust(name, uri) for name, uri in platform_issuers.items() if name != ANY_ISSUER}
        unlisted = _unlisted(platform_issuers.get(ANY_ISSUER), source, clock)
        self._bearer = _Issuers("EVENTS_TOKEN_ISSUERS", bearer, _refuse, clock)
        self._platform = _Issuers("EVENTS_PLATFORM_TOKEN_ISSUERS", listed, unlisted, clock)

    @override
    async def claims(self, token: str) -> Mapping[str, object]:
        return await self._bearer.verify(token)

    @override
    async def platform_claims(self, token: str) -> Mapping[str, object]:
        return await self._platform.verify(token)

    @override
    async def ping(self) -> None:
        await asyncio.gather(self._bearer.ping(), self._platform.ping())


def _unlisted(
    jwks_uri: str | None, source: Callable[[str, str], KeySource], clock: Callable[[], float]
) -> Callable[[str], KeySet]:
    """Return the function that finds the key set of an unlisted platform issuer. `jwks_uri` is the URL of `*`."""
    if jwks_uri is None or PLACEHOLDER in jwks_uri:
        return UnlistedIssuers(jwks_uri, source, clock).key_set
    for_all = KeySet(source(ANY_ISSUER, jwks_uri).read, ANY_ISSUER, clock)
    return lambda _: for_all


@dataclass(frozen=True, slots=True)
class _Trust:
    """One trusted issuer: its keys, and the audience its tokens must name."""

    source: KeySource
    keys: KeySet
    audience: str | None


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token with a valid signature, and its claims as JSON; its times and its key are checked again at each use."""

    claims: bytes
    validity: _Validity
    issuer: str
    key: Key


@dataclass(frozen=True, slots=True)
class _Validity:
    """The time for which a token is valid (RFC 7519, section 4.1), in seconds since the epoch."""

    starts: float
    expires: float

    @classmethod
    def of(cls, claims: Mapping[str, object]) -> _Validity:
        """Read `exp`, which is required, `nbf` and `iat`."""
        starts = (_date(claims[name]) for name in ("nbf", "iat") if claims.get(name) is not None)
        return cls(max(starts, default=0), _date(claims["exp"]))

    def check(self, now: float) -> None:
        """Refuse a token before its start and after its end; clocks may differ by 60 seconds."""
        if self.starts > now + SKEW_SECONDS:
            raise _untrusted()
        if self.expires <= now - SKEW_SECONDS:
            raise errors.unauthorized("The token has expired.")


class _Issuers:
    """The issuers of one setting by name, and their recently verified tokens.

    `unlisted` returns the key set of any other issuer, or raises UNAUTHORIZED.
    """

    def __init__(
        self,
        setting: str,
        listed: Mapping[str, _Trust],
        unlisted: Callable[[str], KeySet],
        clock: Callable[[], float],
    ) -> None:
        self._setting = setting
        self._listed = listed
        self._unlisted = unlisted
        self._clock = clock
        self._verified: LRUCache[bytes, _Verified] = LRUCache(_CACHED_BYTES, lambda token: 1_500 + len(token.claims))

    async def verify(self, token: str) -> Mapping[str, object]:
        key = digest(token)
        verified = self._verified.get(key)
        if verified is None or verified.key not in await self._key_set(verified.issuer).current():
            if len(token) > MAX_TOKEN_CHARACTERS or not _COMPACT.fullmatch(token):
                raise _untrusted()
            verified = await self._examine(_Unverified.of(token))
            self._verified[key] = verified
        verified.validity.check(self._clock())
        claims: dict[str, object] = orjson.loads(verified.claims)
        return claims

    async def _examine(self, token: _Unverified) -> _Verified:
        issuer = token.claims.get("iss")
        if not isinstance(issuer, str):
            raise _untrusted()
        audience = self._listed[issuer].audience if issuer in self._listed else None
        for key in await self._key_set(issuer).matching(token.kid, token.algorithm):
            if token.is_verified_by(key, audience):
                return _Verified(token.claims_text, _Validity.of(token.claims), issuer, key)
        raise _untrusted()

    def _key_set(self, issuer: str) -> KeySet:
        """Look up the issuer's keys. A cached token keeps no key set, so that few key sets stay in memory."""
        listed = self._listed.get(issuer)
        return self._unlisted(issuer) if listed is None else listed.keys

    async def ping(self) -> None:
        sources = [trust.source for trust in self._listed.values()]
        outcomes = await asyncio.gather(*(source.ping() for source in sources), return_exceptions=True)
        if any(isinstance(outcome, Exception) for outcome in outcomes):
            raise errors.unavailable(f"An issuer of {self._setting} does not answer.")


@dataclass(frozen=True, slots=True)
class _Unverified:
    """A token in JWS compact serialization (RFC 7515, section 3.1), read to find the key that may verify it."""

    text: str
    algorithm: str
    kid: str | None
    claims: dict[str, Any]
    claims_text: bytes

    @classmethod
    def of(cls, token: str) -> _Unverified:
        header_segment, claims_segment, _ = token.split(".")
        header = _json_object(header_segment)
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS or not _is_kid(kid):
            raise _untrusted()
        if "b64" in header:  # PyJWT knows this extension, but a JWT must not use it (RFC 7797, section 7)
            raise _untrusted()
        return cls(token, algorithm, kid, _json_object(claims_segment), base64url_decode(claims_segment))

    def is_verified_by(self, key: Key, audience: str | None) -> bool:
        """Whether the key verifies the signature, and the claims name the audience, if one is required."""
        options: Options = {**_TIMES_ARE_CHECKED_HERE, "verify_aud": audience is not None}
        try:
            jwt.decode(self.text, key.public, sorted(key.algorithms), options, audience=audience)
        except jwt.PyJWTError:
            return False
        return True


def _is_kid(value: object) -> bool:
    return value is None or (isinstance(value, str) and 0 < len(value) <= MAX_KID_CHARACTERS)


def _json_object(segment: str) -> dict[str, Any]:
    """The JSON object in a segment; duplicate names at any depth are refused (RFC 7519, section 4).

    The depth that a parser allows depends on its version, so deep nesting is refused before parsing. PyJWT checks
    later that the segment is in canonical base64url.
    """
    try:
        text = base64url_decode(segment)
        if text.count(b"[") + text.count(b"{") > MAX_NESTED:
            raise _untrusted()
        value = orjson.loads(text)
        json.loads(text, object_pairs_hook=_distinct)
    except (ValueError, RecursionError):
        raise _untrusted() from None
    if not isinstance(value, dict):
        raise _untrusted()
    return value


def _distinct(pairs: list[tuple[str, object]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("A name occurs twice.")


def _date(value: object) -> float:
    """A NumericDate in seconds since the epoch."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        raise _untrusted()
    return value


def _refuse(_: str) -> KeySet:
    raise _untrusted()


def _untrusted() -> errors.EventsError:
    return errors.unauthorized("The token is not valid.")
