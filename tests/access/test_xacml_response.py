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
    """A result, matched to `asked` by its resource when there is one."""
    category = [] if asked is None else [_section(_RESOURCE, *asked.resource)]
    return {"Decision": decision, "Category": category, **members}


def _obligation(category: str, value: object) -> Json:
    return {"Id": "o", "AttributeAssignment": [{"AttributeId": "x", "Category": category, "Value": value}]}


def test_results_are_matched_by_attributes_not_by_position() -> None:
    """Reordered results find their questions."""
    response = {"Response": [result(C, "Deny"), result(A), result(B, "Deny")]}
    assert decisions_from(response, [A, B, C]) == [PERMIT, DENY, DENY]


def test_question_left_out_is_denied() -> None:
    """A partial answer denies what it leaves out."""
    assert decisions_from({"Response": [result(B)]}, [A, B]) == [DENY, PERMIT]


def test_result_for_nobodys_question_is_ignored() -> None:
    """A result for something that was not asked permits nothing, at whatever place it stands."""
    assert decisions_from({"Response": [result(C), result(B, "Deny")]}, [A, B]) == [DENY, DENY]


def test_repeated_result_that_agrees_counts_once() -> None:
    """The same answer twice is the answer."""
    assert decisions_from({"Response": [result(A), result(A)]}, [A]) == [PERMIT]


@pytest.mark.parametrize(
    "second",
    [result(A, "Deny"), result(A, "Indeterminate"), result(A, Obligations=[_obligation(LEVEL, 4)])],
)
def test_results_that_disagree_deny(second: Json) -> None:
    """Two different answers to one question deny, in either order."""
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
    return [_lowered(each) for each in node] if isinstance(node, list) else node


def test_names_are_read_in_either_case() -> None:
    """Names in camelCase say the same as the profile's, at every level."""
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
    """A result is found in a list, alone, or within `Result`."""
    assert decisions_from(response, [A]) == [PERMIT]


@pytest.mark.parametrize(
    "response", [None, [], "Permit", 1, {}, {"Response": None}, {"Response": ["Permit"]}, {"Response": {"Result": [1]}}]
)
def test_what_is_no_response_is_an_error(response: object) -> None:
    """Something else than a XACML response is no decision."""
    with pytest.raises(ValueError, match=r".+"):
        decisions_from(response, [A])


def test_results_without_attributes_are_taken_by_position() -> None:
    """When nothing is returned to match by, and there are as many results as questions, the position counts."""
    assert decisions_from({"Response": [result(None), result(None, "Deny")]}, [A, B]) == [PERMIT, DENY]


def test_position_counts_only_when_the_counts_are_equal() -> None:
    """Fewer or more results without attributes permit nothing."""
    for count in (1, 3):
        assert decisions_from({"Response": [result(None)] * count}, [A, B]) == [DENY, DENY]


def test_result_without_attributes_among_others_answers_nothing() -> None:
    """A result that returns nothing, where others do, belongs to no question."""
    assert decisions_from({"Response": [result(None), result(B)]}, [A, B]) == [DENY, PERMIT]


def test_empty_response_denies_everything() -> None:
    """No results, no permits."""
    assert decisions_from({"Response": []}, [A, B]) == [DENY, DENY]


def test_result_that_fits_several_questions_answers_none() -> None:
    """A result that returns what two questions have in common is nobody's."""
    ours, theirs = question("1", "a"), question("2", "a")
    assert decisions_from({"Response": [result(ours)]}, [ours, theirs]) == [DENY, DENY]


def test_subject_tells_results_apart() -> None:
    """Questions that differ in their subject are matched by it."""
    ours, theirs = question("1", "a"), question("2", "a")
    answer = result(theirs)
    answer["Category"].append(_section(_SUBJECT, *theirs.subject))
    assert decisions_from({"Response": [answer]}, [ours, theirs]) == [DENY, PERMIT]


