"""The questions to the PDP describe an event and its reader, and name no person by number."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.support import numbers
from tests.support.asgi import Answer
from tests.support.reading import app_events
from tests.support.register_server import Person
from tests.support.service import (
    ANCIENT,
    APP_FEED,
    APP_RESOURCE,
    PARTY,
    PARTY_FEED,
    PERSON,
    RESOURCE,
    RESOURCE_FEED,
    UNIT,
    Service,
    event,
    ids,
    instance_source,
    running,
)

SUBSCRIBE = "altinn:events.subscribe"
PERSON_URN = f"urn:altinn:person:identifier-no:{PERSON}"
STRANGER_URN = "urn:altinn:person:identifier-no:20868012804"
SUBJECT_NAMES = {"urn:altinn:partyid", "urn:altinn:userid", "urn:altinn:org", "urn:altinn:systemuser:uuid"}


async def owner(service: Service, token: str | None = None, **query: Any) -> Answer:
    """Read the app owner's feed, by default with a token that needs a decision about each event."""
    return await service.get(APP_FEED, token or service.org(), from_=ANCIENT, **query)


async def mail(service: Service, token: str | None = None, **query: Any) -> Answer:
    """Read the feed of a resource that is no app."""
    return await service.get(RESOURCE_FEED, token or service.org(SUBSCRIBE), resource=RESOURCE, from_=ANCIENT, **query)


async def test_the_question_about_an_app_event(service: Service) -> None:
    """It has the org, the app, the party, the instance, `events` and the id of one such event."""
    guid = str(uuid.uuid4())
    await service.publish(published := app_events(1, source=instance_source(guid=guid))[0])
    await owner(service)
    ((asked,),) = service.pdp.asked
    assert (asked.action, dict(asked.resource)) == (
        "read",
        {
            "urn:altinn:org": "ttd",
            "urn:altinn:app": "apps-test",
            "urn:altinn:partyid": str(PARTY),
            "urn:altinn:instance-id": f"{PARTY}/{guid}",
            "urn:altinn:appresource": "events",
            "urn:altinn:event-id": published["id"],
        },
    )


async def test_org_and_app_come_from_the_resource(service: Service) -> None:
    """A source of another app changes neither, and its instance is left out."""
    await service.publish(*app_events(1, source=instance_source("skd/other")))
    await owner(service)
    resource = service.pdp.asked[0][0].resource
    assert (resource["urn:altinn:org"], resource["urn:altinn:app"]) == ("ttd", "apps-test")
    assert "urn:altinn:instance-id" not in resource


async def test_party_and_instance_come_from_subject_and_source(service: Service) -> None:
    """The party of an instance's URL may be another than the subject's."""
    guid = str(uuid.uuid4())
    await service.publish(*app_events(1, source=instance_source(party=7, guid=guid)))
    await service.get(PARTY_FEED, service.user(), from_=ANCIENT, party=PARTY)
    resource = service.pdp.asked[0][0].resource
    assert (resource["urn:altinn:partyid"], resource["urn:altinn:instance-id"]) == (str(PARTY), f"7/{guid}")


async def test_the_question_about_another_event(service: Service) -> None:
    """It has the id, type, source, resource, subject and resource instance."""
    published = event(subject=f"/party/{PARTY}", resourceinstance="box-7")
    await service.publish(published)
    await mail(service)
    ((asked,),) = service.pdp.asked
    assert (asked.action, dict(asked.resource)) == (
        "subscribe",
        {
            "urn:altinn:event-id": published["id"],
            "urn:altinn:eventtype": "mail.received",
            "urn:altinn:eventsource": "https://mail.example/box",
            "urn:altinn:resource": "ttd-mail",
            "urn:altinn:partyid": str(PARTY),
            "urn:altinn:resource:instance-id": "box-7",
        },
    )


@pytest.mark.parametrize(
    ("subject", "name", "value"),
    [
        ("/party/7", "urn:altinn:partyid", "7"),
        ("/organisation/974760673", "urn:altinn:organization:identifier-no", "974760673"),
        ("/user/5", "urn:altinn:userid", "5"),
        ("/org/ttd", "urn:altinn:org", "ttd"),
        ("/systemuser/ab", "urn:altinn:systemuser:uuid", "ab"),
        ("urn:altinn:organization:identifier-no:974760673", "urn:altinn:organization:identifier-no", "974760673"),
        ("urn:x:y:z", "urn:x:y", "z"),
    ],
)
async def test_subjects_become_attributes(service: Service, subject: str, name: str, value: str) -> None:
    """Each form of a subject is one attribute; a URN is split at its last colon."""
    await service.publish(event(subject=subject))
    assert len((await mail(service)).json()) == 1
    assert service.pdp.asked[0][0].resource[name] == value


