"""Use case: decide which events a caller may read, subscribe to or publish (docs/architecture.md, "Deciding")."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import repeat

from events_core.access.identity import Caller
from events_core.access.names import Resource, Subject, is_person_number
from events_core.access.ports import DecisionPoint, PartyRegister
from events_core.access.xacml_request import (
    PARTY_UUID_PREFIX,
    Attributes,
    Decision,
    EventLike,
    Question,
    allows,
    resource_of,
    resource_of_subscription,
    subject_of,
)
from events_core.common.halves import Requests
from events_core.common.single_flight import SingleFlightCache

DECISION_SECONDS = 120
"""How long a process keeps a decision. The contract allows one to five minutes."""
DECISIONS_KEPT = 100_000


class Verdict(Enum):
    """What came of the question whether a caller may do an action on an event."""

    PERMITTED = "permitted"
    DENIED = "denied"
    UNDECIDABLE = "undecidable"
    """The decision point answers the caller's other questions, but not this one. It counts as denied."""
    UNDECIDED = "undecided"
    """No answer for now. Ask again later."""


@dataclass(frozen=True, slots=True)
class RequestBudget:
    """The requests that one page, publish or round of deliveries may send."""

    decision_point: Requests = field(default_factory=lambda: Requests(64))
    register: Requests = field(default_factory=lambda: Requests(32))


@dataclass(frozen=True, slots=True)
class Asked:
    """The question whether a caller may do an action on an event."""

    caller: Caller
    action: str
    event: EventLike


def decision_cache(
    *, clock: Callable[[], float] = time.monotonic, size: int = DECISIONS_KEPT
) -> SingleFlightCache[Question, Decision]:
    """A cache of the `size` most recently used decisions, each under a digest of its question."""
    return SingleFlightCache(clock=clock, ttl_seconds=DECISION_SECONDS, size=size, key=lambda question: question.digest)


@dataclass(frozen=True, slots=True)
class Authorization:
    """Asks the decision point as seldom as the contract allows, and asks Register for the UUIDs of persons.

    Every method raises EventsError UNAVAILABLE if the decision point or Register does not answer.
    """

    decision_point: DecisionPoint
    register: PartyRegister
    decisions: SingleFlightCache[Question, Decision] = field(default_factory=decision_cache)

    async def permitted(self, caller: Caller, action: str, events: Sequence[EventLike]) -> list[bool]:
        """Whether the caller may do `action` on each event, in the order of the events.

        Sends at most one decision request. An event about a person whom Register does not know is denied.
        """
        return await self._permitted(repeat((caller, action), len(events)), events)

    async def permitted_each(self, asked: Sequence[Asked]) -> list[bool]:
        """Whether each caller may do each action on each event, in the given order; see `permitted`."""
        return await self._permitted([(one.caller, one.action) for one in asked], [one.event for one in asked])

    async def verdicts_each(self, asked: Sequence[Asked], budget: RequestBudget, *, anew: bool = False) -> list[Verdict]:
        """The verdict on each question, in the given order. `anew` asks again what is remembered as undecidable."""
        del budget, anew
        return [Verdict.PERMITTED if permit else Verdict.DENIED for permit in await self.permitted_each(asked)]

    async def _permitted(self, askers: Iterable[tuple[Caller, str]], events: Sequence[EventLike]) -> list[bool]:
        resources = await self._resources_of(events)
        rows = [(caller, action, resource) for (caller, action), resource in zip(askers, resources, strict=True)]
        questions: dict[tuple[Caller, str, Attributes | None], Question] = {}
        for row, event in zip(rows, events, strict=True):
            caller, action, resource = row
            if resource is not None and row not in questions:
                questions[row] = Question(subject_of(caller), action, resource, event.id)
        decisions = await self.decisions.get(questions.values(), self._ask)
        allowed = {row: allows(decisions[question], row[0]) for row, question in questions.items()}
        return [allowed.get(row, False) for row in rows]

    async def may_subscribe(self, caller: Caller, resource: str, subject: str | None) -> bool:
        """Whether the caller may subscribe to the events of a resource, or to those about one subject."""
        person = _person_number(subject)
        if person is not None:
            uuids = await self._uuids_of([person])
            if person not in uuids:
                return False
            subject = PARTY_UUID_PREFIX + uuids[person]
        attributes = resource_of_subscription(resource, subject)
        question = Question(subject_of(caller), Resource.parse(resource).action, attributes)
        return allows((await self.decide([question]))[0], caller)

    async def decide(self, questions: Sequence[Question]) -> list[Decision]:
        """The decision on each question, in the order of the questions, with at most one decision request.

        The obligations of a decision are still to be compared with the caller's level (`allows`).
        """
        decisions = await self.decisions.get(questions, self._ask)
        return [decisions[question] for question in questions]

    async def unknown_persons(self, events: Sequence[EventLike]) -> list[int]:
        """The indexes of the events about persons whom Register does not know."""
        return [index for index, resource in enumerate(await self._resources_of(events)) if resource is None]

    async def _ask(self, questions: Sequence[Question]) -> Mapping[Question, Decision]:
        return dict(zip(questions, await self.decision_point.decide(questions), strict=True))

    async def _resources_of(self, events: Sequence[EventLike]) -> list[Attributes | None]:
        """The resource attributes of each event, None for an event about an unknown person."""
        persons = {subject: _person_number(subject) for subject in dict.fromkeys(event.subject for event in events)}
        numbers = [number for number in persons.values() if number is not None]
        if not numbers:
            return [resource_of(event) for event in events]
        uuids = await self._uuids_of(numbers)
        return [_resource_of(event, persons[event.subject], uuids) for event in events]

    async def _uuids_of(self, persons: Sequence[str]) -> Mapping[str, str]:
        """The party UUIDs of the persons whom Register knows. Malformed numbers are not sent to Register."""
        numbers = [person for person in dict.fromkeys(persons) if is_person_number(person)]
        found = await self.register.party_uuids(numbers, Requests(32)) if numbers else {}
        return {number: uuid for number, uuid in found.items() if uuid is not None}


def _resource_of(event: EventLike, person: str | None, uuids: Mapping[str, str]) -> Attributes | None:
    if person is None:
        return resource_of(event)
    uuid = uuids.get(person)
    return None if uuid is None else resource_of(event, PARTY_UUID_PREFIX + uuid)


def _person_number(subject: str | None) -> str | None:
    return None if subject is None else Subject.parse(subject).person_number
