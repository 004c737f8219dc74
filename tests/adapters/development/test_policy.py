"""The development decision point and Register: their files, conditions and samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from events_core.access.identity import Caller, Kind, caller_of_consumer
from events_core.access.xacml_request import Decision, EventLike, Question, allows, resource_of
from events_core.adapters.development.files import LocalFileError
from events_core.adapters.development.policy import LocalPolicy
from events_core.adapters.development.register import LocalRegister
from tests.support.askers import APP, OWNER, PERSON, USER, app_event, instance_url, other_event

SAMPLE = Path(__file__).parents[3] / "local"
ORGANISATION = Caller(
    Kind.ORGANISATION, "/organisation/974760673", (("urn:altinn:organization:identifier-no", "974760673"),), level=3
)
SYSTEM = Caller(
    Kind.SYSTEM_USER, "/systemuser/u", (*ORGANISATION.attributes, ("urn:altinn:systemuser:uuid", "u")), level=3
)
NOBODY = Caller(Kind.NONE, "")
SYSTEM_USER = "/systemuser/a1b2c3d4-0000-4000-8000-000000000009"
SENSITIVE = app_event(resource="urn:altinn:resource:app_ttd_sensitive", source=instance_url(app="ttd/sensitive"))


def _policy(folder: Path, **rule: Any) -> LocalPolicy:
    """A policy of one rule, which permits everybody to read unless `rule` changes it."""
    file = folder / "policy.json"
    file.write_text(json.dumps({"rules": [{"who": {"u": "*"}, "may": ["read"], "on": {"r": "*"}, **rule}]}))
    return LocalPolicy(file)


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
    file = tmp_path / "register.json"
    file.write_text(json.dumps(entries))
    with pytest.raises(LocalFileError) as caught:
        LocalRegister(file)
    assert expected in str(caught.value)
    assert PERSON not in str(caught.value)


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
        (USER, "read", app_event(subject="/party/50002109"), False),
        (USER, "publish", app_event(), False),
        (USER, "subscribe", other_event(subject="/party/50002108"), True),
        (USER, "subscribe", other_event(subject="/user/20012345"), True),
        (USER, "subscribe", other_event(subject="/user/1"), False),
        (USER, "subscribe", other_event(), False),
        (ORGANISATION, "read", app_event(), True),
        (ORGANISATION, "read", app_event(subject="/party/50074838"), True),
        (ORGANISATION, "read", app_event(subject="/party/50002109"), False),
        (ORGANISATION, "publish", other_event(), True),
        (SYSTEM, "read", app_event(), True),
        (SYSTEM, "read", app_event(subject="/party/50002109"), False),
        (caller_of_consumer("/user/20012345", 3), "read", app_event(), True),
        (caller_of_consumer("/user/20012345", 3), "read", app_event(subject="/party/50002109"), False),
        (caller_of_consumer("/user/1", 3), "read", app_event(), False),
        (caller_of_consumer(SYSTEM_USER, 3), "read", app_event(), True),
        (caller_of_consumer(SYSTEM_USER, 3), "read", app_event(subject="/party/50002109"), False),
        (caller_of_consumer(SYSTEM_USER, 3), "subscribe", other_event(), True),
        (caller_of_consumer("/org/ttd", 3), "read", app_event(), True),
        (caller_of_consumer("/organisation/974760673", 3), "read", app_event(), True),
        (NOBODY, "read", app_event(), False),
        (NOBODY, "publish", other_event(), False),
    ],
)
async def test_the_sample_policy_decides(caller: Caller, action: str, event: EventLike, *, permitted: bool) -> None:
    """The sample permits each kind of caller the actions of a first try, and no other."""
    [decision] = await LocalPolicy(SAMPLE / "policy.json").decide(
        [Question(caller.attributes, action, resource_of(event))]
    )
    assert decision.permit is permitted


async def test_the_sample_has_an_app_that_requires_a_level() -> None:
    """The app ttd/sensitive shows the effect of an obligation."""
    policy = LocalPolicy(SAMPLE / "policy.json")
    questions = [Question(caller.attributes, "read", resource_of(SENSITIVE)) for caller in (OWNER, USER)]
    decisions = await policy.decide(questions)
    assert decisions == [Decision(permit=True, level=4, level_org=3)] * 2
    assert [allows(*pair) for pair in zip(decisions, (OWNER, USER), strict=True)] == [True, False]


def _control(number: str, *weights: int) -> int:
    return -sum(int(digit) * weight for digit, weight in zip(number, weights, strict=False)) % 11


def test_the_sample_register_is_synthetic() -> None:
    """Birth months lie between 81 and 92, and every number has valid control digits."""
    for party in json.loads((SAMPLE / "register.json").read_text()):
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
