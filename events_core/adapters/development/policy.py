"""The decision point of development: rules in a JSON file (docs/policy.md). Never used when deployed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from events_core.access.xacml_request import DENY, Attributes, Decision, Question
from events_core.adapters.development.files import read_document

Level = Annotated[int, Field(ge=0, le=4)]
Values = Mapping[str, Sequence[str]]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, strict=True)


class SameAs(_Part):
    """A value that equals the subject's attribute of the given name."""

    same_as: str = Field(min_length=1)


Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1)]
Who = Annotated[dict[str, Text | Texts | None], Field(min_length=1)]
On = Annotated[dict[str, Text | Texts | SameAs | None], Field(min_length=1)]


class Rule(_Part):
    """Permits the actions `may` to subjects that match `who` on resources that match `on`."""

    description: str = ""
    who: Who
    may: Annotated[list[Literal["read", "subscribe", "publish"]], Field(min_length=1)]
    on: On


class Obligation(_Part):
    """Asks for an authentication level wherever something is permitted on resources that match `on`."""

    description: str = ""
    on: On
    minimum_level: Level
    minimum_level_org: Level | None = None


class Policy(_Part):
    """A policy file: what no rule permits is denied."""

    rules: list[Rule]
    obligations: list[Obligation] = []


class LocalPolicy:
    """Decides by the rules of a policy file, read once.

    Raises:
        LocalFileError: the file cannot be read, or a rule of it is wrong.
    """

    def __init__(self, path: Path) -> None:
        self._policy = read_document(path, Policy)

    async def decide(self, questions: Sequence[Question]) -> list[Decision]:
        """Answer distinct questions, in their order."""
        return [self._decide(question) for question in questions]

    async def ping(self) -> None:
        """Return: the rules are in memory."""

    def _decide(self, question: Question) -> Decision:
        subject, resource = _by_name(question.subject), _by_name(question.resource)
        if not any(
            question.action in rule.may and _match(rule.who, subject, subject) and _match(rule.on, resource, subject)
            for rule in self._policy.rules
        ):
            return DENY
        asked = [each for each in self._policy.obligations if _match(each.on, resource, subject)]
        return Decision(
            permit=True,
            level=max((each.minimum_level for each in asked), default=None),
            level_org=max(
                (each.minimum_level_org for each in asked if each.minimum_level_org is not None), default=None
            ),
        )


def _by_name(attributes: Attributes) -> Values:
    values: dict[str, list[str]] = {}
    for name, value in attributes:
        values.setdefault(name, []).append(value)
    return values


def _match(conditions: Mapping[str, str | list[str] | SameAs | None], values: Values, subject: Values) -> bool:
    return all(_holds(condition, values.get(name, ()), subject) for name, condition in conditions.items())


def _holds(condition: str | list[str] | SameAs | None, values: Sequence[str], subject: Values) -> bool:
    """Whether one of the values is what the condition wants; None wants the attribute to be absent."""
    if condition is None:
        return not values
    if isinstance(condition, SameAs):
        return not set(values).isdisjoint(subject.get(condition.same_as, ()))
    wanted = [condition] if isinstance(condition, str) else condition
    return any(_like(value, text) for value in values for text in wanted)


def _like(value: str, text: str) -> bool:
    """Whether a value equals `text`, or begins with what stands before a `*` at its end."""
    return value.startswith(text[:-1]) if text.endswith("*") else value == text