@pytest.mark.parametrize("subject", [None, "somebody", "/party/x", "/party/", "/nobody/1", "/party/1/2", "https://a/b"])
async def test_a_subject_of_unknown_form_gives_no_attribute(service: Service, subject: str | None) -> None:
    """The PDP decides without it."""
    await service.publish(event(**({} if subject is None else {"subject": subject})))
    assert len((await mail(service)).json()) == 1
    assert not service.pdp.asked[0][0].resource.keys() & SUBJECT_NAMES


async def test_an_odd_subject_fails_no_page(service: Service) -> None:
    """The page holds every permitted event."""
    await service.publish(
        *(odd := [event(), event(subject="?"), event(subject=STRANGER_URN), event(subject="urn:x:"), event()])
    )
    answer = await mail(service)
    assert (answer.status, ids(answer.json())) == (
        200,
        [sent["id"] for sent in odd if sent.get("subject") != STRANGER_URN],
    )


async def test_the_callers_identifier_and_claims_are_the_subject(service: Service) -> None:
    """The question has the user, the scopes and the claims that begin with `urn:`. The token's party is not sent."""
    await service.publish(*app_events(1))
    claims: dict[str, Any] = {"urn:altinn:userName": "made-up", "acr": "Level3", "urn:other": "x"}
    await service.get(PARTY_FEED, service.user("a", SUBSCRIBE, **claims), from_=ANCIENT, party=PARTY)
    assert dict(service.pdp.asked[0][0].subject) == {
        "urn:altinn:userid": "20012345",
        "urn:altinn:authlevel": "3",
        "urn:altinn:userName": "made-up",
        "urn:other": "x",
        "urn:scope": f"a {SUBSCRIBE}",
    }


async def test_a_system_user_is_named_by_its_id_alone(service: Service) -> None:
    """Neither its organisation, nor its scopes, nor another claim is sent."""
    await service.publish(*app_events(1))
    consumer = {"authority": "iso6523-actorid-upis", "ID": f"0192:{UNIT}"}
    claims: dict[str, Any] = {"consumer": consumer, "urn:altinn:authlevel": "3"}
    await service.get(PARTY_FEED, service.system_user("a", **claims), from_=ANCIENT, party=PARTY)
    assert dict(service.pdp.asked[0][0].subject) == {
        "urn:altinn:systemuser:uuid": "a1b2c3d4-0000-4000-8000-000000000009"
    }


async def test_an_organisation_is_named_by_its_number_under_both_names(service: Service) -> None:
    """Policies use either name."""
    await service.publish(*app_events(1))
    await service.get(PARTY_FEED, service.organisation(), from_=ANCIENT, party=PARTY)
    assert dict(service.pdp.asked[0][0].subject) == {
        "urn:altinn:organization:identifier-no": UNIT,
        "urn:altinn:organizationnumber": UNIT,
    }


async def test_the_subscription_key_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`EVENTS_PDP_SUBSCRIPTION_KEY` is the header `Ocp-Apim-Subscription-Key`."""
    async with running(tmp_path, monkeypatch, EVENTS_PDP_SUBSCRIPTION_KEY="made-up-key") as service:
        await service.publish(*app_events(1))
        await owner(service)
        assert service.pdp.headers[0]["Ocp-Apim-Subscription-Key"] == "made-up-key"


async def test_a_request_uses_the_multiple_decision_profile(service: Service) -> None:
    """It has one subject, one action, each distinct resource, and a reference for each question."""
    await service.publish(*app_events(2))
    await owner(service)
    (request,) = (sent["Request"] for sent in service.pdp.requests)
    assert request["ReturnPolicyIdList"] is False
    assert [len(request[name]) for name in ("AccessSubject", "Action", "Resource")] == [1, 1, 2]
    references = [reference["ReferenceId"] for reference in request["MultiRequests"]["RequestReference"]]
    assert references == [["s1", "a1", "r1"], ["s1", "a1", "r2"]]


# -- persons ----------------------------------------------------------------------------------------------------------


async def test_app_events_about_different_persons_of_an_instance_are_different_questions(service: Service) -> None:
    """The uuid of the person's party replaces the instance's party."""
    source = instance_source(party=7)
    await service.publish(
        *app_events(1, source=source, subject=PERSON_URN), *app_events(1, source=source, subject=None)
    )
    await owner(service)
    asked = service.pdp.asked[0]
    assert asked[0].resource["urn:altinn:party:uuid"] == service.register.persons[PERSON].uuid
    assert [question.resource.get("urn:altinn:partyid") for question in asked] == [None, "7"]


async def test_a_persons_number_never_goes_to_the_pdp(service: Service) -> None:
    """Register gives the uuid of the person's party instead."""
    await service.publish(published := event(subject=PERSON_URN))
    assert ids((await mail(service)).json()) == [published["id"]]
    resource = service.pdp.asked[0][0].resource
    assert resource["urn:altinn:party:uuid"] == service.register.persons[PERSON].uuid
    assert PERSON not in service.pdp.log


