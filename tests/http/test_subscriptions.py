"""Subscriptions over HTTP: consumers create, read, change and delete them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pdp_server import DENY, PERMIT
from tests.support.service import APP_RESOURCE, PARTY, PERSON, RESOURCE, UNIT, UNIT_PARTY, Service, running
from tests.support.subscribing import LOOPBACK, SUBSCRIPTIONS, asked, settled, subscribed
from tests.support.webhook_server import WebhookServer

ENDPOINT = "https://subscriber.example/events"
SUBSCRIBE = "altinn:events.subscribe"
DOMAIN = "apps.altinn.example"


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """The service with permission to deliver to loopback."""
    async with running(tmp_path, monkeypatch, EVENTS_APPS_DOMAIN=DOMAIN, **LOOPBACK) as service:
        yield service


# -- Creating a subscription ------------------------------------------------------------------------------------------


@pytest.mark.on_cosmos
async def test_a_subscription_is_created_and_its_secret_shown_once(service: Service, receiver: WebhookServer) -> None:
    """The response has every field of the contract."""
    answer = await asked(
        service, service.org(), endPoint=receiver.url, resourceFilter=APP_RESOURCE, typeFilter="app.instance.created"
    )
    made = answer.json()
    assert answer.status == 201
    assert answer.headers["location"].endswith(f"{SUBSCRIPTIONS}/{made['id']}")
    assert isinstance(made["id"], int)
    assert made["secret"].startswith("whsec_")
    assert (made["consumer"], made["createdBy"], made["validated"]) == ("/org/ttd", "/org/ttd", False)
    assert (made["endPoint"], made["resourceFilter"]) == (receiver.url, APP_RESOURCE)
    assert (made["typeFilter"], made["includeSubunits"]) == ("app.instance.created", False)
    assert made["created"].endswith("Z")
    await settled()
    seen = (await service.get(answer.headers["location"], service.org())).json()
    assert "secret" not in seen
    assert seen["validated"]
    assert seen["validation"]["status"] == 200


async def test_names_of_fields_are_read_without_regard_to_case(service: Service) -> None:
    """Altinn's clients rely on it; empty fields count as absent."""
    answer = await asked(service, service.org(), ENDPOINT=ENDPOINT, resourcefilter=APP_RESOURCE, SourceFilter="")
    assert (answer.status, answer.json()["sourceFilter"]) == (201, None)


@pytest.mark.on_cosmos
async def test_the_same_subscription_twice_is_one(service: Service, receiver: WebhookServer) -> None:
    """A repeat validates the endpoint again and shows no secret."""
    made = await subscribed(service, receiver)
    before = len(receiver.received)
    again = await asked(service, service.org(), endPoint=receiver.url + "/hook", resourceFilter=APP_RESOURCE)
    await settled()
    assert (again.status, again.json()["id"]) == (201, made["id"])
    assert again.headers["location"].endswith(f"{SUBSCRIPTIONS}/{made['id']}")
    assert "secret" not in again.json()
    assert len(receiver.received) > before
    other = await asked(
        service, service.org(), endPoint=receiver.url + "/hook", resourceFilter=APP_RESOURCE, typeFilter="x"
    )
    assert (other.status, other.json()["id"] != made["id"]) == (201, True)


