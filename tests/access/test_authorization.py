"""Which events a caller may have: asked as seldom as allowed, of a real decision point and a real Register."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from events_core.access.authorization import DECISION_SECONDS, Authorization
from events_core.access.identity import Caller
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
from tests.support.pdp_server import DENY, PERMIT, Asked, PdpServer, Ruling
from tests.support.register_server import Person, RegisterServer


@pytest.fixture
async def pdp() -> AsyncIterator[PdpServer]:
    """A decision point that permits everything until told otherwise."""
    async with PdpServer() as server:
        yield server


@pytest.fixture
async def register() -> AsyncIterator[RegisterServer]:
    """A Register that knows one person."""
    async with RegisterServer({PERSON: Person(50002108, PERSON_UUID)}) as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    """The session to ask through."""
    client = HttpClient()
    yield client
    await client.close()


@pytest.fixture
def clock() -> Clock:
    """The clock of the cache of decisions."""
    return Clock()


@pytest.fixture
def authorization(pdp: PdpServer, register: RegisterServer, client: HttpClient, clock: Clock) -> Authorization:
    """The use case under test, on real adapters."""
    point = PdpDecisionPoint(JsonService(client, "The decision point", pdp.url))
    parties = RegisterClient(JsonService(client, "Register", register.url))
    return Authorization(point, parties, clock=clock)


def _only_the_other_instance(asked: Asked) -> Ruling:
    return PERMIT if OTHER_GUID in asked.resource["urn:altinn:instance-id"] else DENY


async def test_each_event_gets_its_decision(authorization: Authorization, pdp: PdpServer) -> None:
    """Events come back permitted or not, in their order."""
    pdp.decide = _only_the_other_instance
    events = [app_event(source=instance_url(guid)) for guid in (GUID, OTHER_GUID, GUID, OTHER_GUID)]
    assert await authorization.permitted(USER, "read", events) == [False, True, False, True]


async def test_no_events_are_not_asked_about(authorization: Authorization, pdp: PdpServer) -> None:
    """An empty page asks nothing."""
    assert await authorization.permitted(USER, "read", []) == []
    assert pdp.requests == []


async def test_events_of_one_instance_are_one_question(authorization: Authorization, pdp: PdpServer) -> None:
    """One request a page, one question for each distinct tuple, the first event's id standing for it."""
    events = [app_event(f"e{n}", source=instance_url((GUID, OTHER_GUID)[n % 2])) for n in range(6)]
    await authorization.permitted(USER, "read", events)
    assert [[asked.resource["urn:altinn:event-id"] for asked in request] for request in pdp.asked] == [["e0", "e1"]]


async def test_subject_of_the_question_is_the_caller(authorization: Authorization, pdp: PdpServer) -> None:
    """The decision point learns who asks and what for."""
    await authorization.permitted(USER, "read", [app_event()])
    [[asked]] = pdp.asked
    assert (asked.subject, asked.action) == (dict(USER.attributes), "read")


async def test_decision_is_kept_whatever_it_is(authorization: Authorization, pdp: PdpServer) -> None:
    """Permit and Deny are both kept, also for another event of the same tuple."""
    pdp.decide = _only_the_other_instance
    for event_id in ("e1", "e2"):
        events = [app_event(event_id, source=instance_url(guid)) for guid in (GUID, OTHER_GUID)]
        assert await authorization.permitted(USER, "read", events) == [False, True]
    assert len(pdp.requests) == 1


async def test_only_what_is_not_kept_is_asked(authorization: Authorization, pdp: PdpServer) -> None:
    """A page with one new tuple asks that one."""
    await authorization.permitted(USER, "read", [app_event()])
    await authorization.permitted(USER, "read", [app_event(), app_event(source=instance_url(OTHER_GUID))])
    assert [len(request) for request in pdp.asked] == [1, 1]


@pytest.mark.parametrize("other", [OWNER, replace(USER, attributes=(*USER.attributes, ("urn:altinn:x", "1")))])
async def test_decision_is_the_callers_alone(authorization: Authorization, pdp: PdpServer, other: Caller) -> None:
    """Another subject is another question, even if it differs in one attribute."""
    for caller in (USER, other):
        await authorization.permitted(caller, "read", [app_event()])
    assert len(pdp.requests) == 2


