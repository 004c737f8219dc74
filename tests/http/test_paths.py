"""One route in several spellings: slashes, case and HEAD; and ids that a path takes literally."""

from __future__ import annotations

import time
from urllib.parse import quote, urlencode

import pytest

import function_app
from local.host import functions_of
from tests.support.asgi import Answer
from tests.support.publishing import feed, fields, structured
from tests.support.reading import FEEDS
from tests.support.service import (
    ANCIENT,
    APP_FEED,
    APP_TOKEN_SCOPES,
    RESOURCE,
    RESOURCE_FEED,
    Service,
    event,
    ids,
)

HOST = "http://127.0.0.1:7071"
SOURCE = "https://mail.example/box"
SCOPES = ("altinn:events.subscribe", "altinn:events.erase", "altinn:events.publish", "altinn:events/ttd")
VALUES = {"org": "ttd", "app": "apps-test", "id": "7", "partyId": "1", "instanceGuid": "x"}


ROUTES = [
    (method.value, "/" + function.trigger["route"].format_map(VALUES))
    for function in functions_of(function_app.app)
    for method in function.trigger.get("methods") or ()
]
"""The method and a path of every HTTP function but the fallback."""


async def answer_to(service: Service, method: str, path: str) -> Answer:
    """Ask with every scope and a start, on a URL that may begin with two slashes."""
    target = f"{HOST}{path}?{urlencode({'from': ANCIENT, 'source': SOURCE, 'resource': RESOURCE, 'party': 1})}"
    return await service.request(method, target, token=service.org(*SCOPES))


def said(answer: Answer) -> tuple[int, object, str | None]:
    """The status, the detail of a problem or the body, and the deprecation of an answer."""
    is_problem = answer.headers.get("content-type") == "application/problem+json" and answer.body
    return answer.status, answer.json()["detail"] if is_problem else answer.body, answer.headers.get("deprecation")


async def test_doubled_slashes_and_a_trailing_one_change_nothing(service: Service) -> None:
    """Every route and method answers as without them."""
    for method, path in ROUTES:
        plain = said(await answer_to(service, method, path))
        doubled = path[1:].replace("/", "//") if path.count("/") > 1 else f"{path[1:]}//"
        for spelling in (f"/{doubled}", f"/{doubled}//", f"//{doubled}", f"{path}/"):
            assert said(await answer_to(service, method, spelling)) == plain, (method, spelling)


async def test_literal_segments_are_read_in_any_case(service: Service) -> None:
    """Only the values of parameters keep their case."""
    for method, path in ROUTES:
        shouted = "/".join(part if part in VALUES.values() else part.upper() for part in path.split("/"))
        plain = said(await answer_to(service, method, path))
        assert said(await answer_to(service, method, shouted)) == plain, (method, path)


async def test_a_doubled_slash_hands_on_the_whole_request(service: Service) -> None:
    """An event is published and read, and `next` has single slashes."""
    sent = event(id="e1")
    token = service.org("altinn:events.publish.admin", "altinn:events.subscribe")
    answer = await service.request(
        "POST", "/events//api/v1//events", token=token, json_body=sent, content_type="application/cloudevents+json"
    )
    assert answer.status == 200
    page = await service.get("/events/api//v1/events", token, resource=RESOURCE, from_=ANCIENT)
    assert ids(page.json()) == ["e1"]
    assert page.headers["next"].startswith(f"{HOST}{RESOURCE_FEED}?")


async def test_a_doubled_slash_does_not_decode_an_id_again(service: Service) -> None:
    """The id is the one that the host decoded once."""
    for event_id in ("a%20b", "a b"):
        await structured(service, event(id=event_id))
    answer = await answer_to(service, "DELETE", "/events//api/v1/events/a%2520b")
    assert (answer.status, ids(await feed(service))) == (204, ["a b"])


@pytest.mark.parametrize("path", ["/events//api/v1/nothing", "/events/api//v1", "/nothing//", "/health//ready//more"])
async def test_a_doubled_slash_makes_no_route(service: Service, path: str) -> None:
    """An unknown path is 404."""
    assert (await answer_to(service, "GET", path)).status == 404


async def test_405_of_an_older_route_names_its_successor(service: Service) -> None:
    """So does every other answer of the route."""
    for path, newer in (
        ("/events", "/events/api/v1/events"),
        ("/events/instanceevents/ttd/a%20b/", "/events/api/v1/app/ttd/a%20b"),
        ("/events//instanceEvents/ttd", "/events/api/v1/app/ttd"),
        ("/events/instanceeventsforparty", "/events/api/v1/app/party"),
    ):
        answer = await service.request("DELETE", path)
        assert (answer.status, answer.headers["deprecation"]) == (405, "@1688169600"), path
        assert answer.headers["link"] == f'<{HOST}{newer}>; rel="successor-version"'


# -- HEAD -------------------------------------------------------------------------------------------------------------


async def test_head_is_get_without_the_body(service: Service) -> None:
    """Status and headers are those of GET, on every GET route."""
    for path in (path for method, path in ROUTES if method == "GET"):
        got, head = await answer_to(service, "GET", path), await answer_to(service, "HEAD", path)
        assert (head.status, head.headers, head.body) == (got.status, got.headers, b""), path