@pytest.mark.on_cosmos
async def test_simultaneous_equal_requests_create_one_subscription(service: Service) -> None:
    """Exactly one of eight shows a secret."""
    token = service.org()
    answers = await asyncio.gather(
        *(asked(service, token, endPoint=ENDPOINT, resourceFilter=APP_RESOURCE) for _ in range(8))
    )
    assert [answer.status for answer in answers] == [201] * 8
    assert sum("secret" in answer.json() for answer in answers) == 1
    assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({}, 400, "A valid subject to the authenticated identity is required"),
        ({"subjectFilter": f"/party/{PARTY}"}, 201, ""),
        ({"alternativeSubjectFilter": f"/person/{PERSON}"}, 201, ""),
        ({"alternativeSubjectFilter": "/person/10987654321"}, 403, "Not authorized to create a subscription for"),
        ({"subjectFilter": "/party/%"}, 400, "A valid subject to the authenticated identity is required"),
        ({"alternativeSubjectFilter": f"/organisation/{UNIT}"}, 201, ""),
        ({"alternativeSubjectFilter": "/organisation/999999999"}, 400, "A valid subject to the authenticated identity"),
        ({"alternativeSubjectFilter": "something"}, 400, "A valid subject to the authenticated identity is required"),
    ],
)
async def test_an_end_user_needs_a_known_subject(
    service: Service, fields: dict[str, Any], status: int, words: str
) -> None:
    """Register must know the subject, and the problem does not repeat its number."""
    answer = await asked(service, service.user(), endPoint=ENDPOINT, resourceFilter=APP_RESOURCE, **fields)
    assert answer.status == status
    if status != 201:
        assert answer.json()["detail"].startswith(words)
        assert "10987654321" not in answer.body.decode()


@pytest.mark.parametrize("subject", ["%", "/user/%", "urn:altinn:partyid:%", "urn:altinn:person:identifier-no:%"])
async def test_a_wildcard_is_no_subject_of_the_question(service: Service, subject: str) -> None:
    """The decision point is asked about the app, and not about a party that is named `%`."""
    fields = {"endPoint": ENDPOINT, "resourceFilter": APP_RESOURCE, "subjectFilter": subject}
    assert (await asked(service, service.org(), **fields)).status == 201
    (request,) = service.pdp.requests
    (resource,) = request["Request"]["Resource"]
    names = {attribute["AttributeId"] for attribute in resource["Attribute"]}
    assert names == {"urn:altinn:org", "urn:altinn:app", "urn:altinn:appresource"}


@pytest.mark.parametrize("subject", [f"/party/{PARTY}/", f"/party/{PARTY}//", f"/PARTY/{PARTY}"])
async def test_a_slash_at_its_end_hides_no_subject_from_the_question(service: Service, subject: str) -> None:
    """It matches the events of the party, so the decision is about the party."""
    service.pdp.decide = lambda asked: PERMIT if asked.resource.get("urn:altinn:partyid") == str(PARTY) else DENY
    answer = await asked(service, service.user(), endPoint=ENDPOINT, resourceFilter=APP_RESOURCE, subjectFilter=subject)
    assert answer.status == 201


async def test_the_subject_of_an_alternative_subject_is_shown(service: Service) -> None:
    """Register gives the party of a unit. The party of a person is not shown."""
    for alternative, subject in ((f"/org/{UNIT}", f"/party/{UNIT_PARTY}"), (f"/person/{PERSON}", None)):
        fields = {"endPoint": ENDPOINT, "resourceFilter": APP_RESOURCE, "alternativeSubjectFilter": alternative}
        answer = await asked(service, service.org(), **fields)
        assert answer.json()["subjectFilter"] == subject


