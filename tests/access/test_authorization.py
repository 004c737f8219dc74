"""Authorization of events, with HTTP servers as decision point and Register."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from events_core.access.authorization import Asked, Authorization, RequestBudget, Verdict
from events_core.access.decisions import (
    DECISION_SECONDS,
    UNDECIDABLE_SECONDS,
    DecisionBudget,
    Decisions,
    decision_cache,
    undecidable_cache,
)
from events_core.access.identity import Caller
from events_core.access.ports import UndecidedError
from events_core.access.xacml_request import EventLike
from events_core.adapters.neighbours.http_client import HttpClient, JsonService
from events_core.adapters.neighbours.pdp import PdpDecisionPoint
from events_core.adapters.neighbours.register import RegisterClient
from events_core.common.errors import EventsError
from tests.support.askers import (
    GUID,
    OTHER_GUID,
    OWNER,
    PERSON,
    PERSON_SUBJECT,
    PERSON_UUID,
    STRANGER_SUBJECT,
    USER,
    app_event,
    instance_url,
    other_event,
    question,
)
from tests.support.clock import Clock
from tests.support.pdp_server import DENY, PERMIT, PdpServer, Ruling
from tests.support.pdp_server import Asked as AskedOfPdp
from tests.support.register_server import Person, RegisterServer


@pytest.fixture
async def pdp() -> AsyncIterator[PdpServer]:
    """A decision point that permits everything unless a test says otherwise."""
    async with PdpServer() as server:
        yield server


@pytest.fixture
async def register() -> AsyncIterator[RegisterServer]:
    """A Register that knows one person."""
    async with RegisterServer({PERSON: Person(50002108, PERSON_UUID)}) as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    """The HTTP client of both adapters."""
    client = HttpClient()
    yield client
    await client.close()


@pytest.fixture
def clock() -> Clock:
    """The clock of the decisions' cache."""
    return Clock()


@pytest.fixture
def authorization(pdp: PdpServer, register: RegisterServer, client: HttpClient, clock: Clock) -> Authorization:
    """The use case on its real adapters."""
    point = PdpDecisionPoint(JsonService(client, "The decision point", pdp.url))
    parties = RegisterClient(JsonService(client, "Register", register.url))
    return Authorization(Decisions(point, decision_cache(clock=clock)), parties)


async def permitted(
    authorization: Authorization, caller: Caller, action: str, events: Sequence[EventLike]
) -> list[bool]:
    """Whether each event is permitted; every event must be decided."""
    return _booleans(await authorization.verdicts(caller, action, events, RequestBudget()))


async def permitted_each(authorization: Authorization, asked: Sequence[Asked]) -> list[bool]:
    """The same for several callers."""
    return _booleans(await authorization.verdicts_each(asked, RequestBudget()))


def _booleans(verdicts: Sequence[Verdict]) -> list[bool]:
    assert set(verdicts) <= {Verdict.PERMITTED, Verdict.DENIED}
    return [verdict is Verdict.PERMITTED for verdict in verdicts]


def _only_the_other_instance(asked: AskedOfPdp) -> Ruling:
    return PERMIT if OTHER_GUID in asked.resource["urn:altinn:instance-id"] else DENY


async def test_each_event_gets_its_decision(authorization: Authorization, pdp: PdpServer) -> None:
    """Whether events are permitted comes back in the order of the events."""
    pdp.decide = _only_the_other_instance
    events = [app_event(source=instance_url(guid)) for guid in (GUID, OTHER_GUID, GUID, OTHER_GUID)]
    assert await permitted(authorization, USER, "read", events) == [False, True, False, True]


async def test_an_empty_page_sends_no_request(authorization: Authorization, pdp: PdpServer) -> None:
    """Without events there is no question."""
    assert await permitted(authorization, USER, "read", []) == []
    assert pdp.requests == []


async def test_the_events_of_one_instance_are_one_question(authorization: Authorization, pdp: PdpServer) -> None:
    """A page sends one request, with one question per distinct resource and the id of its first event."""
    events = [app_event(f"e{n}", source=instance_url((GUID, OTHER_GUID)[n % 2])) for n in range(6)]
    await permitted(authorization, USER, "read", events)
    assert [[asked.resource["urn:altinn:event-id"] for asked in request] for request in pdp.asked] == [["e0", "e1"]]


async def test_the_question_is_about_the_caller_and_the_action(authorization: Authorization, pdp: PdpServer) -> None:
    """The decision point gets the caller's attributes and the action."""
    await permitted(authorization, USER, "read", [app_event()])
    [[asked]] = pdp.asked
    assert (asked.subject, asked.action) == (dict(USER.attributes), "read")


