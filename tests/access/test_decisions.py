"""Questions that the decision point cannot decide, with an HTTP server as the decision point."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from events_core.access.decisions import (
    UNDECIDABLE_SECONDS,
    Ahead,
    DecisionBudget,
    Decisions,
    decision_cache,
    undecidable_cache,
)
from events_core.access.ports import UndecidedError
from events_core.access.xacml_request import Question
from events_core.adapters.neighbours.http_client import HttpClient, JsonService
from events_core.adapters.neighbours.pdp import PdpDecisionPoint
from events_core.common.errors import EventsError
from tests.support.clock import Clock
from tests.support.pdp_server import DENY, PERMIT, Asked, PdpServer

USER = (("urn:altinn:userid", "20012345"),)
OTHER_USER = (("urn:altinn:userid", "20012346"),)


@pytest.fixture
async def pdp() -> AsyncIterator[PdpServer]:
    """A decision point that permits everything that does not fail."""
    async with PdpServer() as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    """The clock of both caches."""
    return Clock()


@pytest.fixture
async def decisions(pdp: PdpServer, clock: Clock) -> AsyncIterator[Decisions]:
    """The decisions of the server."""
    client = HttpClient()
    point = PdpDecisionPoint(JsonService(client, "The decision point", pdp.url))
    yield Decisions(point, decision_cache(clock=clock), undecidable_cache(clock=clock))
    await client.close()


def _question(name: str, resource: str = "r", subject: tuple[tuple[str, str], ...] = USER) -> Question:
    return Question(subject, "read", (("urn:altinn:resource", name),), f"e-{name}", resource)


def _questions(count: int) -> list[Question]:
    return [_question(f"q{number}") for number in range(count)]


def _fail(*names: str) -> Callable[[Asked], bool]:
    return lambda asked: asked.resource["urn:altinn:resource"] in names


def _ahead(*questions: Question) -> Ahead:
    async def read() -> Sequence[Question]:
        return questions

    return read


def _sizes(pdp: PdpServer) -> list[int]:
    return [len(request) for request in pdp.asked]


async def test_the_question_that_fails_takes_no_other_with_it(decisions: Decisions, pdp: PdpServer) -> None:
    """The others are decided, and the one that fails alone is undecidable."""
    pdp.fails = _fail("q1")
    first, poison, last = questions = _questions(3)
    found = await decisions.get(questions, DecisionBudget(64))
    assert set(found) == {first, last}
    assert [decisions.is_undecidable(one) for one in questions] == [False, True, False]
    assert not decisions.is_undecidable(_question("q1", subject=OTHER_USER))
    assert poison not in found


async def test_a_decision_is_kept_and_an_undecidable_question_for_a_minute(
    decisions: Decisions, pdp: PdpServer, clock: Clock
) -> None:
    """Within the minute nothing is asked. Then the question is asked anew."""
    pdp.fails = _fail("q1")
    questions = _questions(3)
    await decisions.get(questions, DecisionBudget(64))
    asked = len(pdp.requests)
    clock.now = UNDECIDABLE_SECONDS - 1
    await decisions.get(questions, DecisionBudget(64))
    assert len(pdp.requests) == asked
    clock.now = UNDECIDABLE_SECONDS + 1
    pdp.fails = _fail()
    assert len(await decisions.get(questions, DecisionBudget(64))) == 3
    assert _sizes(pdp)[asked:] == [1]


async def test_an_undecidable_question_is_forgotten_on_demand(decisions: Decisions, pdp: PdpServer) -> None:
    """A delivery asks anew on its schedule."""
    pdp.fails = _fail("q1")
    questions = _questions(3)
    await decisions.get(questions, DecisionBudget(64))
    pdp.fails = _fail()
    decisions.forget_undecidable(questions)
    assert set(await decisions.get(questions, DecisionBudget(64))) == set(questions)


async def test_nothing_is_denied_in_an_outage_within_the_decision_point(decisions: Decisions, pdp: PdpServer) -> None:
    """It answers every request with a failure. No witness is answered, though one was a moment ago."""
    witness = _question("known")
    await decisions.get([witness], DecisionBudget(64))
    pdp.fails = lambda _: True
    questions = _questions(20)
    assert await decisions.get(questions, DecisionBudget(64)) == {}
    assert not any(map(decisions.is_undecidable, questions))
    assert _sizes(pdp)[1:] == [20, 1, *[1] * 7]
    pdp.fails = _fail()
    assert len(await decisions.get(questions, DecisionBudget(64))) == 20


@pytest.mark.parametrize("answered", range(1, 14))
async def test_an_outage_that_begins_during_the_search_denies_nothing(
    decisions: Decisions, pdp: PdpServer, answered: int
) -> None:
    """Whenever it begins, only the question that fails for good may become undecidable."""
    pdp.fails = lambda asked: len(pdp.requests) > answered or _fail("q5")(asked)
    questions = _questions(8)
    await decisions.get(questions, DecisionBudget(64))
    assert [one for one in questions if decisions.is_undecidable(one)] in ([], [questions[5]])


@pytest.mark.parametrize("requests", [1, 5, 10])
@pytest.mark.parametrize("begin", range(1, 15))
async def test_an_outage_that_begins_and_ends_during_the_search_denies_nothing(
    decisions: Decisions, pdp: PdpServer, begin: int, requests: int
) -> None:
    """What failed alone is asked again beside the witness."""
    pdp.fails = lambda asked: begin < len(pdp.requests) <= begin + requests or _fail("q5")(asked)
    questions = _questions(8)
    await decisions.get(questions, DecisionBudget(64))
    assert [one for one in questions if decisions.is_undecidable(one)] in ([], [questions[5]])


@pytest.mark.parametrize("failing", range(1, 16))
async def test_a_request_that_fails_by_chance_hides_nothing(decisions: Decisions, pdp: PdpServer, failing: int) -> None:
    """Whichever it is, every question but the one that fails for good is decided."""
    pdp.fails = lambda asked: len(pdp.requests) == failing + 1 or _fail("q5")(asked)
    await decisions.get([_question("witness")], DecisionBudget(64))
    questions = _questions(20)
    found = await decisions.get(questions, DecisionBudget(64))
    assert [one for one in questions if one not in found] == [questions[5]]


async def test_the_kept_witness_is_asked_first(decisions: Decisions, pdp: PdpServer) -> None:
    """It is the question of the same subject that was answered last."""
    await decisions.get([_question("old")], DecisionBudget(64))
    await decisions.get([_question("witness")], DecisionBudget(64))
    await decisions.get([_question("other", subject=OTHER_USER)], DecisionBudget(64))
    pdp.fails = _fail("gone")
    await decisions.get([_question("gone")], DecisionBudget(64))
    asked = [[one.resource["urn:altinn:resource"] for one in request] for request in pdp.asked]
    assert asked[3:6] == [["gone"], ["witness"], ["gone"]]
    assert sorted(asked[6:]) == [["gone"], ["witness"]]
    assert {one.subject["urn:altinn:userid"] for request in pdp.asked[3:] for one in request} == {"20012345"}
    assert decisions.is_undecidable(_question("gone"))


async def test_a_question_alone_without_a_witness_is_not_decided(decisions: Decisions, pdp: PdpServer) -> None:
    """Another subject's answers say nothing about this one."""
    await decisions.get([_question("other", subject=OTHER_USER)], DecisionBudget(64))
    pdp.fails = _fail("gone")
    assert await decisions.get([_question("gone")], DecisionBudget(64)) == {}
    assert not decisions.is_undecidable(_question("gone"))
    assert _sizes(pdp) == [1, 1]


