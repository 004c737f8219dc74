"""XACML 3.0 JSON responses as decisions (JSON profile, Multiple Decision Profile)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from events_core.access.ports import UndecidedError
from events_core.access.xacml_request import ACTION_ID, DENY, Decision, Question, subjects_returned

_SUBJECT, _ACTION, _RESOURCE = "subject", "action", "resource"
_CATEGORIES = {
    "urn:oasis:names:tc:xacml:1.0:subject-category:access-subject": _SUBJECT,
    "urn:oasis:names:tc:xacml:3.0:attribute-category:action": _ACTION,
    "urn:oasis:names:tc:xacml:3.0:attribute-category:resource": _RESOURCE,
}
_PERMIT, _INDETERMINATE = "Permit", "Indeterminate"
_DECISIONS = {_PERMIT, _INDETERMINATE, "Deny", "NotApplicable"}
_FAILURES = (":syntax-error", ":processing-error")
"""How the status of a request ends that failed as a whole (XACML 3.0, appendix B.8)."""
_LEVEL = "urn:altinn:minimum-authenticationlevel"
_LEVEL_ORG = "urn:altinn:minimum-authenticationlevel-org"
_DIGITS = re.compile(r"[0-9]{1,9}")


class _Attribute(NamedTuple):
    category: str
    name: str
    value: str


_Attributes = frozenset[_Attribute]


def decisions_from(response: object, questions: Sequence[Question]) -> list[Decision]:
    """The decision on each of the distinct `questions`, in their order. Member names are read in any case.

    A result fits a question if it returns every attribute that the question asked back. Positions decide if each
    result fits the question at its own place or returns nothing. Otherwise each result must fit exactly one question,
    and each another. Anything but Permit denies, and so does an unreadable level.

    Raises:
        UndecidedError: There are fewer results than questions, or the single result says that the request failed.
        ValueError: The response is not a response to these questions. The text holds no value of it.
    """
    results = _results_of(response)
    decisions = [_decision_of(result) for result in results]
    if not results or len(results) > len(questions):
        raise ValueError(f"{len(results)} results for {len(questions)} questions")
    returned = [_returned_by(result) for result in results]
    if len(results) < len(questions) or (len(results) == 1 and not returned[0] and _is_failure(results[0])):
        raise UndecidedError
    asked_back = _asked_back(questions)
    if all(not found or found >= asked for found, asked in zip(returned, asked_back, strict=True)):
        return decisions
    by_question = dict(zip(_questions_of(returned, asked_back), decisions, strict=True))
    if len(by_question) < len(questions):
        raise ValueError("two results fit one question")
    return [by_question[index] for index in range(len(questions))]


def _is_failure(result: object) -> bool:
    code = _member(_member(_member(result, "Status"), "StatusCode"), "Value")
    return _member(result, "Decision") == _INDETERMINATE and isinstance(code, str) and code.endswith(_FAILURES)


def _asked_back(questions: Sequence[Question]) -> list[_Attributes]:
    """The attributes that the result of each question must return, as `to_request` asks for them."""
    with_subject = subjects_returned(questions)
    return [
        frozenset(
            [
                _Attribute(_ACTION, ACTION_ID, question.action),
                *(_Attribute(_RESOURCE, name, value) for name, value in question.resource),
                *(_Attribute(_SUBJECT, name, value) for name, value in question.subject if with_subject),
            ]
        )
        for question in questions
    ]


def _questions_of(returned: Sequence[_Attributes], asked_back: Sequence[_Attributes]) -> list[int]:
    """The index of the only question that each result fits. Each question is looked up by its rarest attribute."""
    holders = Counter(attribute for asked in asked_back for attribute in asked)
    by_rarest: dict[_Attribute, list[int]] = {}
    for index, asked in enumerate(asked_back):
        by_rarest.setdefault(min(asked, key=holders.__getitem__), []).append(index)
    found = []
    for attributes in returned:
        candidates = (index for attribute in attributes for index in by_rarest.get(attribute, ()))
        fitting = [index for index in candidates if attributes >= asked_back[index]]
        if len(fitting) != 1:
            raise ValueError(f"a result fits {len(fitting)} questions")
        found += fitting
    return found


def _member(node: object, name: str) -> object:
    """The member with a name, in any case. None if it is absent or `node` is not an object."""
    if not isinstance(node, dict):
        return None
    for usual in (name, name[0].lower() + name[1:]):
        if usual in node:
            return node[usual]
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
    results = _member(response, "Response")
    if not isinstance(results, list):
        raise ValueError("no list of results")  # noqa: TRY004 - the caller handles one error
    return _objects(results)


def _returned_by(result: object) -> _Attributes:
    return frozenset(
        _Attribute(_CATEGORIES.get(str(_member(section, "CategoryId")), ""), str(name), _text(value))
        for section in _listed(_member(result, "Category"))
        for attribute in _listed(_member(section, "Attribute"))
        for name in _listed(_member(attribute, "AttributeId"))
        for value in _listed(_member(attribute, "Value"))
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _decision_of(result: object) -> Decision:
    decision = _member(result, "Decision")
    if not isinstance(decision, str) or decision not in _DECISIONS:
        raise ValueError("an unknown decision")
    if decision != _PERMIT:
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
