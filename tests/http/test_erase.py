"""Erasing an event: `DELETE /events/api/v1/events/{id}?source=…&resource=…`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from tests.support.asgi import Answer
from tests.support.publishing import PUBLISH_SCOPE, feed, fields, stored, structured
from tests.support.service import (
    ANCIENT,
    APP_FEED,
    APP_RESOURCE,
    APP_TOKEN_SCOPES,
    PARTY,
    PARTY_FEED,
    RESOURCE,
    RESOURCE_FEED,
    Service,
    event,
    ids,
    instance_source,
    running,
)

ERASE_SCOPE = "altinn:events.erase"
SOURCE = "https://mail.example/box"


async def erase(
    service: Service, event_id: str, source: str = SOURCE, resource: str = RESOURCE, token: str | None = None
) -> Answer:
    """Erase an event, by default with the scope for it."""
    query = urlencode({"source": source, "resource": resource})
    path = f"{RESOURCE_FEED}/{quote(event_id, safe='')}?{query}"
    return await service.request("DELETE", path, token=token or service.org(ERASE_SCOPE))


async def publish_three(service: Service) -> str:
    """Publish the app events a, b and c; return their source."""
    source = instance_source()
    for name in "abc":
        await service.publish_app_event(id=name, source=source, data=f"secret-{name}")
    return source


@pytest.mark.on_cosmos
async def test_an_erased_event_is_in_no_feed(service: Service) -> None:
    """The feeds of owner, org, party and resource leave it out."""
    answer = await erase(service, "b", await publish_three(service), APP_RESOURCE)
    assert (answer.status, answer.body) == (204, b"")
    owner = service.org("altinn:events/ttd")
    pages = [
        await service.get(APP_FEED, owner, from_=ANCIENT),
        await service.get("/events/api/v1/app/ttd", owner, from_=ANCIENT),
        await service.get(PARTY_FEED, service.user(), from_=ANCIENT, party=PARTY),
    ]
    assert [ids(page.json()) for page in pages] == [["a", "c"]] * 3
    assert ids(await feed(service, APP_RESOURCE)) == ["a", "c"]


@pytest.mark.on_cosmos
async def test_nothing_of_an_erased_event_is_kept(service: Service, tmp_path: Path) -> None:
    """The store holds neither its data nor its text."""
    await erase(service, "b", await publish_three(service), APP_RESOURCE)
    assert [b"secret-b" in text for text in await stored()] == [False] * 3


@pytest.mark.on_cosmos
async def test_an_erased_event_is_not_published_again(service: Service) -> None:
    """A repeat of it is a duplicate."""
    sent = event(id="e1")
    await structured(service, sent)
    await erase(service, "e1")
    again = await structured(service, sent)
    assert again.json()["events"][0]["duplicate"] is True
    assert await feed(service) == []


@pytest.mark.on_cosmos
async def test_a_walk_goes_on_over_an_erased_event(service: Service) -> None:
    """`next` continues behind an erased event, by its cursor and by its id."""
    source = await publish_three(service)
    token = service.org(APP_TOKEN_SCOPES)
    page = await service.get(APP_FEED, token, from_=ANCIENT, size=2)
    await erase(service, "b", source, APP_RESOURCE)
    assert ids((await service.get(page.headers["next"], token)).json()) == ["c"]
    assert ids((await service.get(APP_FEED, token, after="b")).json()) == ["c"]


@pytest.mark.on_cosmos
async def test_the_location_of_an_erased_event_leads_to_later_events(service: Service) -> None:
    """The cursor just before an erased event stays valid."""
    source = instance_source()
    sent = {"specversion": "1.0", "id": "a", "type": "t", "subject": "/party/1", "source": source}
    answer = await service.request("POST", "/events/api/v1/app", platform_token=service.app(), json_body=sent)
    await service.publish_app_event(id="b", source=source)
    await erase(service, "a", source, APP_RESOURCE)
    page = await service.get(answer.headers["location"], service.org(APP_TOKEN_SCOPES))
    assert ids(await service.walk(page, service.org(APP_TOKEN_SCOPES))) == ["b"]


@pytest.mark.on_cosmos
@pytest.mark.parametrize(
    ("event_id", "source", "resource"),
    [
        ("e2", SOURCE, RESOURCE),
        ("e1", f"{SOURCE}2", RESOURCE),
        ("e1", SOURCE, f"{RESOURCE}-2"),
        ("E1", SOURCE, RESOURCE),
    ],
)
async def test_an_unknown_event_cannot_be_erased(service: Service, event_id: str, source: str, resource: str) -> None:
    """Another id, source or resource gets 404, and the event stays."""
    await structured(service, event(id="e1"))
    assert (await erase(service, event_id, source, resource)).status == 404
    assert ids(await feed(service)) == ["e1"]


@pytest.mark.on_cosmos
async def test_only_the_event_of_the_given_source_is_erased(service: Service) -> None:
    """Of two events with one id, the event of the other source stays."""
    for source in (SOURCE, f"{SOURCE}2"):
        await structured(service, event(id="e1", source=source))
    await erase(service, "e1")
    assert [found["source"] for found in await feed(service)] == [f"{SOURCE}2"]


@pytest.mark.on_cosmos
async def test_erasing_twice_is_erasing_once(service: Service) -> None:
    """A caller that lost the response may erase again."""
    await structured(service, event(id="e1"))
    assert [(await erase(service, "e1")).status for _ in range(2)] == [204, 204]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("", "source"),
        ("?source=https://mail.example/box", "resource"),
        (f"?resource={RESOURCE}", "source"),
        (f"?source=&resource={RESOURCE}", "source"),
        (f"?source=a&source=b&resource={RESOURCE}", "source"),
    ],
)
async def test_source_and_resource_are_required(service: Service, query: str, named: str) -> None:
    """Without exactly one `source` and one `resource` the response is 400, and nothing is erased."""
    await structured(service, event(id="e1"))
    answer = await service.request("DELETE", f"{RESOURCE_FEED}/e1{query}", token=service.org(ERASE_SCOPE))
    assert (answer.status, fields(answer)) == (400, [named])
    assert ids(await feed(service)) == ["e1"]


@pytest.mark.parametrize("scope", ["", PUBLISH_SCOPE, "altinn:events.publish.admin", "altinn:events"])
async def test_erasing_needs_its_scope(service: Service, scope: str) -> None:
    """Without `altinn:events.erase` the response is 403, whether or not the event exists."""
    await structured(service, event(id="e1"))
    answers = [await erase(service, name, token=service.org(scope)) for name in ("e1", "e2")]
    assert [answer.status for answer in answers] == [403, 403]
    assert ids(await feed(service)) == ["e1"]


async def test_erasing_needs_a_bearer_token(service: Service) -> None:
    """A PlatformAccessToken is not enough."""
    path = f"{RESOURCE_FEED}/e1?source={SOURCE}&resource={RESOURCE}"
    answers = [
        await service.request("DELETE", path),
        await service.request("DELETE", path, token="nonsense"),
        await service.request("DELETE", path, platform_token=service.app()),
    ]
    assert [(answer.status, answer.headers["www-authenticate"]) for answer in answers] == [(401, "Bearer")] * 3


@pytest.mark.on_cosmos
@pytest.mark.parametrize("event_id", ["a b", "å", "50%", "a?b#c", "+", '"', "a&b"])
async def test_any_id_without_a_slash_can_be_erased(service: Service, event_id: str) -> None:
    """The id stands percent-encoded in the path."""
    await structured(service, event(id=event_id))
    assert (await erase(service, event_id)).status == 204
    assert await feed(service) == []


async def test_the_older_notation_of_a_resource_is_understood(service: Service) -> None:
    """`altinnapp.{org}.{app}` names the app's resource here too."""
    source = await publish_three(service)
    assert (await erase(service, "b", source, "urn:altinn:resource:altinnapp.ttd.apps-test")).status == 204


@pytest.mark.on_cosmos
async def test_an_erased_event_stays_erased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An acknowledged erasure outlives a restart."""
    async with running(tmp_path, monkeypatch) as service:
        await structured(service, event(id="e1"))
        await erase(service, "e1")
    async with running(tmp_path, monkeypatch) as service:
        assert await feed(service) == []