async def test_rows_ahead_can_be_witnesses(decisions: Decisions, pdp: PdpServer) -> None:
    """A page whose every row fails moves on if a later row is answered."""
    pdp.fails = lambda asked: asked.resource["urn:altinn:resource"] != "later"
    questions = _questions(3)
    found = await decisions.get(questions, DecisionBudget(64), ahead=_ahead(_question("later")))
    assert found == {}
    assert all(map(decisions.is_undecidable, questions))


async def test_witnesses_are_sought_in_different_resources(decisions: Decisions, pdp: PdpServer) -> None:
    """At most eight questions are asked, each alone. A resource without a policy takes at most one of them."""
    pdp.fails = lambda asked: not asked.resource["urn:altinn:resource"].startswith("good")
    bad = [_question(f"bad{number}", "urn:bad") for number in range(30)]
    good = [_question(f"good{number}", f"urn:good{number}") for number in range(20)]
    await decisions.get(bad, DecisionBudget(64), ahead=_ahead(*good))
    asked = [[one.resource["urn:altinn:resource"] for one in request] for request in pdp.asked]
    witnesses = [name for (name,) in asked[1:9]]
    assert len(set(witnesses)) == 8
    assert sum(name.startswith("bad") for name in witnesses) <= 1
    assert all(len(request) > 1 for request in asked[9:17])


