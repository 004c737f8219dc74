"""A Register on loopback that answers and refuses as Altinn's does, or badly as a test needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self

import jwt
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA1

from tests.support import numbers

MOST_URNS = 100
_PERSON = "urn:altinn:person:identifier-no"
_ORGANISATION = "urn:altinn:organization:identifier-no"
_PARTY = "urn:altinn:party:id"
_REFUSED = (400, {"title": "One or more validation errors occurred.", "status": 400})

Answer = tuple[int, Mapping[str, Any]]


@dataclass(frozen=True)
class Person:
    """A person in Register."""

    party_id: int
    uuid: str


@dataclass
class RegisterServer:
    """Serves under `url` while it is entered.

    It knows `persons` by person number, `units` (party ids) by organisation number, and `main_units` by the number of a
    sub-unit. If it has a `certificate`, a request without a PlatformAccessToken signed with its key gets 401. `status`
    and `body` replace the response. While `gate` is cleared, requests wait; `arrived` is set when a request comes.
    """

    persons: dict[str, Person] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    main_units: dict[str, str] = field(default_factory=dict)
    certificate: x509.Certificate | None = None
    status: int = 200
    body: bytes | None = None
    requests: list[tuple[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def __aenter__(self) -> Self:
        self.gate.set()
        app = web.Application()
        app.router.add_get("/", self._get_root)
        app.router.add_post("/v1/parties/lookup", partial(self._serve, self._look_up))
        app.router.add_post("/v2/internal/parties/query", partial(self._serve, self._query))
        app.router.add_post("/v2/internal/parties/main-units", partial(self._serve, self._find_main_units))
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()
        await self.stop()

    async def stop(self) -> None:
        """Close the port and every connection."""
        await self._runner.cleanup()

    @property
    def queries(self) -> list[list[str]]:
        """The URNs of each query for UUIDs."""
        return [document["Data"] for path, document in self.requests if "/query?" in path]

    async def _get_root(self, request: web.Request) -> web.Response:
        self.headers.append(dict(request.headers))
        return web.Response(status=404)

    async def _serve(self, answer: Callable[[Any], Answer], request: web.Request) -> web.Response:
        document = await request.json()
        self.requests.append((request.path_qs, document))
        self.headers.append(dict(request.headers))
        self.arrived.set()
        await self.gate.wait()
        if self.status != 200 or self.body is not None:
            return web.Response(status=self.status, body=self.body)
        if self.certificate is not None and not _is_trusted(request.headers, self.certificate):
            return web.Response(status=401)
        status, content = answer(document)
        return web.json_response(content, status=status)

    def _look_up(self, document: Mapping[str, str]) -> Answer:
        match document:
            case {"Ssn": number} if numbers.is_person(number):
                party = self.persons[number].party_id if number in self.persons else None
            case {"OrgNo": number} if numbers.is_organisation(number):
                party = self.units.get(number)
            case _:
                return _REFUSED
        return (404, {}) if party is None else (200, {"partyId": party, "name": "made up"})

    def _query(self, document: Mapping[str, list[str]]) -> Answer:
        urns = [urn.rpartition(":") for urn in document["Data"]]
        if len(urns) > MOST_URNS or not all(name == _PERSON and numbers.is_person(value) for name, _, value in urns):
            return _REFUSED
        found = [(number, self.persons[number]) for _, _, number in urns if number in self.persons]
        entries = [
            {"partyUuid": person.uuid, "partyId": person.party_id, "personIdentifier": number}
            for number, person in found
        ]
        return (200 if len(found) == len(urns) else 206), {"data": entries}

    def _find_main_units(self, document: Mapping[str, str]) -> Answer:
        match document["Data"].rpartition(":"):
            case (name, _, value) if name == _PARTY and value.isdecimal():
                unit = next((number for number, party in self.units.items() if str(party) == value), "")
            case (name, _, value) if name == _ORGANISATION and numbers.is_organisation(value):
                unit = value
            case _:
                return _REFUSED
        number = self.main_units.get(unit)
        if number is None:
            return 200, {"data": []}
        urn = f"{_ORGANISATION}:{number}"
        return 200, {"data": [{"organizationIdentifier": number, "externalUrn": urn, "partyId": self.units[number]}]}


def _is_trusted(headers: Mapping[str, str], certificate: x509.Certificate) -> bool:
    """Whether a request carries a valid PlatformAccessToken of the platform, signed with the certificate's key."""
    token, key = headers.get("PlatformAccessToken", ""), certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    try:
        header = jwt.decode_complete(
            token,
            key,
            ["RS256"],
            {"require": ["exp", "nbf", "iat", "urn:altinn:app"]},
            issuer="platform",
            audience="platform.altinn.no",
        )["header"]
    except jwt.InvalidTokenError:
        return False
    return bool(header.get("kid") == certificate.fingerprint(SHA1()).hex().upper())
