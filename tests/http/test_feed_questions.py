"""What the decision point is told of an event and its reader, and what of persons it is not."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

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
    """Read the app owner's feed, by default with a token whose events are authorized one by one."""
    return await service.get(APP_FEED, token or service.org(), from_=ANCIENT, **query)


async def mail(service: Service, token: str | None = None, **query: Any) -> Answer:
    """Read the feed of a resource that is no app."""
    return await service.get(RESOURCE_FEED, token or service.org(SUBSCRIBE), resource=RESOURCE, from_=ANCIENT, **query)


async def test_an_app_events_question(service: Service) -> None:
    """Of an app's event: org, app, party, instance, `events`, and the id of one event that stands for the question."""
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


async def test_org_and_app_are_those_of_the_resource(service: Service) -> None:
    """A source of another app changes neither org nor app, and its instance is not taken for one of the app."""
    await service.publish(*app_events(1, source=instance_source("skd/other")))
    await owner(service)
    resource = service.pdp.asked[0][0].resource
    assert (resource["urn:altinn:org"], resource["urn:altinn:app"]) == ("ttd", "apps-test")
    assert "urn:altinn:instance-id" not in resource


async def test_the_party_feeds_question_has_the_subjects_party_and_the_sources_instance(service: Service) -> None:
    """The subject's party, and the instance with the party that its URL names."""
    guid = str(uuid.uuid4())
    await service.publish(*app_events(1, source=instance_source(party=7, guid=guid)))
    await service.get(PARTY_FEED, service.user(), from_=ANCIENT, party=PARTY)
    resource = service.pdp.asked[0][0].resource
    assert (resource["urn:altinn:partyid"], resource["urn:altinn:instance-id"]) == (str(PARTY), f"7/{guid}")


async def test_another_events_question(service: Service) -> None:
    """Of any other event: its id, type, source, resource, subject and resource instance."""
    published = event(subject=f"/party/{PARTY}", resourceinstance="box-7")
    await service.publish(published)
    await mail(service)
    ((asked,),) = service.pdp.asked
    assert (asked.action, dict(asked.resource)) == (
        "subscribe",
        {
            "urn:altinn:event-id": published["id"],
            "urn:altinn:event-type": "mail.received",
            "urn:altinn:event-source": "https://mail.example/box",
            "urn:altinn:resource": "ttd-mail",
            "urn:altinn:partyid": str(PARTY),
            "urn:altinn:resourceinstance": "box-7",
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
    """Each shape of a subject is one attribute; a URN is split at its last colon."""
    await service.publish(event(subject=subject))
    assert len((await mail(service)).json()) == 1
    assert service.pdp.asked[0][0].resource[name] == value


@pytest.mark.parametrize("subject", [None, "somebody", "/party/x", "/party/", "/nobody/1", "/party/1/2", "https://a/b"])
async def test_a_subject_of_no_known_shape_gives_no_attribute(service: Service, subject: str | None) -> None:
    """An event without a subject, or with one of another shape, is put to the decision point without."""
    await service.publish(event(**({} if subject is None else {"subject": subject})))
    assert len((await mail(service)).json()) == 1
    assert not service.pdp.asked[0][0].resource.keys() & SUBJECT_NAMES


async def test_one_odd_row_fails_no_page(service: Service) -> None:
    """Rows of every shape stand in one page with all others."""
    await service.publish(
        *(odd := [event(), event(subject="?"), event(subject=STRANGER_URN), event(subject="urn:x:"), event()])
    )
    answer = await mail(service)
    assert (answer.status, ids(answer.json())) == (
        200,
        [each["id"] for each in odd if each.get("subject") != STRANGER_URN],
    )


async def test_the_callers_claims_are_the_subject(service: Service) -> None:
    """Every claim that begins `urn:altinn:` is told, and no other."""
    await service.publish(*app_events(1))
    token = service.user(**dict[str, Any]({"urn:altinn:userName": "made-up", "acr": "Level3", "urn:other": "x"}))
    await service.get(PARTY_FEED, token, from_=ANCIENT, party=PARTY)
    assert dict(service.pdp.asked[0][0].subject) == {
        "urn:altinn:userid": "20012345",
        "urn:altinn:partyid": str(PARTY),
        "urn:altinn:authlevel": "3",
        "urn:altinn:userName": "made-up",
    }


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("system_user", "urn:altinn:systemuser:uuid", "a1b2c3d4-0000-4000-8000-000000000009"),
        ("organisation", "urn:altinn:organization:identifier-no", "974760673"),
    ],
)
async def test_systems_and_organisations_are_told_by_their_ids(
    service: Service, kind: str, name: str, value: str
) -> None:
    """A system user is told by its id, an organisation by its number, whatever claim it stood in."""
    await service.publish(*app_events(1))
    await service.get(PARTY_FEED, getattr(service, kind)(), from_=ANCIENT, party=PARTY)
    assert service.pdp.asked[0][0].subject[name] == value