async def test_permits_and_denials_are_kept(authorization: Authorization, pdp: PdpServer) -> None:
    """A decision also serves another event of the same instance."""
    pdp.decide = _only_the_other_instance
    for event_id in ("e1", "e2"):
        events = [app_event(event_id, source=instance_url(guid)) for guid in (GUID, OTHER_GUID)]
        assert await permitted(authorization, USER, "read", events) == [False, True]
    assert len(pdp.requests) == 1


async def test_only_new_questions_are_sent(authorization: Authorization, pdp: PdpServer) -> None:
    """A page with one new instance sends one question."""
    await permitted(authorization, USER, "read", [app_event()])
    await permitted(authorization, USER, "read", [app_event(), app_event(source=instance_url(OTHER_GUID))])
    assert [len(request) for request in pdp.asked] == [1, 1]


@pytest.mark.parametrize("other", [OWNER, replace(USER, attributes=(*USER.attributes, ("urn:altinn:x", "1")))])
async def test_decision_is_the_callers_alone(authorization: Authorization, pdp: PdpServer, other: Caller) -> None:
    """Callers that differ in one attribute ask different questions."""
    for caller in (USER, other):
        await permitted(authorization, caller, "read", [app_event()])
    assert len(pdp.requests) == 2


async def test_decision_is_for_its_action_alone(authorization: Authorization, pdp: PdpServer) -> None:
    """A caller that may read may not publish for that reason."""
    for action in ("read", "publish"):
        await permitted(authorization, USER, action, [app_event()])
    assert len(pdp.requests) == 2


async def test_a_decision_expires(authorization: Authorization, pdp: PdpServer, clock: Clock) -> None:
    """The contract allows a decision to be kept for one to five minutes."""
    assert 60 <= DECISION_SECONDS <= 300
    for now in (0, DECISION_SECONDS - 1, DECISION_SECONDS + 1):
        clock.now = now
        await permitted(authorization, USER, "read", [app_event()])
    assert len(pdp.requests) == 2


async def test_the_least_recently_used_decision_is_dropped_first(pdp: PdpServer, client: HttpClient) -> None:
    """The cache is bounded."""
    service = JsonService(client, "The decision point", pdp.url)
    decisions = Decisions(PdpDecisionPoint(service), decision_cache(size=2))
    for resource in ("a", "b", "a", "c", "a", "b"):
        await decisions.get([question(resource=resource)], DecisionBudget(1))
    asked = [request[0].resource["urn:altinn:resource"] for request in pdp.asked]
    assert asked == ["a", "b", "c", "b"]


async def test_each_caller_must_meet_the_required_level(authorization: Authorization, pdp: PdpServer) -> None:
    """The obligation of a kept decision counts as well."""
    pdp.decide = lambda _: Ruling(level=4)
    for _ in range(2):
        assert await permitted(authorization, USER, "read", [app_event()]) == [False]
        assert await permitted(authorization, replace(USER, level=4), "read", [app_event()]) == [True]
    assert len(pdp.requests) == 1


async def test_a_question_asked_at_once_is_sent_once(authorization: Authorization, pdp: PdpServer) -> None:
    """Callers that ask during the request share its response."""
    pages = await asyncio.gather(*(permitted(authorization, USER, "read", [app_event()]) for _ in range(20)))
    assert pages == [[True]] * 20
    assert len(pdp.requests) == 1


async def test_overlapping_pages_send_each_question_once(authorization: Authorization, pdp: PdpServer) -> None:
    """A page sends only the questions that are not on their way."""
    pdp.gate.clear()
    first = asyncio.create_task(
        authorization.decisions.get([question(resource="a"), question(resource="b")], DecisionBudget(1))
    )
    await pdp.arrived.wait()
    second = asyncio.create_task(
        authorization.decisions.get([question(resource="b"), question(resource="c")], DecisionBudget(1))
    )
    await asyncio.sleep(0)
    pdp.gate.set()
    await asyncio.gather(first, second)
    asked = [[one.resource["urn:altinn:resource"] for one in request] for request in pdp.asked]
    assert asked == [["a", "b"], ["c"]]


async def test_a_failure_reaches_every_caller_and_is_not_kept(authorization: Authorization, pdp: PdpServer) -> None:
    """The next page sends the question again."""
    pdp.status = 500
    pages = [permitted(authorization, USER, "read", [app_event()]) for _ in range(5)]
    failures = await asyncio.gather(*pages, return_exceptions=True)
    assert all(isinstance(failure, EventsError) and failure.problem.status == 503 for failure in failures)
    assert len(pdp.requests) == 1
    pdp.status = 200
    assert await permitted(authorization, USER, "read", [app_event()]) == [True]


