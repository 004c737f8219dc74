"""Anyone who may publishes events of any resource: who may, and what (`POST /events/api/v1/events`)."""

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


def only(number: int) -> Any:
    """A policy that denies the event of that number."""
    return lambda asked: DENY if asked.resource["urn:altinn:event-type"] == f"t{number}" else PERMIT


@pytest.mark.parametrize("scopes", [(), ("altinn:events.subscribe",), ("altinn:events.publish.other",)])
async def test_publishing_needs_its_scope(service: Service, scopes: tuple[str, ...]) -> None:
    """A valid token without `altinn:events.publish` is 403 and the PDP is not asked."""
    answer = await structured(service, event(), service.org(*scopes))
    assert (answer.status, service.pdp.requests) == (403, [])
    assert await feed(service) == []


async def test_each_kind_of_caller_may_publish(service: Service) -> None:
    """The scope counts for a service owner, a user, a system user and an organisation alike."""
    tokens = [service.org, service.user, service.system_user, service.organisation]
    answers = [await structured(service, event(), token(PUBLISH_SCOPE)) for token in tokens]
    assert [answer.status for answer in answers] == [200] * 4


@pytest.mark.parametrize("token", [None, "nonsense"])
async def test_publishing_needs_a_token(service: Service, token: str | None) -> None:
    """Without a trusted token it is 401 with `WWW-Authenticate: Bearer`."""
    answer = await service.request("POST", "/events/api/v1/events", token=token, json_body=event())
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_each_event_is_put_to_the_pdp_in_one_request(service: Service) -> None:
    """A batch is one request of one `publish` question for each distinct event."""
    answer = await batch(service, [event(type=f"t{number}") for number in range(5)])
    assert answer.status == 200
    [asked] = service.pdp.asked
    assert [(each.action, each.resource["urn:altinn:event-type"]) for each in asked] == [
        ("publish", f"t{number}") for number in range(5)
    ]


async def test_what_the_pdp_is_told_of_an_event(service: Service) -> None:
    """The question holds the resource, type, source, subject and instance of the event, and the caller's claims."""
    await structured(service, event(subject="/party/1", resourceinstance="box-1", type="t1"))
    [[asked]] = service.pdp.asked
    told = {name.removeprefix("urn:altinn:"): value for name, value in asked.resource.items()}
    assert told.pop("event-id")
    assert told == {
        "event-type": "t1",
        "event-source": "https://mail.example/box",
        "resource": "ttd-mail",
        "partyid": "1",
        "resourceinstance": "box-1",
    }
    assert asked.subject["urn:altinn:org"] == "ttd"


async def test_an_event_that_the_pdp_denies_is_not_published(service: Service) -> None:
    """Deny is 403, and nothing is stored."""
    service.pdp.decide = lambda _: DENY
    assert (await structured(service, event())).status == 403
    assert await feed(service) == []


@pytest.mark.parametrize("word", ["Indeterminate", "NotApplicable", "nonsense"])
async def test_whatever_is_no_permit_denies(service: Service, word: str) -> None:
    """Any other word of the PDP counts as Deny."""
    service.pdp.decide = lambda _: Ruling(word)
    assert (await structured(service, event())).status == 403


async def test_the_event_that_was_denied_is_named(service: Service) -> None:
    """Of a batch the 403 names the event that may not be published, by its place."""
    service.pdp.decide = only(2)
    answer = await batch(service, [event(type=f"t{number}") for number in range(4)])
    assert (answer.status, fields(answer)) == (403, ["[2]"])


async def test_the_admin_scope_is_the_authorization(service: Service) -> None:
    """`altinn:events.publish.admin` needs no other scope, and nobody is asked."""
    await service.pdp.stop()
    assert (await structured(service, event(id="e1"), service.org(ADMIN_SCOPE))).status == 200
    assert ids(await feed(service)) == ["e1"]


async def test_a_platform_access_token_publishes_without_scopes(service: Service) -> None:
    """An app may publish when the PDP permits it, asked with `urn:altinn:org` and `urn:altinn:app` and no more."""
    answer = await structured(service, event(), platform_token=service.app(scope=ADMIN_SCOPE))
    assert answer.status == 200
    [[asked]] = service.pdp.asked
    assert asked.subject == {"urn:altinn:org": "ttd", "urn:altinn:app": "apps-test"}


