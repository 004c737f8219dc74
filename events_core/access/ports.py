"""The ports of access: policy decision point, Register and token verifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from events_core.access.identity import Caller
from events_core.access.xacml_request import Decision, Question
from events_core.common.ports import Pingable


class DecisionPoint(Pingable, Protocol):
    """A XACML policy decision point."""

    async def decide(self, questions: Sequence[Question]) -> list[Decision]:
        """Answer distinct questions, in their order, in one request.

        A question that the answer leaves out, or answers other than Permit, is denied.

        Raises:
            EventsError: UNAVAILABLE when it is unreachable, slow or answers nonsense.
        """


class PartyRegister(Pingable, Protocol):
    """Register: who is behind a number. No answer and no number is ever logged."""

    async def party_of_unit(self, organisation_number: str, caller: Caller) -> int | None:
        """The party id of an organisation, None when unknown.

        Raises:
            EventsError: UNAVAILABLE when Register does not answer.
        """

    async def party_of_person(self, person_number: str, caller: Caller) -> int | None:
        """The party id of a person, None when unknown.

        Raises:
            EventsError: UNAVAILABLE when Register does not answer.
        """

    async def party_uuids(self, person_numbers: Sequence[str]) -> Mapping[str, str]:
        """The party uuid of each person number that Register knows; asked 100 at a time.

        Raises:
            EventsError: UNAVAILABLE when Register does not answer.
        """

    async def main_units(self, subject: str) -> Sequence[str]:
        """The main units of the organisation that an event's subject names, under every name that subjects have.

        That is `/party/{id}`, `/organisation/{number}` and `urn:altinn:organization:identifier-no:{number}`; nothing
        for a subject of any other shape, and for an organisation that is no sub-unit.

        Raises:
            EventsError: UNAVAILABLE when Register does not answer.
        """


class TokenVerifier(Pingable, Protocol):
    """Verifies signatures and times of tokens against the configured issuers (docs/consumers.md, "Tokens")."""

    async def claims(self, token: str) -> Mapping[str, object]:
        """The claims of a bearer token.

        Raises:
            EventsError: UNAUTHORIZED when it is not trusted, UNAVAILABLE when its issuer's keys cannot be had.
        """

    async def platform_claims(self, token: str) -> Mapping[str, object]:
        """The claims of a PlatformAccessToken, whose `iss` names its key set.

        Raises:
            EventsError: UNAUTHORIZED when it is not trusted, UNAVAILABLE when its issuer's keys cannot be had.
        """
