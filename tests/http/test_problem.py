"""Every failure is a problem document (RFC 9457), and its status has the headers that HTTP requires."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from events_core.common.errors import EventsError, Problem
from events_core.http import publishing
from events_core.http.response import problem
from tests.support.asgi import Answer
from tests.support.pdp_server import DENY
from tests.support.publishing import batch, fields, publisher, structured
from tests.support.service import (
    ANCIENT,
    APP_FEED,
    APP_RESOURCE,
    APP_TOKEN_SCOPES,
    PARTY,
    PARTY_FEED,
    PERSON,
    PUBLISH,
    RESOURCE,
    RESOURCE_FEED,
    UNIT,
    Service,
    event,
)
from tests.support.subscribing import SUBSCRIPTIONS

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
Ask = Callable[[Service], Awaitable[Answer]]


async def bad_request(service: Service) -> Answer:
    """A request without a start."""
    return await service.get(APP_FEED, service.org(), headers=TRACEPARENT)


async def unauthorized(service: Service) -> Answer:
    """A request without a token."""
    return await service.get(APP_FEED, headers=TRACEPARENT)


async def forbidden(service: Service) -> Answer:
    """A user asks for an owner's feed."""
    return await service.get(APP_FEED, service.user(), headers=TRACEPARENT)


async def not_found(service: Service) -> Answer:
    """A path without a route."""
    return await service.get("/nothing", headers=TRACEPARENT)


async def method_not_allowed(service: Service) -> Answer:
    """A route without that method."""
    return await service.request("PUT", PUBLISH, headers=TRACEPARENT)


async def not_acceptable(service: Service) -> Answer:
    """An `Accept` without a media type of the service."""
    headers = {"Accept": "text/html", **TRACEPARENT}
    return await service.get(APP_FEED, service.org(), headers=headers, from_=ANCIENT)


async def conflict(service: Service) -> Answer:
    """A test event to an endpoint that is not validated."""
    body = {"endPoint": "https://subscriber.example/", "resourceFilter": APP_RESOURCE}
    made = await service.request("POST", SUBSCRIPTIONS, token=service.org(), json_body=body)
    path = f"{SUBSCRIPTIONS}/{made.json()['id']}/test"
    return await service.request("POST", path, token=service.org(), headers=TRACEPARENT)


async def length_required(service: Service) -> Answer:
    """A chunked body that the host has dropped."""
    headers = {"Transfer-Encoding": "chunked", **TRACEPARENT}
    return await service.request("POST", PUBLISH, token=publisher(service), headers=headers)


async def content_too_large(service: Service) -> Answer:
    """A batch of 101 events."""
    return await batch(service, [event() for _ in range(101)], headers=TRACEPARENT)


async def unsupported_media_type(service: Service) -> Answer:
    """An event in no mode."""
    return await service.request("POST", PUBLISH, token=publisher(service), json_body={}, headers=TRACEPARENT)


async def too_many_requests(service: Service) -> Answer:
    """The 61st request for an instance within a minute."""
    path = f"/events/instanceeventsforinstance/{PARTY}/c3a1f5a2-0b3c-4c4e-9d7e-0c5b8e9f7a11"
    answers = [await service.request("POST", path, json_body={"from": ANCIENT}, headers=TRACEPARENT) for _ in range(61)]
    return answers[-1]


async def unavailable(service: Service) -> Answer:
    """An event while the PDP is down."""
    await service.pdp.stop()
    return await structured(service, event(), headers=TRACEPARENT)


ROWS = {
    Problem.BAD_REQUEST: bad_request,
    Problem.UNAUTHORIZED: unauthorized,
    Problem.FORBIDDEN: forbidden,
    Problem.NOT_FOUND: not_found,
    Problem.METHOD_NOT_ALLOWED: method_not_allowed,
    Problem.NOT_ACCEPTABLE: not_acceptable,
    Problem.CONFLICT: conflict,
    Problem.LENGTH_REQUIRED: length_required,
    Problem.CONTENT_TOO_LARGE: content_too_large,
    Problem.UNSUPPORTED_MEDIA_TYPE: unsupported_media_type,
    Problem.TOO_MANY_REQUESTS: too_many_requests,
    Problem.UNAVAILABLE: unavailable,
}
UNASKED = {Problem.INTERNAL}
"""Problems that no request of this module causes."""


def test_every_problem_is_requested() -> None:
    """This module has a request for each problem of the table."""
    assert set(Problem) == set(ROWS) | UNASKED


@pytest.mark.parametrize(("row", "ask"), ROWS.items(), ids=[row.slug for row in ROWS])
async def test_every_problem_has_one_shape(service: Service, row: Problem, ask: Ask) -> None:
    """The document has the type, title and status of the table, a detail, the trace id, and faults if there are any."""
    answer = await ask(service)
    document = answer.json()
    assert answer.status == row.status
    assert answer.headers["content-type"] == "application/problem+json"
    assert document.pop("detail").endswith((".", "defined."))
    assert all(set(fault) == {"field", "detail"} for fault in document.pop("errors", []))
    assert document == {
        "type": f"/events/api/v1/docs#{row.slug}",
        "title": row.title,
        "status": row.status,
        "traceId": TRACE,
    }


