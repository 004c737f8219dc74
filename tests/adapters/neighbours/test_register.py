"""Register over HTTP: its requests, its cache, and bad responses."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import jwt
import pytest

from events_core.adapters.neighbours.http_client import HttpClient, JsonService
from events_core.adapters.neighbours.register import CACHE_SECONDS, RegisterClient
from events_core.adapters.tokens.platform_token import PlatformCertificate, PlatformToken
from events_core.common.errors import EventsError
from events_core.common.halves import Requests
from tests.support import numbers
from tests.support.askers import PERSON, PERSON_UUID, STRANGER, USER
from tests.support.certificates import KEY, PrivateKey, platform_certificate, platform_pem
from tests.support.clock import Clock
from tests.support.issuer import SigningKey
from tests.support.register_server import Person, RegisterServer

UNIT = "974760673"
MALFORMED = "01899699553"
"""A number with a wrong check digit."""
ALICE, BOB = replace(USER, bearer="alice"), replace(USER, bearer="bob")


@pytest.fixture
async def server() -> AsyncIterator[RegisterServer]:
    """A Register with one person and one organisation."""
    async with RegisterServer({PERSON: Person(50002108, PERSON_UUID)}, {UNIT: 50074838}) as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    """The cache's clock."""
    return Clock()


@pytest.fixture
async def register(server: RegisterServer, clock: Clock) -> AsyncIterator[RegisterClient]:
    """The adapter under test, with a bearer token of its own."""
    client = HttpClient()
    yield RegisterClient(JsonService(client, "Register", server.url, "key", _own_bearer), clock=clock)
    await client.close()


async def _own_bearer() -> str:
    return "own"


async def test_a_lookup_forwards_the_callers_token(register: RegisterClient, server: RegisterServer) -> None:
    """A lookup carries the caller's token and the service's subscription key."""
    await register.party_of_person(PERSON, ALICE)
    await register.party_of_unit(UNIT, ALICE)
    assert server.requests == [("/v1/parties/lookup", {"Ssn": PERSON}), ("/v1/parties/lookup", {"OrgNo": UNIT})]
    assert {(headers["Authorization"], headers["Ocp-Apim-Subscription-Key"]) for headers in server.headers} == {
        ("Bearer alice", "key")
    }


async def test_a_lookup_without_token_sends_none(register: RegisterClient, server: RegisterServer) -> None:
    """The service's token never replaces a caller's token."""
    await register.party_of_unit(UNIT, USER)
    assert "Authorization" not in server.headers[0]


async def test_a_query_carries_the_services_token(register: RegisterClient, server: RegisterServer) -> None:
    """Persons are queried by their URNs."""
    await register.party_uuids([PERSON], Requests(1))
    urn = f"urn:altinn:person:identifier-no:{PERSON}"
    assert server.requests == [("/v2/internal/parties/query?fields=identifiers", {"Data": [urn]})]
    assert server.headers[0]["Authorization"] == "Bearer own"


async def test_every_request_carries_the_platform_access_token(server: RegisterServer) -> None:
    """Lookups, queries, main units and the ping."""
    server.certificate = platform_certificate()
    client = HttpClient()
    token = PlatformToken(PlatformCertificate.read(platform_pem()))
    register = RegisterClient(JsonService(client, "Register", server.url, platform_token=token))
    await register.party_of_person(PERSON, ALICE)
    await register.party_uuids([PERSON], Requests(1))
    await register.main_units(f"/organisation/{UNIT}")
    await register.ping()
    assert [headers.get("PlatformAccessToken") for headers in server.headers] == [token()] * 4
    await client.close()


@pytest.mark.parametrize(
    ("claims", "header", "key"),
    [
        ({}, {}, SigningKey.rsa("attacker").private),
        ({}, {"kid": "another"}, KEY),
        ({"iss": "ttd"}, {}, KEY),
        ({"aud": "another"}, {}, KEY),
        ({"exp": 1_000_000_000}, {}, KEY),
    ],
    ids=["key", "key id", "issuer", "audience", "expiry"],
)
async def test_register_refuses_a_wrong_token(
    server: RegisterServer, claims: dict[str, Any], header: dict[str, str], key: PrivateKey
) -> None:
    """The test server is as strict as Altinn's Register."""
    server.certificate = platform_certificate()
    own = PlatformToken(PlatformCertificate.read(platform_pem()))()
    right = jwt.decode_complete(own, options={"verify_signature": False})
    token = jwt.encode({**right["payload"], **claims}, key, "RS256", {**right["header"], **header})
    client = HttpClient()
    register = RegisterClient(JsonService(client, "Register", server.url, platform_token=lambda: token))
    with pytest.raises(EventsError, match="503"):
        await register.party_of_unit(UNIT, ALICE)
    await client.close()


