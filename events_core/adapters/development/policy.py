"""The development decision point: rules in a JSON file (docs/policy.md). A deployment never uses it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from typing_extensions import override

from events_core.access.names import (
    OLDER_ORGANISATION_NUMBER,
    ORGANISATION_NUMBER,
    PARTY_ID,
    PARTY_UUID,
    PERSON_UUID,
    SYSTEM_USER_ID,
    USER_ID,
)
from events_core.access.ports import DecisionPoint, UndecidedError
from events_core.access.xacml_request import DENY, Attributes, Decision, Question
from events_core.adapters.development.files import read_document
from events_core.adapters.development.register import RegisterFile

Level = Annotated[int, Field(ge=0, le=4)]
Values = Mapping[str, Sequence[str]]

_DIGITS = re.compile("[0-9]{1,10}")
_LARGEST_USER_ID = 2**31 - 1


class _StrictModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, strict=True)


class SameAs(_StrictModel):
    """Requires the value of the subject's attribute with this name."""

    same_as: str = Field(min_length=1)


Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1)]
SubjectConditions = Annotated[dict[str, Text | Texts | None], Field(min_length=1)]
ResourceConditions = Annotated[dict[str, Text | Texts | SameAs | None], Field(min_length=1)]


class Rule(_StrictModel):
    """Permits the actions `may` to subjects that match `who` on resources that match `on`."""

    description: str = ""
    who: SubjectConditions
    may: Annotated[list[Literal["read", "subscribe", "publish"]], Field(min_length=1)]
    on: ResourceConditions


class Obligation(_StrictModel):
    """Requires an authentication level for every permit on resources that match `on`."""

    description: str = ""
    on: ResourceConditions
    minimum_level: Level
    minimum_level_org: Level | None = None


class Policy(_StrictModel):
    """A policy file; a question that no rule permits is denied."""

    rules: list[Rule]
    obligations: list[Obligation] = []


def refuses(question: Question) -> bool:
    """Whether Altinn's decision point cannot take a question. It then decides no question of the same request.

    It takes a system user's id only without any other attribute of the subject, and user ids of 32 bits.
    """
    users = [value for name, value in question.subject if name == USER_ID]
    is_crowded = len(question.subject) > 1 and any(name == SYSTEM_USER_ID for name, _ in question.subject)
    return is_crowded or any(not _DIGITS.fullmatch(value) or int(value) > _LARGEST_USER_ID for value in users)


class LocalPolicy(DecisionPoint):
    """Decides by the rules of a policy file, which is read once.

    As Altinn's decision point does, it adds the parties of organisations and persons to a question, and the parties
    that a user represents. It finds them in the register file.

    Raises:
        LocalFileError: The file cannot be read, or a rule is wrong.
    """

    def __init__(self, path: Path, register: RegisterFile | None = None) -> None:
        self._policy = read_document(path, Policy)
        self._parties = _parties_of(register or RegisterFile(parties=[]))

    @override
    async def decide(self, questions: Sequence[Question]) -> list[Decision]:
        if any(map(refuses, questions)):
            raise UndecidedError
        return [self._decide(question) for question in questions]

    @override
    async def ping(self) -> None:
        pass  # the rules are in memory

    def _decide(self, question: Question) -> Decision:
        subject, resource = self._with_parties(question.subject), self._with_parties(question.resource, users=False)
        if not any(
            question.action in rule.may and _match(rule.who, subject, subject) and _match(rule.on, resource, subject)
            for rule in self._policy.rules
        ):
            return DENY
        obligations = [duty for duty in self._policy.obligations if _match(duty.on, resource, subject)]
        org_levels = [duty.minimum_level_org for duty in obligations if duty.minimum_level_org is not None]
        return Decision(
            permit=True,
            level=max((duty.minimum_level for duty in obligations), default=None),
            level_org=max(org_levels, default=None),
        )

    def _with_parties(self, attributes: Attributes, *, users: bool = True) -> Values:
        """The values of each attribute. An event about a user is not about the parties that the user represents."""
        values: dict[str, list[str]] = {}
        for name, value in attributes:
            values.setdefault(name, []).append(value)
            if users or name != USER_ID:
                values.setdefault(PARTY_ID, []).extend(self._parties.get((name, value), ()))
        return values


def _parties_of(register: RegisterFile) -> Mapping[tuple[str, str], Sequence[str]]:
    """The party ids of each attribute that names a user, an organisation or a person."""
    parties = {(USER_ID, user): [str(party) for party in ids] for user, ids in register.represents.items()}
    for party in register.parties:
        identifiers = [(PARTY_UUID, str(party.party_uuid))]
        if party.organization_identifier:
            names = (ORGANISATION_NUMBER, OLDER_ORGANISATION_NUMBER)
            identifiers += [(name, party.organization_identifier) for name in names]
        else:
            identifiers.append((PERSON_UUID, str(party.party_uuid)))
        parties |= {identifier: [str(party.party_id)] for identifier in identifiers}
    return parties


def _match(conditions: Mapping[str, str | list[str] | SameAs | None], values: Values, subject: Values) -> bool:
    return all(_holds(condition, values.get(name, ()), subject) for name, condition in conditions.items())


def _holds(condition: str | list[str] | SameAs | None, values: Sequence[str], subject: Values) -> bool:
    """Whether one of the values satisfies the condition; None requires that the attribute is absent."""
    if condition is None:
        return not values
    if isinstance(condition, SameAs):
        return not set(values).isdisjoint(subject.get(condition.same_as, ()))
    patterns = [condition] if isinstance(condition, str) else condition
    return any(_like(value, pattern) for value in values for pattern in patterns)


def _like(value: str, pattern: str) -> bool:
    """Whether a value equals the pattern, or begins with the text before the pattern's final `*`."""
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern
