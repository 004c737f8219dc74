"""Use case: which events may a caller read, subscribe to or publish (docs/architecture.md, "Deciding")."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from events_core.access.identity import Caller
from events_core.access.names import Resource, Subject
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
from events_core.common.single_flight import SingleFlightCache

DECISION_SECONDS = 120
"""How long a decision is kept; the contract allows one to five minutes."""
DECISIONS_KEPT = 100_000


@dataclass(frozen=True, slots=True)
class Asked:
    """May this caller do this on this event?"""

    caller: Caller
    action: str
    event: EventLike


class Authorization:
    """Asks the decision point as seldom as the contract allows, and Register who a person is.

    A decision is kept for `ttl_seconds` under a digest of the whole question, however large that is; the most recently
    used `size` are kept.
    """

    def __init__(
        self,
        decision_point: DecisionPoint,
        register: PartyRegister,
        *,
        clock: Callable[[], float] = time.monotonic,
        ttl_seconds: float = DECISION_SECONDS,
        size: int = DECISIONS_KEPT,
    ) -> None:
        self._decision_point = decision_point
        self._register = register
        self._decisions: SingleFlightCache[Question, Decision] = SingleFlightCache(
            clock=clock, ttl_seconds=ttl_seconds, size=size, key=lambda question: question.digest
        )

    async def permitted(self, caller: Caller, action: str, events: Sequence[EventLike]) -> list[bool]:
        """Whether the caller may do `action` on each event, in their order; one decision request at most.

        An event about a person whom Register does not know is denied.

        Raises:
            EventsError: UNAVAILABLE when the decision point or Register does not answer.
        """
        resources = await self._resources_of(events)
        subject = subject_of(caller)
        questions: dict[Attributes, Question] = {}
        for event, resource in zip(events, resources, strict=True):
            if resource is not None and resource not in questions:
                questions[resource] = Question(subject, action, resource, event.id)
        decisions = await self._decisions.get(questions.values(), self._ask)
        allowed = {resource: allows(decisions[question], caller) for resource, question in questions.items()}
        return [resource is not None and allowed[resource] for resource in resources]

    async def permitted_each(self, asked: Sequence[Asked]) -> list[bool]:
        """Whether each of many callers may do what is asked of each, in their order; one decision request at most.

        Raises:
            EventsError: UNAVAILABLE when the decision point or Register does not answer.
        """
        resources = await self._resources_of([each.event for each in asked])
        questions = [
            None if resource is None else Question(subject_of(each.caller), each.action, resource, each.event.id)
            for each, resource in zip(asked, resources, strict=True)
        ]
        distinct = list(dict.fromkeys(question for question in questions if question is not None))
        decisions = dict(zip(distinct, await self.decide(distinct), strict=True))
        return [
            question is not None and allows(decisions[question], each.caller)
            for each, question in zip(asked, questions, strict=True)
        ]

    async def may_subscribe(self, caller: Caller, resource: str, subject: str | None) -> bool:
        """Whether the caller may subscribe to events of a resource, all of them or those about a subject.

        Raises:
            EventsError: UNAVAILABLE when the decision point or Register does not answer.
        """
        person = _person_number(subject)
        if person is not None:
            uuids = await self._register.party_uuids([person]) if _is_person_number(person) else {}
            if person not in uuids:
                return False
            subject = PARTY_UUID_PREFIX + uuids[person]
        attributes = resource_of_subscription(resource, subject)
        question = Question(subject_of(caller), Resource.parse(resource).action, attributes)
        return allows((await self.decide([question]))[0], caller)

    async def decide(self, questions: Sequence[Question]) -> list[Decision]:
        """The decision on each question, also of many subjects, in their order; one decision request at most.

        Obligations are for the asker to hold against each subject's level.

        Raises:
            EventsError: UNAVAILABLE when the decision point does not answer.
        """
        decisions = await self._decisions.get(questions, self._ask)
        return [decisions[question] for question in questions]

    async def unknown_persons(self, events: Sequence[EventLike]) -> list[int]:
        """The indexes of the events about persons whom Register does not know.

        Raises:
            EventsError: UNAVAILABLE when Register does not answer.
        """
        return [index for index, resource in enumerate(await self._resources_of(events)) if resource is None]

    async def _ask(self, questions: Sequence[Question]) -> Mapping[Question, Decision]:
        return dict(zip(questions, await self._decision_point.decide(questions), strict=True))

    async def _resources_of(self, events: Sequence[EventLike]) -> list[Attributes | None]:
        """The resource attributes of each event; None when it is about an unknown person."""
        persons = [_person_number(event.subject) for event in events]
        if not any(person is not None for person in persons):
            return [resource_of(event) for event in events]
        uuids = await self._register.party_uuids([p for p in dict.fromkeys(persons) if p and _is_person_number(p)])
        return [_resource_of(event, person, uuids) for event, person in zip(events, persons, strict=True)]


def _resource_of(event: EventLike, person: str | None, uuids: Mapping[str, str]) -> Attributes | None:
    if person is None:
        return resource_of(event)
    uuid = uuids.get(person)
    return None if uuid is None else resource_of(event, PARTY_UUID_PREFIX + uuid)


def _person_number(subject: str | None) -> str | None:
    return None if subject is None else Subject.parse(subject).person_number


def _is_person_number(text: str) -> bool:
    return len(text) == 11 and text.isascii() and text.isdecimal()
