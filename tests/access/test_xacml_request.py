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
    resource_of_subscription,
    subject_of,
    to_request,
)
from tests.support.askers import (
    APP,
    APP_RESOURCE,
    GUID,
    OTHER_GUID,
    OTHER_RESOURCE,
    OWNER,
    PERSON,
    PERSON_SUBJECT,
    USER,
    app_event,
    instance_url,
    other_event,
    question,
)


def test_an_app_event_has_org_app_party_and_instance() -> None:
    """Org and app come from the resource, the party from the subject, the instance from the source."""
    assert dict(resource_of(app_event())) == {
        "urn:altinn:org": "ttd",
        "urn:altinn:app": "apps-test",
        "urn:altinn:partyid": "50002108",
        "urn:altinn:instance-id": f"50002108/{GUID}",
        "urn:altinn:appresource": "events",
    }


def test_the_org_ends_at_the_first_underscore() -> None:
    """The app may have more underscores."""
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
def test_a_source_of_another_app_gives_no_instance(source: str) -> None:
    """Org and app never come from the source, and the instance only if it belongs to that app."""
    attributes = dict(resource_of(app_event(source=source)))
    assert "urn:altinn:instance-id" not in attributes
    assert (attributes["urn:altinn:app"], attributes["urn:altinn:partyid"]) == ("apps-test", "50002108")


def test_the_party_is_the_subjects_and_the_instance_the_sources() -> None:
    """The subject may be another party than the owner of the instance."""
    attributes = dict(resource_of(app_event(subject="/party/1")))
    assert attributes["urn:altinn:partyid"] == "1"
    assert attributes["urn:altinn:instance-id"] == f"50002108/{GUID}"


@pytest.mark.parametrize(
    ("subject", "attribute"),
    [
        ("/party/1", ("urn:altinn:partyid", "1")),
        ("urn:altinn:partyid:1", ("urn:altinn:partyid", "1")),
        ("/organisation/974760673", ("urn:altinn:organization:identifier-no", "974760673")),
        ("urn:altinn:organization:identifier-no:974760673", ("urn:altinn:organization:identifier-no", "974760673")),
        ("urn:altinn:organizationnumber:974760673", ("urn:altinn:organizationnumber", "974760673")),
        ("urn:altinn:party:uuid:a-b", ("urn:altinn:party:uuid", "a-b")),
        ("urn:altinn:person:uuid:a-b", ("urn:altinn:person:uuid", "a-b")),
        ("URN:ALTINN:PARTY:UUID:a-b", ("URN:ALTINN:PARTY:UUID", "a-b")),
    ],
)
def test_a_party_in_the_subject_of_an_app_event_replaces_the_instances(
    subject: str, attribute: tuple[str, str]
) -> None:
    """The instance belongs to another party, which is left out. Events about different parties differ."""
    plain = {pair for pair in resource_of(app_event(subject=None)) if pair[0] != "urn:altinn:partyid"}
    assert set(resource_of(app_event(subject=subject))) - plain == {attribute}


@pytest.mark.parametrize(
    ("subject", "attribute"),
    [
        ("/user/7", ("urn:altinn:userid", "7")),
        ("/systemuser/u-1", ("urn:altinn:systemuser:uuid", "u-1")),
        ("urn:isbn:0451450523", ("urn:isbn", "0451450523")),
    ],
)
def test_a_subject_of_an_app_event_that_is_no_party_stands_beside_the_instances(
    subject: str, attribute: tuple[str, str]
) -> None:
    """Only a party takes the place of the instance's party."""
    assert set(resource_of(app_event(subject=subject))) - set(resource_of(app_event(subject=None))) == {attribute}
    assert dict(resource_of(app_event(subject=subject)))["urn:altinn:partyid"] == "50002108"


@pytest.mark.parametrize(
    "subject", ["/person/1", "/party/abc", "/party/٣", "/org/skd", "/ORG/skd", "urn:altinn:org:skd", PERSON_SUBJECT]
)
def test_without_a_usable_subject_the_party_is_the_instances(subject: str) -> None:
    """An app event has its org already, so `/org/x` adds none."""
    assert resource_of(app_event(subject=subject)) == resource_of(app_event(subject=None))
    assert dict(resource_of(app_event(subject=None)))["urn:altinn:partyid"] == "50002108"


@pytest.mark.parametrize("resource", [APP_RESOURCE, "urn:altinn:resource:altinnapp.ttd.apps-test"])
@pytest.mark.parametrize(
    ("subject", "attributes"),
    [
        (None, set()),
        ("/party/1", {("urn:altinn:partyid", "1")}),
        ("/organisation/974760673", {("urn:altinn:organization:identifier-no", "974760673")}),
        ("urn:altinn:party:uuid:a-b", {("urn:altinn:party:uuid", "a-b")}),
        ("/user/7", {("urn:altinn:userid", "7")}),
        ("/org/skd", set()),
        ("urn:altinn:instance-id:1/2", set()),
    ],
)
def test_the_subject_filter_of_an_app_subscription_is_put_like_an_events_subject(
    resource: str, subject: str | None, attributes: set[tuple[str, str]]
) -> None:
    """A subscription names org, app and `events`, and has no instance."""
    app = {("urn:altinn:org", "ttd"), ("urn:altinn:app", "apps-test"), ("urn:altinn:appresource", "events")}
    assert set(resource_of_subscription(resource, subject)) == app | attributes


