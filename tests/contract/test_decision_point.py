"""The port DecisionPoint, against the PDP over HTTP and the embedded one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events_core.access.ports import DecisionPoint, UndecidedError
from events_core.access.xacml_request import DENY, Decision, Question
from events_core.adapters.development.policy import LocalPolicy
from events_core.adapters.neighbours.http_client import HttpClient, JsonService
from events_core.adapters.neighbours.pdp import PdpDecisionPoint
from tests.support import pdp_server
from tests.support.askers import question
from tests.support.pdp_server import Asked, PdpServer, Ruling

POLICY = {
    "rules": [
        {"who": {"urn:altinn:userid": "1"}, "may": ["read"], "on": {"urn:altinn:resource": ["a", "b", "secret"]}},
        {"who": {"urn:altinn:userid": "2"}, "may": ["read"], "on": {"urn:altinn:resource": "b"}},
    ],
    "obligations": [{"on": {"urn:altinn:resource": "secret"}, "minimumLevel": 4, "minimumLevelOrg": 3}],
}
"""User 1 reads a, b and secret, user 2 reads b; secret asks for level 4, of service owners 3."""
A_RESOURCE = (("urn:altinn:resource", "a"),)


def _rule(asked: Asked) -> Ruling:
    """The rules of the policy, as the server's code."""
    user, resource = asked.subject["urn:altinn:userid"], asked.resource["urn:altinn:resource"]
    if asked.action != "read" or resource not in {"1": ("a", "b", "secret"), "2": ("b",)}.get(user, ()):
        return pdp_server.DENY
    return Ruling(level=4, level_org=3) if resource == "secret" else pdp_server.PERMIT


@pytest.fixture(params=["http", "embedded"])
async def point(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DecisionPoint]:
    """Each kind of decision point with the same policy."""
    if request.param == "embedded":
        file = tmp_path / "policy.json"
        file.write_text(json.dumps(POLICY))
        yield LocalPolicy(file)
        return
    client = HttpClient()
    async with PdpServer(_rule) as server:
        yield PdpDecisionPoint(JsonService(client, "The decision point", server.url))
        await client.close()


async def _permits(point: DecisionPoint, *asked: tuple[str, str]) -> list[bool]:
    return [
        decision.permit
        for decision in await point.decide([question(user, resource, "read") for user, resource in asked])
    ]


async def test_a_permitted_question_is_permitted(point: DecisionPoint) -> None:
    """A rule matches subject, action and resource."""
    assert await point.decide([question("1", "a", "read")]) == [Decision(permit=True)]


async def test_a_question_without_a_rule_is_denied(point: DecisionPoint) -> None:
    """Unknown subjects, actions and resources are denied."""
    asked = [question("3", "a", "read"), question("1", "a", "publish"), question("1", "c", "read")]
    assert await point.decide(asked) == [DENY, DENY, DENY]


async def test_decisions_come_in_the_order_of_the_questions(point: DecisionPoint) -> None:
    """The caller matches them by index."""
    assert await _permits(point, ("1", "c"), ("1", "a"), ("1", "x"), ("1", "b")) == [False, True, False, True]


async def test_one_call_may_ask_about_many_subjects(point: DecisionPoint) -> None:
    """Questions of different subjects about the same resource are kept apart."""
    asked = [(user, resource) for user in ("1", "2", "3") for resource in ("a", "b")]
    assert await _permits(point, *asked) == [True, True, False, True, False, False]


async def test_a_thousand_questions_are_answered(point: DecisionPoint) -> None:
    """One call may ask about every row of the largest page."""
    asked = [("1", "a" if number == 500 else f"n{number}") for number in range(1000)]
    assert [index for index, permit in enumerate(await _permits(point, *asked)) if permit] == [500]


async def test_obligations_come_with_the_decision(point: DecisionPoint) -> None:
    """A permit has the levels that the policy demands, another decision none."""
    decisions = await point.decide([question("1", name, "read") for name in ("secret", "a")])
    assert decisions == [Decision(permit=True, level=4, level_org=3), Decision(permit=True)]


async def test_no_questions_get_no_decisions(point: DecisionPoint) -> None:
    """The list is empty."""
    assert await point.decide([]) == []


async def test_names_and_values_may_have_any_characters(point: DecisionPoint) -> None:
    """They arrive unchanged."""
    assert await _permits(point, ("1", "æ\u0000\U0001f600\"'<a>"), ("1", "a")) == [False, True]


@pytest.mark.parametrize(
    "poison",
    [
        Question((("urn:altinn:org", "ttd"), ("urn:altinn:systemuser:uuid", "5f2b1c64")), "read", A_RESOURCE),
        Question((("urn:altinn:userid", "2147483648"),), "read", A_RESOURCE),
    ],
    ids=["a system user beside another attribute", "a user id beyond 32 bits"],
)
async def test_a_question_that_cannot_be_taken_takes_the_others_with_it(point: DecisionPoint, poison: Question) -> None:
    """So nothing may be read into the others, nor into that question alone."""
    for questions in ([question("1", "a", "read"), poison], [poison]):
        with pytest.raises(UndecidedError):
            await point.decide(questions)


async def test_ping_returns_while_the_pdp_answers(point: DecisionPoint) -> None:
    """Health relies on it."""
    await point.ping()
