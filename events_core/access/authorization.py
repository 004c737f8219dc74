"""Use case: decide which events a caller may read, subscribe to or publish (docs/architecture.md, "Deciding")."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import repeat

from events_core.access.decisions import Ahead, DecisionBudget, Decisions
from events_core.access.identity import Caller
from events_core.access.names import Resource, Subject, is_person_number
from events_core.access.ports import PartyRegister, UndecidedError
from events_core.access.xacml_request import (
    PARTY_UUID_PREFIX,
    Attributes,
    Decision,
    EventLike,
    Question,
    allows,
    question_about,
    resource_of,
    resource_of_subscription,
    subject_of,
)
from events_core.common.errors import unavailable
from events_core.common.halves import Requests
from events_core.common.slices import in_slices

EventsAhead = Callable[[], Awaitable[Sequence[EventLike]]]
"""Reads events beyond those that are asked about. They help to find a question that the decision point answers."""


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

    decision_point: DecisionBudget = field(default_factory=DecisionBudget)
    register: Requests = field(default_factory=lambda: Requests(32))

    @property
    def is_spent(self) -> bool:
        """Whether no question may be asked any more."""
        return self.decision_point.questions <= 0

    def for_another_page(self) -> RequestBudget:
        """The budget of a further page for the same request of a caller: as many requests, but no more questions."""
        return RequestBudget(DecisionBudget(questions=self.decision_point.questions))


@dataclass(frozen=True, slots=True)
class Asked:
    """The question whether a caller may do an action on an event."""

    caller: Caller
    action: str
    event: EventLike


@dataclass(frozen=True, slots=True)
class Authorization:
    """Asks the decision point, and asks Register for the UUIDs of persons.

    Every method raises EventsError UNAVAILABLE if the decision point or Register does not answer.
    """

    decisions: Decisions
    register: PartyRegister

    async def verdicts(
        self,
        caller: Caller,
        action: str,
        events: Sequence[EventLike],
        budget: RequestBudget,
        ahead: EventsAhead | None = None,
    ) -> list[Verdict]:
        """The verdict on whether the caller may do `action` on each event, in the order of the events.

        Sends one decision request, and more of `budget` only if the decision point refuses that one. An event about a
        person whom Register does not know is denied.
        """
        more = _questions_ahead(caller, action, ahead) if ahead else None
        return await self._verdicts(repeat((caller, action), len(events)), events, budget, more)

    async def verdicts_each(
        self, asked: Sequence[Asked], budget: RequestBudget, *, anew: bool = False, ahead: EventsAhead | None = None
    ) -> list[Verdict]:
        """The verdict on each question, in the given order; see `verdicts`.

        `anew` asks again what is remembered as undecidable. `ahead` is for questions of one caller and action.
        """
        askers = [(one.caller, one.action) for one in asked]
        more = _questions_ahead(*askers[0], ahead) if ahead and askers else None
        return await self._verdicts(askers, [one.event for one in asked], budget, more, anew=anew)

    async def _verdicts(
        self,
        askers: Iterable[tuple[Caller, str]],
        events: Sequence[EventLike],
        budget: RequestBudget,
        ahead: Ahead | None = None,
        *,
        anew: bool = False,
    ) -> list[Verdict]:
        uuids = await self._uuids_of([event.subject for event in events], budget)
        resources = [_resource_of(event, uuids) async for event in in_slices(events)]
        rows = [(caller, action, resource) for (caller, action), resource in zip(askers, resources, strict=True)]
        questions: dict[tuple[Caller, str, Attributes | Verdict], Question] = {}
        async for row, event in in_slices(zip(rows, events, strict=True)):
            caller, action, resource = row
            if not isinstance(resource, Verdict) and row not in questions:
                questions[row] = question_about(event, caller, action, resource)
        if anew:
            self.decisions.forget_undecidable(list(questions.values()))
        remembered = set(filter(self.decisions.is_undecidable, questions.values()))  # until the others are decided
        found = await self.decisions.get(list(questions.values()), budget.decision_point, ahead=ahead)
        known = {
            row: Verdict.UNDECIDABLE if question in remembered else self._verdict(question, row[0], found)
            for row, question in questions.items()
        }
        return [row[2] if isinstance(row[2], Verdict) else known[row] for row in rows]

    def _verdict(self, question: Question, caller: Caller, found: Mapping[Question, Decision]) -> Verdict:
        decision = found.get(question)
        if decision is not None:
            return Verdict.PERMITTED if allows(decision, caller) else Verdict.DENIED
        return Verdict.UNDECIDABLE if self.decisions.is_undecidable(question) else Verdict.UNDECIDED

    async def may_subscribe(self, caller: Caller, resource: str, subject: str | None) -> bool:
        """Whether the caller may subscribe to the events of a resource, or to those about one subject.

        Raises:
            UndecidedError: The decision point cannot decide it, and shows no sign that it decides anything.
        """
        budget = RequestBudget()
        person = _person_number(subject)
        if person is not None:
            uuids = await self._uuids_of([subject], budget)
            if person not in uuids:
                raise UndecidedError
            if (uuid := uuids[person]) is None:
                return False
            subject = PARTY_UUID_PREFIX + uuid
        named = Resource.parse(resource)
        attributes = resource_of_subscription(resource, subject)
        question = Question(subject_of(caller), named.action, attributes, resource_urn=named.urn)
        found = await self.decisions.get([question], budget.decision_point)
        verdict = self._verdict(question, caller, found)
        if verdict is Verdict.UNDECIDED:
            raise UndecidedError
        return verdict is Verdict.PERMITTED

    async def unknown_persons(self, events: Sequence[EventLike], budget: RequestBudget) -> list[int]:
        """The indexes of the events about persons whom Register does not know."""
        uuids = await self._uuids_of([event.subject for event in events], budget)
        resources = [_resource_of(event, uuids) async for event in in_slices(events)]
        if Verdict.UNDECIDED in resources:
            raise unavailable("Register refuses too many of the persons to find out about the others.")
        return [index for index, resource in enumerate(resources) if resource is Verdict.DENIED]

    async def _uuids_of(self, subjects: Sequence[str | None], budget: RequestBudget) -> Mapping[str, str | None]:
        """The party UUID of each person among the subjects, None for a person whom Register does not know.

        A person is left out if the budget is spent. Malformed numbers are not sent to Register.
        """
        persons = [person for subject in dict.fromkeys(subjects) if (person := _person_number(subject)) is not None]
        if not persons:
            return {}
        numbers = [person for person in persons if is_person_number(person)]
        malformed = dict.fromkeys(person for person in persons if not is_person_number(person))
        return malformed | dict(await self.register.party_uuids(numbers, budget.register))


def _questions_ahead(caller: Caller, action: str, ahead: EventsAhead) -> Ahead:
    """The questions about events ahead. Events about persons are left out, so that Register is not asked."""

    async def questions() -> list[Question]:
        events = [event for event in await ahead() if _person_number(event.subject) is None]
        return [question_about(event, caller, action, resource_of(event)) async for event in in_slices(events)]

    return questions


def _resource_of(event: EventLike, uuids: Mapping[str, str | None]) -> Attributes | Verdict:
    """The resource attributes of an event, or the verdict on an event about a person without a UUID."""
    person = _person_number(event.subject)
    if person is None:
        return resource_of(event)
    if person not in uuids:
        return Verdict.UNDECIDED
    uuid = uuids[person]
    return Verdict.DENIED if uuid is None else resource_of(event, PARTY_UUID_PREFIX + uuid)


def _person_number(subject: str | None) -> str | None:
    return None if subject is None else Subject.parse(subject).person_number