@pytest.mark.parametrize(("count", "bad"), [(12, 8), (15, 8), (23, 15), (1_000, 500), (1_000, 850)])
async def test_witnesses_are_sought_all_over_one_resource(
    decisions: Decisions, pdp: PdpServer, count: int, bad: int
) -> None:
    """A long run of undecidable questions at the front of a feed does not stop its reader."""
    pdp.fails = lambda asked: int(asked.resource["urn:altinn:resource"].removeprefix("q")) < bad
    page, rest = _questions(count)[:50], _questions(count)[50:]
    await decisions.get(page, DecisionBudget(64), ahead=_ahead(*rest))
    assert decisions.is_undecidable(page[0])


async def test_witnesses_are_sought_all_over_each_resource(decisions: Decisions, pdp: PdpServer) -> None:
    """The first half of each fails."""
    pdp.fails = lambda asked: int(asked.resource["urn:altinn:resource"].removeprefix("q")) < 48
    questions = [_question(f"q{number}", f"urn:{number % 2}") for number in range(100)]
    await decisions.get(questions, DecisionBudget(64))
    assert decisions.is_undecidable(questions[0])


@pytest.mark.parametrize("resources", [1, 30])
async def test_a_reader_who_tries_again_finds_another_witness(
    decisions: Decisions, pdp: PdpServer, resources: int
) -> None:
    """Other questions are asked each time, so one question in thirty that is answered is found sooner or later."""
    pdp.fails = lambda asked: asked.resource["urn:altinn:resource"] != "q29"
    questions = [_question(f"q{number}", f"urn:{number % resources}") for number in range(30)]
    for _ in range(200):
        if await decisions.get(questions, DecisionBudget(64)):
            break
    assert decisions.is_undecidable(questions[0])


async def test_five_undecidable_of_fifty_cost_at_most_48_requests(decisions: Decisions, pdp: PdpServer) -> None:
    """Wherever they stand, without a witness from before. Another read within a minute costs none."""
    questions = _questions(50)
    for seed in range(20):
        bad = random.Random(seed).sample(range(50), 5)
        pdp.fails = _fail(*(f"q{number}" for number in bad))
        pdp.requests.clear()
        fresh = Decisions(decisions.decision_point)
        found = await fresh.get(questions, DecisionBudget(64))
        assert sorted(questions.index(one) for one in found) == sorted(set(range(50)) - set(bad))
        assert all(fresh.is_undecidable(questions[number]) for number in bad)
        assert len(pdp.requests) <= 48
        sent = len(pdp.requests)
        await fresh.get(questions, DecisionBudget(64))
        assert len(pdp.requests) == sent


async def test_requests_are_sent_side_by_side_at_most_eight(decisions: Decisions, pdp: PdpServer) -> None:
    """A page does not wait for one request after the other, and does not flood the decision point."""
    pdp.fails = _fail(*(f"q{number}" for number in range(0, 50, 10)))
    await decisions.get(_questions(50), DecisionBudget(64))
    assert pdp.most_at_once == 8


