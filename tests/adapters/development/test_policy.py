"""The development decision point and Register: their files, conditions and samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from events_core.access.identity import Caller, Kind, caller_of_consumer
from events_core.access.ports import UndecidedError
from events_core.access.xacml_request import Attributes, Decision, EventLike, Question, allows, resource_of
from events_core.adapters.development.files import LocalFileError
from events_core.adapters.development.policy import LocalPolicy, refuses
from events_core.adapters.development.register import LocalRegister, RegisterFile
from local import persona
from tests.support.askers import (
    APP,
    GUID,
    OTHER_GUID,
    OWNER,
    PERSON,
    PERSON_UUID,
    USER,
    app_event,
    instance_url,
    other_event,
)

SAMPLE = Path(__file__).parents[3] / "local"
ORGANISATION = caller_of_consumer("/organisation/974760673", 3)
SYSTEM = caller_of_consumer("/systemuser/a1b2c3d4-0000-4000-8000-000000000009", 3)
NOBODY = Caller(Kind.NONE, "")
REPRESENTED, NOT_REPRESENTED = "/party/50074842", "/party/50074843"
"""Parties that the sample user does and does not represent."""
SENSITIVE = app_event(resource="urn:altinn:resource:app_ttd_sensitive", source=instance_url(app="ttd/sensitive"))


def _policy(folder: Path, register: RegisterFile | None = None, **rule: Any) -> LocalPolicy:
    """A policy of one rule, which permits everybody to read unless `rule` changes it."""
    file = folder / "policy.json"
    file.write_text(json.dumps({"rules": [{"who": {"u": "*"}, "may": ["read"], "on": {"r": "*"}, **rule}]}))
    return LocalPolicy(file, register)


def _sample() -> LocalPolicy:
    return LocalPolicy(SAMPLE / "policy.json", RegisterFile.read(SAMPLE / "register.json"))


async def _permits(policy: LocalPolicy, *, who: str = "me", on: str = "it", action: str = "read") -> bool:
    [decision] = await policy.decide([Question((("u", who),), action, (("r", on),))])
    return decision.permit


@pytest.mark.parametrize(
    ("condition", "value", "holds"),
    [
        ("ttd", "ttd", True),
        ("ttd", "TTD", False),
        ("ttd", "ttd-letters", False),
        ("ttd-*", "ttd-letters", True),
        ("ttd-*", "ttd-", True),
        ("ttd-*", "skd-letters", False),
        ("*", "anything", True),
        (["ttd", "skd-*"], "skd-letters", True),
        (["ttd", "skd-*"], "nav", False),
        ({"sameAs": "u"}, "me", True),
        ({"sameAs": "u"}, "you", False),
        ({"sameAs": "missing"}, "me", False),
        (None, "ttd", False),
    ],
)
async def test_a_condition_matches_by_its_kind(tmp_path: Path, condition: object, value: str, *, holds: bool) -> None:
    """A condition is a text, a prefix, `*`, a list, the subject's own value or null."""
    assert await _permits(_policy(tmp_path, on={"r": condition}), on=value) is holds


@pytest.mark.parametrize("condition", ["ttd", "*", ["*"], {"sameAs": "u"}, {"sameAs": "missing"}])
async def test_a_missing_attribute_satisfies_no_condition(tmp_path: Path, condition: object) -> None:
    """Only null matches a missing attribute."""
    assert not await _permits(_policy(tmp_path, on={"r": "*", "missing": condition}))


async def test_null_matches_a_missing_attribute(tmp_path: Path) -> None:
    """A present attribute does not match null."""
    assert await _permits(_policy(tmp_path, who={"u": "*", "missing": None}))
    assert not await _permits(_policy(tmp_path, who={"u": None}))


