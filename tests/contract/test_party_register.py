"""The port PartyRegister, against Register over HTTP and the embedded one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events_core.access.ports import PartyRegister
from events_core.adapters.development.register import LocalRegister
from events_core.adapters.neighbours.http_client import HttpClient, JsonService
from events_core.adapters.neighbours.register import RegisterClient
from events_core.common.halves import Requests
from tests.support import numbers
from tests.support.askers import PERSON, PERSON_UUID, STRANGER, USER
from tests.support.register_server import Person, RegisterServer

OTHER, OTHER_UUID = "09855930126", "60e0b96d-9f86-466e-be6f-fff1859202d8"
UNIT, UNKNOWN_UNIT = "974760673", "405003309"
SUB_UNIT = "314864077"
MALFORMED = "01899699553"
"""A number with a wrong check digit."""
PARTIES = [
    {"partyId": 50002108, "partyUuid": PERSON_UUID, "personIdentifier": PERSON},
    {"partyId": 50002110, "partyUuid": OTHER_UUID, "personIdentifier": OTHER},
    {"partyId": 50074838, "partyUuid": "b9aff916-7f7f-458f-993b-8ec9be1bc3ba", "organizationIdentifier": UNIT},
    {
        "partyId": 50074840,
        "partyUuid": "54461961-7a62-48d8-a059-f48b13321802",
        "organizationIdentifier": SUB_UNIT,
        "mainUnit": UNIT,
    },
]


@pytest.fixture(params=["http", "embedded"])
async def register(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PartyRegister]:
    """Each kind of Register with the same parties."""
    if request.param == "embedded":
        file = tmp_path / "register.json"
        file.write_text(json.dumps(PARTIES))
        yield LocalRegister(file)
        return
    persons = {PERSON: Person(50002108, PERSON_UUID), OTHER: Person(50002110, OTHER_UUID)}
    client = HttpClient()
    async with RegisterServer(persons, {UNIT: 50074838, SUB_UNIT: 50074840}, {SUB_UNIT: UNIT}) as server:
        yield RegisterClient(JsonService(client, "Register", server.url))
        await client.close()


async def test_a_unit_has_its_party(register: PartyRegister) -> None:
    """An organisation number leads to the organisation's party."""
    assert await register.party_of_unit(UNIT, USER) == 50074838


async def test_a_person_has_their_party(register: PartyRegister) -> None:
    """A person number leads to the person's party."""
    assert await register.party_of_person(PERSON, USER) == 50002108


@pytest.mark.parametrize("number", [STRANGER, MALFORMED, UNIT])
async def test_an_unknown_person_has_no_party(register: PartyRegister, number: str) -> None:
    """Neither has a number with wrong check digits, nor an organisation's."""
    assert await register.party_of_person(number, USER) is None


@pytest.mark.parametrize("number", [UNKNOWN_UNIT, "974760674", PERSON])
async def test_an_unknown_unit_has_no_party(register: PartyRegister, number: str) -> None:
    """Neither has a number with a wrong check digit, nor a person's."""
    assert await register.party_of_unit(number, USER) is None


async def test_a_person_has_a_uuid_and_an_unknown_one_has_none(register: PartyRegister) -> None:
    """The mapping has every person."""
    wanted = {STRANGER: None, PERSON: PERSON_UUID, OTHER: OTHER_UUID}
    assert await register.party_uuids(list(wanted), Requests(1)) == wanted


@pytest.mark.parametrize("persons", [[MALFORMED], [PERSON, MALFORMED, OTHER], [MALFORMED, STRANGER, PERSON, UNIT]])
async def test_a_malformed_number_is_an_unknown_person(register: PartyRegister, persons: list[str]) -> None:
    """It takes no other person with it."""
    known = {PERSON: PERSON_UUID, OTHER: OTHER_UUID}
    assert await register.party_uuids(persons, Requests(8)) == {person: known.get(person) for person in persons}


@pytest.mark.parametrize("left", range(12))
@pytest.mark.parametrize("malformed", [0, 5, 9])
async def test_the_first_persons_are_determined_first(register: PartyRegister, left: int, malformed: int) -> None:
    """A person for whom no request is left is left out, not unknown. Five requests determine the first of ten."""
    persons = numbers.persons(10)
    persons[malformed] = MALFORMED
    persons[7] = PERSON
    uuids = await register.party_uuids(persons, requests := Requests(left))
    assert uuids.items() <= {person: PERSON_UUID if person == PERSON else None for person in persons}.items()
    assert persons[0] in uuids or left < 5
    assert len(uuids) == 10 or left < 9
    assert requests.left >= 0


async def test_no_persons_need_no_request(register: PartyRegister) -> None:
    """The mapping is empty."""
    assert await register.party_uuids([], Requests(0)) == {}


async def test_a_repeated_number_is_one_person(register: PartyRegister) -> None:
    """The mapping has it once."""
    assert await register.party_uuids([PERSON, PERSON], Requests(1)) == {PERSON: PERSON_UUID}


@pytest.mark.parametrize(
    "subject", [f"/organisation/{SUB_UNIT}", "/party/50074840", f"urn:altinn:organization:identifier-no:{SUB_UNIT}"]
)
async def test_a_sub_unit_has_its_main_unit_under_every_name(register: PartyRegister, subject: str) -> None:
    """Every name of a sub-unit leads to every name of its main unit."""
    names = {"/party/50074838", f"/organisation/{UNIT}", f"urn:altinn:organization:identifier-no:{UNIT}"}
    assert set(await register.main_units(subject)) == names


@pytest.mark.parametrize(
    "subject",
    ["/party/50002108", f"/organisation/{UNIT}", "/user/1", f"urn:x:{SUB_UNIT}", "", "/organisation/974760674"],
)
async def test_only_a_sub_unit_has_a_main_unit(register: PartyRegister, subject: str) -> None:
    """Persons, main units, malformed numbers and other subjects have none."""
    assert list(await register.main_units(subject)) == []


async def test_ping_returns_while_register_answers(register: PartyRegister) -> None:
    """Health relies on it."""
    await register.ping()
