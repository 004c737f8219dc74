"""XACML JSON responses as decisions."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from events_core.access.ports import UndecidedError
from events_core.access.xacml_request import ACTION_ID, DENY, Decision, Question
from events_core.access.xacml_response import decisions_from
from tests.support.askers import question

Json = dict[str, Any]
PERMIT = Decision(permit=True)
A, B, C = question(resource="a"), question(resource="b"), question(resource="c")
_ACTION = "urn:oasis:names:tc:xacml:3.0:attribute-category:action"
_RESOURCE = "urn:oasis:names:tc:xacml:3.0:attribute-category:resource"
_SUBJECT = "urn:oasis:names:tc:xacml:1.0:subject-category:access-subject"
LEVEL = "urn:altinn:minimum-authenticationlevel"


def _section(category: str, *attributes: tuple[str, object]) -> Json:
    return {
        "CategoryId": category,
        "Attribute": [{"AttributeId": name, "Value": value} for name, value in attributes],
    }


def result(asked: Question | None, decision: str = "Permit", *, subject: bool = False, **members: object) -> Json:
    """A result that returns action and resource of `asked`, with `subject` that too. None: it returns nothing."""
    category = []
    if asked is not None:
        category = [_section(_ACTION, (ACTION_ID, asked.action)), _section(_RESOURCE, *asked.resource)]
        category += [_section(_SUBJECT, *asked.subject)] if subject else []
    return {"Decision": decision, "Category": category, **members}


def _failure(code: str = "urn:oasis:names:tc:xacml:1.0:status:syntax-error") -> Json:
    return result(None, "Indeterminate", Status={"StatusCode": {"Value": code}})


def _obligation(category: str, value: object) -> Json:
    return {"Id": "o", "AttributeAssignment": [{"AttributeId": "x", "Category": category, "Value": value}]}


def test_results_in_another_order_are_matched_by_their_attributes() -> None:
    """Each result fits exactly one question."""
    response = {"Response": [result(C, "Deny"), result(A), result(B, "Deny")]}
    assert decisions_from(response, [A, B, C]) == [PERMIT, DENY, DENY]


@pytest.mark.parametrize("results", [[result(B)], [result(None)], [result(A), result(B)], [_failure()]])
def test_fewer_results_than_questions_decide_nothing(results: list[Json]) -> None:
    """A question without a decision must not be denied."""
    with pytest.raises(UndecidedError):
        decisions_from({"Response": results}, [A, B, C])


@pytest.mark.parametrize("code", ["syntax-error", "processing-error"])
def test_a_failure_is_no_answer_to_a_single_question(code: str) -> None:
    """The decision point could not take the question."""
    with pytest.raises(UndecidedError):
        decisions_from({"Response": [_failure(f"urn:oasis:names:tc:xacml:1.0:status:{code}")]}, [A])


@pytest.mark.parametrize(
    "answer",
    [
        _failure("urn:oasis:names:tc:xacml:1.0:status:missing-attribute"),
        _failure("urn:oasis:names:tc:xacml:1.0:status:ok"),
        result(None, "Indeterminate"),
        {**_failure(), "Category": result(A)["Category"]},
        {**_failure(), "Decision": "NotApplicable"},
    ],
)
def test_another_indeterminate_denies(answer: Json) -> None:
    """Only a result that returns nothing, with the status of a failed request, is a failure."""
    assert decisions_from({"Response": [answer]}, [A]) == [DENY]


def test_failures_for_every_question_deny() -> None:
    """A result for each question is a complete answer."""
    assert decisions_from({"Response": [_failure(), _failure()]}, [A, B]) == [DENY, DENY]


@pytest.mark.parametrize(
    "results",
    [
        [],
        [result(A), result(B), result(C)],
        [result(A), result(A)],
        [result(C), result(B)],
        [result(B), result(None)],
        [result(B, "Deny"), result(None, "Deny")],
        [result(A), "Permit"],
    ],
)
def test_results_that_do_not_belong_to_the_questions_are_an_error(results: list[Any]) -> None:
    """Nothing may be read into them: not a denial either."""
    with pytest.raises(ValueError, match=r".+"):
        decisions_from({"Response": results}, [A, B])


@pytest.mark.parametrize("decision", ["Deny", "Indeterminate", "NotApplicable"])
def test_anything_but_permit_denies(decision: str) -> None:
    """Only Permit permits."""
    assert decisions_from({"Response": [result(A, decision)]}, [A]) == [DENY]


@pytest.mark.parametrize("decision", ["Indeterminate{P}", "permit", "PERMIT", "", None, True, ["Permit"], 0])
def test_an_unknown_decision_is_an_error(decision: Any) -> None:
    """It is no decision."""
    with pytest.raises(ValueError, match="an unknown decision"):
        decisions_from({"Response": [result(A, decision)]}, [A])


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
    "response", [None, [], "Permit", 1, {}, {"Response": None}, {"Response": ["Permit"]}, {"Response": result(A)}]
)
def test_another_document_is_an_error(response: object) -> None:
    """It contains no decision."""
    with pytest.raises(ValueError, match=r".+"):
        decisions_from(response, [A])


def test_results_that_return_nothing_count_by_position() -> None:
    """There are as many results as questions."""
    assert decisions_from({"Response": [result(None), result(None, "Deny")]}, [A, B]) == [PERMIT, DENY]


def test_results_that_return_nothing_may_stand_among_others() -> None:
    """Each of the others fits the question at its own place."""
    response = {"Response": [result(None, "Deny"), result(B), result(None, "NotApplicable")]}
    assert decisions_from(response, [A, B, C]) == [DENY, PERMIT, DENY]


def test_the_subject_tells_results_apart() -> None:
    """Questions may differ in the subject alone. Then the request asks for it."""
    ours, theirs = question("1", "a"), question("2", "a")
    response = {"Response": [result(theirs, subject=True), result(ours, "Deny", subject=True)]}
    assert decisions_from(response, [ours, theirs]) == [DENY, PERMIT]


def test_a_result_must_return_everything_that_was_asked_for() -> None:
    """The subject is missing, and the results are in another order than the questions."""
    ours, theirs = question("1", "a"), question("2", "b")
    with pytest.raises(ValueError, match="fits 0 questions"):
        decisions_from({"Response": [result(theirs), result(ours, "Deny")]}, [ours, theirs])


def test_attributes_that_the_decision_point_added_do_not_matter() -> None:
    """It may add the very attribute by which another question differs."""
    more = Question(A.subject, A.action, (*A.resource, ("urn:altinn:partyid", "1")))
    response = {"Response": [result(more), result(more, "Deny")]}
    assert decisions_from(response, [A, more]) == [PERMIT, DENY]


def test_a_result_that_fits_several_questions_in_another_order_is_an_error() -> None:
    """One question holds the other, so nobody can tell whose result it is."""
    more = Question(A.subject, A.action, (*A.resource, ("urn:altinn:partyid", "1")))
    with pytest.raises(ValueError, match="fits 2 questions"):
        decisions_from({"Response": [result(A), result(more, "Deny")]}, [more, A])


def test_a_number_matches_the_text_that_was_sent() -> None:
    """The decision point may return a number."""
    asked = Question(A.subject, "subscribe", (("urn:altinn:partyid", "50002108"),))
    answer = result(asked)
    answer["Category"][1]["Attribute"][0]["Value"] = 50002108
    assert decisions_from({"Response": [result(A, "Deny"), answer]}, [asked, A]) == [PERMIT, DENY]


def test_a_thousand_results_in_another_order_are_matched() -> None:
    """Every question of the largest page finds its result."""
    questions = [question(resource=f"r{number}") for number in range(1_000)]
    results = [result(one, "Permit" if one is questions[7] else "Deny") for one in reversed(questions)]
    permitted = [decision.permit for decision in decisions_from({"Response": results}, questions)]
    assert permitted == [number == 7 for number in range(1_000)]


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
        | st.dictionaries(st.sampled_from(["Decision", "Category", "Status", "Obligations", "x"]), inner)
    ),
    max_leaves=20,
)


@given(_JSON)
def test_absurd_results_never_permit_or_fail(node: Any) -> None:
    """A document of any form is denied, or refused as something other than an answer."""
    assume("Permit" not in json.dumps(node))
    with suppress(ValueError, UndecidedError):
        assert decisions_from({"Response": node}, [A, B]) == [DENY, DENY]