def test_question_with_fewer_attributes_is_not_taken_for_one_with_more() -> None:
    """A result belongs to the question that has exactly what came back."""
    more = Question(A.subject, A.action, (*A.resource, ("urn:altinn:resourceinstance", "1")))
    assert decisions_from({"Response": [result(A)]}, [more, A]) == [DENY, PERMIT]
    assert decisions_from({"Response": [result(more)]}, [more, A]) == [PERMIT, DENY]


def test_event_id_helps_to_match() -> None:
    """A result that returns the event id alone belongs to the question that it was sent with."""
    answer = {"Decision": "Permit", "Category": [_section(_RESOURCE, ("urn:altinn:event-id", B.event_id))]}
    assert decisions_from({"Response": [answer, answer]}, [A, B]) == [DENY, PERMIT]


def test_attributes_that_were_not_sent_are_ignored() -> None:
    """What the decision point adds of its own does not disturb the match."""
    answer = result(A)
    answer["Category"][0]["Attribute"].append({"AttributeId": "urn:example:added", "Value": "x"})
    assert decisions_from({"Response": [answer]}, [A, B]) == [PERMIT, DENY]


def test_numbers_match_their_text() -> None:
    """A value that comes back as a number is the text that was sent."""
    asked = Question((), "read", (("urn:altinn:partyid", "50002108"),))
    answer = {"Decision": "Permit", "Category": [_section(_RESOURCE, ("urn:altinn:partyid", 50002108))]}
    assert decisions_from({"Response": [answer]}, [asked, A]) == [PERMIT, DENY]


@pytest.mark.parametrize("value", ["3", 3, 3.0, " 3 "])
def test_level_is_read_as_text_or_number(value: object) -> None:
    """A level counts however it is written."""
    response = {"Response": [result(A, Obligations=[_obligation(LEVEL, value)])]}
    assert decisions_from(response, [A]) == [Decision(permit=True, level=3)]


@pytest.mark.parametrize("value", ["high", "", None, -1, "-1", 2.5, True, [], {}, "٣", "1e9", "9" * 5000])
def test_level_that_cannot_be_read_denies(value: object) -> None:
    """An obligation that cannot be understood cannot be met."""
    assert decisions_from({"Response": [result(A, Obligations=[_obligation(LEVEL, value)])]}, [A]) == [DENY]


@pytest.mark.parametrize("obligations", ["level 4", [4], {"AttributeAssignment": "4"}, {"Obligation": [1]}])
def test_obligation_of_no_known_shape_denies(obligations: object) -> None:
    """An obligation that is no object denies."""
    assert decisions_from({"Response": [result(A, Obligations=obligations)]}, [A]) == [DENY]


@pytest.mark.parametrize(
    "shape", [lambda o: [o], lambda o: o, lambda o: {"Obligation": o}, lambda o: {"Obligation": [o]}]
)
def test_obligations_stand_in_a_list_or_alone(shape: Any) -> None:
    """One obligation, or one assignment, need not be in a list."""
    alone = _obligation(LEVEL + "-org", 2)
    alone["AttributeAssignment"] = alone["AttributeAssignment"][0]
    decisions = decisions_from({"Response": [result(A, Obligations=shape(alone))]}, [A])
    assert decisions == [Decision(permit=True, level_org=2)]


def test_highest_level_counts() -> None:
    """Of several assignments of a level the highest is to be met."""
    obligations = [_obligation(LEVEL, 2), _obligation(LEVEL, 4), _obligation(LEVEL + "-org", 3)]
    decisions = decisions_from({"Response": [result(A, Obligations=obligations)]}, [A])
    assert decisions == [Decision(permit=True, level=4, level_org=3)]


def test_assignments_of_other_categories_ask_for_no_level() -> None:
    """Only the two categories of the contract name levels."""
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
    """Whatever stands where results are expected is denied, or refused as no response."""
    assume("Permit" not in json.dumps(node))
    with suppress(ValueError):
        assert decisions_from({"Response": node}, [A, B]) == [DENY, DENY]