async def test_no_feed_sends_a_persons_number_to_the_pdp(service: Service) -> None:
    """The number stays out, also if it is in a claim, a header or a subject."""
    await service.publish(*app_events(2, subject=PERSON_URN), *app_events(2), event(subject=PERSON_URN.upper()))
    await service.publish(event(subject=PERSON_URN), event(subject=STRANGER_URN))
    claims: dict[str, Any] = {"urn:altinn:person:identifier-no": PERSON, "urn:altinn:ssn": PERSON}
    token = service.user(SUBSCRIBE, **claims)
    await service.get(PARTY_FEED, token, from_=ANCIENT, headers={"Person": PERSON})
    await mail(service, token)
    await mail(service, token, headers={"Altinn-Subject": PERSON_URN})
    await owner(service)
    assert service.pdp.requests
    assert PERSON not in service.pdp.log
    assert STRANGER_URN[-11:] not in service.pdp.log


async def test_an_event_about_an_unknown_person_is_denied(service: Service) -> None:
    """The PDP is not asked about it, and the other events of the page are shown."""
    await service.publish(event(subject=STRANGER_URN), shown := event(), event(subject=STRANGER_URN))
    assert ids((await mail(service)).json()) == [shown["id"]]
    assert [len(questions) for questions in service.pdp.asked] == [1]


async def test_persons_are_looked_up_a_hundred_at_a_time(service: Service) -> None:
    """Each person of a page is asked of Register once."""
    persons = numbers.persons(130)
    service.register.persons.update({n: Person(i, str(uuid.uuid4())) for i, n in enumerate(persons, 1)})
    published = [event(subject=f"urn:altinn:person:identifier-no:{number}") for number in persons]
    for start in range(0, 130, 65):
        await service.publish(*published[start : start + 65], event(subject=published[0]["subject"]))
    assert len((await mail(service, size=200)).json()) == 132
    assert sorted(map(len, service.register.queries)) == [30, 100]


async def test_one_unknown_person_and_one_malformed_number_hide_only_their_events(service: Service) -> None:
    """A page of 100 persons costs Register at most 16 requests."""
    persons = numbers.persons(98)
    service.register.persons.update({n: Person(i, str(uuid.uuid4())) for i, n in enumerate(persons, 1)})
    subjects = [f"urn:altinn:person:identifier-no:{number}" for number in persons]
    shown = [event(subject=subject) for subject in subjects]
    hidden = [event(subject=STRANGER_URN), event(subject="urn:altinn:person:identifier-no:01899699553")]
    await service.publish(*shown[:40], hidden[0], *shown[40:60])
    await service.publish(*shown[60:70], hidden[1], *shown[70:])
    assert ids((await mail(service, size=100)).json()) == ids(shown)
    assert len(service.register.requests) <= 16


async def test_register_down_makes_a_page_about_persons_503(service: Service) -> None:
    """A page without persons does not need Register."""
    await service.publish(event(subject=PERSON_URN))
    service.register.status = 500
    answer = await mail(service)
    assert (answer.status, PERSON in answer.body.decode()) == (503, False)
    await service.publish(*app_events(1))
    assert (await owner(service)).status == 200


async def test_filtered_events_need_no_decision(service: Service) -> None:
    """The PDP is asked about matching events only."""
    await service.publish(*app_events(5, type="other"), *app_events(2, type="wanted"), event(APP_RESOURCE + "2"))
    assert len((await owner(service, type="wanted")).json()) == 2
    assert [len(questions) for questions in service.pdp.asked] == [2]
