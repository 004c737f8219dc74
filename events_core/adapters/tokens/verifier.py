"""Bearer tokens and PlatformAccessTokens: JWTs (RFC 7519) verified as RFC 8725 advises."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson
from cachetools import LRUCache
from jwt import PyJWS

from events_core.adapters.tokens.jwks import ALGORITHMS, DEADLINE_SECONDS, Key, KeySet, KeySource, SessionFactory
from events_core.common import errors

MAX_TOKEN_CHARACTERS = 16 * 1024
MAX_NESTED = 256
SKEW_SECONDS = 60
ANY_ISSUER = "*"
"""In development, the platform issuer whose keys verify the tokens of every issuer that is not named."""

_CACHED_TOKENS = 2_000
_MAX_KID_CHARACTERS = 256
_LATEST = 253_402_300_799
"""The last second of the year 9999; a NumericDate beyond it is no date."""
_UNSUPPORTED = frozenset({"crit", "b64"})
"""Header parameters that change what a token means (RFC 7515, section 4.1.11; RFC 7797)."""
_COMPACT = re.compile(r"[A-Za-z0-9_-]++\.[A-Za-z0-9_-]++\.[A-Za-z0-9_-]++")
_JWS = PyJWS(algorithms=sorted(ALGORITHMS))


@dataclass(frozen=True, slots=True)
class Issuer:
    """A trusted issuer of bearer tokens.

    `jwks_uri` is an http, https or file URL; without it the OpenID discovery document is read. `audience`, when
    given, must be among the token's `aud`.
    """

    issuer: str
    jwks_uri: str | None = None
    audience: str | None = None


class JwtVerifier:
    """Verifies tokens against the keys of configured issuers; the port TokenVerifier.

    `platform_issuers` maps `iss` of a PlatformAccessToken to its `jwks_uri`. `session` gives the HTTP client when
    keys are read; it is closed by its owner. `clock` gives seconds since the epoch.
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
        def trust(name: str, jwks_uri: str | None, audience: str | None = None) -> _Trust:
            source = KeySource(name, jwks_uri, session, deadline_seconds=deadline_seconds)
            return _Trust(source, KeySet(source.read, name, clock), audience)

        bearer = {each.issuer: trust(each.issuer, each.jwks_uri, each.audience) for each in issuers}
        platform = {name: trust(name, uri) for name, uri in platform_issuers.items()}
        fallback = platform.pop(ANY_ISSUER, None)
        self._bearer = _Realm("EVENTS_TOKEN_ISSUERS", bearer, None, clock)
        self._platform = _Realm("EVENTS_PLATFORM_TOKEN_ISSUERS", platform, fallback, clock)

    async def claims(self, token: str) -> Mapping[str, object]:
        """The claims of a bearer token; `iss` names the issuer exactly.

        Raises:
            EventsError: UNAUTHORIZED when it is not trusted, UNAVAILABLE when its issuer's keys cannot be had.
        """
        return await self._bearer.verify(token)

    async def platform_claims(self, token: str) -> Mapping[str, object]:
        """The claims of a PlatformAccessToken; `iss` names the key set.

        Raises:
            EventsError: UNAUTHORIZED when it is not trusted, UNAVAILABLE when its issuer's keys cannot be had.
        """
        return await self._platform.verify(token)

    async def ping(self) -> None:
        """Return when every issuer answers with a status below 500.

        Raises:
            EventsError: UNAVAILABLE, naming the setting of the issuers of which one does not.
        """
        await asyncio.gather(self._bearer.ping(), self._platform.ping())