async def test_an_unknown_person_is_answered_as_a_denied_one(service: Service) -> None:
    """Nobody can try out person numbers. Units are public."""
    fields = {"endPoint": ENDPOINT, "resourceFilter": APP_RESOURCE}
    unknown = await asked(service, service.user(), **fields, alternativeSubjectFilter="/person/10987654321")
    service.pdp.decide = lambda _: DENY
    denied = await asked(service, service.user(), **fields, alternativeSubjectFilter=f"/person/{PERSON}")
    assert [answer.json() | {"traceId": ""} for answer in (unknown, denied)] == [denied.json() | {"traceId": ""}] * 2
    assert (unknown.status, denied.status) == (403, 403)


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"sourceFilter": f"https://ttd.{DOMAIN}/ttd/apps-test"}, 201, ""),
        ({"sourceFilter": f"https://ttd.{DOMAIN}/ttd/apps-test/instances/1"}, 400, "A valid app id is required"),
        ({"sourceFilter": "https://other.example/ttd/apps-test"}, 403, f"The scope {SUBSCRIBE} is required."),
        ({"resourceFilter": RESOURCE}, 403, f"The scope {SUBSCRIBE} is required."),
        (
            {"resourceFilter": APP_RESOURCE, "sourceFilter": f"https://ttd.{DOMAIN}/ttd/other"},
            400,
            "Provided resource filter and source filter are not compatible",
        ),
        ({"resourceFilter": APP_RESOURCE, "includeSubunits": True}, 400, "IncludeSubunits requires a subject filter."),
        ({"resourceFilter": APP_RESOURCE, "includeSubunits": "yes"}, 400, "The field 'includeSubunits' must be"),
        ({"resourceFilter": 7}, 400, "The field 'resourceFilter' must be text"),
        ({"resourceFilter": APP_RESOURCE, "typeFilter": "a\x00"}, 400, "The field 'typeFilter' must be text"),
        ({"sourceFilter": "http://altinn.no/ttd/"}, 400, "The source filter must be an absolute URL"),
        ({"resourceFilter": "app_ttd_apps-test"}, 400, "The resource must be one URN"),
        (
            {"resourceFilter": APP_RESOURCE, "typeFilters": ["a"]},
            400,
            "The field 'typefilters' is not known. Did you mean 'typeFilter'?",
        ),
        ({"resourceFilter": APP_RESOURCE, "x": 1}, 400, "The field 'x' is not known."),
        ({"resourceFilter": APP_RESOURCE, "01899699552": 1}, 400, "The field '*' is not known."),
        ({"resourceFilter": RESOURCE, "endPoint": "ftp://x.example/"}, 400, "The endPoint must be an absolute URL"),
        ({"resourceFilter": APP_RESOURCE, "contentType": "text/plain"}, 400, "The field 'contentType' must be"),
        ({"resourceFilter": APP_RESOURCE, "contentType": 7}, 400, "The field 'contentType' must be text"),
        ({"resourceFilter": APP_RESOURCE, "endPoint": None}, 400, "The endPoint is required."),
        ({"resourceFilter": APP_RESOURCE, "endPoint": "ftp://x.example/"}, 400, "The endPoint must be an absolute URL"),
        ({"resourceFilter": APP_RESOURCE, "endPoint": "https://10.0.0.1/"}, 400, "The endPoint must not be an address"),
    ],
)
async def test_invalid_subscriptions_are_refused(
    service: Service, fields: dict[str, Any], status: int, words: str
) -> None:
    """The problem has the documented words, and nothing is created."""
    answer = await asked(service, service.org(), **{"endPoint": ENDPOINT, **fields})
    assert answer.status == status
    if status != 201:
        assert answer.json()["detail"].startswith(words)
        assert (await service.get(SUBSCRIPTIONS, service.org())).json()["count"] == 0


async def test_read_only_members_are_accepted_and_ignored(service: Service) -> None:
    """A client may send an answer back as it is, or with default values, or with anything else in these members."""
    made = (await asked(service, service.org(), endPoint=ENDPOINT, resourceFilter=APP_RESOURCE)).json()
    again = await asked(service, service.org(), **made)
    assert (again.status, again.json()["id"]) == (201, made["id"])
    changed = dict.fromkeys(set(made) - {"endPoint", "resourceFilter", "sourceFilter", "subjectFilter", "typeFilter"})
    changed |= {"id": 0, "created": "0001-01-01T00:00:00", "paused": "x", "validated": [1], "validation": 3}
    changed |= {"consumer": "/org/skd", "disabled": True, "endpointPausedUntil": {}, "includeSubunits": False}
    other = await asked(service, service.org(), **changed, endPoint=f"{ENDPOINT}/2", resourceFilter=APP_RESOURCE)
    assert other.status == 201
    assert [other.json()[name] for name in ("consumer", "paused", "disabled")] == ["/org/ttd", False, False]