async def test_a_query_holds_at_most_100_persons(register: RegisterClient, server: RegisterServer) -> None:
    """More persons need several requests, and no person is queried twice."""
    requests = Requests(32)
    await register.party_uuids(numbers.persons(250), requests)
    assert sorted(map(len, server.queries)) == [50, 100, 100]
    assert len({urn for urns in server.queries for urn in urns}) == 250
    assert requests.left == 29


@pytest.mark.parametrize("place", [0, 37, 50, 98])
async def test_a_page_with_an_unknown_person_and_no_number_costs_at_most_16_requests(
    register: RegisterClient, server: RegisterServer, place: int
) -> None:
    """It has 100 persons, and Register refuses the malformed number wherever it stands."""
    known = dict(zip(numbers.persons(100), (str(uuid.UUID(int=serial)) for serial in range(100)), strict=True))
    server.persons = {person: Person(1, party) for person, party in known.items()}
    page = list(known)
    page[place], page[99] = MALFORMED, STRANGER
    uuids = await register.party_uuids(page, requests := Requests(32))
    assert uuids == {person: known.get(person) for person in page}
    assert len(server.requests) == 32 - requests.left <= 16


async def test_a_refused_query_is_asked_again_in_halves(register: RegisterClient, server: RegisterServer) -> None:
    """Only halves that are refused are cut again."""
    await register.party_uuids([*numbers.persons(7), MALFORMED], Requests(32))
    assert [len(urns) for urns in server.queries] == [8, 4, 4, 2, 2, 1, 1]


async def test_many_persons_leave_requests_for_the_first(register: RegisterClient, server: RegisterServer) -> None:
    """Enough requests are kept back to determine the first person, however many batches there are."""
    persons = [MALFORMED, *numbers.persons(2_000)]
    uuids = await register.party_uuids(persons, requests := Requests(12))
    assert (MALFORMED in uuids, uuids.get(MALFORMED), requests.left) == (True, None, 0)
    assert len(server.requests) == 12


async def test_persons_left_out_are_asked_next_time(register: RegisterClient, server: RegisterServer) -> None:
    """Nothing is kept about them, and what is known costs no request."""
    persons = numbers.persons(150)
    assert list(await register.party_uuids(persons, Requests(1))) == persons[:100]
    assert len(await register.party_uuids(persons, requests := Requests(1))) == 150
    assert (requests.left, [len(urns) for urns in server.queries]) == (0, [100, 50])


async def test_a_lookup_is_cached_for_each_caller_apart(register: RegisterClient, server: RegisterServer) -> None:
    """A caller never gets the answer for another caller's token."""
    for caller in (ALICE, BOB, ALICE, BOB):
        assert await register.party_of_unit(UNIT, caller) == 50074838
    assert [headers["Authorization"] for headers in server.headers] == ["Bearer alice", "Bearer bob"]


async def test_unknown_numbers_are_cached(register: RegisterClient, server: RegisterServer) -> None:
    """Register is asked once for an unknown number."""
    for _ in range(2):
        assert await register.party_of_person(STRANGER, ALICE) is None
        assert await register.party_uuids([STRANGER, MALFORMED], Requests(3)) == {STRANGER: None, MALFORMED: None}
    assert [len(urns) for urns in server.queries] == [2, 1, 1]


async def test_only_new_persons_are_queried(register: RegisterClient, server: RegisterServer) -> None:
    """Cached numbers are left out of a query."""
    await register.party_uuids([PERSON], Requests(1))
    assert await register.party_uuids([PERSON, STRANGER], Requests(1)) == {PERSON: PERSON_UUID, STRANGER: None}
    assert [len(urns) for urns in server.queries] == [1, 1]


async def test_cached_answers_expire(register: RegisterClient, server: RegisterServer, clock: Clock) -> None:
    """After `CACHE_SECONDS` Register is asked again."""
    await register.party_of_unit(UNIT, ALICE)
    clock.now += CACHE_SECONDS + 1
    await register.party_of_unit(UNIT, ALICE)
    assert len(server.requests) == 2


async def test_concurrent_lookups_of_a_number_share_one_request(
    register: RegisterClient, server: RegisterServer
) -> None:
    """Callers that ask during the request get its answer."""
    assert await asyncio.gather(*(register.party_of_unit(UNIT, ALICE) for _ in range(20))) == [50074838] * 20
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [204, 302, 401, 403, 429, 500, 503])
async def test_another_status_is_503_and_not_cached(
    register: RegisterClient, server: RegisterServer, status: int
) -> None:
    """Register is asked again after a failure."""
    server.status = status
    with pytest.raises(EventsError, match="503"):
        await register.party_of_person(PERSON, ALICE)
    with pytest.raises(EventsError, match="503"):
        await register.party_uuids([PERSON], Requests(1))
    server.status = 200
    assert await register.party_of_person(PERSON, ALICE) == 50002108
    assert await register.party_uuids([PERSON], Requests(1)) == {PERSON: PERSON_UUID}


