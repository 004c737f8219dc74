"""Numbers of persons over HTTP: where they are refused, and that no answer or log line repeats one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import azure.functions as func
import pytest

import function_app
from events_core.adapters.telemetry import JsonLines
from local.host import functions_of
from tests.support.asgi import Answer
from tests.support.publishing import BATCH, BINARY, STRUCTURED, fields, stored
from tests.support.service import ANCIENT, PARTY_FEED, PERSON, PUBLISH, RESOURCE, RESOURCE_FEED, Service, event
from tests.support.subscribing import asked

SCOPES = ("altinn:events.publish.admin", "altinn:events.subscribe", "altinn:events.erase", "altinn:events/ttd")
ESCAPED = f"%30{PERSON[1:]}"
CASE = "20261130124"
"""Eleven digits without the check digits of a person."""
RESOURCES = [
    f"urn:altinn:person:identifier-no:{PERSON}",
    f"urn:altinn:person:identifier-no:{PERSON}/",
    f"urn:altinn:resource:{PERSON}",
    f"urn:altinn:resource:{PERSON}/letters",
    f"urn:altinn:resource:x:{PERSON}:letters",
    f"urn:altinn:resource:ttd-{PERSON}-letters",
    f"urn:altinn:resource:a{PERSON}",
    f"urn:altinn:resource:{ESCAPED}",
    f"urn:altinn:resource:%2530{PERSON[1:]}",
    f"urn:altinn:resource:app_ttd_{PERSON}",
    f"urn:altinn:resource:altinnapp.ttd.{PERSON}",
    f"urn:altinn:resource:app_{PERSON}_app",
]


@pytest.mark.parametrize("resource", RESOURCES)
async def test_a_resource_that_names_a_person_is_refused_everywhere(service: Service, resource: str) -> None:
    """Published in any mode, read, subscribed to or erased: 400, without its number, and nobody is asked."""
    token, named = service.org(*SCOPES), urlencode({"resource": resource, "source": "urn:x:y", "id": "1"})

    async def publish(body: object, content_type: str, path: str = PUBLISH) -> Answer:
        return await service.request("POST", path, token=token, json_body=body, content_type=content_type)

    answers = {
        "resource": await publish(event(resource), STRUCTURED),
        "[1].resource": await publish([event(), event(resource)], BATCH),
        "resource of the older route": await publish(event(resource), STRUCTURED, "/events"),
        "resource in a header": await service.request(
            "POST", PUBLISH, token=token, headers={**BINARY, "ce-resource": quote(resource)}
        ),
        "resource of a feed": await service.get(RESOURCE_FEED, token, resource=resource, from_=ANCIENT),
        "resource to erase": await service.request("DELETE", f"{PUBLISH}?{named}", token=token),
        "resourceFilter": await asked(service, token, endPoint="https://x.example/", resourceFilter=resource),
    }
    for what, answer in answers.items():
        prefix = "must begin" in answer.json()["detail"]  # a feed wants `urn:altinn:resource:` first
        assert (answer.status, fields(answer) or prefix) == (400, [what.split()[0]]), what
        assert PERSON not in str((answer.headers, answer.body)), what
    assert service.pdp.requests == []
    assert await stored() == []


@pytest.mark.parametrize("name", ["source", "type", "eventType", "org", "subject"])
@pytest.mark.parametrize("value", [PERSON, f"https://x.example/{PERSON}/%", f"x-{PERSON}", f"/user/{ESCAPED}"])
async def test_a_text_that_names_a_person_is_refused_in_the_url(service: Service, name: str, value: str) -> None:
    """`next` would repeat it."""
    path, asked_for = (PARTY_FEED, {"party": "1"}) if name == "org" else (RESOURCE_FEED, {"resource": RESOURCE})
    query = urlencode({"from": ANCIENT, **asked_for, name: value})
    answer = await service.request("GET", f"{path}?{query}", token=service.org(*SCOPES))
    assert (answer.status, fields(answer)) == (400, [name])


async def test_a_feed_is_filtered_by_eleven_digits_that_are_no_number_of_a_person(service: Service) -> None:
    """Cases and dates have as many, and `next` continues the same feed."""
    said = {"source": f"https://x.example/{CASE}", "type": f"case.{CASE}"}
    await service.publish(event(**said, id="1"), event(id="other"), event(**said, id="2"))
    token = service.org(*SCOPES)
    for name, value in said.items():
        query = urlencode({"resource": RESOURCE, "from": ANCIENT, "size": 1, name: value})
        page = await service.request("GET", f"{RESOURCE_FEED}?{query}", token=token)
        following = await service.request("GET", page.headers["next"], token=token)
        assert [found["id"] for found in [*page.json(), *following.json()]] == ["1", "2"]
    made = await asked(service, token, endPoint="https://x.example/", resourceFilter=RESOURCE, typeFilter=said["type"])
    assert made.json()["typeFilter"] == said["type"]


async def test_next_repeats_no_id_that_names_a_person(service: Service) -> None:
    """It has a cursor alone, and the walk goes on."""
    await service.publish(event(id=PERSON), event(id="after"))
    token = service.org(*SCOPES)
    page = await service.get(RESOURCE_FEED, token, resource=RESOURCE, from_=ANCIENT, size=1)
    assert PERSON not in page.headers["next"]
    following = await service.request("GET", page.headers["next"], token=token)
    assert [found["id"] for found in following.json()] == ["after"]


async def test_the_decision_point_gets_no_number_of_a_person(service: Service) -> None:
    """Wherever the number stands in an event or a claim, the question is asked without it."""
    token = service.org("altinn:events.publish", **{"urn:altinn:x": f"x {PERSON}", f"urn:x:{PERSON}": "y"})
    said = {
        "id": f"id-{PERSON}",
        "type": f"type.{PERSON}",
        "source": f"https://x.example/{PERSON}/{ESCAPED}",
        "subject": f"urn:x:{PERSON}:1",
        "resourceinstance": f"{PERSON}/1",
    }
    answer = await service.request("POST", PUBLISH, token=token, json_body=event(**said), content_type=STRUCTURED)
    assert answer.status == 200
    asked_for = str(service.pdp.requests)
    assert "urn:altinn:eventsource" in asked_for
    assert PERSON not in asked_for
    assert PERSON[1:] not in asked_for


# -- Repeating --------------------------------------------------------------------------------------------------------

STRANGER = "20868012804"
"""A number that the description of the API does not show."""
SPELT = [
    STRANGER,
    f"a{STRANGER}",
    f"/person/{STRANGER}",
    f"urn:altinn:person:identifier-no:{STRANGER}/",
    f"urn:x:{STRANGER}:1",
]
PARAMETERS = (
    *("after", "at", "from", "to", "size", "type", "type[]", "eventType", "source", "party", "unit", "person", "org"),
    *("app", "resource", "subject", "id", "state", "eventId", "order", "explain", "consumer", STRANGER),
)
HEADERS = (
    *("person", "Altinn-Subject", "Altinn-AlternativeSubject", "Accept", "Prefer", "If-None-Match", "traceparent"),
    *(
        "Content-Encoding",
        "ce-id",
        "ce-type",
        "ce-source",
        "ce-subject",
        "ce-resource",
        f"ce-{STRANGER}",
        "X-Request-Id",
    ),
)
MEMBERS = (
    *("endPoint", "sourceFilter", "subjectFilter", "alternativeSubjectFilter", "resourceFilter", "typeFilter"),
    *("includeSubunits", "contentType", "paused", "from", "after", "dead", "eventId", "source", "person", "party"),
    *("id", "type", "subject", "resource", "time", "specversion", "datacontenttype", "dataschema", STRANGER),
)
OWN = frozenset({"create_subscription", "get_subscription", "list_subscriptions", "list_deliveries"})
"""Routes that answer a consumer with its own filters and the parameters of its own list."""
EVENTS = frozenset({"publish_events", "publish_app_event", "legacy_publish"})
"""Routes that answer a publisher with the id and source of its event."""


@dataclass(frozen=True)
class Sent:
    """A request that holds a person's number."""

    function: str
    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    content_type: str | None = None

    def breach(self, answer: Answer) -> str | None:
        """What the answer repeats, if anything."""
        if answer.status < 300 and self.function in OWN | EVENTS:
            return None
        if answer.status == 500:
            return f"{self}: 500"
        shown = str((answer.headers, answer.body))
        return f"{self}: {answer.status} {shown}" if STRANGER in shown else None


