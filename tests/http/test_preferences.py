"""What a feed's answer says of itself: what let the caller in, and which preferences were applied."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.support.publishing import fields
from tests.support.reading import FEEDS, app_events, next_query
from tests.support.service import (
    ANCIENT,
    APP_FEED,
    APP_RESOURCE,
    APP_TOKEN_SCOPES,
    PARTY,
    PARTY_FEED,
    RESOURCE_FEED,
    UNIT,
    Service,
    ids,
    instance_source,
    running,
)

STRICT = {"Prefer": "handling=strict"}
REPORTEES = f"altinn:events.reportees/{APP_RESOURCE.rpartition(':')[2]}"


@pytest.mark.parametrize(
    ("path", "scope", "by"),
    [
        (APP_FEED, "altinn:events/ttd/apps-test", "scope"),
        (APP_FEED, "altinn:events/ttd", "scope"),
        (APP_FEED, "altinn:events/ttd/other", "policy"),
        ("/events/instanceevents/ttd/apps-test", "altinn:events/ttd", "scope"),
        ("/events/api/v1/app/ttd", "altinn:events/ttd", "scope"),
        ("/events/api/v1/app/ttd", "altinn:events/ttd/apps-test", "policy"),
        (PARTY_FEED, "altinn:events/ttd", "policy"),
        (RESOURCE_FEED, "altinn:events.subscribe", "policy"),
        (RESOURCE_FEED, REPORTEES, "scope"),
    ],
)
async def test_a_page_says_what_let_the_caller_in(service: Service, path: str, scope: str, by: str) -> None:
    """`Events-Authorized-By` stands on an empty page, on one with events, and on a 304."""
    query: dict[str, Any] = {"from": ANCIENT, "party": PARTY, "resource": APP_RESOURCE}
    empty = await service.get(path, token := service.org(scope), **query)
    await service.publish(*app_events(1))
    page = await service.get(path, token, **query)
    same = await service.get(path, token, headers={"If-None-Match": page.headers["etag"]}, **query)
    assert [answer.status for answer in (empty, page, same)] == [200, 200, 304]
    assert [answer.headers["events-authorized-by"] for answer in (empty, page, same)] == [by] * 3


async def test_the_feed_without_login_does_not_say_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody was let in there."""
    async with running(tmp_path, monkeypatch, EVENTS_ANONYMOUS_APPS="ttd/apps-test") as service:
        guid = str(uuid.uuid4())
        await service.publish_app_event(source=instance_source(guid=guid))
        path = f"/events/instanceeventsforinstance/{PARTY}/{guid}"
        answer = await service.request("POST", path, json_body={"from": ANCIENT}, headers=STRICT)
        assert (answer.status, "events-authorized-by" in answer.headers) == (200, False)
        assert answer.headers["preference-applied"] == "handling=strict"


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("handling=strict", "handling=strict"),
        ("handling=strict, wait=7", "handling=strict, wait=7"),
        ("wait=7, handling=strict", "handling=strict, wait=7"),
        ("handling=lenient, wait=7", "wait=7"),
        ("handling=lenient", None),
        ('note="a, handling=strict", wait=0', None),
        ('note="a; b, c", handling="strict"', "handling=strict"),
    ],
)
async def test_applied_preferences_stand_in_one_header(service: Service, prefer: str, applied: str | None) -> None:
    """`Preference-Applied` lists strict handling and the wait."""
    await service.publish(*app_events(1))
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT, headers={"Prefer": prefer})
    assert answer.headers.get("preference-applied") == applied


@pytest.mark.parametrize(("path", "query"), FEEDS)
async def test_a_strict_reader_is_told_of_a_misspelt_parameter(
    service: Service, path: str, query: dict[str, Any]
) -> None:
    """Without the preference the parameter is ignored, and `next` does not repeat it."""
    token = service.org("altinn:events.subscribe")
    asked = {"from": ANCIENT, "tpye": "a", **query}
    strict = await service.get(path, token, headers=STRICT, **asked)
    assert (strict.status, fields(strict)) == (400, ["tpye"])
    assert "'type'" in strict.json()["detail"]
    lenient = await service.get(path, token, **asked)
    assert (lenient.status, [name for name, _ in next_query(lenient) if name == "tpye"]) == (200, [])
    walked = await service.request("GET", lenient.headers["next"], token=token, headers=STRICT)
    assert walked.status == 200


async def test_a_strict_reader_is_told_of_a_misspelt_member(service: Service) -> None:
    """A body is read as a URL is."""
    body = {"from": ANCIENT, "party": PARTY, "sise": 5}
    answer = await service.request("POST", PARTY_FEED, token=service.user(), json_body=body, headers=STRICT)
    assert (answer.status, fields(answer)) == (400, ["sise"])
    assert "'size'" in answer.json()["detail"]


@pytest.mark.parametrize(("path", "query"), FEEDS)
async def test_a_list_in_brackets_filters(service: Service, path: str, query: dict[str, Any]) -> None:
    """Axios writes `type[]=a&type[]=b`, and `next` keeps the filter."""
    published = [app_events(1, type=kind)[0] for kind in ("a.b", "other", "c.d", "a.b")]
    await service.publish(*published)
    token = service.org("altinn:events.subscribe")
    for name in ("type[]", "type[0]"):
        asked: dict[str, Any] = {"from": ANCIENT, "size": 2, name: ["a.b", "c.d"], **query}
        answer = await service.get(path, token, **asked)
        assert ids(await service.walk(answer, token)) == [published[n]["id"] for n in (0, 2, 3)]


async def test_the_party_zero_narrows_nothing(service: Service) -> None:
    """Beside a unit it counts as absent; alone the party feed has no subject."""
    await service.publish(*(published := app_events(1)))
    owner = await service.get(APP_FEED, service.org(APP_TOKEN_SCOPES), from_=ANCIENT, party=0)
    assert ids(owner.json()) == ids(published)
    assert (await service.get(PARTY_FEED, service.user(), from_=ANCIENT, party=0, unit=UNIT)).status == 200
    assert fields(await service.get(PARTY_FEED, service.user(), from_=ANCIENT, party=0)) == ["party"]


@pytest.mark.parametrize(
    "path",
    ["/events/api/v1/app/party/apps-test", "/events/instanceevents/party", "/events/instanceevents/Party/apps-test"],
)
async def test_an_org_named_party_does_not_exist(service: Service, path: str) -> None:
    """Its feed would stand where that of parties does."""
    assert (await service.get(path, service.org(org="party"), from_=ANCIENT)).status == 404