@pytest.mark.parametrize("size", [1, 2, 50, 500, 1000])
async def test_a_search_sends_at_most_its_requests_and_decides_the_first_question(
    decisions: Decisions, pdp: PdpServer, size: int
) -> None:
    """All but one of the questions fail. Those at the front are decided first."""
    pdp.fails = lambda asked: asked.resource["urn:altinn:resource"] != "later"
    questions = _questions(size)
    requests = DecisionBudget(64)
    await decisions.get(questions, requests, ahead=_ahead(_question("later", "urn:other")))
    assert len(pdp.requests) <= 64
    assert requests.left >= 0
    undecidable = [decisions.is_undecidable(one) for one in questions]
    assert undecidable[0]
    assert undecidable == sorted(undecidable, reverse=True)


async def test_without_requests_left_nothing_is_sent(decisions: Decisions, pdp: PdpServer) -> None:
    """The page has sent its share."""
    assert await decisions.get(_questions(3), DecisionBudget(0)) == {}
    assert pdp.requests == []


async def test_questions_of_several_subjects_are_not_searched(decisions: Decisions, pdp: PdpServer) -> None:
    """Each delivery's lane asks for its own subject."""
    pdp.fails = _fail("gone")
    asked = [_question("gone"), _question("q", subject=OTHER_USER)]
    assert await decisions.get(asked, DecisionBudget(64)) == {}
    assert _sizes(pdp) == [2]


async def test_an_unreachable_decision_point_is_an_error_during_the_search(
    decisions: Decisions, pdp: PdpServer
) -> None:
    """Nothing is denied then."""
    pdp.fails = _fail("q1")
    pdp.edit = lambda results: [] if len(pdp.requests) > 5 else results
    with pytest.raises(EventsError, match="503"):
        await decisions.get(_questions(20), DecisionBudget(64))
    assert not any(map(decisions.is_undecidable, _questions(20)))


async def test_each_undecidable_question_is_a_log_line(
    decisions: Decisions, pdp: PdpServer, caplog: pytest.LogCaptureFixture
) -> None:
    """An alert reads the lines. They name the resource and no person."""
    pdp.fails = _fail("q1", "q2")
    await decisions.get(_questions(4), DecisionBudget(64))
    await decisions.get(_questions(4), DecisionBudget(64))
    lines = [record.getMessage() for record in caplog.records if "undecidable" in record.getMessage()]
    assert lines == ["question undecidable resource=r action=read"] * 2


async def test_a_page_that_shares_a_question_shares_its_outcome(decisions: Decisions, pdp: PdpServer) -> None:
    """Two pages ask at once."""
    pdp.fails = _fail("q1")
    pdp.decide = lambda asked: PERMIT if asked.resource["urn:altinn:resource"] == "q0" else DENY
    first, second = await asyncio.gather(*(decisions.get(_questions(4), DecisionBudget(64)) for _ in range(2)))
    assert first == second
    assert _sizes(pdp)[0] == 4
    assert _sizes(pdp).count(4) == 1


async def test_a_page_with_requests_left_does_not_share_the_poverty_of_another(
    decisions: Decisions, pdp: PdpServer
) -> None:
    """It decides what the other page left undecided, and asks nothing that was found undecidable."""
    pdp.fails = _fail("q1")
    questions = _questions(4)
    poor, rich = await asyncio.gather(*(decisions.get(questions, DecisionBudget(left)) for left in (1, 64)))
    assert poor == {}
    assert set(rich) == {one for one in questions if one != questions[1]}
    assert decisions.is_undecidable(questions[1])
    decisions.forget_undecidable(questions)
    sent = len(pdp.requests)
    await asyncio.gather(*(decisions.get(questions, DecisionBudget(64)) for _ in range(3)))
    assert _sizes(pdp)[sent:] == [1] * 5


@pytest.mark.parametrize("left", range(20))
async def test_no_more_requests_are_counted_than_there_are(decisions: Decisions, pdp: PdpServer, left: int) -> None:
    """Also when the search for a witness takes the last one."""
    pdp.fails = _fail("q1")
    requests = DecisionBudget(left)
    await decisions.get(_questions(8), requests)
    assert len(pdp.requests) == left - requests.left <= left


async def test_the_adapter_reports_that_a_question_is_undecided(decisions: Decisions, pdp: PdpServer) -> None:
    """A failure is neither a denial nor an outage of the network."""
    pdp.fails = _fail("q1")
    with pytest.raises(UndecidedError):
        await decisions.decision_point.decide(_questions(2))