@dataclass(frozen=True, slots=True)
class _Trust:
    """One issuer: its keys, and the audience that it must name."""

    source: KeySource
    keys: KeySet
    audience: str | None


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token whose signature held: whether it still counts depends on the time and on its key."""

    claims: Mapping[str, object]
    validity: _Validity
    keys: KeySet
    key: Key


@dataclass(frozen=True, slots=True)
class _Validity:
    """When a token counts (RFC 7519, section 4.1), seconds since the epoch."""

    starts: float
    expires: float

    @classmethod
    def of(cls, claims: Mapping[str, object]) -> _Validity:
        """From `exp`, which is required, `nbf` and `iat`."""
        expires, not_before, issued = (_date(claims.get(name)) for name in ("exp", "nbf", "iat"))
        if expires is None:
            raise _untrusted()
        return cls(max(not_before or 0, issued or 0), expires)

    def check(self, now: float) -> None:
        """Refuse a token that does not count yet, or no longer, with 60 seconds of skew."""
        if self.starts > now + SKEW_SECONDS:
            raise _untrusted()
        if self.expires <= now - SKEW_SECONDS:
            raise errors.unauthorized("The token has expired.")


class _Realm:
    """Issuers by name, and the tokens of theirs that were verified lately."""

    def __init__(
        self, setting: str, issuers: Mapping[str, _Trust], fallback: _Trust | None, clock: Callable[[], float]
    ) -> None:
        self._setting = setting
        self._issuers = issuers
        self._fallback = fallback
        self._clock = clock
        self._verified: LRUCache[str, _Verified] = LRUCache(_CACHED_TOKENS)

    async def verify(self, token: str) -> Mapping[str, object]:
        known = self._verified.get(token)
        if known is None or known.key not in await known.keys.current():
            if len(token) > MAX_TOKEN_CHARACTERS or not _COMPACT.fullmatch(token):
                raise _untrusted()
            known = await self._examine(_Parsed.of(token))
            self._verified[token] = known
        known.validity.check(self._clock())
        return known.claims

    async def _examine(self, token: _Parsed) -> _Verified:
        trust = self._issuer_of(token)
        for key in await trust.keys.matching(token.kid, token.algorithm):
            if _holds(token, key):
                _check_audience(token.claims, trust.audience)
                return _Verified(MappingProxyType(token.claims), _Validity.of(token.claims), trust.keys, key)
        raise _untrusted()

    def _issuer_of(self, token: _Parsed) -> _Trust:
        name = token.claims.get("iss")
        trust = self._issuers.get(name, self._fallback) if isinstance(name, str) else None
        if trust is None:
            raise _untrusted()
        return trust

    async def ping(self) -> None:
        trusted = [*self._issuers.values(), *([self._fallback] if self._fallback else [])]
        answers = await asyncio.gather(*(each.source.ping() for each in trusted), return_exceptions=True)
        if any(isinstance(answer, Exception) for answer in answers):
            raise errors.unavailable(f"An issuer of {self._setting} does not answer.")


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A token in JWS compact serialization (RFC 7515, section 3.1), not verified yet."""

    algorithm: str
    kid: str | None
    claims: dict[str, Any]
    signing_input: bytes
    signature: bytes

    @classmethod
    def of(cls, token: str) -> _Parsed:
        header_segment, claims_segment, signature_segment = token.split(".")
        header = _json_object(header_segment)
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS or not _is_kid(kid):
            raise _untrusted()
        if not _UNSUPPORTED.isdisjoint(header):
            raise _untrusted()
        claims = _json_object(claims_segment)
        signing_input = token[: -len(signature_segment) - 1].encode()
        return cls(algorithm, kid, claims, signing_input, _decoded(signature_segment))


def _is_kid(value: object) -> bool:
    return value is None or (isinstance(value, str) and 0 < len(value) <= _MAX_KID_CHARACTERS)


def _decoded(segment: str) -> bytes:
    """The bytes of a base64url segment; only their one canonical spelling counts, so a token cannot be respelled."""
    try:
        decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        raise _untrusted() from None
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != segment.encode():
        raise _untrusted()
    return decoded


def _json_object(segment: str) -> dict[str, Any]:
    """The JSON object in a segment; duplicate names at any depth are refused (RFC 7519, section 4).

    How deep the parsers go depends on their version, so what nests without need is refused before.
    """
    text = _decoded(segment)
    if text.count(b"[") + text.count(b"{") > MAX_NESTED:
        raise _untrusted()
    try:
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


def _holds(token: _Parsed, key: Key) -> bool:
    return _JWS.get_algorithm_by_name(token.algorithm).verify(token.signing_input, key.public, token.signature)


def _check_audience(claims: Mapping[str, object], audience: str | None) -> None:
    named = claims.get("aud")
    if audience is not None and audience not in (named if isinstance(named, list) else [named]):
        raise _untrusted()


def _date(value: object) -> float | None:
    """A NumericDate in seconds since the epoch, None when the claim is absent."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        raise _untrusted()
    return value


def _untrusted() -> errors.EventsError:
    return errors.unauthorized("The token is not valid.")