async def test_an_app_that_the_pdp_denies_may_not_publish(service: Service) -> None:
    """Also a PlatformAccessToken is authorized event by event."""
    service.pdp.decide = lambda _: DENY
    assert (await structured(service, event(), platform_token=service.app())).status == 403


async def test_no_level_is_asked_of_a_platform_access_token(service: Service) -> None:
    """An obligation on the authentication level does not bind an app."""
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
async def test_the_level_of_a_bearer_is_bound_by_obligations(
    service: Service, claims: dict[str, Any], level: object, level_org: object, status: int
) -> None:
    """A Permit above the caller's level is 403, but for a service owner that meets the level for orgs."""
    service.pdp.decide = lambda _: Ruling(level=level, level_org=level_org)
    token = service.issuer.token({**claims, "scope": PUBLISH_SCOPE})
    assert (await structured(service, event(), token)).status == status


async def test_beside_a_bearer_the_platform_access_token_does_not_count(service: Service) -> None:
    """With both tokens the bearer decides: it is the PDP's subject, and what only the platform may is refused."""
    both = {"token": publisher(service), "platform_token": service.app("platform/jobs")}
    assert (await structured(service, event(), **both)).status == 200
    assert "urn:altinn:app" not in service.pdp.asked[0][0].subject
    assert (await structured(service, event(type="platform.x"), **both)).status == 403


async def test_beside_a_valid_bearer_the_platform_access_token_is_not_looked_at(service: Service) -> None:
    """A PlatformAccessToken that nobody would trust does no harm beside a bearer that is trusted."""
    assert (await structured(service, event(), publisher(service), platform_token="nonsense")).status == 200


async def test_beside_a_bad_bearer_the_platform_access_token_does_not_help(service: Service) -> None:
    """A bearer that is not trusted is 401, whatever stands beside it."""
    assert (await structured(service, event(), "nonsense", platform_token=service.app())).status == 401


async def app_sourced(service: Service, source: str, token: str | None, platform_token: str | None = None) -> Answer:
    """Publish an event of an app's resource with that source."""
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
async def test_an_apps_resource_wants_a_source_of_the_app(service: Service, source: str) -> None:
    """For `urn:altinn:resource:app_…` any source but an instance URL of that app is 400, for either token."""
    answers = [
        await app_sourced(service, source, publisher(service)),
        await app_sourced(service, source, None, service.app()),
    ]
    assert [(answer.status, fields(answer)) for answer in answers] == [(400, ["source"])] * 2
    assert await feed(service, APP_RESOURCE) == []


async def test_an_administrator_may_name_any_source(service: Service) -> None:
    """With `altinn:events.publish.admin` an app's resource takes any source."""
    assert (await app_sourced(service, "https://mail.example/box", service.org(ADMIN_SCOPE))).status == 200


async def test_an_instance_of_the_app_is_a_source_of_its_resource(service: Service) -> None:
    """The right source is published, and the PDP is asked about the app and the instance."""
    source = instance_source()
    assert (await app_sourced(service, source, publisher(service))).status == 200
    [[asked]] = service.pdp.asked
    assert asked.resource["urn:altinn:appresource"] == "events"
    assert source.endswith(asked.resource["urn:altinn:instance-id"])


@pytest.mark.parametrize("scope", [PUBLISH_SCOPE, ADMIN_SCOPE])
async def test_types_of_the_platform_are_refused_to_bearers(service: Service, scope: str) -> None:
    """`platform.*` is 403 for every bearer, an administrator's too."""
    assert (await structured(service, event(type="platform.x"), service.org(scope))).status == 403
    assert await feed(service) == []


@pytest.mark.parametrize(("app_name", "status"), [("platform/jobs", 200), ("ttd/platform", 403)])
async def test_types_of_the_platform_are_for_its_own_apps(service: Service, app_name: str, status: int) -> None:
    """`platform.*` is for a PlatformAccessToken of `iss` `platform` alone."""
    answer = await structured(service, event(type="platform.x"), platform_token=service.app(app_name))
    assert answer.status == status