async def test_a_query_answered_with_404_is_503(register: RegisterClient, server: RegisterServer) -> None:
    """The 404 means that the endpoint is missing, not the person or the sub-unit."""
    server.status = 404
    with pytest.raises(EventsError, match="503"):
        await register.party_uuids([PERSON], Requests(1))
    with pytest.raises(EventsError, match="503"):
        await register.main_units(f"/organisation/{UNIT}")


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    "ask",
    [
        lambda register: register.party_of_person(PERSON, ALICE),
        lambda register: register.party_uuids([PERSON], Requests(1)),
        lambda register: register.main_units(f"/organisation/{UNIT}"),
    ],
    ids=["lookup", "query", "main units"],
)
async def test_a_refused_service_names_the_setting_in_its_log(
    register: RegisterClient,
    server: RegisterServer,
    caplog: pytest.LogCaptureFixture,
    status: int,
    ask: Callable[[RegisterClient], Awaitable[object]],
) -> None:
    """Register lets nobody in without a PlatformAccessToken. The refusal is an outage, and no answer."""
    server.status = status
    with pytest.raises(EventsError, match="503"):
        await ask(register)
    assert "EVENTS_PLATFORM_CERTIFICATE" in caplog.text
    assert PERSON not in caplog.text


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
async def test_an_invalid_response_is_503(register: RegisterClient, server: RegisterServer, body: bytes) -> None:
    """An invalid body does not mean that the number is unknown."""
    server.body = body
    with pytest.raises(EventsError, match="503"):
        await register.party_of_unit(UNIT, ALICE)
    with pytest.raises(EventsError, match="503"):
        await register.party_uuids([PERSON], Requests(1))


async def test_entries_about_nobody_who_was_asked_for_are_skipped(
    register: RegisterClient, server: RegisterServer
) -> None:
    """An entry may be of an organisation or of another person."""
    entries = [1, {}, [PERSON], {"personIdentifier": None, "partyUuid": "a"}, {"personIdentifier": [PERSON]}]
    server.body = json.dumps({"data": [*entries, {"personIdentifier": STRANGER, "partyUuid": PERSON_UUID}]}).encode()
    assert await register.party_uuids([PERSON], Requests(1)) == {PERSON: None}


@pytest.mark.parametrize("entry", [{}, {"partyUuid": None}, *({"partyUuid": text} for text in ("", "x", "a:b", [1]))])
async def test_a_person_without_a_readable_uuid_is_503(
    register: RegisterClient, server: RegisterServer, entry: dict[str, object]
) -> None:
    """Register knows the person, so the person's events must not be hidden for good."""
    server.body = json.dumps({"data": [{"personIdentifier": PERSON, **entry}]}).encode()
    with pytest.raises(EventsError, match="503"):
        await register.party_uuids([PERSON], Requests(1))


@pytest.mark.parametrize("party", [True, 0, -1, "50074838", None])
async def test_a_main_unit_without_a_readable_party_has_its_urn(
    register: RegisterClient, server: RegisterServer, party: object
) -> None:
    """No subject is made from another party id than a positive number."""
    urn = f"urn:altinn:organization:identifier-no:{UNIT}"
    unit = {"organizationIdentifier": UNIT, "externalUrn": urn, "partyId": party}
    server.body = json.dumps({"data": [unit]}).encode()
    assert await register.main_units("/party/1") == (urn,)


async def test_a_slow_register_is_503(server: RegisterServer) -> None:
    """The call ends at the deadline."""
    server.gate.clear()
    client = HttpClient()
    register = RegisterClient(JsonService(client, "Register", server.url, deadline_seconds=0.05))
    with pytest.raises(EventsError, match="503"):
        await register.party_of_unit(UNIT, ALICE)
    await client.close()


async def test_an_unreachable_register_is_503(register: RegisterClient, server: RegisterServer) -> None:
    """A closed port fails lookups and the ping."""
    await server.stop()
    with pytest.raises(EventsError, match="503"):
        await register.party_of_unit(UNIT, ALICE)
    with pytest.raises(EventsError, match="503"):
        await register.ping()


async def test_numbers_and_tokens_are_not_logged(
    register: RegisterClient, server: RegisterServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure is logged without the person and the caller."""
    server.status = 500
    with pytest.raises(EventsError) as caught:
        await register.party_of_person(PERSON, ALICE)
    assert "status 500" in caplog.text
    assert not any(secret in caplog.text + str(caught.value) for secret in (PERSON, "alice"))