async def test_the_subscription_key_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`EVENTS_PDP_SUBSCRIPTION_KEY` goes along as `Ocp-Apim-Subscription-Key`."""
    async with running(tmp_path, monkeypatch, EVENTS_PDP_SUBSCRIPTION_KEY="made-up-key") as service:
        await service.publish(*app_events(1))
        await owner(service)
        assert service.pdp.headers[0]["Ocp-Apim-Subscription-Key"] == "made-up-key"


async def test_the_request_is_of_the_multiple_decision_profile(service: Service) -> None:
    """One subject, one action, each distinct resource, and a reference for each question."""
    await service.publish(*app_events(2))
    await owner(service)
    (request,) = (each["Request"] for each in service.pdp.requests)
    assert request["ReturnPolicyIdList"] is False
    assert [len(request[name]) for name in ("AccessSubject", "Action", "Resource")] == [1, 1, 2]
    references = [each["ReferenceId"] for each in request["MultiRequests"]["RequestReference"]]
    assert references == [["s1", "a1", "r1"], ["s1", "a1", "r2"]]


# -- persons ----------------------------------------------------------------------------------------------------------


async def test_a_persons_number_never_goes_to_the_decision_point(service: Service) -> None:
    """A person as subject is told by the uuid of their party, which Register gives."""
    await service.publish(published := event(subject=PERSON_URN))
    assert ids((await mail(service)).json()) == [published["id"]]
    resource = service.pdp.asked[0][0].resource
    assert resource["urn:altinn:party:uuid"] == service.register.persons[PERSON].uuid
    assert PERSON not in service.pdp.log


async def test_no_way_to_read_tells_the_decision_point_a_number(service: Service) -> None:
    """Whoever reads whatever feed, no request to the decision point holds a person's number."""
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


async def test_a_person_whom_register_does_not_know_is_a_denied_row(service: Service) -> None:
    """Such an event is left out and asked about nowhere; the others of its page are shown."""
    await service.publish(event(subject=STRANGER_URN), shown := event(), event(subject=STRANGER_URN))
    assert ids((await mail(service)).json()) == [shown["id"]]
    assert [len(each) for each in service.pdp.asked] == [1]


async def test_persons_are_asked_for_a_hundred_at_a_time(service: Service) -> None:
    """The persons of a page are asked of Register in requests of 100, each person once."""
    numbers = [f"01810{number:06}" for number in range(130)]
    service.register.persons.update({n: Person(i, str(uuid.uuid4())) for i, n in enumerate(numbers, 1)})
    published = [event(subject=f"urn:altinn:person:identifier-no:{number}") for number in numbers]
    for start in range(0, 130, 65):
        await service.publish(*published[start : start + 65], event(subject=published[0]["subject"]))
    assert len((await mail(service, size=200)).json()) == 132
    asked = [document["Data"] for path, document in service.register.requests if path.endswith("/query")]
    assert sorted(map(len, asked)) == [30, 100]


async def test_register_down_makes_a_page_about_persons_503(service: Service) -> None:
    """While it is not known who a person is nothing is shown; a page about nobody is."""
    await service.publish(event(subject=PERSON_URN))
    service.register.status = 500
    answer = await mail(service)
    assert (answer.status, PERSON in answer.body.decode()) == (503, False)
    await service.publish(*app_events(1))
    assert (await owner(service)).status == 200


async def test_only_the_resources_own_stream_is_authorized(service: Service) -> None:
    """What a filter leaves out is asked about nowhere."""
    await service.publish(*app_events(5, type="other"), *app_events(2, type="wanted"), event(APP_RESOURCE + "2"))
    assert len((await owner(service, type="wanted")).json()) == 2
    assert [len(each) for each in service.pdp.asked] == [2]
