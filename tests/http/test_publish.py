"""Publishing events of any resource (`POST /events/api/v1/events`): callers, decisions and content."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.asgi import Answer
from tests.support.pdp_server import DENY, PERMIT, Asked, Ruling
from tests.support.publishing import ADMIN_SCOPE, PUBLISH_SCOPE, batch, feed, fields, publisher, structured
from tests.support.service import APP_RESOURCE, PERSON, RESOURCE, UNIT, Service, event, ids, instance_source

PERSON_SUBJECT = f"urn:altinn:person:identifier-no:{PERSON}"
STRANGER_SUBJECT = "urn:altinn:person:identifier-no:20868012804"

GUID = "6fb3738d-6372-48e3-a2d2-f40ab0531fc1"


def deny(number: int) -> Any:
    """A policy that denies the event of that number."""
    return lambda asked: DENY if asked.resource["urn:altinn:eventtype"] == f"t{number}" else PERMIT


@pytest.mark.parametrize("scopes", [(), ("altinn:events.subscribe",), ("altinn:events.publish.other",)])
async def test_publishing_needs_its_scope(service: Service, scopes: tuple[str, ...]) -> None:
    """Without `altinn:events.publish` the response is 403, and the PDP is not asked."""
    answer = await structured(service, event(), service.org(*scopes))
    assert (answer.status, service.pdp.requests) == (403, [])
    assert await feed(service) == []


async def test_each_kind_of_caller_may_publish(service: Service) -> None:
    """The scope counts for service owners, users, system users and organisations."""
    tokens = [service.org, service.user, service.system_user, service.organisation]
    answers = [await structured(service, event(), token(PUBLISH_SCOPE)) for token in tokens]
    assert [answer.status for answer in answers] == [200] * 4


@pytest.mark.parametrize("token", [None, "nonsense"])
async def test_publishing_needs_a_token(service: Service, token: str | None) -> None:
    """Without a trusted token the response is 401."""
    answer = await service.request("POST", "/events/api/v1/events", token=token, json_body=event())
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_batch_is_one_request_to_the_pdp(service: Service) -> None:
    """It has a `publish` question for each distinct event."""
    answer = await batch(service, [event(type=f"t{number}") for number in range(5)])
    assert answer.status == 200
    [asked] = service.pdp.asked
    assert [(question.action, question.resource["urn:altinn:eventtype"]) for question in asked] == [
        ("publish", f"t{number}") for number in range(5)
    ]


async def test_the_question_to_the_pdp_describes_the_event(service: Service) -> None:
    """It has the resource, type, source, subject and instance, and the caller's claims."""
    await structured(service, event(subject="/party/1", resourceinstance="box-1", type="t1"))
    [[asked]] = service.pdp.asked
    told = {name.removeprefix("urn:altinn:"): value for name, value in asked.resource.items()}
    assert told.pop("event-id")
    assert told == {
        "eventtype": "t1",
        "eventsource": "https://mail.example/box",
        "resource": "ttd-mail",
        "partyid": "1",
        "resource:instance-id": "box-1",
    }
    assert asked.subject["urn:altinn:org"] == "ttd"


async def test_an_event_that_the_pdp_denies_is_not_published(service: Service) -> None:
    """The response is 403, and nothing is stored."""
    service.pdp.decide = lambda _: DENY
    assert (await structured(service, event())).status == 403
    assert await feed(service) == []


@pytest.mark.parametrize("word", ["Deny", "Indeterminate", "NotApplicable"])
async def test_every_decision_but_permit_denies(service: Service, word: str) -> None:
    """Only Permit permits."""
    service.pdp.decide = lambda _: Ruling(word)
    assert (await structured(service, event())).status == 403


async def test_the_denied_event_is_named(service: Service) -> None:
    """The problem names the event of a batch by its index."""
    service.pdp.decide = deny(2)
    answer = await batch(service, [event(type=f"t{number}") for number in range(4)])
    assert (answer.status, fields(answer)) == (403, ["[2]"])


async def test_the_admin_scope_replaces_the_pdp(service: Service) -> None:
    """`altinn:events.publish.admin` needs no other scope."""
    await service.pdp.stop()
    assert (await structured(service, event(id="e1"), service.org(ADMIN_SCOPE))).status == 200
    assert ids(await feed(service)) == ["e1"]


async def test_a_platform_access_token_publishes_without_scopes(service: Service) -> None:
    """The PDP decides about the app, by its org and its name alone."""
    answer = await structured(service, event(), platform_token=service.app(scope=ADMIN_SCOPE))
    assert answer.status == 200
    [[asked]] = service.pdp.asked
    assert asked.subject == {"urn:altinn:org": "ttd", "urn:altinn:app": "apps-test"}


