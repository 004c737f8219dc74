"""The feed of any resource, for subscribers and for callers with the reportees scope."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.pdp_server import DENY, PERMIT
from tests.support.reading import app_events, next_query
from tests.support.service import ANCIENT, APP_RESOURCE, PARTY, PERSON, RESOURCE, RESOURCE_FEED, Service, event, ids

SUBSCRIBE, REPORTEES = "altinn:events.subscribe", "altinn:events.reportees/ttd-mail"
PERSON_URN = f"urn:altinn:person:identifier-no:{PERSON}"


@pytest.mark.on_cosmos
async def test_the_feed_holds_the_events_of_the_resource_in_order(service: Service) -> None:
    """The order is that of publication; events of other resources are left out."""
    mail, other = [event() for _ in range(4)], [event(f"{RESOURCE}-2") for _ in range(4)]
    await service.publish(*[sent for pair in zip(mail, other, strict=True) for sent in pair])
    answer = await service.get(RESOURCE_FEED, service.org(SUBSCRIBE), resource=RESOURCE, from_=ANCIENT)
    assert (answer.status, ids(answer.json())) == (200, ids(mail))


@pytest.mark.parametrize("kind", ["org", "user", "system_user", "organisation"])
async def test_the_scope_opens_the_feed_to_every_kind_of_caller(service: Service, kind: str) -> None:
    """`altinn:events.subscribe` counts for all of them."""
    answer = await service.get(RESOURCE_FEED, getattr(service, kind)(SUBSCRIBE), resource=RESOURCE, from_=ANCIENT)
    assert answer.status == 200


@pytest.mark.parametrize("scope", ["", "altinn:events.publish", "altinn:events.subscribe2", "altinn:events/ttd"])
async def test_without_the_scope_the_feed_is_forbidden(service: Service, scope: str) -> None:
    """The feed needs `altinn:events.subscribe`."""
    answer = await service.get(RESOURCE_FEED, service.org(scope), resource=RESOURCE, from_=ANCIENT)
    assert answer.status == 403


async def test_the_scope_may_be_in_the_other_claim(service: Service) -> None:
    """`urn:altinn:scope` is the same claim as `scope`."""
    token = service.org(**{"urn:altinn:scope": SUBSCRIBE})
    assert (await service.get(RESOURCE_FEED, token, resource=RESOURCE, from_=ANCIENT)).status == 200


async def test_each_event_needs_the_action_subscribe(service: Service) -> None:
    """Events that the PDP denies are left out."""
    service.pdp.decide = lambda asked: DENY if asked.resource["urn:altinn:eventtype"] == "secret" else PERMIT
    await service.publish(event(type="secret"), shown := event(), event(type="secret"))
    answer = await service.get(RESOURCE_FEED, service.org(SUBSCRIBE), resource=RESOURCE, from_=ANCIENT)
    assert ids(answer.json()) == [shown["id"]]
    assert {asked.action for asked in service.pdp.asked[0]} == {"subscribe"}


async def test_an_app_event_needs_the_action_read(service: Service) -> None:
    """The action is `read` for app events in this feed too."""
    await service.publish(*(published := app_events(1)))
    answer = await service.get(RESOURCE_FEED, service.org(SUBSCRIBE), resource=APP_RESOURCE, from_=ANCIENT)
    assert (ids(answer.json()), service.pdp.asked[0][0].action) == (ids(published), "read")


@pytest.mark.parametrize(
    ("parameters", "detail"),
    [
        ({"from": ANCIENT}, "The 'resource' parameter must be defined."),
        ({"resource": RESOURCE}, "The 'From' or 'After' parameter must be defined."),
        (
            {"from": ANCIENT, "resource": "urn:other:resource:x"},
            "The 'resource' parameter must begin with `urn:altinn:resource:`",
        ),
        ({"from": ANCIENT, "resource": "ttd-mail"}, "The 'resource' parameter must begin with `urn:altinn:resource:`"),
    ],
)
async def test_resource_and_a_start_are_required(service: Service, parameters: dict[str, Any], detail: str) -> None:
    """The problem has the documented words."""
    answer = await service.get(RESOURCE_FEED, service.org(SUBSCRIBE), **parameters)
    assert (answer.status, answer.json()["detail"]) == (400, detail)


async def test_the_older_notation_of_an_apps_resource_is_understood(service: Service) -> None:
    """`altinnapp.{org}.{app}` names the resource `app_{org}_{app}`."""
    await service.publish(*(published := app_events(2)))
    older = "urn:altinn:resource:altinnapp.ttd.apps-test"
    answer = await service.get(RESOURCE_FEED, service.org(SUBSCRIBE), resource=older, from_=ANCIENT, size=1)
    assert ids([*answer.json(), *await service.walk(answer, service.org(SUBSCRIBE))])[1:] == ids(published)


@pytest.mark.on_cosmos
@pytest.mark.parametrize("header", [False, True])
async def test_the_subject_narrows_the_feed(service: Service, *, header: bool) -> None:
    """The parameter `subject` and the header `Altinn-Subject` compare exactly."""
    subject = "urn:altinn:organization:identifier-no:974760673"
    await service.publish(wanted := event(subject=subject), event(subject=subject + "0"), event())
    headers, query = ({"Altinn-Subject": subject}, {}) if header else ({}, {"subject": subject})
    token = service.org(SUBSCRIBE)
    answer = await service.get(RESOURCE_FEED, token, resource=RESOURCE, from_=ANCIENT, headers=headers, **query)
    assert ids(answer.json()) == [wanted["id"]]
    assert ids(await service.walk(answer, token, headers=headers)) == [wanted["id"]]


@pytest.mark.on_cosmos
async def test_the_alternative_subject_narrows_the_feed(service: Service) -> None:
    """The header `Altinn-AlternativeSubject` compares exactly."""
    await service.publish(wanted := event(alternativesubject="/organisation/974760673"), event())
    headers = {"Altinn-AlternativeSubject": "/organisation/974760673"}
    token = service.org(SUBSCRIBE)
    answer = await service.get(RESOURCE_FEED, token, resource=RESOURCE, from_=ANCIENT, headers=headers)
    assert ids(answer.json()) == [wanted["id"]]


@pytest.mark.parametrize("header", [False, True])
async def test_subject_and_alternative_subject_exclude_each_other(service: Service, *, header: bool) -> None:
    """The problem has the documented words."""
    headers = {"Altinn-AlternativeSubject": "/user/1"} | ({"Altinn-Subject": "/user/2"} if header else {})
    query = {} if header else {"subject": "/user/2"}
    token = service.org(SUBSCRIBE)
    answer = await service.get(RESOURCE_FEED, token, resource=RESOURCE, from_=ANCIENT, headers=headers, **query)
    detail = "Only one of 'subject' or 'alternativeSubject' can be defined."
    assert (answer.status, answer.json()["detail"]) == (400, detail)


@pytest.mark.parametrize("subject", [PERSON_URN, PERSON_URN.upper(), PERSON, f"/person/{PERSON}"])
async def test_a_subject_that_names_a_person_is_refused_in_the_url(service: Service, subject: str) -> None:
    """A person belongs in the header; the problem does not repeat the number."""
    token = service.org(SUBSCRIBE)
    answer = await service.get(RESOURCE_FEED, token, resource=RESOURCE, from_=ANCIENT, subject=subject)
    assert answer.status == 400
    assert PERSON not in answer.body.decode() + str(answer.headers)


@pytest.mark.parametrize("header", ["Altinn-Subject", "Altinn-AlternativeSubject"])
async def test_a_person_in_the_header_is_in_no_next(service: Service, header: str) -> None:
    """No `next` of the walk names the person."""
    attribute = "subject" if header == "Altinn-Subject" else "alternativesubject"
    published = [event(**{attribute: PERSON_URN}) for _ in range(3)]
    await service.publish(*published, event())
    sent, token = {header: PERSON_URN}, service.org(SUBSCRIBE)
    answer = await service.get(RESOURCE_FEED, token, resource=RESOURCE, from_=ANCIENT, size=2, headers=sent)
    assert PERSON not in str(answer.headers)
    assert ids(await service.walk(answer, token, headers=sent)) == ids(published)


@pytest.mark.parametrize("size", [0, -1, -1_000])
async def test_a_size_below_one_means_fifty(service: Service, size: int) -> None:
    """`next` repeats the size as it was given."""
    await service.publish(*[event() for _ in range(51)])
    token = service.org(SUBSCRIBE)
    answer = await service.get(RESOURCE_FEED, token, resource=RESOURCE, from_=ANCIENT, size=size)
    assert (len(answer.json()), ("size", str(size)) in next_query(answer)) == (50, True)


@pytest.mark.on_cosmos
async def test_type_and_to_narrow_the_feed(service: Service) -> None:
    """The common parameters of feeds work here too."""
    await service.publish(event(type="a"), wanted := event(type="b"))
    token = service.org(SUBSCRIBE)
    asked: dict[str, Any] = {"resource": RESOURCE, "from": ANCIENT}
    assert ids((await service.get(RESOURCE_FEED, token, **asked, type="b")).json()) == [wanted["id"]]
    assert (await service.get(RESOURCE_FEED, token, **asked, to="2000-01-02T00:00:00Z")).json() == []


@pytest.mark.parametrize("other", ["", SUBSCRIBE])
async def test_the_reportees_scope_replaces_the_pdp(service: Service, other: str) -> None:
    """With the scope of the resource every event is shown, and no other scope is needed."""
    service.pdp.decide = lambda _: DENY
    await service.publish(*(published := [event(), event(subject=f"/party/{PARTY}")]))
    answer = await service.get(RESOURCE_FEED, service.org(REPORTEES, other), resource=RESOURCE, from_=ANCIENT)
    assert (ids(answer.json()), service.pdp.requests) == (ids(published), [])


async def test_the_reportees_scope_of_another_resource_opens_nothing(service: Service) -> None:
    """Alone it is 403; beside `subscribe` the PDP decides."""
    service.pdp.decide = lambda _: DENY
    await service.publish(event())
    scope = "altinn:events.reportees/ttd-mail-2"
    alone = await service.get(RESOURCE_FEED, service.org(scope), resource=RESOURCE, from_=ANCIENT)
    beside = await service.get(RESOURCE_FEED, service.org(scope, SUBSCRIBE), resource=RESOURCE, from_=ANCIENT)
    assert (alone.status, beside.json(), len(service.pdp.requests)) == (403, [], 1)


async def test_the_reportees_scope_of_an_app_serves_its_older_notation(service: Service) -> None:
    """The scope names the resource as it is stored."""
    await service.publish(*(published := app_events(1)))
    token = service.org("altinn:events.reportees/app_ttd_apps-test")
    older = "urn:altinn:resource:altinnapp.ttd.apps-test"
    answer = await service.get(RESOURCE_FEED, token, resource=older, from_=ANCIENT)
    assert (ids(answer.json()), service.pdp.requests) == (ids(published), [])