async def test_a_cancelled_caller_does_not_fail_the_others(authorization: Authorization, pdp: PdpServer) -> None:
    """The others get the response to the request that the cancelled caller sent."""
    pdp.gate.clear()
    first, second = (asyncio.create_task(permitted(authorization, USER, "read", [app_event()])) for _ in range(2))
    await pdp.arrived.wait()
    first.cancel()
    pdp.gate.set()
    assert await second == [True]
    assert first.cancelled()
    assert len(pdp.requests) == 1


async def test_a_failure_without_a_waiting_caller_is_silent(authorization: Authorization, pdp: PdpServer) -> None:
    """The next caller sends the question again."""
    pdp.gate.clear()
    cancelled = asyncio.create_task(permitted(authorization, USER, "read", [app_event()]))
    await pdp.arrived.wait()
    cancelled.cancel()
    pdp.status = 500
    pdp.gate.set()
    with pytest.raises(EventsError):
        await permitted(authorization, USER, "read", [app_event()])
    pdp.status = 200
    assert await permitted(authorization, USER, "read", [app_event()]) == [True]


async def test_without_a_decision_point_a_page_is_unavailable(authorization: Authorization, pdp: PdpServer) -> None:
    """Nothing is permitted and nothing denied."""
    await pdp.stop()
    with pytest.raises(EventsError, match="503") as caught:
        await permitted(authorization, USER, "read", [app_event()])
    assert "Retry-After" in caught.value.headers


async def test_the_rows_of_several_callers_are_one_request(authorization: Authorization, pdp: PdpServer) -> None:
    """Each row has its own caller, action and level. Equal rows are one question."""
    pdp.decide = lambda asked: Ruling(level=3) if asked.subject.get("urn:altinn:userid") else DENY
    low = replace(USER, level=2)
    rows = [Asked(caller, "read", app_event(f"e{n}")) for n, caller in enumerate((USER, OWNER, low, USER))]
    stranger = Asked(USER, "subscribe", other_event(subject=STRANGER_SUBJECT))
    assert await permitted_each(authorization, [*rows, stranger]) == [True, False, False, True, False]
    assert [len(request) for request in pdp.asked] == [2]


async def test_questions_about_several_subjects_go_in_one_request(authorization: Authorization, pdp: PdpServer) -> None:
    """Each subject gets its own decision."""
    pdp.decide = lambda asked: PERMIT if asked.subject["urn:altinn:userid"] == "2" else DENY
    questions = [question(user) for user in ("1", "2", "3")]
    for _ in range(2):
        found = await authorization.decisions.get(questions, DecisionBudget(1))
        assert [found[one].permit for one in questions] == [False, True, False]
    assert len(pdp.requests) == 1


async def test_a_person_is_asked_about_by_uuid(
    authorization: Authorization, pdp: PdpServer, register: RegisterServer
) -> None:
    """The decision point gets the party's UUID, never the person number."""
    assert await permitted(authorization, OWNER, "subscribe", [other_event(subject=PERSON_SUBJECT)]) == [True]
    assert pdp.asked[0][0].resource["urn:altinn:party:uuid"] == PERSON_UUID
    assert PERSON not in pdp.log
    assert len(register.requests) == 1


async def test_an_event_about_an_unknown_person_is_denied(authorization: Authorization, pdp: PdpServer) -> None:
    """The other events of the page are decided as usual."""
    malformed = "urn:altinn:person:identifier-no:1"
    events = [other_event(subject=subject) for subject in (STRANGER_SUBJECT, None, malformed, PERSON_SUBJECT)]
    assert await permitted(authorization, OWNER, "subscribe", events) == [False, True, False, True]
    assert [len(request) for request in pdp.asked] == [2]


async def test_events_about_unknown_persons_are_found_by_index(authorization: Authorization) -> None:
    """A publisher learns which of its events are about persons whom Register does not know."""
    events = [other_event(subject=subject) for subject in (PERSON_SUBJECT, STRANGER_SUBJECT, "/party/1", None)]
    assert await authorization.unknown_persons(events, RequestBudget()) == [1]


async def test_the_persons_of_a_page_are_one_lookup(authorization: Authorization, register: RegisterServer) -> None:
    """Register gets each person number once."""
    events = [other_event(subject=subject) for subject in (PERSON_SUBJECT, STRANGER_SUBJECT, PERSON_SUBJECT)]
    await permitted(authorization, OWNER, "subscribe", events)
    assert [len(document["Data"]) for _, document in register.requests] == [2]


