"""XACML JSON responses as decisions."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from events_core.access.xacml_request import DENY, Decision, Question
from events_core.access.xacml_response import decisions_from
from tests.support.askers import question

Json = dict[str, Any]
PERMIT = Decision(permit=True)
A, B, C = question(resource="a"), question(resource="b"), question(resource="c")
_RESOURCE = "urn:oasis:names:tc:xacml:3.0:attribute-category:resource"
_SUBJECT = "urn:oasis:names:tc:xacml:1.0:subject-category:access-subject"
LEVEL = "urn:altinn:minimum-authenticationlevel"


def _section(category: str, *attributes: tuple[str, object]) -> Json:
    return {
        "CategoryId": category,
        "Attribute": [{"AttributeId": name, "Value": value} for name, value in attributes],
    }


def result(asked: Question | None, decision: str = "Permit", **members: object) -> Json:
    """A result that returns the resource of `asked`, or nothing without it."""
    category = [] if asked is None else [_section(_RESOURCE, *asked.resource)]
    return {"Decision": decision, "Category": category, **members}


def _obligation(category: str, value: object) -> Json:
    return {"Id": "o", "AttributeAssignment": [{"AttributeId": "x", "Category": category, "Value": value}]}


def test_results_are_matched_by_attributes_not_by_position() -> None:
    """Results in another order belong to the right questions."""
    response = {"Response": [result(C, "Deny"), result(A), result(B, "Deny")]}
    assert decisions_from(response, [A, B, C]) == [PERMIT, DENY, DENY]


def test_a_question_without_a_result_is_denied() -> None:
    """A partial response permits nothing that it leaves out."""
    assert decisions_from({"Response": [result(B)]}, [A, B]) == [DENY, PERMIT]


def test_a_result_without_a_question_is_ignored() -> None:
    """It permits nothing, in whatever position."""
    assert decisions_from({"Response": [result(C), result(B, "Deny")]}, [A, B]) == [DENY, DENY]


def test_a_repeated_result_counts_once() -> None:
    """The two results agree."""
    assert decisions_from({"Response": [result(A), result(A)]}, [A]) == [PERMIT]


@pytest.mark.parametrize(
    "second",
    [result(A, "Deny"), result(A, "Indeterminate"), result(A, Obligations=[_obligation(LEVEL, 4)])],
)
def test_results_that_disagree_deny(second: Json) -> None:
    """The order of the two results does not matter."""
    for results in ([result(A), second], [second, result(A)]):
        assert decisions_from({"Response": results}, [A]) == [DENY]


@pytest.mark.parametrize(
    "decision",
    ["Deny", "Indeterminate", "Indeterminate{P}", "NotApplicable", "permit", "PERMIT", "", None, True, ["Permit"]],
)
def test_anything_but_permit_denies(decision: Any) -> None:
    """Only the word Permit permits."""
    assert decisions_from({"Response": [result(A, decision)]}, [A]) == [DENY]


def _lowered(node: Any) -> Any:
    if isinstance(node, dict):
        return {key[0].lower() + key[1:]: _lowered(value) for key, value in node.items()}
    return [_lowered(element) for element in node] if isinstance(node, list) else node


def test_member_names_are_read_in_any_case() -> None:
    """Names in camelCase are read at every level."""
    response = {"Response": [result(B), result(A, Obligations=[_obligation(LEVEL, "3")])]}
    expected = [Decision(permit=True, level=3), PERMIT]
    assert decisions_from(response, [A, B]) == decisions_from(_lowered(response), [A, B]) == expected


@pytest.mark.parametrize(
    "response",
    [
        {"Response": [result(A)]},
        {"Response": result(A)},
        {"Response": {"Result": [result(A)]}},
        {"Response": {"Result": result(A)}},
        {"response": [{"result": result(A)}]},
    ],
)
def test_wrapped_results_are_read(response: Json) -> None:
    """A result stands in a list, alone, or within `Result`."""
    assert decisions_from(response, [A]) == [PERMIT]


@pytest.mark.parametrize(
    "response", [None, [], "Permit", 1, {}, {"Response": None}, {"Response": ["Permit"]}, {"Response": {"Result": [1]}}]
)
def test_another_document_is_an_error(response: object) -> None:
    """It contains no decision."""
    with pytest.raises(ValueError, match=r".+"):
        decisions_from(response, [A])


def test_results_without_attributes_are_matched_by_position() -> None:
    """There must be as many results as questions."""
    assert decisions_from({"Response": [result(None), result(None, "Deny")]}, [A, B]) == [PERMIT, DENY]


def test_fewer_or_more_results_without_attributes_permit_nothing() -> None:
    """Their positions say nothing."""
    for count in (1, 3):
        assert decisions_from({"Response": [result(None)] * count}, [A, B]) == [DENY, DENY]


def test_a_result_without_attributes_among_others_is_ignored() -> None:
    """It belongs to no question if other results return attributes."""
    assert decisions_from({"Response": [result(None), result(B)]}, [A, B]) == [DENY, PERMIT]


def test_an_empty_response_denies_everything() -> None:
    """There is no result that permits."""
    assert decisions_from({"Response": []}, [A, B]) == [DENY, DENY]


def test_a_result_that_fits_several_questions_is_ignored() -> None:
    """It returns only what the questions have in common."""
    ours, theirs = question("1", "a"), question("2", "a")
    assert decisions_from({"Response": [result(ours)]}, [ours, theirs]) == [DENY, DENY]


def test_the_subject_tells_results_apart() -> None:
    """Questions may differ in the subject alone."""
    ours, theirs = question("1", "a"), question("2", "a")
    answer = result(theirs)
    answer["Category"].append(_section(_SUBJECT, *theirs.subject))
    assert decisions_from({"Response": [answer]}, [ours, theirs]) == [DENY, PERMIT]


def test_a_result_belongs_to_the_question_with_exactly_its_attributes() -> None:
    """Another question may have all of them and more."""
    more = Question(A.subject, A.action, (*A.resource, ("urn:altinn:resourceinstance", "1")))
    assert decisions_from({"Response": [result(A)]}, [more, A]) == [DENY, PERMIT]
    assert decisions_from({"Response": [result(more)]}, [more, A]) == [PERMIT, DENY]


def test_a_result_is_matched_by_the_event_id() -> None:
    """The decision point may return the event id alone."""
    answer = {"Decision": "Permit", "Category": [_section(_RESOURCE, ("urn:altinn:event-id", B.event_id))]}
    assert decisions_from({"Response": [answer, answer]}, [A, B]) == [DENY, PERMIT]


def test_attributes_that_were_not_sent_are_ignored() -> None:
    """The decision point may add attributes of its own."""
    answer = result(A)
    answer["Category"][0]["Attribute"].append({"AttributeId": "urn:example:added", "Value": "x"})
    assert decisions_from({"Response": [answer]}, [A, B]) == [PERMIT, DENY]


def test_a_number_matches_the_text_that_was_sent() -> None:
    """The decision point may return a number."""
    asked = Question((), "read", (("urn:altinn:partyid", "50002108"),))
    answer = {"Decision": "Permit", "Category": [_section(_RESOURCE, ("urn:altinn:partyid", 50002108))]}
    assert decisions_from({"Response": [answer]}, [asked, A]) == [PERMIT, DENY]


@pytest.mark.parametrize("value", ["3", 3, 3.0, " 3 "])
def test_a_level_is_read_as_text_or_number(value: object) -> None:
    """Policies write it either way."""
    response = {"Response": [result(A, Obligations=[_obligation(LEVEL, value)])]}
    assert decisions_from(response, [A]) == [Decision(permit=True, level=3)]


@pytest.mark.parametrize("value", ["high", "", None, -1, "-1", 2.5, True, [], {}, "٣", "1e9", "9" * 5000])
def test_an_unreadable_level_denies(value: object) -> None:
    """Nobody can meet an obligation that the service does not understand."""
    assert decisions_from({"Response": [result(A, Obligations=[_obligation(LEVEL, value)])]}, [A]) == [DENY]


@pytest.mark.parametrize("obligations", ["level 4", [4], {"AttributeAssignment": "4"}, {"Obligation": [1]}])
def test_an_obligation_of_unknown_form_denies(obligations: object) -> None:
    """An obligation is an object."""
    assert decisions_from({"Response": [result(A, Obligations=obligations)]}, [A]) == [DENY]


@pytest.mark.parametrize(
    "shape", [lambda o: [o], lambda o: o, lambda o: {"Obligation": o}, lambda o: {"Obligation": [o]}]
)
def test_obligations_stand_in_a_list_or_alone(shape: Any) -> None:
    """So do their assignments."""
    alone = _obligation(LEVEL + "-org", 2)
    alone["AttributeAssignment"] = alone["AttributeAssignment"][0]
    decisions = decisions_from({"Response": [result(A, Obligations=shape(alone))]}, [A])
    assert decisions == [Decision(permit=True, level_org=2)]


def test_the_highest_level_counts() -> None:
    """Several obligations may assign a level."""
    obligations = [_obligation(LEVEL, 2), _obligation(LEVEL, 4), _obligation(LEVEL + "-org", 3)]
    decisions = decisions_from({"Response": [result(A, Obligations=obligations)]}, [A])
    assert decisions == [Decision(permit=True, level=4, level_org=3)]


def test_assignments_of_other_categories_require_no_level() -> None:
    """Only the two categories of the contract hold levels."""
    response = {"Response": [result(A, Obligations=[_obligation("urn:example:other", "4")])]}
    assert decisions_from(response, [A]) == [PERMIT]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["Decision", "Category", "Result", "Obligations", "x"]), inner)
    ),
    max_leaves=20,
)


@given(_JSON)
def test_absurd_results_never_permit_or_fail(node: Any) -> None:
    """A document of any form is denied, or refused as another document than a response."""
    assume("Permit" not in json.dumps(node))
    with suppress(ValueError):
        assert decisions_from({"Response": node}, [A, B]) == [DENY, DENY]