@pytest.mark.parametrize("row", Problem)
def test_every_problem_renders_alike(row: Problem) -> None:
    """Problems without a request here have the same shape."""
    response = problem(EventsError(row, "Detail."), TRACE)
    document = json.loads(response.get_body())
    assert list(document) == ["type", "title", "status", "detail", "traceId"]
    assert (response.status_code, document["status"]) == (row.status, row.status)


async def test_the_type_of_a_problem_leads_to_its_documentation(service: Service) -> None:
    """`type` is an anchor of the documentation page."""
    page = await service.get("/events/api/v1/docs")
    assert [row for row in Problem if f'id="{row.slug}"'.encode() not in page.body] == []


async def test_problems_are_never_cached(service: Service) -> None:
    """`Cache-Control` is `no-store`."""
    assert (await bad_request(service)).headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "traceparent", [None, "", "nonsense", f"00-{'0' * 32}-b7ad6b7169203331-01", f"ff-{TRACE}-1-01"]
)
async def test_a_request_without_a_trace_begins_one(service: Service, traceparent: str | None) -> None:
    """Without a valid `traceparent` each problem has a trace id of its own."""
    headers = {} if traceparent is None else {"traceparent": traceparent}
    found = {(await service.get("/nothing", headers=headers)).json()["traceId"] for _ in range(2)}
    assert len(found) == 2
    assert all(re.fullmatch("(?!0{32})[0-9a-f]{32}", trace_id) for trace_id in found)
    assert TRACE not in found


async def test_the_trace_is_passed_on(service: Service) -> None:
    """The PDP and Register get the trace of the request, each with a new span."""
    subject = f"urn:altinn:person:identifier-no:{PERSON}"
    await structured(service, event(subject=subject), headers=TRACEPARENT)
    for headers in (service.pdp.headers[0], service.register.headers[0]):
        _, trace_id, span, flags = headers["traceparent"].split("-")
        assert (trace_id, flags) == (TRACE, "01")
        assert span != "b7ad6b7169203331"


PROTECTED = [
    ("GET", APP_FEED),
    ("GET", "/events/api/v1/app/ttd"),
    ("GET", PARTY_FEED),
    ("POST", PARTY_FEED),
    ("POST", "/events/api/v1/party"),
    ("GET", RESOURCE_FEED),
    ("POST", "/events/api/v1/app"),
    ("POST", PUBLISH),
    ("POST", "/events"),
    ("DELETE", f"{RESOURCE_FEED}/e1"),
    ("GET", "/events/instanceevents/ttd/apps-test"),
    ("GET", "/events/instanceevents/ttd"),
    ("GET", "/events/instanceeventsforparty"),
]
CREDENTIALS = [
    None,
    "",
    "Bearer",
    "Bearer ",
    "Bearer nonsense",
    "Bearer a.b.c",
    "Basic dXNlcjpwYXNz",
    "Bearer expired",
    "Bearer early",
    "Bearer untrusted",
]


@pytest.mark.parametrize("credentials", CREDENTIALS)
async def test_every_route_needs_a_token(service: Service, credentials: str | None) -> None:
    """A missing, malformed, expired, early or untrusted token gets 401; the problem does not say which."""
    made = {
        "Bearer expired": f"Bearer {service.org(exp=1)}",
        "Bearer early": f"Bearer {service.org(nbf=4_000_000_000)}",
        "Bearer untrusted": f"Bearer {service.org(iss='https://issuer.example')}",
    }
    headers = {} if credentials is None else {"Authorization": made.get(credentials, credentials)}
    for method, path in PROTECTED:
        answer = await service.request(method, path, headers=headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), path
        assert len(answer.json()["detail"]) < 60


METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}
ALLOWED = {
    APP_FEED: ["GET", "HEAD"],
    "/events/api/v1/app/ttd": ["GET", "HEAD"],
    PARTY_FEED: ["GET", "HEAD", "POST"],
    "/events/api/v1/party": ["POST"],
    RESOURCE_FEED: ["DELETE", "GET", "HEAD", "POST"],
    f"{RESOURCE_FEED}/e1": ["DELETE"],
    f"{RESOURCE_FEED}/a%2Fb%20c": ["DELETE"],
    "/events/api/v1/app": ["POST"],
    "/events/instanceeventsforinstance/1/2": ["POST"],
    "/events/instanceevents/ttd/apps-test": ["GET", "HEAD"],
    "/events/instanceevents/ttd": ["GET", "HEAD"],
    "/events/instanceeventsforparty": ["GET", "HEAD"],
    "/events/instanceeventsforparty/": ["GET", "HEAD"],
    "/events": ["POST"],
    "/events/": ["POST"],
    "/EVENTS/api/V1/app/ttd/apps-test/": ["GET", "HEAD"],
    "/health": ["GET", "HEAD"],
    "/health/ready": ["GET", "HEAD"],
    "/events/api/v1/openapi.json": ["GET", "HEAD"],
    "/events/api/v1/trace": ["GET", "HEAD"],
    f"{RESOURCE_FEED}/e1/TRACE": ["GET", "HEAD"],
    "/events/api//v1///events/e1//": ["DELETE"],
    "/events/api/v1/docs": ["GET", "HEAD"],
}


