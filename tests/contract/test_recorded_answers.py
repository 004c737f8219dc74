"""The port DecisionPoint against the recorded answers of Altinn's decision engine, in every shape.

tests/contract/recorded/pdp/README.md says what was recorded.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from events_core.access.identity import Caller, Kind
from events_core.access.ports import DecisionPoint, UndecidedError
from events_core.access.xacml_request import Question, allows
from events_core.adapters.neighbours.http_client import HttpClient, JsonService
from events_core.adapters.neighbours.pdp import PdpDecisionPoint
from tests.support.pdp_server import PdpServer

RECORDED = Path(__file__).parent / "recorded" / "pdp"
WRONGLY_ASKED = {"event-type-rule", "instance-rule", "instance-from-subject", "app-systemuser-token"}
"""Recordings whose question is asked in another way today (tests/access/test_recorded_questions.py)."""
UNDECIDABLE = {"poison-no-policy-alone"}

Pair = dict[str, Any]


def _pair(name: str) -> Pair:
    pair: Pair = json.loads((RECORDED / "pairs" / f"{name}.json").read_text())
    return pair


def _questions(pair: Pair) -> list[Question]:
    return [
        Question(
            tuple((name, value) for name, value in asked["subject"]),
            asked["action"],
            tuple((name, value) for name, value in asked["resource"]),
            asked["eventId"],
        )
        for asked in pair["questions"]
    ]


def _caller(asked: dict[str, Any]) -> Caller:
    return Caller(Kind(asked["kind"]), "/x", level=asked["level"], level_applies=asked["levelApplies"])


@pytest.fixture
async def server() -> AsyncIterator[PdpServer]:
    """Sends a recorded answer to any request."""
    async with PdpServer() as server:
        yield server


@pytest.fixture
async def point(server: PdpServer) -> AsyncIterator[DecisionPoint]:
    """The decision point that answers so."""
    client = HttpClient()
    yield PdpDecisionPoint(JsonService(client, "The decision point", server.url))
    await client.close()


async def _allowed(point: DecisionPoint, pair: Pair) -> list[int] | None:
    """What the answer allows; None if the decision point decided nothing."""
    try:
        decisions = await point.decide(_questions(pair))
    except UndecidedError:
        return None
    callers = map(_caller, pair["questions"])
    return [int(allows(decision, caller)) for decision, caller in zip(decisions, callers, strict=True)]


NAMES = sorted(path.stem for path in (RECORDED / "pairs").iterdir())
SHAPES = sorted(path.name for path in (RECORDED / "shapes").iterdir() if ".request." not in path.name)


@pytest.mark.parametrize("name", sorted(set(NAMES) - WRONGLY_ASKED - UNDECIDABLE))
async def test_a_recorded_answer_allows_what_is_right(point: DecisionPoint, server: PdpServer, name: str) -> None:
    """The policies, the levels and the obligations say what is right for each question."""
    pair = _pair(name)
    server.body = json.dumps(pair["response"]).encode()
    assert await _allowed(point, pair) == pair["allowed"]


@pytest.mark.parametrize("name", sorted(UNDECIDABLE))
async def test_a_question_that_fails_alone_is_not_decided(point: DecisionPoint, server: PdpServer, name: str) -> None:
    """The answer to a single question may be a failure too."""
    pair = _pair(name)
    server.body = json.dumps(pair["response"]).encode()
    assert await _allowed(point, pair) is None


@pytest.mark.parametrize("file", SHAPES)
async def test_a_recorded_answer_reads_the_same_in_every_shape(
    point: DecisionPoint, server: PdpServer, file: str
) -> None:
    """Serialisers differ in the case of names and in nulls."""
    pair = _pair(file.partition(".")[0])
    server.body = (RECORDED / "shapes" / file).read_bytes()
    assert await _allowed(point, pair) == pair["allowed"]
