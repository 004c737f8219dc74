"""Register over HTTP: how it asks, what it keeps, and what it makes of bad answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from events_core.adapters.neighbours.http_client import HttpClient, JsonService
from events_core.adapters.neighbours.register import ANSWER_SECONDS, RegisterClient
from events_core.common.errors import EventsError
from tests.support.askers import PERSON, PERSON_UUID, STRANGER, USER
from tests.support.clock import Clock
from tests.support.register_server import Person, RegisterServer

UNIT = "974760673"
ALICE, BOB = replace(USER, bearer="alice"), replace(USER, bearer="bob")


@pytest.fixture
async def server() -> AsyncIterator[RegisterServer]:
    """A Register that knows one person and one organisation."""
    async with RegisterServer({PERSON: Person(50002108, PERSON_UUID)}, {UNIT: 50074838}) as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    """The clock of the cache."""
    return Clock()


@pytest.fixture
async def register(server: RegisterServer, clock: Clock) -> AsyncIterator[RegisterClient]:
    """The adapter under test, with a bearer of its own."""
    client = HttpClient()
    yield RegisterClient(JsonService(client, "Register", server.url, "key", _own_bearer), clock=clock)
    await client.close()


async def _own_bearer() -> str:
    return "own"


async def test_lookup_forwards_the_callers_bearer(register: RegisterClient, server: RegisterServer) -> None:
    """A party is looked up with the caller's token and our subscription key."""
    await register.party_of_person(PERSON, ALICE)
    await register.party_of_unit(UNIT, ALICE)
    assert server.requests == [("/v1/parties/lookup", {"Ssn": PERSON}), ("/v1/parties/lookup", {"OrgNo": UNIT})]
    assert {(each["Authorization"], each["Ocp-Apim-Subscription-Key"]) for each in server.headers} == {
        ("Bearer alice", "key")
    }


async def test_lookup_without_token_sends_none(register: RegisterClient, server: RegisterServer) -> None:
    """Our own token never stands in for a caller's."""
    await register.party_of_unit(UNIT, USER)
    assert "Authorization" not in server.headers[0]


async def test_query_carries_our_own_bearer(register: RegisterClient, server: RegisterServer) -> None:
    """Persons are queried by their URNs with the token of the service."""
    await register.party_uuids([PERSON])
    urn = f"urn:altinn:person:identifier-no:{PERSON}"
    assert server.requests == [("/v2/internal/parties/query", {"Data": [urn]})]
    assert server.headers[0]["Authorization"] == "Bearer own"


async def test_persons_are_queried_by_the_hundred(register: RegisterClient, server: RegisterServer) -> None:
    """More than 100 persons are several requests, each person in one of them."""
    await register.party_uuids([f"{number:011d}" for number in range(250)])
    assert sorted(len(document["Data"]) for _, document in server.requests) == [50, 100, 100]
    assert len({urn for _, document in server.requests for urn in document["Data"]}) == 250


async def test_lookup_is_kept_for_each_caller_apart(register: RegisterClient, server: RegisterServer) -> None:
    """One caller's answer is never another's."""
    for caller in (ALICE, BOB, ALICE, BOB):
        assert await register.party_of_unit(UNIT, caller) == 50074838
    assert [headers["Authorization"] for headers in server.headers] == ["Bearer alice", "Bearer bob"]


async def test_unknown_is_kept_too(register: RegisterClient, server: RegisterServer) -> None:
    """That a number is unknown is an answer."""
    for _ in range(2):
        assert await register.party_of_person(STRANGER, ALICE) is None
        assert await register.party_uuids([STRANGER]) == {}
    assert len(server.requests) == 2


async def test_only_new_persons_are_queried(register: RegisterClient, server: RegisterServer) -> None:
    """A number that was answered is not asked again."""
    await register.party_uuids([PERSON])
    assert await register.party_uuids([PERSON, STRANGER]) == {PERSON: PERSON_UUID}
    assert [len(document["Data"]) for _, document in server.requests] == [1, 1]


async def test_answers_expire(register: RegisterClient, server: RegisterServer, clock: Clock) -> None:
    """When its time is over an answer is asked for again."""
    await register.party_of_unit(UNIT, ALICE)
    clock.now += ANSWER_SECONDS + 1
    await register.party_of_unit(UNIT, ALICE)
    assert len(server.requests) == 2


async def test_the_same_lookup_at_once_is_one_request(register: RegisterClient, server: RegisterServer) -> None:
    """Those who ask while it is being asked share the answer."""
    assert await asyncio.gather(*(register.party_of_unit(UNIT, ALICE) for _ in range(20))) == [50074838] * 20
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [204, 302, 400, 401, 403, 429, 500, 503])
async def test_other_status_is_unavailable_and_not_kept(
    register: RegisterClient, server: RegisterServer, status: int
) -> None:
    """Only 200 and 404 are answers; after a failure Register is asked again."""
    server.status = status
    with pytest.raises(EventsError, match="503"):
        await register.party_of_person(PERSON, ALICE)
    with pytest.raises(EventsError, match="503"):
        await register.party_uuids([PERSON])
    server.status = 200
    assert await register.party_of_person(PERSON, ALICE) == 50002108
    assert await register.party_uuids([PERSON]) == {PERSON: PERSON_UUID}


async def test_query_that_is_not_there_is_unavailable(register: RegisterClient, server: RegisterServer) -> None:
    """A 404 of the query says that the query is missing, not the person."""
    server.status = 404
    with pytest.raises(EventsError, match="503"):
        await register.party_uuids([PERSON])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"<a/>",
        b'{"partyId": "x", "data": 1}',
        b'{"partyId": true, "data": {}}',
        b'{"partyId": 0}',
    ],
)
async def test_nonsense_is_unavailable(register: RegisterClient, server: RegisterServer, body: bytes) -> None:
    """A body that is no answer of Register says nothing about a number."""
    server.body = body
    with pytest.raises(EventsError, match="503"):
        await register.party_of_unit(UNIT, ALICE)
    with pytest.raises(EventsError, match="503"):
        await register.party_uuids([PERSON])


async def test_entries_without_identifiers_are_skipped(register: RegisterClient, server: RegisterServer) -> None:
    """An entry that names no person is nobody's."""
    server.body = b'{"data": [1, {}, {"personIdentifier": null, "partyUuid": "a"}, {"personIdentifier": "%b"}]}' % (
        PERSON.encode()
    )
    assert await register.party_uuids([PERSON]) == {}


async def test_slow_register_is_unavailable(server: RegisterServer) -> None:
    """Beyond the deadline the call ends."""
    server.gate.clear()
    client = HttpClient()
    register = RegisterClient(JsonService(client, "Register", server.url, deadline_seconds=0.05))
    with pytest.raises(EventsError, match="503"):
        await register.party_of_unit(UNIT, ALICE)
    await client.close()


async def test_absent_register_is_unavailable(register: RegisterClient, server: RegisterServer) -> None:
    """Nobody at the address: unavailable, and its ping says so."""
    await server.stop()
    with pytest.raises(EventsError, match="503"):
        await register.party_of_unit(UNIT, ALICE)
    with pytest.raises(EventsError, match="503"):
        await register.ping()


async def test_no_number_and_no_token_is_logged(
    register: RegisterClient, server: RegisterServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Failures are logged without whom they were about and who asked."""
    server.status = 500
    with pytest.raises(EventsError) as caught:
        await register.party_of_person(PERSON, ALICE)
    assert "status 500" in caplog.text
    assert not any(secret in caplog.text + str(caught.value) for secret in (PERSON, "alice"))
