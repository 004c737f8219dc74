"""Events and callers as XACML questions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events_core.access.identity import Caller, Kind
from events_core.access.names import Subject
from events_core.access.xacml_request import (
    ACTION_ID,
    DENY,
    Decision,
    Question,
    allows,
    resource_of,
    subject_of,
    to_request,
)
from tests.support.askers import (
    APP,
    GUID,
    OTHER_GUID,
    OWNER,
    PERSON,
    PERSON_SUBJECT,
    USER,
    app_event,
    instance_url,
    other_event,
    question,
)


def test_app_event_is_asked_by_org_app_party_and_instance() -> None:
    """An app's event is asked by org and app of its resource, its party, and the instance of its source."""
    assert dict(resource_of(app_event())) == {
        "urn:altinn:org": "ttd",
        "urn:altinn:app": "apps-test",
        "urn:altinn:partyid": "50002108",
        "urn:altinn:instance-id": f"50002108/{GUID}",
        "urn:altinn:appresource": "events",
    }


def test_org_ends_at_the_first_underscore() -> None:
    """The org of an app resource ends at the first underscore; the app may hold more."""
    attributes = dict(resource_of(app_event(resource="urn:altinn:resource:app_ttd_apps_test")))
    assert (attributes["urn:altinn:org"], attributes["urn:altinn:app"]) == ("ttd", "apps_test")


@pytest.mark.parametrize(
    "source",
    [
        instance_url(app="skd/apps-test"),
        instance_url(app="ttd/other"),
        instance_url(app="TTD/apps-test"),
        instance_url() + "/process",
        instance_url(guid="no-guid"),
        "https://ttd.apps.altinn.no/ttd/apps-test",
        "urn:ttd:apps-test",
        "",
    ],
)
def test_source_that_is_no_instance_of_the_app_names_no_instance(source: str) -> None:
    """Org and app never come from the source, and an instance only when it is one of that very app."""
    attributes = dict(resource_of(app_event(source=source)))
    assert "urn:altinn:instance-id" not in attributes
    assert (attributes["urn:altinn:app"], attributes["urn:altinn:partyid"]) == ("apps-test", "50002108")


def test_subjects_party_and_sources_instance_are_asked_together() -> None:
    """When the subject is another party than the instance's owner, the party is the subject's."""
    attributes = dict(resource_of(app_event(subject="/party/1")))
    assert attributes["urn:altinn:partyid"] == "1"
    assert attributes["urn:altinn:instance-id"] == f"50002108/{GUID}"


@pytest.mark.parametrize("subject", [None, "/person/1", "/party/abc", "/party/٣", "/user/1", PERSON_SUBJECT])
def test_app_event_without_party_subject_is_asked_by_the_instances_party(subject: str | None) -> None:
    """Without a subject `/party/{digits}` the party is the instance's."""
    assert dict(resource_of(app_event(subject=subject)))["urn:altinn:partyid"] == "50002108"


def test_app_event_about_nobody_has_no_party() -> None:
    """With neither a party subject nor an instance there is no party."""
    assert "urn:altinn:partyid" not in dict(resource_of(app_event(source="urn:x:y", subject=None)))


def test_other_event_is_asked_by_type_source_resource_and_instance() -> None:
    """Any other event is asked by its type, source, resource split at the last colon, and resource instance."""
    assert dict(resource_of(other_event(instance="letter/7"))) == {
        "urn:altinn:event-type": "letter.sent",
        "urn:altinn:event-source": "https://letters.example/1",
        "urn:altinn:resource": "ttd-letters",
        "urn:altinn:resourceinstance": "letter/7",
    }


