"""The ports of access: the decision point, Register and the token verifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from events_core.access.identity import Caller
from events_core.access.xacml_request import Decision, Question
from events_core.common.errors import EventsError, Problem
from events_core.common.halves import Requests
from events_core.common.ports import Pingable


class UndecidedError(EventsError):
    """The decision point answers, but could not decide one of the questions, and so decided none."""

    def __init__(self) -> None:
        detail = "The policy decision point could not decide. One reason is a resource that has no policy there."
        super().__init__(Problem.UNAVAILABLE, detail, (), {"Retry-After": "5"})


class DecisionPoint(Pingable, Protocol):
    """A XACML policy decision point."""

    async def decide(self, questions: Sequence[Question]) -> list[Decision]:
        """Decide distinct questions in one request. The decisions come in the order of the questions.

        Raises:
            UndecidedError: It could not decide one of the questions.
            EventsError: UNAVAILABLE if the decision point is unreachable or slow, or its response is unreadable.
        """


class PartyRegister(Pingable, Protocol):
    """Register, which knows the parties behind numbers. Adapters log neither numbers nor responses.

    Every method raises EventsError UNAVAILABLE if Register does not answer.
    """

    async def party_of_unit(self, organisation_number: str, caller: Caller) -> int | None:
        """The party id of an organisation, None if Register does not know it."""

    async def party_of_person(self, person_number: str, caller: Caller) -> int | None:
        """The party id of a person, None if Register does not know the person."""

    async def party_uuids(self, person_numbers: Sequence[str], requests: Requests) -> Mapping[str, str | None]:
        """The party UUID of each person, None for a person whom Register does not know.

        The first persons are asked about first. Persons who were not reached before `requests` ran out are left out.
        """

    async def main_units(self, subject: str) -> Sequence[str]:
        """The main units of the organisation that an event's subject names, each in every form that a subject can have.

        The forms are `/party/{id}`, `/organisation/{number}` and `urn:altinn:organization:identifier-no:{number}`.
        The result is empty if the subject has another form or the organisation is not a sub-unit.
        """


class TokenVerifier(Pingable, Protocol):
    """Verifies the signatures and times of tokens of the configured issuers (docs/consumers.md, "Tokens").

    Every method raises EventsError: UNAUTHORIZED if the token is not trusted, UNAVAILABLE if its issuer's keys cannot
    be fetched.
    """

    async def claims(self, token: str) -> Mapping[str, object]:
        """The claims of a bearer token."""

    async def platform_claims(self, token: str) -> Mapping[str, object]:
        """The claims of a PlatformAccessToken. The `iss` of the token names its key set."""