async def test_an_app_that_the_pdp_denies_may_not_publish(service: Service) -> None:
    """The response to the app is 403."""
    service.pdp.decide = lambda _: DENY
    assert (await structured(service, event(), platform_token=service.app())).status == 403


async def test_an_app_needs_no_authentication_level(service: Service) -> None:
    """An obligation on the level does not bind an app."""
    service.pdp.decide = lambda _: Ruling(level=4)
    assert (await structured(service, event(), platform_token=service.app())).status == 200


@pytest.mark.parametrize(
    ("claims", "level", "level_org", "status"),
    [
        ({"urn:altinn:userid": 1, "urn:altinn:authlevel": "3"}, 3, None, 200),
        ({"urn:altinn:userid": 1, "urn:altinn:authlevel": "2"}, 3, None, 403),
        ({"urn:altinn:userid": 1, "urn:altinn:authlevel": "2"}, 3, 2, 403),
        ({"urn:altinn:userid": 1, "urn:altinn:authlevel": "high"}, 0, None, 403),
        ({"urn:altinn:userid": 1}, 0, None, 200),
        ({"urn:altinn:userid": 1}, 1, None, 403),
        ({"urn:altinn:userid": 1, "urn:altinn:authlevel": "4"}, "high", None, 403),
        ({"urn:altinn:org": "ttd", "urn:altinn:authlevel": "3"}, 4, 3, 200),
        ({"urn:altinn:org": "ttd", "urn:altinn:authlevel": "2"}, 4, 3, 403),
        ({"consumer": {"authority": "iso6523-actorid-upis", "ID": f"0192:{UNIT}"}}, 3, None, 200),
        ({"consumer": {"authority": "iso6523-actorid-upis", "ID": f"0192:{UNIT}"}}, 4, 3, 403),
        ({"urn:altinn:orgNumber": UNIT}, 1, None, 403),
    ],
)
async def test_obligations_demand_a_level_of_a_bearer(
    service: Service, claims: dict[str, Any], level: object, level_org: object, status: int
) -> None:
    """A service owner may meet the level for orgs instead."""
    service.pdp.decide = lambda _: Ruling(level=level, level_org=level_org)
    token = service.issuer.token({**claims, "scope": PUBLISH_SCOPE})
    assert (await structured(service, event(), token)).status == status


async def test_a_bearer_wins_over_a_platform_access_token(service: Service) -> None:
    """The bearer is the PDP's subject, and types of the platform are refused."""
    both = {"token": publisher(service), "platform_token": service.app("platform/jobs")}
    assert (await structured(service, event(), **both)).status == 200
    assert "urn:altinn:app" not in service.pdp.asked[0][0].subject
    assert (await structured(service, event(type="platform.x"), **both)).status == 403


async def test_a_bearer_needs_no_valid_platform_access_token(service: Service) -> None:
    """The service does not verify the second token."""
    assert (await structured(service, event(), publisher(service), platform_token="nonsense")).status == 200


async def test_an_untrusted_bearer_is_401_beside_a_platform_access_token(service: Service) -> None:
    """The second token does not help."""
    assert (await structured(service, event(), "nonsense", platform_token=service.app())).status == 401


async def publish_from(service: Service, source: str, token: str | None, platform_token: str | None = None) -> Answer:
    """Publish an event of the app's resource from a source."""
    return await structured(
        service, event(APP_RESOURCE, source=source, subject="/party/1"), token, platform_token=platform_token
    )


@pytest.mark.parametrize(
    "source",
    [
        instance_source("ttd/other", guid=GUID),
        instance_source("skd/apps-test", guid=GUID),
        "https://mail.example/box",
        "urn:x:y",
    ],
)
async def test_an_apps_resource_needs_a_source_of_the_app(service: Service, source: str) -> None:
    """Any other source is 400, whatever the token."""
    answers = [
        await publish_from(service, source, publisher(service)),
        await publish_from(service, source, None, service.app()),
    ]
    assert [(answer.status, fields(answer)) for answer in answers] == [(400, ["source"])] * 2
    assert await feed(service, APP_RESOURCE) == []


async def test_an_administrator_may_name_any_source(service: Service) -> None:
    """`altinn:events.publish.admin` opens an app's resource to any source."""
    assert (await publish_from(service, "https://mail.example/box", service.org(ADMIN_SCOPE))).status == 200


async def test_an_instance_of_the_app_is_a_source_of_its_resource(service: Service) -> None:
    """The PDP is asked about the app and the instance."""
    source = instance_source()
    assert (await publish_from(service, source, publisher(service))).status == 200
    [[asked]] = service.pdp.asked
    assert asked.resource["urn:altinn:appresource"] == "events"
    assert source.endswith(asked.resource["urn:altinn:instance-id"])