@pytest.mark.parametrize(
    ("subject", "attribute"),
    [
        ("/party/1", ("urn:altinn:partyid", "1")),
        ("/organisation/974760673", ("urn:altinn:organization:identifier-no", "974760673")),
        ("/user/7", ("urn:altinn:userid", "7")),
        ("/org/ttd", ("urn:altinn:org", "ttd")),
        ("/systemuser/u-1", ("urn:altinn:systemuser:uuid", "u-1")),
        ("urn:altinn:party:uuid:a-b", ("urn:altinn:party:uuid", "a-b")),
        ("urn:isbn:0451450523", ("urn:isbn", "0451450523")),
    ],
)
def test_subject_of_other_event_becomes_an_attribute(subject: str, attribute: tuple[str, str]) -> None:
    """Each shape of subject that the contract names becomes its attribute, a URN split at its last colon."""
    assert set(resource_of(other_event(subject=subject))) - set(resource_of(other_event())) == {attribute}


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "/party/",
        "/party/abc",
        "/party/1/2",
        "/party/٣",
        "/car/1",
        "letter",
        "urn:",
        "urn:x",
        "urn::x",
        "//",
        "/user/",
    ],
)
def test_subject_of_unknown_shape_gives_no_attribute(subject: str) -> None:
    """A subject of a shape that the contract does not name is left out."""
    assert resource_of(other_event(subject=subject)) == resource_of(other_event())


@pytest.mark.parametrize(
    "subject",
    [
        "urn:altinn:resource:another",
        "URN:altinn:RESOURCE:another",
        "urn:altinn:event-type:another",
        "urn:altinn:instance-id:1/2",
        "urn:altinn:app:another",
    ],
)
def test_subject_never_passes_for_the_resource(subject: str) -> None:
    """A subject that would be a second value of what describes the resource or the event is left out."""
    assert resource_of(other_event(subject=subject)) == resource_of(other_event())


def test_subject_never_adds_a_value_to_a_resource_of_another_namespace() -> None:
    """The name that a resource of any other namespace is split into is the resource's alone."""
    event = other_event(resource="urn:example:shelf:1", subject="urn:example:shelf:2")
    assert dict(resource_of(event))["urn:example:shelf"] == "1"


@pytest.mark.parametrize(
    "subject", [PERSON_SUBJECT, PERSON_SUBJECT.upper(), PERSON_SUBJECT + ":1", PERSON_SUBJECT + "?"]
)
def test_persons_number_never_becomes_an_attribute(subject: str) -> None:
    """A person's number is in no question, however its URN is spelt."""
    assert PERSON not in str(resource_of(other_event(subject=subject)))


def test_override_stands_in_for_the_subject() -> None:
    """The party uuid that Register gave stands in for a person's number."""
    attributes = dict(resource_of(other_event(subject=PERSON_SUBJECT), "urn:altinn:party:uuid:a-b"))
    assert attributes["urn:altinn:party:uuid"] == "a-b"


@pytest.mark.parametrize(
    ("subject", "number"),
    [(PERSON_SUBJECT, PERSON), (PERSON_SUBJECT.upper(), PERSON), ("/party/1", None), (None, None), ("", None)],
)
def test_person_number_is_what_follows_the_urn(subject: str | None, number: str | None) -> None:
    """Only a person's URN has a person number, in any case of letters."""
    assert Subject.parse(subject or "").person_number == number


@given(st.text(), st.text(), st.none() | st.text() | st.from_regex(r"urn:[a-z:]*|/[a-z]*/.*"), st.none() | st.text())
def test_absurd_events_are_questions_too(resource: str, source: str, subject: str | None, instance: str | None) -> None:
    """No event makes the mapping fail, and attributes are sorted pairs."""
    for name in (resource, f"urn:altinn:resource:app_{resource}"):
        attributes = resource_of(other_event(resource=name, subject=subject, instance=instance, kind=source))
        assert list(attributes) == sorted(attributes)


def test_subject_is_the_callers_attributes() -> None:
    """The access subject is what the token says of the caller."""
    assert subject_of(USER) == (("urn:altinn:partyid", "50002108"), ("urn:altinn:userid", "20012345"))


def test_event_id_is_no_part_of_a_questions_identity() -> None:
    """Questions that differ in the event id alone are one question."""
    first, second = (Question((), "read", resource_of(app_event()), event_id) for event_id in ("1", "2"))
    assert len({first, second}) == 1


def _request(*questions: Question) -> dict[str, Any]:
    request = to_request(questions)["Request"]
    assert isinstance(request, dict)
    return request


def test_request_references_each_question_in_order() -> None:
    """Distinct subjects, actions and resources stand once, and each question refers to its three."""
    request = _request(question(resource="a"), question(resource="b"), question("9", resource="a"))
    assert [each["ReferenceId"] for each in request["MultiRequests"]["RequestReference"]] == [
        ["s1", "a1", "r1"],
        ["s1", "a1", "r2"],
        ["s2", "a1", "r1"],
    ]
    assert [len(request[name]) for name in ("AccessSubject", "Action", "Resource")] == [2, 1, 2]


