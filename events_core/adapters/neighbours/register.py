"""Register over HTTP: which party a number belongs to. Numbers and answers are never logged."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence

import orjson

from events_core.access.identity import Caller
from events_core.access.names import PERSON_NUMBER, Subject, subjects_of_organisation
from events_core.adapters.neighbours.http_client import JsonService, Reply
from events_core.common.single_flight import SingleFlightCache

ANSWER_SECONDS = 120
ANSWERS_KEPT = 50_000
PERSONS_A_REQUEST = 100

_LOOKUP = "/v1/parties/lookup"
_QUERY = "/v2/internal/parties/query?fields=identifiers"
_MAIN_UNITS = "/v2/internal/parties/main-units"


class RegisterClient:
    """Asks Register; answers, unknown numbers among them, are kept for `ttl_seconds`, and failures never.

    A lookup carries the caller's own bearer, and its answer is kept for that bearer alone; a query carries the
    service's.
    """

    def __init__(
        self,
        service: JsonService,
        *,
        clock: Callable[[], float] = time.monotonic,
        ttl_seconds: float = ANSWER_SECONDS,
        size: int = ANSWERS_KEPT,
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

    async def party_of_unit(self, organisation_number: str, caller: Caller) -> int | None:
        """The party id of an organisation, None when unknown.

        Raises:
            EventsError: UNAVAILABLE when Register does not answer.
        """
        return await self._party_of("OrgNo", organisation_number, caller)

    async def party_of_person(self, person_number: str, caller: Caller) -> int | None:
        """The party id of a person, None when unknown.

        Raises:
            EventsError: UNAVAILABLE when Register does not answer.
        """
        return await self._party_of("Ssn", person_number, caller)

    async def party_uuids(self, person_numbers: Sequence[str]) -> Mapping[str, str]:
        """The party uuid of each person number that Register knows; asked 100 at a time.

        Raises:
            EventsError: UNAVAILABLE when Register does not answer.
        """
        uuids = await self._uuids.get(person_numbers, self._query_all)
        return {number: uuid for number, uuid in uuids.items() if uuid is not None}

    async def main_units(self, subject: str) -> Sequence[str]:
        """The main units of the organisation that a subject names, under every name that subjects have.

        Raises:
            EventsError: UNAVAILABLE when Register does not answer.
        """
        urn = Subject.parse(subject).register_urn
        return () if urn is None else (await self._main_units.get([urn], self._ask_main_units))[urn]

    async def ping(self) -> None:
        """Return when Register answers at all, with a status below 500.

        Raises:
            EventsError: UNAVAILABLE when it does not.
        """
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
        parts = [numbers[at : at + PERSONS_A_REQUEST] for at in range(0, len(numbers), PERSONS_A_REQUEST)]
        known: dict[str, str] = {}
        for part in await asyncio.gather(*map(self._query, parts)):
            known |= part
        return {number: known.get(number) for number in numbers}

    async def _query(self, numbers: Sequence[str]) -> dict[str, str]:
        reply = await self._service.post({"Data": [f"{PERSON_NUMBER}:{number}" for number in numbers]}, _QUERY)
        parties = self._document(reply).get("data")
        if not isinstance(parties, list):
            raise self._service.down("no data")
        return {
            party["personIdentifier"]: party["partyUuid"]
            for party in parties
            if isinstance(party, dict)
            and isinstance(party.get("personIdentifier"), str)
            and isinstance(party.get("partyUuid"), str)
        }

    async def _ask_main_units(self, urns: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        answers = await asyncio.gather(*map(self._main_units_of, urns))
        return dict(zip(urns, answers, strict=True))

    async def _main_units_of(self, urn: str) -> tuple[str, ...]:
        reply = await self._service.post({"Data": urn}, _MAIN_UNITS)
        if reply.status == 404:
            return ()
        units = self._document(reply).get("data")
        if not isinstance(units, list):
            raise self._service.down("no data")
        return tuple(name for unit in units if isinstance(unit, dict) for name in _names_of(unit))

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


def _names_of(unit: Mapping[str, object]) -> list[str]:
    """The subjects that a main unit can be, as far as the answer says."""
    party, number, urn = unit.get("partyId"), unit.get("organizationIdentifier"), unit.get("externalUrn")
    names = subjects_of_organisation(party, number) if isinstance(party, int) and isinstance(number, str) else []
    return [*names, *([urn] if isinstance(urn, str) and urn not in names else [])]
