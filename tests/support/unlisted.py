"""PlatformAccessTokens of unlisted issuers for tests: a server of key sets, a verifier, and a clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from events_core.adapters.tokens.verifier import JwtVerifier
from events_core.common.errors import EventsError
from tests.support.issuer import IssuerServer, SigningKey, claims_of

MINUTE = 60
ALLOWED = 10
"""Fetches a minute for unlisted issuers."""
OLD, NEW = SigningKey.ec("old"), SigningKey.ec("new")


class World:
    """A server of key sets by name, a verifier whose `*` leads there, and a clock that the test moves."""

    def __init__(self, issuer: IssuerServer, session: aiohttp.ClientSession) -> None:
        self.issuer = issuer
        self.now = 1_800_000_000.0
        self.session = session
        self.trust({"*": issuer.owners_jwks_uri})

    def trust(self, issuers: dict[str, str]) -> None:
        """Start again with these platform issuers."""
        self.verifier = JwtVerifier([], issuers, lambda: self.session, lambda: self.now)

    async def refusal(self, iss: Any = "nav", key: SigningKey = OLD, **header: Any) -> EventsError | None:
        """Present a token of this issuer; returns the error, or None if it is accepted."""
        try:
            await self.verifier.platform_claims(key.sign(claims_of("", {"iss": iss}, now=self.now), **header))
        except EventsError as error:
            return error
        return None

    async def present(self, iss: Any = "nav", key: SigningKey = OLD, **header: Any) -> int:
        """Present a token of this issuer; returns the status 200, 401 or 503."""
        error = await self.refusal(iss, key, **header)
        return 200 if error is None else error.problem.status

    async def invent(self, count: int, start: int = 0) -> list[int]:
        """Present tokens of issuers that do not exist; returns the statuses."""
        return [await self.present(f"invented-{number}") for number in range(start, start + count)]

    @property
    def fetches(self) -> int:
        """The number of requests for key sets of unlisted issuers."""
        return self.issuer.owner_fetches.total()


@asynccontextmanager
async def unlisted_world() -> AsyncIterator[World]:
    """Serve key sets of `nav`, `skd` and `platform`."""
    async with IssuerServer([OLD]) as issuer, aiohttp.ClientSession() as session:
        issuer.owners = {name: [OLD] for name in ("nav", "skd", "platform")}
        yield World(issuer, session)