def test_request_is_the_json_profiles() -> None:
    """A request is written as the JSON profile has it, the event id sent along and not asked back."""
    assert _request(question()) == {
        "ReturnPolicyIdList": False,
        "AccessSubject": [{"Id": "s1", "Attribute": [{"AttributeId": "urn:altinn:userid", "Value": "20012345"}]}],
        "Action": [
            {"Id": "a1", "Attribute": [{"AttributeId": ACTION_ID, "Value": "subscribe", "IncludeInResult": True}]}
        ],
        "Resource": [
            {
                "Id": "r1",
                "Attribute": [
                    {"AttributeId": "urn:altinn:resource", "Value": "ttd-letters", "IncludeInResult": True},
                    {"AttributeId": "urn:altinn:event-id", "Value": "e-ttd-letters"},
                ],
            }
        ],
        "MultiRequests": {"RequestReference": [{"ReferenceId": ["s1", "a1", "r1"]}]},
    }


def test_subjects_are_asked_back_when_there_are_several() -> None:
    """With several subjects in a request their attributes tell the results apart."""
    request = _request(question("1"), question("2"))
    assert all(each["Attribute"][0]["IncludeInResult"] for each in request["AccessSubject"])


def _at(caller: Caller, level: int | None) -> Caller:
    return Caller(caller.kind, caller.consumer, level=level, level_applies=caller.level_applies)


@pytest.mark.parametrize(
    ("decision", "caller", "allowed"),
    [
        (DENY, _at(USER, 4), False),
        (Decision(permit=True), _at(USER, 0), True),
        (Decision(permit=True), _at(USER, None), True),
        (Decision(permit=True, level=3), _at(USER, 3), True),
        (Decision(permit=True, level=4), _at(USER, 3), False),
        (Decision(permit=True, level=0), _at(USER, None), False),
        (Decision(permit=True, level=4, level_org=3), _at(USER, 3), False),
        (Decision(permit=True, level=4, level_org=3), _at(OWNER, 3), True),
        (Decision(permit=True, level=4, level_org=3), _at(OWNER, 2), False),
        (Decision(permit=True, level=4), _at(OWNER, 3), False),
        (Decision(permit=True, level=2, level_org=4), _at(OWNER, 2), True),
        (Decision(permit=True, level_org=4), _at(OWNER, 2), True),
        (Decision(permit=True, level=4), APP, True),
    ],
)
def test_level_meets_the_obligation(decision: Decision, caller: Caller, *, allowed: bool) -> None:
    """A level below the obligation denies, but for a service owner that meets the one for orgs."""
    assert allows(decision, caller) is allowed


def test_level_for_orgs_serves_service_owners_alone() -> None:
    """An organisation is no service owner: the level for orgs does not help it."""
    caller = Caller(Kind.ORGANISATION, "/organisation/974760673", level=3)
    assert not allows(Decision(permit=True, level=4, level_org=3), caller)


def test_instances_of_one_app_are_different_questions() -> None:
    """Events of two instances are never decided by one answer."""
    assert resource_of(app_event()) != resource_of(app_event(source=instance_url(OTHER_GUID)))


@pytest.mark.parametrize("subject", ["urn:altinn:ssn:01899699552", "/user/01899699552", "urn:x:person:01899699552"])
def test_a_number_like_a_persons_is_no_attribute_under_any_name(subject: str) -> None:
    """Eleven digits never go to the decision point, whatever they are called."""
    assert "01899699552" not in str(resource_of(other_event(subject=subject)))


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=3), st.text(max_size=5))
def test_questions_that_differ_are_kept_apart(attributes: list[tuple[str, str]], action: str) -> None:
    """By a digest of the same size for any; the event's id is no part of it."""
    some = tuple(attributes)
    question = Question(some, action, some, "a")
    assert len(question.digest) == 32
    assert question.digest == Question(some, action, some, "b").digest
    others = [
        Question((*some, ("x", "y")), action, some),
        Question(some, f"{action}x", some),
        Question(some, action, (*some, ("x", "y"))),
    ]
    assert len({each.digest for each in (question, *others)}) == 4