@pytest.mark.parametrize(
    ("subject", "attributes"),
    [
        (None, set()),
        ("/party/1", {("urn:altinn:partyid", "1")}),
        ("/org/skd", {("urn:altinn:org", "skd")}),
        ("urn:altinn:resource:another", set()),
    ],
)
def test_the_subject_filter_of_another_subscription_is_put_like_an_events_subject(
    subject: str | None, attributes: set[tuple[str, str]]
) -> None:
    """A subscription names the resource, and no type or source."""
    assert set(resource_of_subscription(OTHER_RESOURCE, subject)) == {
        ("urn:altinn:resource", "ttd-letters"),
        *attributes,
    }


def test_without_party_and_instance_there_is_no_party() -> None:
    """The source is no instance, and the subject no party."""
    assert "urn:altinn:partyid" not in dict(resource_of(app_event(source="urn:x:y", subject=None)))


def test_another_event_has_type_source_resource_and_instance() -> None:
    """The resource is split at its last colon."""
    assert dict(resource_of(other_event(instance="letter/7"))) == {
        "urn:altinn:eventtype": "letter.sent",
        "urn:altinn:eventsource": "https://letters.example/1",
        "urn:altinn:resource": "ttd-letters",
        "urn:altinn:resource:instance-id": "letter/7",
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
def test_the_subject_of_another_event_becomes_an_attribute(subject: str, attribute: tuple[str, str]) -> None:
    """Each form of subject in the contract has its attribute, and a URN is split at its last colon."""
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
def test_a_subject_of_unknown_form_gives_no_attribute(subject: str) -> None:
    """The question has the attributes of an event without a subject."""
    assert resource_of(other_event(subject=subject)) == resource_of(other_event())


def test_the_override_replaces_the_subject() -> None:
    """Register's party UUID replaces a person number."""
    attributes = dict(resource_of(other_event(subject=PERSON_SUBJECT), "urn:altinn:party:uuid:a-b"))
    assert attributes["urn:altinn:party:uuid"] == "a-b"


@pytest.mark.parametrize(
    ("subject", "number"),
    [(PERSON_SUBJECT, PERSON), (PERSON_SUBJECT.upper(), PERSON), ("/party/1", None), (None, None), ("", None)],
)
def test_a_person_urn_has_a_person_number(subject: str | None, number: str | None) -> None:
    """The case of the URN does not matter."""
    assert Subject.parse(subject or "").person_number == number


@given(st.text(), st.text(), st.none() | st.text() | st.from_regex(r"urn:[a-z:]*|/[a-z]*/.*"), st.none() | st.text())
def test_every_event_becomes_a_question(resource: str, source: str, subject: str | None, instance: str | None) -> None:
    """No event makes the mapping fail, and attributes are sorted."""
    for name in (resource, f"urn:altinn:resource:app_{resource}"):
        attributes = resource_of(other_event(resource=name, subject=subject, instance=instance, kind=source))
        assert list(attributes) == sorted(attributes)


def test_the_access_subject_has_the_callers_attributes() -> None:
    """The attributes come from the token."""
    assert subject_of(USER) == (("urn:altinn:userid", "20012345"),)


def test_questions_that_differ_in_the_event_id_are_equal() -> None:
    """Neither the event id nor the URN for logs influences the decision."""
    first, second = (
        Question((), "read", resource_of(app_event()), name, resource_urn=f"urn:x:{name}") for name in ("1", "2")
    )
    assert len({first, second}) == 1


def _request(*questions: Question) -> dict[str, Any]:
    request = to_request(questions)["Request"]
    assert isinstance(request, dict)
    return request


def test_the_request_references_each_question_in_order() -> None:
    """Each distinct subject, action and resource is sent once, and a question refers to one of each."""
    request = _request(question(resource="a"), question(resource="b"), question("9", resource="a"))
    assert [reference["ReferenceId"] for reference in request["MultiRequests"]["RequestReference"]] == [
        ["s1", "a1", "r1"],
        ["s1", "a1", "r2"],
        ["s2", "a1", "r1"],
    ]
    assert [len(request[name]) for name in ("AccessSubject", "Action", "Resource")] == [2, 1, 2]


def test_the_request_has_the_form_of_the_json_profile() -> None:
    """The event id is sent, and is not returned."""
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


def test_several_subjects_are_returned() -> None:
    """Their attributes tell the results apart."""
    request = _request(question("1"), question("2"))
    assert all(category["Attribute"][0]["IncludeInResult"] for category in request["AccessSubject"])


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
def test_a_level_meets_the_obligation(decision: Decision, caller: Caller, *, allowed: bool) -> None:
    """A level below the obligation is denied, unless a service owner meets the obligation for orgs."""
    assert allows(decision, caller) is allowed


def test_the_level_for_orgs_is_for_service_owners() -> None:
    """An organisation is not a service owner."""
    caller = Caller(Kind.ORGANISATION, "/organisation/974760673", level=3)
    assert not allows(Decision(permit=True, level=4, level_org=3), caller)


def test_instances_of_one_app_are_different_questions() -> None:
    """A decision about one instance never holds for another."""
    assert resource_of(app_event()) != resource_of(app_event(source=instance_url(OTHER_GUID)))


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=3), st.text(max_size=5))
def test_questions_that_differ_are_kept_apart(attributes: list[tuple[str, str]], action: str) -> None:
    """The digest does not depend on the event id."""
    pairs = tuple(attributes)
    question = Question(pairs, action, pairs, "a")
    assert len(question.digest) == 32
    assert question.digest == Question(pairs, action, pairs, "b").digest
    others = [
        Question((*pairs, ("x", "y")), action, pairs),
        Question(pairs, f"{action}x", pairs),
        Question(pairs, action, (*pairs, ("x", "y"))),
    ]
    assert len({one.digest for one in (question, *others)}) == 4