async def test_every_part_of_a_rule_must_match(tmp_path: Path) -> None:
    """A rule permits only if subject, action and resource match."""
    policy = _policy(tmp_path, who={"u": "me"}, may=["read"], on={"r": "it"})
    assert await _permits(policy)
    assert not await _permits(policy, who="you")
    assert not await _permits(policy, on="that")
    assert not await _permits(policy, action="publish")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "Invalid JSON"),
        ("[]", "object"),
        ("{}", "rules"),
        ('{"rules": [], "extra": 1}', "extra"),
        ('{"rules": [{"who": {}, "may": ["read"], "on": {"a": "b"}}]}', "rules[0].who"),
        ('{"rules": [{"who": {"a": "b"}, "may": [], "on": {"a": "b"}}]}', "rules[0].may"),
        ('{"rules": [{"who": {"a": "b"}, "may": ["raed"], "on": {"a": "b"}}]}', "rules[0].may[0]"),
        ('{"rules": [{"who": {"a": 1}, "may": ["read"], "on": {"a": "b"}}]}', "rules[0].who.a"),
        ('{"rules": [{"who": {"a": {"sameAs": "b"}}, "may": ["read"], "on": {"a": "b"}}]}', "rules[0].who.a"),
        ('{"rules": [], "obligations": [{"on": {"a": "b"}, "minimumLevel": 5}]}', "obligations[0].minimumLevel"),
    ],
)
def test_an_error_in_a_policy_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    """The line names the file and the field."""
    file = tmp_path / "policy.json"
    file.write_text(text)
    with pytest.raises(LocalFileError) as caught:
        LocalPolicy(file)
    line = str(caught.value)
    assert line.startswith(f"{file}: ")
    assert expected in line
    assert "\n" not in line


@pytest.mark.parametrize("kind", [LocalPolicy, LocalRegister])
def test_a_missing_file_is_named(tmp_path: Path, kind: type[LocalPolicy | LocalRegister]) -> None:
    """The error holds the file's path."""
    with pytest.raises(LocalFileError, match=r"nowhere\.json: No such file"):
        kind(tmp_path / "nowhere.json")


_UUID = "6158e32f-7fd2-4cef-93fd-d29dd78439c4"


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([{"partyId": 0, "partyUuid": _UUID, "personIdentifier": PERSON}], "[0].partyId"),
        ([{"partyId": 1, "partyUuid": "u", "personIdentifier": PERSON}], "[0].partyUuid"),
        ([{"partyId": 1, "partyUuid": _UUID, "personIdentifier": PERSON + "1"}], "[0].personIdentifier"),
        ([{"partyId": 1, "partyUuid": _UUID, "organizationIdentifier": "١٢٣٤٥٦٧٨٩"}], "[0].organizationIdentifier"),
        ([{"partyId": 1, "partyUuid": _UUID}], "needs either"),
        (
            [{"partyId": number, "partyUuid": _UUID, "personIdentifier": PERSON} for number in (1, 2)],
            "occurs more than once",
        ),
    ],
)
def test_an_error_in_a_register_shows_no_person_number(tmp_path: Path, entries: list[object], expected: str) -> None:
    """The error names the entry and the field."""
    with pytest.raises(LocalFileError) as caught:
        LocalRegister(_register(tmp_path, {"parties": entries}))
    assert expected in str(caught.value)
    assert PERSON not in str(caught.value)


@pytest.mark.parametrize(
    ("represents", "expected"),
    [
        ({"user": [1]}, "represents.user"),
        ({PERSON: [1]}, "represents.*"),
        ({"20012345": [0]}, "represents.20012345[0]"),
        ({"20012345": 1}, "represents.20012345"),
        ([], "represents"),
    ],
)
def test_an_error_in_who_represents_whom_names_the_user(tmp_path: Path, represents: object, expected: str) -> None:
    """A person number in place of a user id is not shown."""
    file = _register(tmp_path, {"parties": [], "represents": represents})
    with pytest.raises(LocalFileError) as caught:
        RegisterFile.read(file)
    assert str(caught.value).startswith(f"{file}: {expected}")
    assert PERSON not in str(caught.value)


@pytest.mark.parametrize("document", [{"represents": {}}, {"parties": [], "extra": 1}, 7])
def test_a_register_of_unknown_form_is_an_error(tmp_path: Path, document: object) -> None:
    """It is an object with `parties`, or a list of parties."""
    with pytest.raises(LocalFileError):
        RegisterFile.read(_register(tmp_path, document))


def test_a_bare_list_of_parties_is_a_register_in_which_nobody_represents_anybody(tmp_path: Path) -> None:
    """Such files were written before `represents` existed."""
    party = {"partyId": 1, "partyUuid": _UUID, "personIdentifier": PERSON}
    assert RegisterFile.read(_register(tmp_path, [party])) == RegisterFile.model_validate({"parties": [party]})


def _register(folder: Path, document: object) -> Path:
    file = folder / "register.json"
    file.write_text(json.dumps(document))
    return file