async def test_a_malformed_person_number_is_not_looked_up(
    authorization: Authorization, register: RegisterServer
) -> None:
    """Register cannot know it."""
    subject = "urn:altinn:person:identifier-no:٠١٨٩٩٦٩٩٥٥٢"
    assert await permitted(authorization, OWNER, "subscribe", [other_event(subject=subject)]) == [False]
    assert register.requests == []


async def test_without_register_a_page_about_a_person_is_unavailable(
    authorization: Authorization, register: RegisterServer
) -> None:
    """A page without persons does not need Register."""
    await register.stop()
    with pytest.raises(EventsError, match="503"):
        await permitted(authorization, OWNER, "subscribe", [other_event(subject=PERSON_SUBJECT)])
    assert await permitted(authorization, OWNER, "subscribe", [other_event()]) == [True]


async def test_an_event_that_cannot_be_decided_does_not_hide_the_others(
    authorization: Authorization, pdp: PdpServer
) -> None:
    """The app of the event in the middle has no policy."""
    pdp.fails = lambda asked: asked.resource["urn:altinn:app"] == "gone"
    gone = app_event(source=instance_url(app="ttd/gone"), resource="urn:altinn:resource:app_ttd_gone")
    events = [app_event(), gone, app_event(source=instance_url(OTHER_GUID))]
    expected = [Verdict.PERMITTED, Verdict.UNDECIDABLE, Verdict.PERMITTED]
    assert await authorization.verdicts(USER, "read", events, RequestBudget()) == expected
    asked = [Asked(USER, "read", event) for event in events]
    assert await authorization.verdicts_each(asked, RequestBudget()) == expected
    pdp.fails = lambda _: False
    assert await authorization.verdicts_each(asked, RequestBudget(), anew=True) == [Verdict.PERMITTED] * 3


async def test_a_verdict_that_expires_while_others_are_asked_holds_for_its_page(
    pdp: PdpServer, client: HttpClient, clock: Clock
) -> None:
    """The event in front is still undecidable, and not undecided."""
    point = PdpDecisionPoint(JsonService(client, "The decision point", pdp.url))
    decisions = Decisions(point, decision_cache(clock=clock), undecidable_cache(clock=clock))
    authorization = Authorization(decisions, RegisterClient(JsonService(client, "Register", "http://127.0.0.1:9")))
    pdp.fails = lambda asked: asked.resource["urn:altinn:app"] == "gone"
    gone = app_event(source=instance_url(app="ttd/gone"), resource="urn:altinn:resource:app_ttd_gone")
    events = [gone, app_event()]
    assert await authorization.verdicts(USER, "read", events, RequestBudget()) == [
        Verdict.UNDECIDABLE,
        Verdict.PERMITTED,
    ]

    def decide(_: AskedOfPdp) -> Ruling:
        clock.now = UNDECIDABLE_SECONDS
        return PERMIT

    pdp.decide = decide
    events[1] = app_event(source=instance_url(OTHER_GUID))
    assert await authorization.verdicts(USER, "read", events, RequestBudget()) == [
        Verdict.UNDECIDABLE,
        Verdict.PERMITTED,
    ]


async def test_events_ahead_help_to_decide(authorization: Authorization, pdp: PdpServer) -> None:
    """Register is not asked about the persons among them."""
    pdp.fails = lambda asked: asked.resource["urn:altinn:app"] == "gone"
    gone = app_event(source=instance_url(app="ttd/gone"), resource="urn:altinn:resource:app_ttd_gone")

    async def ahead() -> Sequence[EventLike]:
        return [app_event(subject=STRANGER_SUBJECT), app_event()]

    assert await authorization.verdicts(USER, "read", [gone], RequestBudget()) == [Verdict.UNDECIDED]
    assert await authorization.verdicts(USER, "read", [gone], RequestBudget(), ahead) == [Verdict.UNDECIDABLE]


async def test_a_subscription_that_cannot_be_decided_is_unavailable_or_denied(
    authorization: Authorization, pdp: PdpServer
) -> None:
    """It is denied once the decision point answers another question of the subscriber."""
    pdp.fails = lambda asked: asked.resource["urn:altinn:app"] == "gone"
    with pytest.raises(UndecidedError, match="a resource that has no policy"):
        await authorization.may_subscribe(USER, "urn:altinn:resource:app_ttd_gone", None)
    assert await authorization.may_subscribe(USER, "urn:altinn:resource:app_ttd_apps-test", None)
    assert not await authorization.may_subscribe(USER, "urn:altinn:resource:app_ttd_gone", None)