async def test_another_method_is_405_with_allow(service: Service) -> None:
    """`Allow` lists the methods of the path."""
    for path, allowed in ALLOWED.items():
        for method in METHODS - set(allowed):
            answer = await service.request(method, path)
            assert (answer.status, answer.headers["allow"].split(", ")) == (405, allowed), (method, path)


NO_ROUTE = [
    "/",
    "//",
    "/nothing",
    "/events/api/v1",
    "/events/api/v2/app",
    "/events/api/v1/app/ttd/apps-test/more",
    "/events/api/v1/events/e1/more",
    "/events/api/v1/eventsx",
    "/events/api/v1/party/1",
    "/healthy",
    "/health/ready/more",
    "/events/api/v1/docs/index.html",
    "/events/api/v1/openapi_json",
    "/admin/host/status",
    "/%00",
    "/..%2F..%2Fetc/passwd",
    "/%ff",
]


async def test_a_path_without_a_route_is_404(service: Service) -> None:
    """Any method on such a path gets a problem document."""
    for path in NO_ROUTE:
        for method in METHODS:
            answer = await service.request(method, path, token=service.org())
            given = answer.status, answer.headers["content-type"]
            assert given == (404, "application/problem+json"), (method, path)


@pytest.mark.parametrize("ask", [too_many_requests, unavailable])
async def test_429_and_503_have_retry_after(service: Service, ask: Ask) -> None:
    """It is a whole number of seconds, at most a minute."""
    answer = await ask(service)
    assert 0 < int(answer.headers["retry-after"]) <= 60


async def test_a_bug_is_a_problem_too(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception is a 500 that shows nothing of it; the log has it."""

    def broken(_: bytes) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(publishing, "read_structured", broken)
    answer = await structured(service, event(), headers=TRACEPARENT)
    assert (answer.status, answer.json()["traceId"]) == (500, TRACE)
    assert answer.headers["content-type"] == "application/problem+json"
    assert b"secret" not in answer.body
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["request failed"]


PAST = "2020-01-01T00:00:00"
ZONE = "parameter must specify timezone. E.g. 2022-07-07T11:00:53.3917Z for UTC"
SIZE = "The 'Size' parameter must be a number larger that 0."
WORDS: list[tuple[str, dict[str, Any], str, str]] = [
    (APP_FEED, {}, "from", "The 'From' or 'After' parameter must be defined."),
    (
        PARTY_FEED,
        {"from_": ANCIENT},
        "party",
        "Subject must be specified using either query params party or unit or header value person.",
    ),
    (APP_FEED, {"from_": PAST}, "from", f"The 'From' {ZONE}"),
    (APP_FEED, {"from_": ANCIENT, "to": PAST}, "to", f"The 'To' {ZONE}"),
    (APP_FEED, {"from_": ANCIENT, "size": 0}, "size", SIZE),
    (APP_FEED, {"from_": ANCIENT, "size": "x"}, "size", SIZE),
    (
        APP_FEED,
        {"from_": ANCIENT, "party": PARTY, "headers": {"person": PERSON}},
        "party",
        "Only one of 'Party' or 'Person' can be defined.",
    ),
    (
        APP_FEED,
        {"from_": ANCIENT, "party": PARTY, "unit": UNIT},
        "party",
        "Only one of 'Party' or 'Unit' can be defined.",
    ),
    (APP_FEED, {"from_": ANCIENT, "unit": "12345678"}, "unit", "Value of 'Unit' needs to be exactly 9 digits."),
    (
        RESOURCE_FEED,
        {"from_": ANCIENT, "resource": "mail"},
        "resource",
        "The 'resource' parameter must begin with `urn:altinn:resource:`",
    ),
    (
        RESOURCE_FEED,
        {"from_": ANCIENT, "resource": RESOURCE, "subject": "/party/1", "headers": {"Altinn-AlternativeSubject": "a"}},
        "subject",
        "Only one of 'subject' or 'alternativeSubject' can be defined.",
    ),
]


async def test_details_are_the_documented_words(service: Service) -> None:
    """Consumers may rely on the documented words and on the named parameter."""
    token = service.org(APP_TOKEN_SCOPES, "altinn:events.subscribe")
    for path, asked, field, words in WORDS:
        answer = await service.get(path, token, **asked)
        assert (answer.status, answer.json()["detail"], fields(answer)) == (400, words, [field])


async def test_a_403_does_not_tell_whether_the_event_exists(service: Service) -> None:
    """The problem of a denied event is the same for a stored and a new one."""
    await service.publish(event(id="e1"))
    service.pdp.decide = lambda _: DENY
    answers = [await structured(service, event(id=name), headers=TRACEPARENT) for name in ("e1", "e2")]
    assert answers[0].body == answers[1].body
