"""Person numbers in the filters of subscriptions: only the consumer that wrote one sees it again."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import APP_RESOURCE, PARTY, PERSON, RESOURCE, Service, event, running
from tests.support.stored import stored_text
from tests.support.subscribing import LOOPBACK, SUBSCRIPTIONS, asked, published, settled, subscribed
from tests.support.webhook_server import WebhookServer

ENDPOINT = "https://subscriber.example/events"
URN = f"urn:altinn:person:identifier-no:{PERSON}"
OLD, NEW = (base64.b64encode(bytes([digit]) * 32).decode() for digit in (1, 2))
PATHS = ("/derived", "/both", "/wildcard", "/subject")
SPELLINGS = (f"/person/{PERSON}", f"/PERSON/{PERSON}/", URN, URN.upper())


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """The service with permission to deliver to loopback."""
    async with running(tmp_path, monkeypatch, **LOOPBACK) as service:
        yield service


@pytest.mark.on_cosmos
@pytest.mark.parametrize(
    "fields",
    [
        *({"alternativeSubjectFilter": spelling} for spelling in SPELLINGS),
        {"alternativeSubjectFilter": f"/person/{PERSON}", "subjectFilter": f"/party/{PARTY}"},
        {"subjectFilter": URN},
        {"subjectFilter": f"/user/{PERSON}"},
    ],
    ids=["path", "capitals and slash", "urn", "urn in capitals", "with a subject", "subject", "another kind"],
)
async def test_no_person_number_of_a_filter_is_stored_in_clear(
    service: Service, tmp_path: Path, receiver: WebhookServer, fields: dict[str, Any]
) -> None:
    """Not after any request about the subscription, and its consumer reads in each answer what it wrote."""
    token = service.org()
    made = await subscribed(service, receiver, **fields)
    target = f"{SUBSCRIPTIONS}/{made['id']}"
    paused = await service.request("PATCH", target, token=token, json_body={"paused": True})
    moved = await service.request("PATCH", target, token=token, json_body={"endPoint": receiver.url + "/moved"})
    await service.request("POST", f"{target}/rotate-secret", token=token)
    (listed,) = (await service.get(SUBSCRIPTIONS, token)).json()["subscriptions"]
    wanted = {"subjectFilter": None, "alternativeSubjectFilter": None} | fields
    for shown in (made, paused.json(), moved.json(), listed, (await service.get(target, token)).json()):
        assert {name: shown[name] for name in wanted} == wanted
    stored = await stored_text(tmp_path)
    assert APP_RESOURCE in stored
    assert PERSON not in stored
    assert (await service.request("DELETE", target, token=token)).status == 200
    assert PERSON not in await stored_text(tmp_path)


@pytest.mark.on_cosmos
async def test_a_subscription_that_names_a_person_is_found_again(service: Service) -> None:
    """Case and a final slash make no other one; another person does."""
    token = service.org()
    fields = {"endPoint": ENDPOINT, "resourceFilter": APP_RESOURCE, "subjectFilter": f"/party/{PARTY}"}
    spellings = (f"/person/{PERSON}", f"/PERSON/{PERSON}/", "/person/10987654321")
    made = [await asked(service, token, **fields, alternativeSubjectFilter=spelling) for spelling in spellings]
    first, same, other = (answer.json()["id"] for answer in made)
    assert first == same != other


async def test_events_about_a_person_reach_the_subscriptions_that_name_the_person(
    service: Service, receiver: WebhookServer
) -> None:
    """By any of the filters, and by a wildcard for the whole number; events about others do not."""
    token = service.org("altinn:events.subscribe")
    party = f"/party/{PARTY}"
    await subscribed(service, receiver, path="/derived", alternativeSubjectFilter=f"/person/{PERSON}/")
    await subscribed(service, receiver, path="/both", subjectFilter=party, alternativeSubjectFilter=f"/PERSON/{PERSON}")
    await subscribed(service, receiver, path="/wildcard", subjectFilter=party, alternativeSubjectFilter="/person/%")
    await subscribed(service, receiver, token, path="/subject", resourceFilter=RESOURCE, subjectFilter=URN)
    (about,) = await published(service, subject=party, alternativesubject=f"/person/{PERSON}")
    (other,) = await published(service, subject=party, alternativesubject="/person/10987654321")
    mail, other_mail = event(subject=URN), event(subject=f"{URN[:-1]}0")
    await service.publish(mail, other_mail)
    await settled()
    reached = {path: {str(got["id"]) for got in receiver.events(path)} for path in PATHS}
    assert reached == {
        "/derived": {about, other},
        "/both": {about},
        "/wildcard": {about, other},
        "/subject": {mail["id"]},
    }


async def test_a_repeat_seals_the_filter_under_the_new_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then the old key opens it beside the new one; afterwards the old key may go."""
    fields = {"endPoint": ENDPOINT, "resourceFilter": APP_RESOURCE, "alternativeSubjectFilter": f"/person/{PERSON}"}
    seen = []
    for keys in (OLD, f"{NEW},{OLD}", NEW):
        async with running(tmp_path, monkeypatch, EVENTS_SECRET_KEY=keys) as service:
            seen.append((await service.get(SUBSCRIPTIONS, service.org())).json()["subscriptions"])
            assert (await asked(service, service.org(), **fields)).status == 201
    shown = [[each["alternativeSubjectFilter"] for each in subscriptions] for subscriptions in seen]
    assert shown == [[], [f"/person/{PERSON}"], [f"/person/{PERSON}"]]


@pytest.mark.parametrize(
    "fields", [{"alternativeSubjectFilter": f"/person/{PERSON}"}, {"subjectFilter": URN}], ids=["path", "subject"]
)
async def test_the_platform_sees_no_person_number_when_it_validates(service: Service, fields: dict[str, str]) -> None:
    """And no party that Register gave for one."""
    made = await asked(service, service.org(), endPoint=ENDPOINT, resourceFilter=APP_RESOURCE, **fields)
    target = f"{SUBSCRIPTIONS}/validate/{made.json()['id']}"
    answer = await service.request("PUT", target, platform_token=service.app("platform/events"))
    assert answer.status == 200
    for name, value in fields.items():
        assert answer.json()[name] == value.replace(PERSON, "***")
    assert PERSON not in answer.body.decode()
    assert str(PARTY) not in answer.body.decode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sourceFilter", f"https://ttd.apps.altinn.example/ttd/{PERSON}"),
        ("typeFilter", f"app.{PERSON}.%"),
        ("subjectFilter", f"/person/{PERSON[:6]}%"),
        ("alternativeSubjectFilter", f"/person/{PERSON[:10]}%"),
        ("alternativeSubjectFilter", f"/Person/{PERSON}%"),
        ("alternativeSubjectFilter", f"urn:altinn:person:identifier-no:%{PERSON[3:]}"),
    ],
)
async def test_a_filter_that_holds_digits_of_a_person_in_another_form_is_refused(
    service: Service, field: str, value: str
) -> None:
    """They would be stored in clear. The error names the field and repeats no digit."""
    fields = {"resourceFilter": APP_RESOURCE, "subjectFilter": "/party/1", field: value}
    if field == "sourceFilter":
        del fields["resourceFilter"]
    answer = await asked(service, service.org(), endPoint=ENDPOINT, **fields)
    assert answer.status == 400
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]
    assert PERSON[3:10] not in answer.body.decode()
    assert (await service.get(SUBSCRIPTIONS, service.org())).json()["count"] == 0