@pytest.mark.parametrize("scope", [PUBLISH_SCOPE, ADMIN_SCOPE])
async def test_types_of_the_platform_are_refused_to_bearers(service: Service, scope: str) -> None:
    """`platform.*` is 403, also for an administrator."""
    assert (await structured(service, event(type="platform.x"), service.org(scope))).status == 403
    assert await feed(service) == []


@pytest.mark.parametrize(("app_name", "status"), [("platform/jobs", 200), ("ttd/platform", 403)])
async def test_types_of_the_platform_are_for_its_own_apps(service: Service, app_name: str, status: int) -> None:
    """Only a PlatformAccessToken of `platform` may publish `platform.*`."""
    answer = await structured(service, event(type="platform.x"), platform_token=service.app(app_name))
    assert answer.status == status


async def test_an_unknown_person_is_refused(service: Service) -> None:
    """The problem does not repeat the number."""
    answer = await structured(service, event(subject=STRANGER_SUBJECT))
    assert (answer.status, b"20868012804" in answer.body) == (403, False)
    assert answer.json()["detail"] == "The subject names a person that Register does not know."
    assert await feed(service) == []


async def test_an_administrator_may_name_an_unknown_person(service: Service) -> None:
    """Register is not asked."""
    assert (await structured(service, event(subject=STRANGER_SUBJECT), service.org(ADMIN_SCOPE))).status == 200
    assert service.register.requests == []


@pytest.mark.parametrize("subject", [PERSON_SUBJECT, PERSON_SUBJECT.upper().replace("URN", "urn"), STRANGER_SUBJECT])
async def test_a_persons_number_never_goes_to_the_pdp(service: Service, subject: str) -> None:
    """The question has the uuid of the person's party instead."""
    await structured(service, event(subject=subject))
    assert PERSON not in service.pdp.log
    assert "20868012804" not in service.pdp.log
    for asked in (question for request in service.pdp.asked for question in request):
        assert asked.resource["urn:altinn:party:uuid"] == service.register.persons[PERSON].uuid


@pytest.mark.parametrize("resource", [None, "absent", "mail", 5, "urn:x", ""])
async def test_a_resource_is_required(service: Service, resource: object) -> None:
    """It is a URN; the problem names the attribute."""
    sent = {**event(), "resource": resource}
    if resource == "absent":
        del sent["resource"]
    answer = await structured(service, sent)
    assert (answer.status, fields(answer)) == (400, ["resource"])


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
async def test_required_attributes_are_required(service: Service, name: str) -> None:
    """The problem names the missing attribute."""
    sent = event()
    del sent[name]
    answer = await structured(service, sent)
    assert (answer.status, fields(answer)) == (400, [name])


@pytest.mark.parametrize("resource", ["urn:altinn:resource:altinnapp.ttd.apps-test", APP_RESOURCE])
async def test_the_older_notation_becomes_the_modern_one(service: Service, resource: str) -> None:
    """`altinnapp.{org}.{app}` is stored, served and authorized as `app_{org}_{app}`."""
    answer = await structured(service, event(resource, source=instance_source()))
    assert answer.status == 200
    assert [found["resource"] for found in await feed(service, APP_RESOURCE)] == [APP_RESOURCE]
    assert service.pdp.asked[0][0].resource["urn:altinn:app"] == "apps-test"


async def test_an_outage_of_the_pdp_is_503(service: Service) -> None:
    """Nothing is stored."""
    await service.pdp.stop()
    answer = await structured(service, event())
    assert (answer.status, answer.headers["retry-after"].isdigit()) == (503, True)
    assert await feed(service) == []


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"Response":[]}', b"<html>"])
async def test_an_invalid_response_of_the_pdp_permits_nothing(service: Service, body: bytes) -> None:
    """The response is 503, or 403 if deny the event's decision is missing."""
    service.pdp.body = body
    assert (await structured(service, event())).status in (403, 503)
    assert await feed(service) == []


async def test_a_decision_is_kept_for_a_while(service: Service) -> None:
    """The same question of the same caller is answered from memory."""
    for _ in range(3):
        assert (await structured(service, event())).status == 200
    assert len(service.pdp.requests) == 1


async def test_the_persons_of_a_batch_are_one_request_to_register(service: Service) -> None:
    """Each person is looked up once."""
    await batch(service, [event(subject=PERSON_SUBJECT) for _ in range(10)])
    assert [len(document["Data"]) for _, document in service.register.requests] == [1]


def resource_of(asked: Asked) -> str:
    """The resource of a question."""
    return asked.resource["urn:altinn:resource"]


async def test_a_permit_for_one_resource_is_none_for_another(service: Service) -> None:
    """A decision is kept for the whole question."""
    service.pdp.decide = lambda asked: PERMIT if resource_of(asked) == "ttd-mail" else DENY
    answers = [await structured(service, event(resource)) for resource in (RESOURCE, f"{RESOURCE}-2", RESOURCE)]
    assert [answer.status for answer in answers] == [200, 403, 200]