def _of_route(function: str, method: str, route: str) -> Iterator[Sent]:
    """The requests of a route, each with the number in another place."""
    plain, query = (
        "/" + route.format(org="ttd", app="apps-test", id="1", partyId="1", instanceGuid="1"),
        f"from={ANCIENT}",
    )
    if "{" in route:
        for spelt in SPELT:
            names = dict.fromkeys(("org", "app", "id", "partyId", "instanceGuid"), quote(spelt, safe=""))
            yield Sent(function, method, f"/{route.format(**names)}?{query}&source=urn:x:y")
    for name in PARAMETERS:
        others = {"from": ANCIENT, "resource": RESOURCE, "source": "urn:x:y", "id": "1", "org": "ttd", "party": "1"}
        yield from (
            Sent(function, method, f"{plain}?{urlencode({**others, name: spelt})}") for spelt in (STRANGER, SPELT[3])
        )
    for name in HEADERS:
        yield Sent(function, method, f"{plain}?{query}&resource={RESOURCE}", headers={name: SPELT[3]})
    if method in ("POST", "PATCH"):
        bodies = ({**event(), **_SUBSCRIPTION, "from": ANCIENT}, dict(event()), dict(_SUBSCRIPTION), {"from": ANCIENT})
        for body, content_type in zip(bodies, (None, STRUCTURED, None, None), strict=True):
            for name in MEMBERS:
                yield Sent(function, method, plain, body={**body, name: SPELT[3]}, content_type=content_type)


_SUBSCRIPTION = {"endPoint": "https://subscriber.example/", "resourceFilter": RESOURCE}
REQUESTS = {
    function.name: list(_of_route(function.name, method.value, function.trigger["route"].replace("*path", "id")))
    for function in functions_of(function_app.app)
    if function.trigger["type"] == "httpTrigger"
    for method in (function.trigger.get("methods") or [func.HttpMethod.PUT])[:1]
}


@pytest.mark.parametrize("function", sorted(REQUESTS))
async def test_no_answer_or_log_line_repeats_a_number_of_a_person(
    service: Service, caplog: pytest.LogCaptureFixture, function: str
) -> None:
    """Whatever holds it: the path, a parameter, a header or a member of the body, on every route."""
    token, app = service.org(*SCOPES), service.app()
    caplog.set_level(logging.DEBUG)
    breaches = []
    for sent in REQUESTS[function]:
        answer = await service.request(
            sent.method,
            sent.target,
            token=token,
            platform_token=app,
            headers=sent.headers,
            json_body=sent.body,
            content_type=sent.content_type,
        )
        breaches.append(sent.breach(answer))
    assert [breach for breach in breaches if breach] == []
    lines = [JsonLines().format(record) for record in caplog.records if record.name != "asyncio"]
    assert [line for line in lines if STRANGER in line] == []