async def test_a_person_whom_register_does_not_know_is_refused(service: Service) -> None:
    """A person's subject that Register does not know is 403 that says so, and does not repeat the number."""
    answer = await structured(service, event(subject=STRANGER_SUBJECT))
    assert (answer.status, b"20868012804" in answer.body) == (403, False)
    assert answer.json()["detail"] == "The subject names a person that Register does not know."
    assert await feed(service) == []


async def test_an_administrator_may_name_anybody(service: Service) -> None:
    """With `altinn:events.publish.admin` Register is not asked who a subject is."""
    assert (await structured(service, event(subject=STRANGER_SUBJECT), service.org(ADMIN_SCOPE))).status == 200
    assert service.register.requests == []


@pytest.mark.parametrize("subject", [PERSON_SUBJECT, PERSON_SUBJECT.upper().replace("URN", "urn"), STRANGER_SUBJECT])
async def test_a_persons_number_never_goes_to_the_pdp(service: Service, subject: str) -> None:
    """A person's subject is put to the PDP as `urn:altinn:party:uuid:…`, or not at all."""
    await structured(service, event(subject=subject))
    assert PERSON not in service.pdp.log
    assert "20868012804" not in service.pdp.log
    for asked in (each for request in service.pdp.asked for each in request):
        assert asked.resource["urn:altinn:party:uuid"] == service.register.persons[PERSON].uuid


@pytest.mark.parametrize("resource", [None, "absent", "mail", 5, "urn:x", ""])
async def test_a_resource_is_required(service: Service, resource: object) -> None:
    """`resource` is required beside what CloudEvents requires, and is a URN: else 400 that names it."""
    sent = {**event(), "resource": resource}
    if resource == "absent":
        del sent["resource"]
    answer = await structured(service, sent)
    assert (answer.status, fields(answer)) == (400, ["resource"])


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
async def test_what_cloudevents_requires_is_required(service: Service, name: str) -> None:
    """An event without a required attribute is 400 that names it."""
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


async def test_the_pdp_down_stops_publishing_that_needs_it(service: Service) -> None:
    """Without a decision it is 503 with `Retry-After`, and nothing is stored."""
    await service.pdp.stop()
    answer = await structured(service, event())
    assert (answer.status, answer.headers["retry-after"].isdigit()) == (503, True)
    assert await feed(service) == []


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"Response":[]}', b"<html>"])
async def test_a_pdp_that_answers_nonsense_permits_nothing(service: Service, body: bytes) -> None:
    """An answer without a decision publishes nothing: 503, or 403 when it is a decision that leaves the event out."""
    service.pdp.body = body
    assert (await structured(service, event())).status in (403, 503)
    assert await feed(service) == []


async def test_a_decision_is_asked_once_for_a_while(service: Service) -> None:
    """The same question of the same caller within the minute is answered from memory."""
    for _ in range(3):
        assert (await structured(service, event())).status == 200
    assert len(service.pdp.requests) == 1


async def test_the_register_is_asked_with_one_request_a_batch(service: Service) -> None:
    """The persons of a batch are looked up together, each once."""
    await batch(service, [event(subject=PERSON_SUBJECT) for _ in range(10)])
    assert [len(document["Data"]) for _, document in service.register.requests] == [1]


def asked_of(asked: Asked) -> str:
    """The resource that a question is about."""
    return asked.resource["urn:altinn:resource"]


async def test_a_permit_for_one_resource_is_none_for_another(service: Service) -> None:
    """Decisions are kept for the whole question."""
    service.pdp.decide = lambda asked: PERMIT if asked_of(asked) == "ttd-mail" else DENY
    answers = [await structured(service, event(resource)) for resource in (RESOURCE, f"{RESOURCE}-2", RESOURCE)]
    assert [answer.status for answer in answers] == [200, 403, 200]


async def test_a_person_is_no_resource(service: Service) -> None:
    """A resource that ends in a person's number is 400, names `resource`, and repeats no number."""
    answer = await structured(service, event("urn:altinn:person:identifier-no:01899699552"))
    assert (answer.status, answer.json()["errors"][0]["field"]) == (400, "resource")
    assert b"01899699552" not in answer.body
    assert service.pdp.requests == []