@pytest.mark.parametrize(("path", "query"), FEEDS)
async def test_head_does_not_wait(service: Service, path: str, query: dict[str, object]) -> None:
    """A long poll without a body would hold a place for nothing."""
    begun = time.perf_counter()
    target = f"{path}?{urlencode({'from': ANCIENT, **query})}"
    answer = await service.request("HEAD", target, token=service.org(*SCOPES), headers={"Prefer": "wait=20"})
    assert time.perf_counter() - begun < 5
    assert (answer.status, "preference-applied" in answer.headers) == (200, False)


async def test_head_confirms_an_etag(service: Service) -> None:
    """`If-None-Match` gives 304 with `next`."""
    token = service.org(APP_TOKEN_SCOPES)
    page = await service.get(APP_FEED, token, from_=ANCIENT)
    headers = {"If-None-Match": page.headers["etag"]}
    answer = await service.request("HEAD", f"{APP_FEED}?from={ANCIENT}", token=token, headers=headers)
    assert (answer.status, answer.headers["next"]) == (304, page.headers["next"])


# -- Ids in paths -----------------------------------------------------------------------------------------------------


async def erase(service: Service, event_id: str | None, **query: str) -> Answer:
    """Erase an event whose id stands in the path as `event_id`, or in the query without it."""
    path = RESOURCE_FEED if event_id is None else f"{RESOURCE_FEED}/{event_id}"
    asked = urlencode({"source": SOURCE, "resource": RESOURCE, **query})
    return await service.request("DELETE", f"{path}?{asked}", token=service.org("altinn:events.erase"))


@pytest.mark.parametrize(
    ("in_path", "erased"),
    [("bl%25C3%25A5", "bl%C3%A5"), ("bl%C3%A5", "blå"), ("a%252520b", "a%2520b"), ("a%20b", "a b"), ("a+b", "a+b")],
)
async def test_an_id_in_a_path_is_literal(service: Service, in_path: str, erased: str) -> None:
    """The host decodes it once, and the service never again."""
    published = ["bl%C3%A5", "blå", "a%2520b", "a%20b", "a b", "a+b"]
    for event_id in published:
        await structured(service, event(id=event_id))
    assert (await erase(service, in_path)).status == 204
    assert ids(await feed(service)) == [event_id for event_id in published if event_id != erased]


@pytest.mark.parametrize("in_path", ["order%252F17", "order%2F17", "order%2f17", "order%252f17"])
async def test_an_id_with_an_escaped_slash_is_not_taken_from_a_path(service: Service, in_path: str) -> None:
    """A host hands `%2F` and `%252F` over alike. The problem shows the form that is taken, and nothing is erased."""
    for event_id in ("order%2F17", "order/17"):
        await structured(service, event(id=event_id))
    answer = await erase(service, in_path)
    assert (answer.status, fields(answer)) == (400, ["id"])
    assert "DELETE /events/api/v1/events?id=…&source=…&resource=…" in answer.json()["detail"]
    asked = urlencode({"source": SOURCE})
    trace = await service.request("GET", f"{RESOURCE_FEED}/{in_path}/trace?{asked}", token=service.org(*SCOPES))
    assert (trace.status, fields(trace)) == (400, ["id"])
    assert "GET /events/api/v1/trace?id=…&source=…" in trace.json()["detail"]
    assert ids(await feed(service)) == ["order%2F17", "order/17"]


@pytest.mark.parametrize(
    "event_id", ["order/17", "order%2F17", ".", "..", "/", "å/b", "a/b/", "a b", "50%", "+", "a&b"]
)
async def test_any_id_is_taken_as_a_parameter(service: Service, event_id: str) -> None:
    """Both operations on an event take it, and only that event is erased."""
    for other in (event_id, "other", quote(event_id, safe="") + "?"):
        await structured(service, event(id=other))
    trace = await service.get("/events/api/v1/trace", service.org(*SCOPES), id=event_id, source=SOURCE)
    assert trace.status == 200
    assert (await erase(service, None, id=event_id)).status == 204
    assert event_id not in ids(await feed(service))
    assert len(await feed(service)) == 2


async def test_an_unknown_id_as_a_parameter_is_404(service: Service) -> None:
    """Without an id, a source or a resource it is 400 that names it."""
    await structured(service, event(id="e1"))
    assert (await erase(service, None, id="e2")).status == 404
    for missing in ("id", "source", "resource"):
        answer = await erase(service, None, **{"id": "e1", missing: ""})
        assert (answer.status, fields(answer)) == (400, [missing])
    assert ids(await feed(service)) == ["e1"]


async def test_the_last_segment_of_a_trace_is_read_in_any_case(service: Service) -> None:
    """`/TRACE` is `/trace`, also for an event with that id."""
    for event_id in ("e1", "TRACE"):
        await structured(service, event(id=event_id))
        for path in (f"{RESOURCE_FEED}/{event_id}/TRACE", f"{RESOURCE_FEED}/{event_id}/trace/"):
            answer = await service.get(path, service.org(*SCOPES), source=SOURCE)
            assert (answer.status, len(answer.json()["entries"])) == (200, 1), path