@pytest.mark.on_cosmos
async def test_a_content_type_is_kept_and_replaced_by_a_later_one(service: Service) -> None:
    """A repeat without one changes nothing."""
    fields = {"endPoint": ENDPOINT, "resourceFilter": APP_RESOURCE}
    seen = []
    for asked_for in (None, "application/json", None, "application/CloudEvents+json", ""):
        made = (await asked(service, service.org(), **fields, contentType=asked_for)).json()
        stored = (await service.get(f"{SUBSCRIPTIONS}/{made['id']}", service.org())).json()
        assert stored["contentType"] == made["contentType"]
        seen.append(made["contentType"].removeprefix("application/"))
    assert seen == ["cloudevents+json", "json", "json", "cloudevents+json", "cloudevents+json"]


async def test_other_resources_take_neither_source_nor_alternative_subject(service: Service) -> None:
    """They need the scope and a resource."""
    token = service.org(SUBSCRIBE)
    good = await asked(service, token, endPoint=ENDPOINT, resourceFilter=RESOURCE)
    source = await asked(service, token, endPoint=ENDPOINT, resourceFilter=RESOURCE, sourceFilter="https://x.example/")
    other = await asked(service, token, endPoint=ENDPOINT, resourceFilter=RESOURCE, alternativeSubjectFilter="/org/1")
    nothing = await asked(service, token, endPoint=ENDPOINT)
    assert [answer.status for answer in (good, source, other, nothing)] == [201, 400, 400, 400]
    assert source.json()["errors"][0]["field"] == "sourceFilter"
    assert nothing.json()["detail"] == "Resource filter is required."


async def test_the_pdp_decides_who_may_subscribe(service: Service) -> None:
    """The action is `read` for an app and `subscribe` for any other resource; an outage is 503."""
    token = service.org(SUBSCRIBE)
    await asked(service, token, endPoint=ENDPOINT, resourceFilter=APP_RESOURCE, subjectFilter=f"/party/{PARTY}")
    await asked(service, token, endPoint=ENDPOINT, resourceFilter=RESOURCE)
    first, second = (questions[0] for questions in service.pdp.asked)
    assert (first.action, second.action) == ("read", "subscribe")
    assert first.subject == second.subject == {"urn:altinn:org": "ttd"}
    assert first.resource["urn:altinn:partyid"] == str(PARTY)
    assert second.resource["urn:altinn:resource"] == "ttd-mail"
    service.pdp.decide = lambda _: DENY
    denied = await asked(service, token, endPoint=ENDPOINT, resourceFilter=f"{RESOURCE}2")
    assert (denied.status, denied.json()["detail"]) == (
        403,
        f"Not authorized to create a subscription for resource {RESOURCE}2.",
    )
    service.pdp.status = 500
    down = await asked(service, token, endPoint=ENDPOINT, resourceFilter=f"{RESOURCE}3")
    assert (down.status, "retry-after" in down.headers) == (503, True)
    service.pdp.status, service.pdp.decide = 200, lambda _: PERMIT
    assert (await service.get(SUBSCRIPTIONS, token)).json()["count"] == 2


# -- Reading subscriptions --------------------------------------------------------------------------------------------


async def test_a_consumer_sees_its_own_subscriptions(service: Service) -> None:
    """Another consumer's subscription is 403, an unknown one 404."""
    mine = (await asked(service, service.org(), endPoint=ENDPOINT, resourceFilter=APP_RESOURCE)).json()
    theirs = service.org(org="skd")
    assert (await service.get(SUBSCRIPTIONS, theirs)).json() == {"count": 0, "subscriptions": []}
    listed = (await service.get(SUBSCRIPTIONS, service.org())).json()
    assert (listed["count"], [subscription["id"] for subscription in listed["subscriptions"]]) == (1, [mine["id"]])
    path = f"{SUBSCRIPTIONS}/{mine['id']}"
    requests: list[tuple[str, str, Any]] = [
        ("GET", path, None),
        ("DELETE", path, None),
        ("PATCH", path, {"paused": True}),
        ("GET", f"{path}/deliveries", None),
        ("POST", f"{path}/replay", {"dead": True}),
        ("POST", f"{path}/rotate-secret", None),
    ]
    for method, target, body in requests:
        assert (await service.request(method, target, token=theirs, json_body=body)).status == 403, target
        unknown = target.replace(path, f"{SUBSCRIPTIONS}/999999")
        assert (await service.request(method, unknown, token=theirs, json_body=body)).status == 404, unknown
        assert (await service.request(method, target, json_body=body)).status == 401, target
    for name in ("x", "-1", "1" * 30, "%00"):
        assert (await service.get(f"{SUBSCRIPTIONS}/{name}", theirs)).status == 404


