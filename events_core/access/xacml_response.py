"""XACML 3.0 JSON responses as decisions. Results are matched by the attributes they return, not by their order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from events_core.access.xacml_request import ACTION_ID, DENY, EVENT_ID, Decision, Question, event_ids

_SUBJECT, _ACTION, _RESOURCE = "subject", "action", "resource"
_CATEGORIES = {
    "urn:oasis:names:tc:xacml:1.0:subject-category:access-subject": _SUBJECT,
    "urn:oasis:names:tc:xacml:3.0:attribute-category:action": _ACTION,
    "urn:oasis:names:tc:xacml:3.0:attribute-category:resource": _RESOURCE,
}
_LEVEL = "urn:altinn:minimum-authenticationlevel"
_LEVEL_ORG = "urn:altinn:minimum-authenticationlevel-org"
_DIGITS = re.compile(r"[0-9]{1,9}")


class _Returned(NamedTuple):
    """An attribute that a result returns."""

    category: str
    name: str
    value: str


def decisions_from(response: object, questions: Sequence[Question]) -> list[Decision]:
    """The decision on each of the distinct `questions`, in their order. Member names are read in any case.

    A result belongs to the only question whose attributes it returns. If no result returns attributes and there are
    as many results as questions, they are matched by position. A question is denied without a result, if its result
    is not Permit, if two results disagree, and if a level is unreadable.

    Raises:
        ValueError: The response is not a XACML response.
    """
    results = _results_of(response)
    returned = [_returned_by(result) for result in results]
    if not any(returned):
        by_position = len(results) == len(questions)
        return [_decision_of(result) for result in results] if by_position else [DENY] * len(questions)
    matcher = _Matcher(questions)
    found: list[set[Decision]] = [set() for _ in questions]
    for result, attributes in zip(results, returned, strict=True):
        index = matcher.question_of(attributes)
        if index is not None:
            found[index].add(_decision_of(result))
    return [decisions.pop() if len(decisions) == 1 else DENY for decisions in found]


class _Matcher:
    """Finds the question that a result belongs to, by the attributes that the result returns.

    Questions are identified by their index.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        self._count = len(questions)
        self._with_attribute: dict[_Returned, set[int]] = {}
        self._with_category: dict[frozenset[_Returned], set[int]] = {}
        chosen = event_ids(questions)
        for index, question in enumerate(questions):
            sent = _sent_with(question)
            for attributes in sent:
                self._with_category.setdefault(attributes, set()).add(index)
            for attribute in frozenset().union(*sent):
                self._with_attribute.setdefault(attribute, set()).add(index)
            if question.resource in chosen:
                event_id = _Returned(_RESOURCE, EVENT_ID, chosen[question.resource])
                self._with_attribute.setdefault(event_id, set()).add(index)
        self._names = {(category, name) for category, name, _ in self._with_attribute}

    def question_of(self, returned: frozenset[_Returned]) -> int | None:
        """The only question that was sent with all of these attributes. Attributes that no question has are ignored."""
        known = [attribute for attribute in returned if attribute[:2] in self._names]
        holders = sorted((self._with_attribute.get(attribute, set()) for attribute in known), key=len)
        found = set.intersection(*holders) if holders else set(range(self._count))
        if len(found) > 1:
            found = self._exact(found, known)
        return next(iter(found)) if len(found) == 1 else None

    def _exact(self, indexes: set[int], known: Sequence[_Returned]) -> set[int]:
        """The questions that hold nothing but the known attributes in the categories that were returned."""
        for category in (_SUBJECT, _ACTION, _RESOURCE):
            part = frozenset(
                attribute for attribute in known if attribute.category == category and attribute.name != EVENT_ID
            )
            if part:
                indexes = indexes & self._with_category.get(part, indexes)
        return indexes


def _sent_with(question: Question) -> tuple[frozenset[_Returned], ...]:
    return (
        frozenset(_Returned(_SUBJECT, name, value) for name, value in question.subject),
        frozenset([_Returned(_ACTION, ACTION_ID, question.action)]),
        frozenset(_Returned(_RESOURCE, name, value) for name, value in question.resource),
    )


def _member(node: object, name: str) -> object:
    """The member with a name, in any case. None if it is absent or `node` is not an object."""
    if not isinstance(node, dict):
        return None
    if name in node:
        return node[name]
    folded = name.lower()
    return next((value for key, value in node.items() if key.lower() == folded), None)


def _listed(node: object) -> list[object]:
    if node is None:
        return []
    return node if isinstance(node, list) else [node]


def _objects(node: object) -> list[object]:
    listed = _listed(node)
    if not all(isinstance(element, dict) for element in listed):
        raise ValueError("an object is expected")
    return listed


def _results_of(response: object) -> list[object]:
    """The results in `Response`, which is a list or a single result, either of them perhaps wrapped in `Result`."""
    body = _member(response, "Response")
    if body is None:
        raise ValueError("no Response")
    results: list[object] = []
    for wrapper in _objects(body):
        inner = _member(wrapper, "Result")
        results.extend([wrapper] if inner is None else _objects(inner))
    return results


def _returned_by(result: object) -> frozenset[_Returned]:
    return frozenset(
        _Returned(_CATEGORIES.get(str(_member(section, "CategoryId")), ""), str(name), _text(value))
        for section in _listed(_member(result, "Category"))
        for attribute in _listed(_member(section, "Attribute"))
        for name in _listed(_member(attribute, "AttributeId"))
        for value in _listed(_member(attribute, "Value"))
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _decision_of(result: object) -> Decision:
    if _member(result, "Decision") != "Permit":
        return DENY
    try:
        levels = _levels_of(result)
    except ValueError:
        return DENY
    return Decision(permit=True, level=levels.get(_LEVEL), level_org=levels.get(_LEVEL_ORG))


def _levels_of(result: object) -> dict[str, int]:
    """The highest level of each kind that the obligations assign. Raises ValueError for an unreadable level."""
    levels: dict[str, int] = {}
    for assignment in _assignments_of(result):
        category = str(_member(assignment, "Category"))
        if category in (_LEVEL, _LEVEL_ORG):
            levels[category] = max(_level(_member(assignment, "Value")), levels.get(category, 0))
    return levels


def _assignments_of(result: object) -> list[object]:
    obligations = _member(result, "Obligations")
    wrapped = _member(obligations, "Obligation")
    assignments: list[object] = []
    for obligation in _objects(obligations if wrapped is None else wrapped):
        assignments.extend(_objects(_member(obligation, "AttributeAssignment")))
    return assignments


def _level(value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, (str, int)) or isinstance(value, bool) or not _DIGITS.fullmatch(str(value).strip()):
        raise ValueError("a level cannot be read")
    return int(value)
