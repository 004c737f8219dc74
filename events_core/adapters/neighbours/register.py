"""Register over HTTP: the party that a number belongs to. No number and no response is ever logged."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeGuard

import orjson
from typing_extensions import override

from events_core.access.identity import Caller
from events_core.access.names import GUID, PERSON_NUMBER, Subject, subjects_of_organisation
from events_core.access.ports import PartyRegister
from events_core.adapters.neighbours.http_client import JsonService, Reply
from events_core.common.halves import Requests, ask_in_halves
from events_core.common.single_flight import SingleFlightCache
from events_core.common.texts import digest

CACHE_SECONDS = 120
CACHE_SIZE = 10_000
MAIN_UNITS_KEPT = 1_000
PERSONS_A_REQUEST = 100
_HALVINGS = (PERSONS_A_REQUEST - 1).bit_length()
"""Requests that lead from a refused batch to its first person."""

_LOOKUP = "/v1/parties/lookup"
_QUERY = "/v2/internal/parties/query?fields=identifiers"
_MAIN_UNITS = "/v2/internal/parties/main-units"
_MALFORMED = 400
"""Register's answer to a number with wrong check digits, and to a query with one such number of many."""
_UUID = re.compile(GUID)
_MOST_UNITS, _LONGEST_SUBJECT = 3, 100
"""The main units of an organisation, and the length of a subject that names one: far more than Register knows."""


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
            clock=clock, ttl_seconds=ttl_seconds, size=size, key=digest
        )
        self._main_units: SingleFlightCache[str, tuple[str, ...]] = SingleFlightCache(
            clock=clock, ttl_seconds=ttl_seconds, size=min(size, MAIN_UNITS_KEPT)
        )

    @override
    async def party_of_unit(self, organisation_number: str, caller: Caller) -> int | None:
        return await self._party_of("OrgNo", organisation_number, caller)

    @override
    async def party_of_person(self, person_number: str, caller: Caller) -> int | None:
        return await self._party_of("Ssn", person_number, caller)

    @override
    async def party_uuids(self, person_numbers: Sequence[str], requests: Requests) -> Mapping[str, str | None]:
        return await self._uuids.get(person_numbers, partial(self._query_all, requests))

    @override
    async def main_units(self, subject: str) -> Sequence[str]:
        urn = Subject.parse(subject).register_urn
        return () if urn is None else (await self._main_units.get([urn], self._query_main_units))[urn]

    @override
    async def ping(self) -> None:
        await self._service.ping()

    async def _party_of(self, field: str, number: str, caller: Caller) -> int | None:
        key = digest(f"{field} {number} {caller.bearer}")

        async def ask(_: Sequence[bytes]) -> Mapping[bytes, int | None]:
            return {key: await self._look_up(field, number, caller.bearer)}

        return (await self._parties.get([key], ask))[key]

    async def _look_up(self, field: str, number: str, bearer: str) -> int | None:
        reply = await self._service.post({field: number}, _LOOKUP, bearer=bearer)
        if reply.status in (_MALFORMED, 404):
            return None
        party = self._document(reply).get("partyId")
        if not _is_party_id(party):
            raise self._service.down("no partyId")
        return party

    async def _query_all(self, requests: Requests, numbers: Sequence[str]) -> Mapping[str, str | None]:
        """Query batches side by side, and refused batches in halves, while there are requests left."""
        uuids: dict[str, str | None] = {}
        batches = [numbers[at : at + PERSONS_A_REQUEST] for at in range(0, len(numbers), PERSONS_A_REQUEST)]
        while batches and requests.left > 0:
            count = min(len(batches), max(1, requests.left - _HALVINGS))
            requests.left -= count
            asked, batches = batches[:count], batches[count:]
            for batch, answer in zip(asked, await asyncio.gather(*map(self._query, asked)), strict=True):
                uuids |= (await ask_in_halves(batch, self._query, requests))[0] if answer is None else answer
        return uuids

    async def _query(self, numbers: Sequence[str]) -> dict[str, str | None] | None:
        """The UUIDs of persons, None if Register refuses the request, as it does for one malformed number of many.

        A number that is refused alone is an unknown person. Entries about nobody who was asked for are skipped.
        """
        reply = await self._service.post({"Data": [f"{PERSON_NUMBER}:{number}" for number in numbers]}, _QUERY)
        uuids: dict[str, str | None] = dict.fromkeys(numbers)
        if reply.status == _MALFORMED:
            return uuids if len(numbers) == 1 else None
        for party in self._data(reply):
            match party:
                case {"personIdentifier": str() as number, **others} if number in uuids:
                    uuids[number] = self._uuid(others.get("partyUuid"))
        return uuids

    async def _query_main_units(self, urns: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        units = await asyncio.gather(*map(self._main_units_of, urns))
        return dict(zip(urns, units, strict=True))

    async def _main_units_of(self, urn: str) -> tuple[str, ...]:
        reply = await self._service.post({"Data": urn}, _MAIN_UNITS)
        if reply.status == _MALFORMED:
            return ()
        units = (unit for unit in self._data(reply)[:_MOST_UNITS] if isinstance(unit, dict))
        return tuple(subject for unit in units for subject in _subjects_of(unit) if len(subject) <= _LONGEST_SUBJECT)

    def _uuid(self, value: object) -> str:
        if not isinstance(value, str) or not _UUID.fullmatch(value):
            raise self._service.down("no partyUuid")
        return value

    def _data(self, reply: Reply) -> list[object]:
        data = self._document(reply).get("data")
        if not isinstance(data, list):
            raise self._service.down("no data")
        return data

    def _document(self, reply: Reply) -> dict[str, object]:
        if reply.status in (401, 403):
            raise self._service.down(f"status {reply.status}, is EVENTS_PLATFORM_CERTIFICATE right?")
        if reply.status not in (200, 206):
            raise self._service.down(f"status {reply.status}")
        try:
            document = orjson.loads(reply.body)
        except ValueError:
            raise self._service.down("no JSON") from None
        if not isinstance(document, dict):
            raise self._service.down("no JSON object")
        return document


def _is_party_id(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _subjects_of(unit: Mapping[str, object]) -> list[str]:
    """The subjects that name a main unit, as far as Register's entry tells."""
    party, number, urn = unit.get("partyId"), unit.get("organizationIdentifier"), unit.get("externalUrn")
    subjects = subjects_of_organisation(party, number) if _is_party_id(party) and isinstance(number, str) else []
    return [*subjects, *([urn] if isinstance(urn, str) and urn not in subjects else [])]
