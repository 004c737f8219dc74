"""XACML 3.0 JSON responses as decisions, matched by what they return and never trusted to be in order. Pure."""

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
    category: str
    name: str
    value: str


def decisions_from(response: object, questions: Sequence[Question]) -> list[Decision]:
    """The decision on each of the distinct `questions`, in their order; names are read in either case.

    A result belongs to the one question whose attributes it returns; only when no result returns any, and there
    are as many as questions, they are taken by position. No result, one that is not Permit, two that disagree,
    and a level that cannot be read: denied.

    Raises:
        ValueError: this is no XACML response at all.
    """
    results = _results_of(response)
    returned = [_returned_by(result) for result in results]
    if not any(returned):
        by_position = len(results) == len(questions)
        return [_decision_of(result) for result in results] if by_position else [DENY] * len(questions)
    matcher = _Matcher(questions)
    answers: list[set[Decision]] = [set() for _ in questions]
    for result, attributes in zip(results, returned, strict=True):
        place = matcher.place_of(attributes)
        if place is not None:
            answers[place].add(_decision_of(result))
    return [answer.pop() if len(answer) == 1 else DENY for answer in answers]


class _Matcher:
    """Finds the question that a result answers by the attributes that came back with it."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._count = len(questions)
        self._holders: dict[_Returned, set[int]] = {}
        self._whole: dict[frozenset[_Returned], set[int]] = {}
        chosen = event_ids(questions)
        for place, question in enumerate(questions):
            sent = _sent_with(question)
            for attributes in sent:
                self._whole.setdefault(attributes, set()).add(place)
            for attribute in frozenset().union(*sent):
                self._holders.setdefault(attribute, set()).add(place)
            if question.resource in chosen:
                event_id = _Returned(_RESOURCE, EVENT_ID, chosen[question.resource])
                self._holders.setdefault(event_id, set()).add(place)
        self._names = {(category, name) for category, name, _ in self._holders}

    def place_of(self, returned: frozenset[_Returned]) -> int | None:
        """The place of the only question that was asked with all of these attributes; others' names are ignored."""
        known = [attribute for attribute in returned if attribute[:2] in self._names]
        holders = sorted((self._holders.get(attribute, set()) for attribute in known), key=len)
        places = set.intersection(*holders) if holders else set(range(self._count))
        if len(places) > 1:
            places = self._with_nothing_more(places, known)
        return next(iter(places)) if len(places) == 1 else None

    def _with_nothing_more(self, places: set[int], known: Sequence[_Returned]) -> set[int]:
        """Of the questions that hold what came back, those that hold nothing else in the same categories."""
        for category in (_SUBJECT, _ACTION, _RESOURCE):
            part = frozenset(each for each in known if each.category == category and each.name != EVENT_ID)
            if part:
                places = places & self._whole.get(part, places)
        return places


def _sent_with(question: Question) -> tuple[frozenset[_Returned], ...]:
    return (
        frozenset(_Returned(_SUBJECT, name, value) for name, value in question.subject),
        frozenset([_Returned(_ACTION, ACTION_ID, question.action)]),
        frozenset(_Returned(_RESOURCE, name, value) for name, value in question.resource),
    )


def _member(node: object, name: str) -> object:
    """A member by its name in any case of letters; None when there is none or `node` is no object."""
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
    if not all(isinstance(each, dict) for each in listed):
        raise ValueError("an object is expected")
    return listed


def _results_of(response: object) -> list[object]:
    """The results in `Response`, be it a list, one result, or either of them wrapped in `Result`."""
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
    """The highest level of each kind that the obligations assign; ValueError when one cannot be read."""
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
