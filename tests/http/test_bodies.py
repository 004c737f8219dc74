"""The rules for bodies are the same on every route that takes one."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.asgi import Answer
from tests.support.publishing import ADMIN_SCOPE, BATCH, STRUCTURED, stored
from tests.support.service import (
    ANCIENT,
    PARTY,
    PARTY_FEED,
    PUBLISH,
    RESOURCE,
    Service,
    app_event,
    event,
    instance_source,
    running,
)
from tests.support.subscribing import LOOPBACK, SUBSCRIPTIONS

GUID = str(uuid.uuid4())
GZIP = {"Content-Encoding": "gzip"}
CHUNKED = {"Transfer-Encoding": "chunked"}
START = {"from": ANCIENT}


@dataclass(frozen=True)
class Route:
    """A route that takes a body, with a body that it takes."""

    method: str
    target: str
    document: Any
    content_type: str = "application/json"
    has_login: bool = True
    limit: int = 64 * 1024


ROUTES = {
    "publish_app_event": Route("POST", "/events/api/v1/app", app_event(id="e1"), limit=256 * 1024),
    "publish_events": Route("POST", PUBLISH, event(id="e1"), STRUCTURED, limit=256 * 1024),
    "publish_batch": Route("POST", PUBLISH, [event(id="e1")], BATCH, limit=1024 * 1024),
    "older_publish": Route("POST", "/events", event(id="e1"), STRUCTURED, limit=256 * 1024),
    "app_party_feed_by_post": Route("POST", PARTY_FEED, {**START, "party": PARTY}),
    "party_feed_by_post": Route("POST", "/events/api/v1/party", {**START, "party": PARTY}),
    "instance_feed": Route("POST", f"/events/instanceeventsforinstance/{PARTY}/{GUID}", START, has_login=False),
    "create_subscription": Route(
        "POST", SUBSCRIPTIONS, {"endPoint": "http://127.0.0.1:9/", "resourceFilter": RESOURCE, "typeFilter": "other"}
    ),
    "change_subscription": Route("PATCH", f"{SUBSCRIPTIONS}/1", {"paused": True}),
    "replay": Route("POST", f"{SUBSCRIPTIONS}/1/replay", START),
}


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """The service with one subscription, and one app whose instances anyone may read."""
    async with running(tmp_path, monkeypatch, EVENTS_ANONYMOUS_APPS="ttd/apps-test", **LOOPBACK) as service:
        await service.publish_app_event(source=instance_source(guid=GUID))
        fields = {"endPoint": "http://127.0.0.1:9/", "resourceFilter": RESOURCE}
        made = await service.request("POST", SUBSCRIPTIONS, token=_token(service), json_body=fields)
        assert (made.status, made.json()["id"]) == (201, 1)
        yield service


def _token(service: Service) -> str:
    return service.org(ADMIN_SCOPE, "altinn:events.subscribe")


async def send(service: Service, route: Route, body: bytes, content_type: str | None = None, **headers: str) -> Answer:
    """Send a body to a route, with the tokens that it wants."""
    tokens = {"token": _token(service), "platform_token": service.app()} if route.has_login else {}
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await service.request(
        route.method, route.target, body=body, content_type=content_type or route.content_type, headers=sent, **tokens
    )


async def state(service: Service) -> tuple[list[bytes], Any]:
    """The stored events and the subscriptions."""
    listed = await service.get(SUBSCRIPTIONS, _token(service))
    shown = [{**one, "validation": None} for one in listed.json()["subscriptions"]]
    return await stored(), shown


each_route = pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)


@each_route
@pytest.mark.parametrize("headers", [CHUNKED, {"Content-Length": ""}], ids=["chunked", "no length"])
async def test_a_lost_body_is_411_with_the_cure(service: Service, route: Route, headers: dict[str, str]) -> None:
    """The body is announced and did not arrive, as behind the Functions host. Nothing is stored."""
    before = await state(service)
    answer = await send(service, route, b"", **headers)
    assert (answer.status, answer.headers["content-type"]) == (411, "application/problem+json")
    assert "Content-Length" in answer.json()["detail"]
    assert "LoadIntoBufferAsync" in answer.json()["detail"]
    assert await state(service) == before


@each_route
async def test_an_empty_body_is_400(service: Service, route: Route) -> None:
    """`Content-Length: 0` announces that there is none."""
    before = await state(service)
    assert (await send(service, route, b"")).status == 400
    assert await state(service) == before


@each_route
async def test_an_encoded_body_is_415(service: Service, route: Route) -> None:
    """The answer names the encoding that is taken. Nothing is stored."""
    before = await state(service)
    answer = await send(service, route, gzip.compress(json.dumps(route.document).encode()), **GZIP)
    assert (answer.status, answer.headers["accept-encoding"]) == (415, "identity")
    assert await state(service) == before


@each_route
async def test_the_token_is_looked_at_before_the_body(service: Service, route: Route) -> None:
    """Without a token every fault of the body is 401."""
    for headers in (GZIP, {"Content-Type": "text/plain"}):
        answer = await service.request(route.method, route.target, body=b"\x1f", headers=headers)
        assert answer.status == 401 or not route.has_login


Sent = Callable[[bytes], tuple[bytes, str, dict[str, str]]]
TAKEN: dict[str, Sent] = {
    "chunked": lambda body: (body, "", CHUNKED),
    "byte order mark": lambda body: (b"\xef\xbb\xbf" + body, "", {}),
    "charset": lambda body: (body, "; charset=UTF-8", {}),
    "ascii": lambda body: (body, "; charset=us-ascii", {}),
    "semicolon": lambda body: (body, ";", {}),
    "identity": lambda body: (body, "", {"Content-Encoding": "identity"}),
}


@each_route
@pytest.mark.parametrize("form", TAKEN)
async def test_a_body_is_taken_in_every_form_that_clients_send(service: Service, route: Route, form: str) -> None:
    """Chunks, a byte order mark, a charset, a semicolon at the end of the type, and `identity` change nothing."""
    body, parameter, headers = TAKEN[form](json.dumps(route.document).encode())
    answer = await send(service, route, body, route.content_type + parameter, **headers)
    assert answer.status in (200, 201, 202), answer.body


@each_route
@pytest.mark.parametrize("charset", ["utf-16", '"ISO-8859-1"'])
async def test_json_in_another_charset_is_415(service: Service, route: Route, charset: str) -> None:
    """JSON is UTF-8 on every route."""
    body = json.dumps(route.document).encode()
    assert (await send(service, route, body, f"{route.content_type}; charset={charset}")).status == 415


REPEATED = {
    "same value": lambda text: f"{{{text},{text}}}",
    "escaped": lambda text: f'{{{text},"\\u{ord(text[1]):04x}{text[2:]}}}',
    "nested": lambda text: f'{{{text},"data":[{{"twice":1,"twice":2}}]}}',
}
"""Objects that repeat a name, made from the text of a member."""


@each_route
@pytest.mark.parametrize("form", REPEATED)
async def test_a_name_that_is_repeated_is_400_and_named(service: Service, route: Route, form: str) -> None:
    """At any depth, however it is written, also in a member that the route ignores. Nothing is stored."""
    before = await state(service)
    document = route.document[0] if isinstance(route.document, list) else route.document
    name, value = next(iter(document.items()))
    body = REPEATED[form](f"{json.dumps(name)}:{json.dumps(value)}")
    answer = await send(service, route, (f"[{body}]" if isinstance(route.document, list) else body).encode())
    assert answer.status == 400, answer.body
    assert answer.json()["errors"][0]["field"].removeprefix("[0].") == ("twice" if form == "nested" else name)
    assert await state(service) == before


@each_route
async def test_the_limit_of_a_route_holds_for_chunks(service: Service, route: Route) -> None:
    """A chunked body beyond the route's own limit is 413."""
    before = await state(service)
    body = json.dumps(route.document).encode().ljust(route.limit + 1)
    assert (await send(service, route, body, **CHUNKED)).status == 413
    assert await state(service) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/1/rotate-secret"), ("DELETE", "/1"), ("GET", "/1"), ("PUT", "/validate/1")],
)
async def test_an_encoded_body_is_415_where_no_body_is_wanted(service: Service, method: str, path: str) -> None:
    """The rule has no exception that a client would have to know."""
    token, platform_token = _token(service), service.app("platform/events")
    answer = await service.request(
        method, SUBSCRIPTIONS + path, token=token, platform_token=platform_token, body=b"\x1f\x8b", headers=GZIP
    )
    assert (answer.status, answer.headers["accept-encoding"]) == (415, "identity")