async def test_decision_is_for_its_action_alone(authorization: Authorization, pdp: PdpServer) -> None:
    """Being allowed to read allows nothing else."""
    for action in ("read", "publish"):
        await authorization.permitted(USER, action, [app_event()])
    assert len(pdp.requests) == 2


async def test_decision_expires(authorization: Authorization, pdp: PdpServer, clock: Clock) -> None:
    """A decision serves for its time and then is asked for again; that time is one to five minutes."""
    assert 60 <= DECISION_SECONDS <= 300
    for now in (0, DECISION_SECONDS - 1, DECISION_SECONDS + 1):
        clock.now = now
        await authorization.permitted(USER, "read", [app_event()])
    assert len(pdp.requests) == 2


async def test_least_recently_used_decision_goes_first(pdp: PdpServer, client: HttpClient) -> None:
    """The cache is bounded; what is used stays."""
    service = JsonService(client, "The decision point", pdp.url)
    authorization = Authorization(PdpDecisionPoint(service), RegisterClient(service), size=2)
    for resource in ("a", "b", "a", "c", "a", "b"):
        await authorization.decide([question(resource=resource)])
    asked = [request[0].resource["urn:altinn:resource"] for request in pdp.asked]
    assert asked == ["a", "b", "c", "b"]


async def test_level_is_held_against_each_caller(authorization: Authorization, pdp: PdpServer) -> None:
    """An obligation that a caller's level does not meet denies, a decision kept or not."""
    pdp.decide = lambda _: Ruling(level=4)
    for _ in range(2):
        assert await authorization.permitted(USER, "read", [app_event()]) == [False]
        assert await authorization.permitted(replace(USER, level=4), "read", [app_event()]) == [True]
    assert len(pdp.requests) == 1


async def test_same_question_at_once_is_asked_once(authorization: Authorization, pdp: PdpServer) -> None:
    """Readers who ask the same thing while it is being asked share the answer."""
    answers = await asyncio.gather(*(authorization.permitted(USER, "read", [app_event()]) for _ in range(20)))
    assert answers == [[True]] * 20
    assert len(pdp.requests) == 1


async def test_overlapping_pages_ask_each_question_once(authorization: Authorization, pdp: PdpServer) -> None:
    """A page that is partly being asked adds what is new only."""
    pdp.gate.clear()
    first = asyncio.create_task(authorization.decide([question(resource="a"), question(resource="b")]))
    await pdp.arrived.wait()
    second = asyncio.create_task(authorization.decide([question(resource="b"), question(resource="c")]))
    await asyncio.sleep(0)
    pdp.gate.set()
    await asyncio.gather(first, second)
    asked = [[each.resource["urn:altinn:resource"] for each in request] for request in pdp.asked]
    assert asked == [["a", "b"], ["c"]]


async def test_failure_reaches_everybody_and_is_not_kept(authorization: Authorization, pdp: PdpServer) -> None:
    """All who wait for a failing request get its failure; the next one asks again."""
    pdp.status = 500
    asking = [authorization.permitted(USER, "read", [app_event()]) for _ in range(5)]
    failures = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(failure, EventsError) and failure.problem.status == 503 for failure in failures)
    assert len(pdp.requests) == 1
    pdp.status = 200
    assert await authorization.permitted(USER, "read", [app_event()]) == [True]


async def test_asker_who_gives_up_fails_nobody(authorization: Authorization, pdp: PdpServer) -> None:
    """When the first asker is cancelled the others still get the answer."""
    pdp.gate.clear()
    first, second = (asyncio.create_task(authorization.permitted(USER, "read", [app_event()])) for _ in range(2))
    await pdp.arrived.wait()
    first.cancel()
    pdp.gate.set()
    assert await second == [True]
    assert first.cancelled()
    assert len(pdp.requests) == 1


