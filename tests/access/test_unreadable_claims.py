"""A claim that names somebody, or holds scopes, and cannot be read: the caller is nobody and keeps no scopes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from events_core.access.identity import Caller, Kind, caller_from_claims, caller_from_platform_claims

UUID = "6b3c2f7e-9a41-4d0b-8a57-0d1f6f1c2a10"
NUMBER = "974760673"
PERSON = "01899699552"
SYSTEM_USER = {"type": "urn:altinn:systemuser", "systemuser_id": [UUID]}
MASKINPORTEN = {"authority": "iso6523-actorid-upis", "ID": f"0192:{NUMBER}"}
OTHER = {"type": "payment", "systemuser_id": [UUID]}

ORG, ORG_NUMBER, USER = "urn:altinn:org", "urn:altinn:orgNumber", "urn:altinn:userid"
PARTY, PERSON_UUID = "urn:altinn:partyid", "urn:altinn:person:uuid"
DETAILS, CONSUMER, SCOPE, ALTINN_SCOPE = "authorization_details", "consumer", "scope", "urn:altinn:scope"

ROWS: dict[str, dict[str, Any]] = {
    "/org/ttd": {ORG: "ttd"},
    "/user/20012345": {USER: 20012345},
    f"/systemuser/{UUID}": {DETAILS: SYSTEM_USER},
    f"/organisation/{NUMBER}": {CONSUMER: MASKINPORTEN},
}
"""A token of each row of the token table."""

NO_TEXT: list[Any] = [
    None,
    "",
    " ",
    "\0",
    "x\0",
    "\n",
    "x" * 100_000,
    True,
    False,
    0,
    -1,
    1.5,
    [],
    {},
    [[]],
    [{}],
    [None],
]
NO_NUMBER: list[Any] = [
    *NO_TEXT,
    "x",
    "1 ",
    " 1",
    "1\n",
    "+1",
    "0x1",
    "1e3",
    "\u0661",
    "\uff11",
    ["1"],
    {"1": 1},
    "1" * 19,
]
DETAILS_WITHOUT_A_TYPE: list[Any] = [
    *(None, "", "x", "urn:altinn:systemuser", 0, 1, 1.5, True, False, {}, [{}], [None], ["x"], [[]], [[SYSTEM_USER]]),
    *({"type": None}, {"type": ""}, {"type": " "}, {"type": 1}, {"type": ["urn:altinn:systemuser"]}),
    *({"systemuser_id": [UUID]}, [{"systemuser_id": [UUID]}], [SYSTEM_USER, "x"], [None, SYSTEM_USER]),
    *([OTHER, None], [SYSTEM_USER, {}]),
]
TWO_SYSTEM_USERS = [[SYSTEM_USER, SYSTEM_USER], [SYSTEM_USER, OTHER, SYSTEM_USER]]
NO_SYSTEM_USER: list[Any] = [
    *(None, "", "1", 1, [], [None], [""], [1], ["1"], [[UUID]], [UUID, UUID], [f"{UUID}\n"], {"0": UUID}),
    *([UUID.replace("6", six)] for six in ("\u0666", "\uff16", "g", "")),
]
UNREADABLE_DETAILS = [
    *(*DETAILS_WITHOUT_A_TYPE, *TWO_SYSTEM_USERS, {"type": SYSTEM_USER["type"]}),
    *({**SYSTEM_USER, "systemuser_id": ids} for ids in NO_SYSTEM_USER),
    *([OTHER, {**SYSTEM_USER, "systemuser_id": ids}] for ids in NO_SYSTEM_USER),
    {**SYSTEM_USER, "type": "URN:ALTINN:SYSTEMUSER", "systemuser_id": ["1"]},
]
NO_AUTHORITY: list[Any] = [None, "", "other", "ISO6523-ACTORID-UPIS", 1, ["iso6523-actorid-upis"]]
NO_ID: list[Any] = [
    *(None, "", 974760673, NUMBER, "0192:97476067", "0088:974760673", f"0192:{NUMBER} ", f"0192:{NUMBER}\n"),
    *([f"0192:{NUMBER}"], {}, "0192:97476067\u0663", "0192:97476067\uff13", "0192:97476067\0"),
]
UNREADABLE_CONSUMERS = [
    *(None, "", "x", NUMBER, f"0192:{NUMBER}", 0, 974760673, 1.5, True, False, {}, [], [MASKINPORTEN], [None]),
    *({"ID": MASKINPORTEN["ID"]}, {"authority": MASKINPORTEN["authority"]}),
    *({**MASKINPORTEN, "authority": authority} for authority in NO_AUTHORITY),
    *({**MASKINPORTEN, "ID": number} for number in NO_ID),
]
NO_SCOPES: list[Any] = [0, 1, 1.5, True, False, {}, {"a": 1}, [1], ["a", None], [["a"]], [{"a": 1}]]
UNREADABLE: dict[str, list[Any]] = {
    ORG: [*NO_TEXT, 1, ["ttd"], {"ttd": 1}, "ttd/x", "ttd_x", "ttd.x", "ttd ", "t\u0442d", "\uff54td", PERSON],
    ORG_NUMBER: [*NO_NUMBER, "97476067", "9747606730", [NUMBER], {"ID": NUMBER}, f"0192:{NUMBER}", 97476067],
    USER: [*NO_NUMBER, "twenty", "01", PERSON, 21876112989],
    PARTY: [*NO_NUMBER, "50002108; 1", 21876112989],
    PERSON_UUID: [*NO_TEXT, 1, [UUID], {"uuid": UUID}, PERSON],
    DETAILS: UNREADABLE_DETAILS,
    CONSUMER: UNREADABLE_CONSUMERS,
    SCOPE: NO_SCOPES,
    ALTINN_SCOPE: NO_SCOPES,
}
CASES = [(claim, value) for claim, values in UNREADABLE.items() for value in values]


@pytest.mark.parametrize(("claim", "value"), CASES, ids=[f"{claim} {str(value)[:40]!a}" for claim, value in CASES])
def test_a_claim_that_is_there_and_cannot_be_read_names_nobody(claim: str, value: Any) -> None:
    """Whatever row the other claims are of, above or below: no identity, no attributes and no scopes are left."""
    for claims in ROWS.values():
        given = {SCOPE: "altinn:events.publish.admin", ALTINN_SCOPE: "altinn:events.erase", **claims, claim: value}
        assert caller_from_claims(given, "token") == Caller(Kind.NONE, "", level=None, bearer="token")


@pytest.mark.parametrize(("first", "second"), [*itertools.combinations(ROWS, 2)])
def test_readable_claims_of_two_rows_name_the_first(first: str, second: str) -> None:
    """The rows are in the order of the token table."""
    assert caller_from_claims({**ROWS[second], **ROWS[first]}, "token").consumer == first


@pytest.mark.parametrize("details", [[], OTHER, [OTHER], [OTHER, OTHER], {"type": "openid_credential"}])
def test_details_of_other_types_are_ignored(details: Any) -> None:
    """Only the type urn:altinn:systemuser makes a system user (RFC 9396)."""
    for consumer, claims in ROWS.items():
        assert caller_from_claims({DETAILS: details, **claims}, "token").consumer == consumer
    assert caller_from_claims({DETAILS: details}, "token").kind is Kind.NONE


@pytest.mark.parametrize(
    "details",
    [
        [OTHER, SYSTEM_USER],
        [SYSTEM_USER, OTHER],
        [OTHER, SYSTEM_USER, OTHER],
        {**SYSTEM_USER, "systemuser_id": UUID},
        {**SYSTEM_USER, "type": "URN:altinn:SystemUser"},
    ],
)
def test_one_system_user_among_other_details_is_the_system_user(details: Any) -> None:
    """The case of its type is ignored: otherwise it would fall through to an organisation."""
    made = caller_from_claims({DETAILS: details, CONSUMER: MASKINPORTEN}, "token")
    assert made.consumer == f"/systemuser/{UUID}"


@pytest.mark.parametrize("claim", ["iss", "urn:altinn:app"])
@pytest.mark.parametrize("value", [*NO_TEXT[:5], *NO_TEXT[7:], "a/b", "a b", "a\u0430", PERSON, f"app-{PERSON}"])
def test_a_platform_token_whose_claims_cannot_be_read_is_nobody(claim: str, value: Any) -> None:
    """Its app is used in URLs and sent to the decision point, so it holds no person's number either."""
    made = caller_from_platform_claims({"iss": "ttd", "urn:altinn:app": "apps-test", claim: value}, "token")
    assert made == Caller(Kind.NONE, "", level=None, bearer="token")
