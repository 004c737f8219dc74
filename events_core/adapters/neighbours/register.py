"""Register over HTTP: the party that a number belongs to. No number and no response is ever logged."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence

import orjson
from typing_extensions import override

from events_core.access.identity import Caller
from events_core.access.names import PERSON_NUMBER, Subject, subjects_of_organisation
from events_core.access.ports import PartyRegister
from events_core.adapters.neighbours.http_client import JsonService, Reply
from events_core.common.single_flight import SingleFlightCache

CACHE_SECONDS = 120
CACHE_SIZE = 50_000
PERSONS_A_REQUEST = 100

_LOOKUP = "/v1/parties/lookup"
_QUERY = "/v2/internal/parties/query?fields=identifiers"
_MAIN_UNITS = "/v2/internal/parties/main-units"


class RegisterClient(PartyRegister):
    """Asks Register, and caches its answers for `ttl_seconds`; unknown numbers are cached too, failures are not.

    A lookup carries the caller's bearer token, and only that token sees the cached answer. A query carries the
    service's own token.
    """

    def __init__(
        self,
        service: JsonService,
        *,
        clock: Callable[[], float] = time.monotonic,
        ttl_seconds: float = CACHE_SECONDS,
        size: int = CACHE_SIZE,
    ) -> None:
        self._service = service
        self._parties: SingleFlightCache[bytes, int | None] = SingleFlightCache(
            clock=clock, ttl_seconds=ttl_seconds, size=size
        )
        self._uuids: SingleFlightCache[str, str | None] = SingleFlightCache(
            clock=clock, ttl_seconds=ttl_seconds, size=size
        )
        self._main_units: SingleFlightCache[str, tuple[str, ...]] = SingleFlightCache(
            clock=clock, ttl_seconds=ttl_seconds, size=size
        )

    @override
    async def party_of_unit(self, organisation_number: str, caller: Caller) -> int | None:
        return await self._party_of("OrgNo", organisation_number, caller)

    @override
    async def party_of_person(self, person_number: str, caller: Caller) -> int | None:
        return await self._party_of("Ssn", person_number, caller)

    @override
    async def party_uuids(self, person_numbers: Sequence[str]) -> Mapping[str, str]:
        uuids = await self._uuids.get(person_numbers, self._query_all)
        return {number: uuid for number, uuid in uuids.items() if uuid is not None}

    @override
    async def main_units(self, subject: str) -> Sequence[str]:
        urn = Subject.parse(subject).register_urn
        return () if urn is None else (await self._main_units.get([urn], self._query_main_units))[urn]

    @override
    async def ping(self) -> None:
        await self._service.ping()

    async def _party_of(self, field: str, number: str, caller: Caller) -> int | None:
        key = hashlib.blake2b(f"{field} {number} {caller.bearer}".encode(), digest_size=32).digest()

        async def ask(_: Sequence[bytes]) -> Mapping[bytes, int | None]:
            return {key: await self._look_up(field, number, caller.bearer)}

        return (await self._parties.get([key], ask))[key]

    async def _look_up(self, field: str, number: str, bearer: str) -> int | None:
        reply = await self._service.post({field: number}, _LOOKUP, bearer=bearer)
        if reply.status == 404:
            return None
        party = self._document(reply).get("partyId")
        if not isinstance(party, int) or isinstance(party, bool) or party <= 0:
            raise self._service.down("no partyId")
        return party

    async def _query_all(self, numbers: Sequence[str]) -> Mapping[str, str | None]:
        batches = [numbers[at : at + PERSONS_A_REQUEST] for at in range(0, len(numbers), PERSONS_A_REQUEST)]
        known: dict[str, str] = {}
        for uuids in await asyncio.gather(*map(self._query, batches)):
            known |= uuids
        return {number: known.get(number) for number in numbers}

    async def _query(self, numbers: Sequence[str]) -> dict[str, str]:
        """The party uuid by person number; entries without both are skipped."""
        reply = await self._service.post({"Data": [f"{PERSON_NUMBER}:{number}" for number in numbers]}, _QUERY)
        uuids: dict[str, str] = {}
        for party in self._data(reply):
            match party:
                case {"personIdentifier": str() as number, "partyUuid": str() as uuid}:
                    uuids[number] = uuid
        return uuids

    async def _query_main_units(self, urns: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        units = await asyncio.gather(*map(self._main_units_of, urns))
        return dict(zip(urns, units, strict=True))

    async def _main_units_of(self, urn: str) -> tuple[str, ...]:
        reply = await self._service.post({"Data": urn}, _MAIN_UNITS)
        if reply.status == 404:
            return ()
        return tuple(subject for unit in self._data(reply) if isinstance(unit, dict) for subject in _subjects_of(unit))

    def _data(self, reply: Reply) -> list[object]:
        data = self._document(reply).get("data")
        if not isinstance(data, list):
            raise self._service.down("no data")
        return data

    def _document(self, reply: Reply) -> dict[str, object]:
        if reply.status != 200:
            raise self._service.down(f"status {reply.status}")
        try:
            document = orjson.loads(reply.body)
        except ValueError:
            raise self._service.down("no JSON") from None
        if not isinstance(document, dict):
            raise self._service.down("no JSON object")
        return document


def _subjects_of(unit: Mapping[str, object]) -> list[str]:
    """The subjects that name a main unit, as far as Register's entry tells."""
    party, number, urn = unit.get("partyId"), unit.get("organizationIdentifier"), unit.get("externalUrn")
    subjects = subjects_of_organisation(party, number) if isinstance(party, int) and isinstance(number, str) else []
    return [*subjects, *([urn] if isinstance(urn, str) and urn not in subjects else [])]
