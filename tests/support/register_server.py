"""A Register that answers on loopback, correctly or not as a test needs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

_PERSON = "urn:altinn:person:identifier-no:"


@dataclass(frozen=True)
class Person:
    """A person in Register."""

    party_id: int
    uuid: str


@dataclass
class RegisterServer:
    """Serves under `url` while it is entered.

    It knows `persons` by person number, `units` (party ids) by organisation number, and `main_units` by the number of a
    sub-unit. `status` and `body` replace the response. While `gate` is cleared, requests wait; `arrived` is set when a
    request comes.
    """

    persons: dict[str, Person] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    main_units: dict[str, str] = field(default_factory=dict)
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
        app.router.add_post("/v1/parties/lookup", self._look_up)
        app.router.add_post("/v2/internal/parties/query", self._query)
        app.router.add_post("/v2/internal/parties/main-units", self._find_main_units)
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

    async def _look_up(self, request: web.Request) -> web.Response:
        document = await self._received(request)
        person = self.persons.get(document.get("Ssn", ""))
        party = self.units.get(document.get("OrgNo", "")) if person is None else person.party_id
        return self._respond(None if party is None else {"partyId": party, "name": "made up"})

    async def _query(self, request: web.Request) -> web.Response:
        assert request.query == {"fields": "identifiers"}
        document = await self._received(request)
        numbers = [urn.removeprefix(_PERSON) for urn in document["Data"]]
        found = [(number, self.persons[number]) for number in numbers if number in self.persons]
        return self._respond(
            {
                "data": [
                    {"partyUuid": person.uuid, "partyId": person.party_id, "personIdentifier": number}
                    for number, person in found
                ]
            }
        )

    async def _find_main_units(self, request: web.Request) -> web.Response:
        document = await self._received(request)
        name, _, value = document["Data"].rpartition(":")
        known = {str(party): number for number, party in self.units.items()} if name == "urn:altinn:party:id" else {}
        number = self.main_units.get(known.get(value, value))
        urn = f"urn:altinn:organization:identifier-no:{number}"
        found = (
            {"organizationIdentifier": number, "externalUrn": urn, "partyId": self.units[number]} if number else None
        )
        return self._respond({"data": [found] if found else []})

    async def _received(self, request: web.Request) -> dict[str, Any]:
        document: dict[str, Any] = await request.json()
        self.requests.append((request.path, document))
        self.headers.append(dict(request.headers))
        self.arrived.set()
        await self.gate.wait()
        return document

    def _respond(self, document: Mapping[str, object] | None) -> web.Response:
        if self.status != 200 or self.body is not None:
            return web.Response(status=self.status, body=self.body)
        return web.Response(status=404) if document is None else web.json_response(document)
