"""The development decision point: rules in a JSON file (docs/policy.md). A deployment never uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from typing_extensions import override

from events_core.access.ports import DecisionPoint
from events_core.access.xacml_request import DENY, Attributes, Decision, Question
from events_core.adapters.development.files import read_document

Level = Annotated[int, Field(ge=0, le=4)]
Values = Mapping[str, Sequence[str]]


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


class LocalPolicy(DecisionPoint):
    """Decides by the rules of a policy file, which is read once.

    Raises:
        LocalFileError: The file cannot be read, or a rule is wrong.
    """

    def __init__(self, path: Path) -> None:
        self._policy = read_document(path, Policy)

    @override
    async def decide(self, questions: Sequence[Question]) -> list[Decision]:
        return [self._decide(question) for question in questions]

    @override
    async def ping(self) -> None:
        pass  # the rules are in memory

    def _decide(self, question: Question) -> Decision:
        subject, resource = _by_name(question.subject), _by_name(question.resource)
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


def _by_name(attributes: Attributes) -> Values:
    values: dict[str, list[str]] = {}
    for name, value in attributes:
        values.setdefault(name, []).append(value)
    return values


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