PARTIES = {
    "parties": [
        {"partyId": 1, "partyUuid": PERSON_UUID, "personIdentifier": PERSON},
        {"partyId": 2, "partyUuid": OTHER_GUID, "organizationIdentifier": "974760673"},
    ],
    "represents": {"20012345": [1, 7]},
}


@pytest.mark.parametrize(
    ("subject", "parties"),
    [
        ((("urn:altinn:userid", "20012345"),), {"1", "7"}),
        ((("urn:altinn:userid", "20012346"),), set()),
        ((("urn:altinn:partyid", "50"),), {"50"}),
        ((("urn:altinn:organization:identifier-no", "974760673"),), {"2"}),
        ((("urn:altinn:organizationnumber", "974760673"),), {"2"}),
        ((("urn:altinn:person:uuid", PERSON_UUID),), {"1"}),
        ((("urn:altinn:party:uuid", OTHER_GUID),), {"2"}),
        ((("urn:altinn:systemuser:uuid", GUID),), set()),
    ],
)
async def test_the_decision_point_adds_the_parties_of_a_subject(
    tmp_path: Path, subject: Attributes, parties: set[str]
) -> None:
    """A user has those that the user represents, an organisation or person its own, and a party is itself."""
    file = tmp_path / "policy.json"
    rule = {
        "who": {subject[0][0]: "*"},
        "may": ["read"],
        "on": {"urn:altinn:partyid": {"sameAs": "urn:altinn:partyid"}},
    }
    file.write_text(json.dumps({"rules": [rule]}))
    policy = LocalPolicy(file, RegisterFile.read(_register(tmp_path, PARTIES)))
    asked = ["1", "2", "7", "50"]
    decisions = await policy.decide([Question(subject, "read", (("urn:altinn:partyid", party),)) for party in asked])
    assert {party for party, decision in zip(asked, decisions, strict=True) if decision.permit} == parties


@pytest.mark.parametrize(
    ("resource", "party"),
    [
        (("urn:altinn:organization:identifier-no", "974760673"), "2"),
        (("urn:altinn:party:uuid", PERSON_UUID), "1"),
        (("urn:altinn:userid", "20012345"), None),
    ],
)
async def test_the_decision_point_adds_the_party_of_a_resource(
    tmp_path: Path, resource: tuple[str, str], party: str | None
) -> None:
    """An event about a user is about none of the parties that the user represents."""
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"rules": [{"who": {"u": "*"}, "may": ["read"], "on": {"urn:altinn:partyid": party}}]}))
    policy = LocalPolicy(file, RegisterFile.read(_register(tmp_path, PARTIES)))
    [decision] = await policy.decide([Question((("u", "me"),), "read", (resource,))])
    assert decision.permit


@pytest.mark.parametrize(
    ("subject", "refused"),
    [
        ((("urn:altinn:systemuser:uuid", GUID),), False),
        ((("urn:altinn:organization:identifier-no", "974760673"), ("urn:altinn:systemuser:uuid", GUID)), True),
        ((("urn:altinn:systemuser:uuid", GUID), ("urn:scope", "a")), True),
        ((("urn:altinn:userid", "2147483647"), ("urn:scope", "a")), False),
        ((("urn:altinn:userid", "2147483648"),), True),
        ((("urn:altinn:userid", "9" * 5000),), True),
        ((("urn:altinn:userid", "me"),), True),
        ((), False),
    ],
)
async def test_what_altinns_decision_point_cannot_take_is_refused(
    tmp_path: Path, subject: Attributes, *, refused: bool
) -> None:
    """A system user's id has no company, and a user id has 32 bits. One such question leaves all undecided."""
    asked = Question(subject, "read", (("r", "it"),))
    assert refuses(asked) is refused
    good = Question((("u", "me"),), "read", (("r", "it"),))
    if refused:
        with pytest.raises(UndecidedError, match="503"):
            await _policy(tmp_path).decide([good, asked])
    else:
        assert [decision.permit for decision in await _policy(tmp_path).decide([good, asked])] == [True, False]


def test_the_sample_user_represents_all_sample_parties_but_one() -> None:
    """A newcomer reads about any party of the sample data, and sees one denial."""
    register = RegisterFile.read(SAMPLE / "register.json")
    parties = {f"/party/{party.party_id}" for party in register.parties}
    assert parties - {f"/party/{party}" for party in register.represents[str(persona.USER)]} == {NOT_REPRESENTED}