@pytest.mark.on_cosmos
async def test_a_long_list_comes_in_pages(service: Service) -> None:
    """The last page has no `next`."""
    token = service.org()
    for number in range(4):
        await asked(service, token, endPoint=f"{ENDPOINT}/{number}", resourceFilter=APP_RESOURCE)
    seen: list[int] = []
    target = f"{SUBSCRIPTIONS}?size=2"
    for _ in range(2):
        assert target
        answer = await service.request("GET", target, token=token)
        seen += [subscription["id"] for subscription in answer.json()["subscriptions"]]
        target = answer.headers.get("next", "")
    assert seen == sorted(set(seen))
    assert (len(seen), target) == (4, "")


# -- Changing a subscription ------------------------------------------------------------------------------------------


async def test_only_the_platform_validates_without_the_endpoint(service: Service) -> None:
    """Another app gets 403."""
    made = (await asked(service, service.org(), endPoint=ENDPOINT, resourceFilter=APP_RESOURCE)).json()
    target = f"{SUBSCRIPTIONS}/validate/{made['id']}"
    assert (await service.request("PUT", target, platform_token=service.app("ttd/apps-test"))).status == 403
    assert (await service.request("PUT", target, token=service.org())).status == 401
    platform = service.app("platform/events")
    answer = await service.request("PUT", target, platform_token=platform)
    assert (answer.status, answer.json()["validated"]) == (200, True)
    assert (await service.request("PUT", f"{SUBSCRIPTIONS}/validate/9999", platform_token=platform)).status == 404


@pytest.mark.on_cosmos
async def test_a_subscription_is_paused_and_resumed(service: Service) -> None:
    """Only true and false change `paused`."""
    made = (await asked(service, service.org(), endPoint=ENDPOINT, resourceFilter=APP_RESOURCE)).json()
    path = f"{SUBSCRIPTIONS}/{made['id']}"
    steps: list[tuple[Any, int, bool]] = [(True, 200, True), ("no", 400, True), (False, 200, False)]
    for value, status, paused in steps:
        body = {"paused": value}
        answer = await service.request("PATCH", path, token=service.org(), json_body=body)
        assert answer.status == status
        assert (await service.get(path, service.org())).json()["paused"] is paused


@pytest.mark.on_cosmos
async def test_a_deleted_subscription_is_gone(service: Service) -> None:
    """An equal subscription gets another id."""
    made = (await asked(service, service.org(), endPoint=ENDPOINT, resourceFilter=APP_RESOURCE)).json()
    path = f"{SUBSCRIPTIONS}/{made['id']}"
    assert (await service.request("DELETE", path, token=service.org())).status == 200
    assert (await service.request("DELETE", path, token=service.org())).status == 404
    again = await asked(service, service.org(), endPoint=ENDPOINT, resourceFilter=APP_RESOURCE)
    assert (again.status, again.json()["id"] > made["id"]) == (201, True)


async def test_bodies_that_are_no_json_objects_are_refused(service: Service) -> None:
    """Nothing is created."""
    for body, content_type, status in (
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b" " * 70_000, "application/json", 413),
    ):
        answer = await service.request("POST", SUBSCRIPTIONS, token=service.org(), body=body, content_type=content_type)
        assert answer.status == status
    assert (await service.get(SUBSCRIPTIONS, service.org())).json()["count"] == 0