async def test_failure_nobody_waits_for_is_silent(authorization: Authorization, pdp: PdpServer) -> None:
    """A request that fails after its asker gave up leaves the next one to ask anew."""
    pdp.gate.clear()
    asker = asyncio.create_task(authorization.permitted(USER, "read", [app_event()]))
    await pdp.arrived.wait()
    asker.cancel()
    pdp.status = 500
    pdp.gate.set()
    with pytest.raises(EventsError):
        await authorization.permitted(USER, "read", [app_event()])
    pdp.status = 200
    assert await authorization.permitted(USER, "read", [app_event()]) == [True]


async def test_decision_point_down_is_never_a_page(authorization: Authorization, pdp: PdpServer) -> None:
    """Without a decision point nothing is permitted and nothing denied: 503."""
    await pdp.stop()
    with pytest.raises(EventsError, match="503") as caught:
        await authorization.permitted(USER, "read", [app_event()])
    assert "Retry-After" in caught.value.headers


async def test_many_subjects_are_decided_at_once(authorization: Authorization, pdp: PdpServer) -> None:
    """Questions of several subjects go in one request and are kept apart."""
    pdp.decide = lambda asked: PERMIT if asked.subject["urn:altinn:userid"] == "2" else DENY
    questions = [question(user) for user in ("1", "2", "3")]
    for _ in range(2):
        assert [decision.permit for decision in await authorization.decide(questions)] == [False, True, False]
    assert len(pdp.requests) == 1


async def test_person_is_asked_about_by_uuid(
    authorization: Authorization, pdp: PdpServer, register: RegisterServer
) -> None:
    """A person's number becomes the party's uuid, and never reaches the decision point."""
    assert await authorization.permitted(OWNER, "subscribe", [other_event(subject=PERSON_SUBJECT)]) == [True]
    assert pdp.asked[0][0].resource["urn:altinn:party:uuid"] == PERSON_UUID
    assert PERSON not in pdp.log
    assert len(register.requests) == 1


async def test_unknown_person_is_a_denied_row(authorization: Authorization, pdp: PdpServer) -> None:
    """Events about persons whom Register does not know are denied unasked; others of the page are not."""
    malformed = "urn:altinn:person:identifier-no:1"
    events = [other_event(subject=subject) for subject in (STRANGER_SUBJECT, None, malformed, PERSON_SUBJECT)]
    assert await authorization.permitted(OWNER, "subscribe", events) == [False, True, False, True]
    assert [len(request) for request in pdp.asked] == [2]


async def test_unknown_persons_are_pointed_out(authorization: Authorization) -> None:
    """A publisher's events about unknown persons are found by their indexes."""
    events = [other_event(subject=subject) for subject in (PERSON_SUBJECT, STRANGER_SUBJECT, "/party/1", None)]
    assert await authorization.unknown_persons(events) == [1]


async def test_persons_of_a_page_are_looked_up_once(authorization: Authorization, register: RegisterServer) -> None:
    """All persons of a page are one lookup, each of them once."""
    events = [other_event(subject=subject) for subject in (PERSON_SUBJECT, STRANGER_SUBJECT, PERSON_SUBJECT)]
    await authorization.permitted(OWNER, "subscribe", events)
    assert [len(document["Data"]) for _, document in register.requests] == [2]


async def test_malformed_numbers_are_not_looked_up(authorization: Authorization, register: RegisterServer) -> None:
    """What cannot be a person's number is unknown without asking Register."""
    subject = "urn:altinn:person:identifier-no:٠١٨٩٩٦٩٩٥٥٢"
    assert await authorization.permitted(OWNER, "subscribe", [other_event(subject=subject)]) == [False]
    assert register.requests == []


async def test_register_down_is_unavailable(authorization: Authorization, register: RegisterServer) -> None:
    """When a person cannot be looked up the page fails with 503, and pages about nobody do not."""
    await register.stop()
    with pytest.raises(EventsError, match="503"):
        await authorization.permitted(OWNER, "subscribe", [other_event(subject=PERSON_SUBJECT)])
    assert await authorization.permitted(OWNER, "subscribe", [other_event()]) == [True]