@pytest.mark.parametrize(
    ("caller", "action", "event", "permitted"),
    [
        (OWNER, "read", app_event(), True),
        (OWNER, "publish", app_event(), True),
        (OWNER, "read", app_event(resource="urn:altinn:resource:app_skd_mva"), False),
        (OWNER, "publish", other_event(), True),
        (OWNER, "subscribe", other_event(), True),
        (APP, "publish", app_event(), True),
        (APP, "publish", SENSITIVE, False),
        (APP, "read", app_event(), False),
        (APP, "publish", other_event(), True),
        (USER, "read", app_event(), True),
        (USER, "read", app_event(subject=REPRESENTED), True),
        (USER, "read", app_event(subject=NOT_REPRESENTED), False),
        (USER, "read", app_event(subject="/user/20012345"), True),
        (USER, "read", app_event(subject=f"urn:altinn:party:uuid:{PERSON_UUID}"), True),
        (USER, "publish", app_event(), False),
        (USER, "subscribe", other_event(subject="/party/50002108"), True),
        (USER, "subscribe", other_event(subject=NOT_REPRESENTED), False),
        (USER, "subscribe", other_event(subject="/user/20012345"), True),
        (USER, "subscribe", other_event(subject="/user/1"), False),
        (USER, "subscribe", other_event(), False),
        (ORGANISATION, "read", app_event(), True),
        (ORGANISATION, "read", app_event(subject="/party/50074838"), True),
        (ORGANISATION, "read", app_event(subject="/organisation/974760673"), True),
        (ORGANISATION, "read", app_event(subject="/party/50002109"), False),
        (ORGANISATION, "publish", other_event(), True),
        (SYSTEM, "read", app_event(), True),
        (SYSTEM, "read", app_event(subject="/party/50002109"), False),
        (SYSTEM, "subscribe", other_event(), True),
        (SYSTEM, "publish", other_event(), True),
        (caller_of_consumer("/systemuser/u", 3), "read", app_event(), False),
        (caller_of_consumer("/user/1", 3), "read", app_event(), False),
        (caller_of_consumer("/org/ttd", 3), "read", app_event(), True),
        (NOBODY, "read", app_event(), False),
        (NOBODY, "publish", other_event(), False),
    ],
)
async def test_the_sample_policy_decides(caller: Caller, action: str, event: EventLike, *, permitted: bool) -> None:
    """The sample permits each kind of caller the actions of a first try, and no other."""
    [decision] = await _sample().decide([Question(caller.attributes, action, resource_of(event))])
    assert decision.permit is permitted


async def test_the_sample_has_an_app_that_requires_a_level() -> None:
    """The app ttd/sensitive shows the effect of an obligation."""
    policy = _sample()
    questions = [Question(caller.attributes, "read", resource_of(SENSITIVE)) for caller in (OWNER, USER)]
    decisions = await policy.decide(questions)
    assert decisions == [Decision(permit=True, level=4, level_org=3)] * 2
    assert [allows(*pair) for pair in zip(decisions, (OWNER, USER), strict=True)] == [True, False]


def _control(number: str, *weights: int) -> int:
    return -sum(int(digit) * weight for digit, weight in zip(number, weights, strict=False)) % 11


def test_the_sample_register_is_synthetic() -> None:
    """Birth months lie between 81 and 92, and every number has valid control digits."""
    for party in json.loads((SAMPLE / "register.json").read_text())["parties"]:
        person, unit = party.get("personIdentifier"), party.get("organizationIdentifier")
        if unit:
            assert int(unit[8]) == _control(unit, 3, 2, 7, 6, 5, 4, 3, 2)
        else:
            assert 81 <= int(person[2:4]) <= 92
            assert int(person[9]) == _control(person, 3, 7, 6, 1, 8, 9, 4, 5, 2)


async def test_the_sample_register_knows_the_parties_of_the_readme() -> None:
    """It holds the party of the first example and the organisation of the sample policy."""
    register = LocalRegister(SAMPLE / "register.json")
    assert await register.party_of_person(PERSON, USER) == 50002108
    assert await register.party_of_unit("974760673", USER) == 50074838


def test_the_documented_files_are_valid(tmp_path: Path) -> None:
    """The documentation's examples load as a policy and as a register."""
    text = (SAMPLE.parent / "docs" / "policy.md").read_text()
    examples = [part.split("```")[0] for part in text.split("```json\n")[1:]]
    for example, kind in zip(examples, (LocalPolicy, LocalRegister), strict=True):
        file = tmp_path / "example.json"
        file.write_text(example)
        kind(file)
