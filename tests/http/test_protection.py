"""Every response forbids browsers to guess its type, to run anything in it, and to show it in a frame."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.functions.decorators.http import HttpMethod

import function_app
from events_core.feeds import publish
from local.host import functions_of
from tests.support.asgi import Answer
from tests.support.publishing import PUBLISH_SCOPE, structured
from tests.support.service import ANCIENT, APP_FEED, PUBLISH, RESOURCE, RESOURCE_FEED, Service, event, running

SCOPES = "altinn:events.subscribe altinn:events.erase altinn:events/ttd altinn:events.publish.admin"
POLICY = "default-src 'none'; frame-ancestors 'none'"
PAGES = ("/events/api/v1/docs",)


def routes() -> Iterator[tuple[str, str]]:
    """Every method and path of the app; its parameters have values."""
    for function in functions_of(function_app.app):
        if function.trigger["type"] == "httpTrigger":
            path = "/" + re.sub(r"\{\*?\w+\}", "1", function.trigger["route"])
            for method in function.trigger.get("methods") or (HttpMethod.OPTIONS, HttpMethod.PUT, HttpMethod.GET):
                yield method.value, path


def protected(answer: Answer, path: str = "") -> bool:
    """Whether a response has both headers; a page has a policy of its own."""
    policy = answer.headers.get("content-security-policy", "")
    own = path in PAGES and "frame-ancestors 'none'" in policy
    return answer.headers.get("x-content-type-options") == "nosniff" and (policy == POLICY or own)


async def test_every_route_protects_its_responses(service: Service) -> None:
    """With a token and without one, whatever the status is."""
    asked, statuses = list(routes()), set[int]()
    assert len({path for _, path in asked}) > 20
    for method, path in asked:
        for token in (service.org(SCOPES), None):
            answer = await service.request(method, path, token=token)
            assert protected(answer, path), (method, path, answer.status, answer.headers)
            statuses.add(answer.status)
    assert statuses >= {200, 400, 401, 404}
    assert 500 not in statuses  # an answer of the host proves nothing about the function


async def test_every_status_has_the_headers(service: Service) -> None:
    """A page, an unchanged one, a creation, an erasure, and every kind of refusal."""
    token = service.org(SCOPES)
    page = await service.get(APP_FEED, token, from_=ANCIENT)
    same = {"If-None-Match": page.headers["etag"]}
    await structured(service, event(id="e1"))
    erasing = f"{RESOURCE_FEED}/e1?source=https://mail.example/box&resource={RESOURCE}"
    chunked = {"Transfer-Encoding": "chunked"}
    answers = [
        page,
        await service.get(APP_FEED, token, from_=ANCIENT, headers=same),
        await service.request("DELETE", erasing, token=token),
        await service.request("DELETE", erasing, token=service.org()),
        await service.get(APP_FEED, token, from_=ANCIENT, headers={"Accept": "text/css"}),
        await service.request("POST", PUBLISH, token=token, headers=chunked),
        await service.request("POST", PUBLISH, token=token, body=b"a" * 1_500_000),
        await service.request("POST", PUBLISH, token=token, body=b"a" * 3_000_000),
        await service.request("POST", PUBLISH, token=token, body=b"a", content_type="text/css"),
        await service.request("OPTIONS", APP_FEED),
        await service.get("//events//api/v1/docs/nothing"),
        await service.get(APP_FEED, headers={"Host": "a b"}),
    ]
    assert [answer.headers for answer in answers if not protected(answer)] == []
    assert {answer.status for answer in answers} >= {200, 204, 304, 400, 403, 404, 405, 406, 411, 413, 415}


async def test_a_bug_and_an_outage_have_the_headers(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The edge answers both, and `/health/ready` by itself."""

    def broken(*_: object) -> None:
        raise ValueError

    with monkeypatch.context() as bug:
        bug.setattr(publish, "_validated", broken)
        answers = [await structured(service, event())]
    await service.pdp.stop()
    answers += [await structured(service, event(), service.org(PUBLISH_SCOPE)), await service.get("/health/ready")]
    assert [(answer.status, protected(answer)) for answer in answers] == [(500, True), (503, True), (503, True)]


async def test_a_bad_setting_has_the_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No route is composed, and every answer is 503."""
    async with running(tmp_path, monkeypatch, EVENTS_MAX_PAGE_SIZE="many") as service:
        answers = [await service.get(path) for path in ("/health", "/health/ready", APP_FEED, PUBLISH)]
    assert [(answer.status, protected(answer)) for answer in answers] == [(503, True)] * 4
