"""Walking a feed by `next` returns every readable event exactly once, in one order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.pdp_server import DENY
from tests.support.reading import (
    FEEDS,
    HIDDEN_PARTY,
    app_events,
    cursor_of,
    hidden_events,
    hide,
    next_query,
    publish_all,
)
from tests.support.service import (
    ANCIENT,
    APP_FEED,
    APP_RESOURCE,
    APP_TOKEN_SCOPES,
    PERSON,
    RESOURCE_FEED,
    Service,
    ids,
    instance_source,
    running,
)

SIZES = (1, 2, 3, 7, 50, 1000)
BASE = "http://127.0.0.1:7071"


async def follow(service: Service, token: str, path: str, done: asyncio.Event, **query: Any) -> list[str]:
    """Walk a feed until it is caught up after `done`; return the ids."""
    answer, seen = await service.get(path, token, from_=ANCIENT, **query), []
    while True:
        seen += ids(answer.json())
        finished = done.is_set()
        answer = await service.request("GET", answer.headers["next"], token=token)
        if not answer.json() and answer.headers["events-caught-up"] == "true":
            if finished:
                return seen
            await asyncio.sleep(0.02)  # a poll without a pause would keep the publishers from the processor


async def publish_one_by_one(service: Service, count: int) -> list[str]:
    """Publish events of which every third is hidden; return the ids of the others."""
    readable = []
    for number in range(count):
        (published,) = hidden_events(1) if number % 3 == 0 else app_events(1)
        await service.publish(published)
        readable += [published["id"]] if number % 3 else []
        await asyncio.sleep(0)
    return readable


@pytest.mark.slow
@pytest.mark.on_cosmos
@pytest.mark.parametrize(("path", "query"), FEEDS)
async def test_a_walk_returns_each_readable_event_once_while_others_publish(
    service: Service, path: str, query: dict[str, Any]
) -> None:
    """Readers with every page size see one order of all readable events while four publish at once."""
    hide(service)
    token, done = service.org("altinn:events.subscribe"), asyncio.Event()
    walks = [asyncio.create_task(follow(service, token, path, done, size=size, **query)) for size in SIZES]
    published = await asyncio.gather(*(publish_one_by_one(service, 25) for _ in range(4)))
    done.set()
    orders = await asyncio.gather(*walks)
    assert sorted(orders[0]) == sorted(published_id for part in published for published_id in part)
    assert all(order == orders[0] for order in orders)


@pytest.mark.slow
@pytest.mark.on_cosmos
@pytest.mark.parametrize(("path", "query"), [FEEDS[0], FEEDS[2]])
async def test_a_long_run_of_hidden_events_is_crossed(service: Service, path: str, query: dict[str, Any]) -> None:
    """A walk crosses 5,000 hidden events within a few pages."""
    hide(service)
    first, last = app_events(2)
    await service.publish(first)
    await publish_all(service, hidden_events(5_000))
    await service.publish(last)
    token = service.org("altinn:events.subscribe")
    answer = await service.get(path, token, from_=ANCIENT, size=10, **query)
    assert ids(await service.walk(answer, token, most=10)) == [first["id"], last["id"]]


@pytest.mark.slow
async def test_a_run_longer_than_the_scan_of_a_page_is_crossed(service: Service) -> None:
    """A page that spends its scan is empty and not caught up, names no event, and its `next` moves on."""
    hide(service)
    await publish_all(service, hidden_events(11_000, source=instance_source(party=HIDDEN_PARTY)))
    await service.publish(*(last := app_events(1)))
    answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT)
    assert (answer.json(), answer.headers["events-caught-up"], list(cursor_of(answer))) == ([], "false", ["after"])
    assert ids(await service.walk(answer, token, most=10)) == ids(last)


@pytest.mark.on_cosmos
async def test_the_last_page_says_that_it_is_the_last(service: Service) -> None:
    """`Events-Caught-Up` is true exactly at the end of the stream."""
    await service.publish(*app_events(3))
    answer, said = await service.get(APP_FEED, token := service.org(), from_=ANCIENT, size=2), []
    for _ in range(3):
        said.append((len(answer.json()), answer.headers["events-caught-up"]))
        answer = await service.request("GET", answer.headers["next"], token=token)
    assert said == [(2, "false"), (1, "true"), (0, "true")]


@pytest.mark.on_cosmos
async def test_next_of_an_empty_page_finds_later_events(service: Service) -> None:
    """An empty page has a `next` too."""
    answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT)
    assert answer.json() == []
    await service.publish(*(published := app_events(2)))
    assert ids((await service.request("GET", answer.headers["next"], token=token)).json()) == ids(published)


async def test_the_link_header_repeats_next(service: Service) -> None:
    """`next` and `Link` hold the same absolute URL."""
    await service.publish(*app_events(1))
    answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT)
    for page in (answer, await service.request("GET", answer.headers["next"], token=token)):
        assert page.headers["next"].startswith(f"{BASE}{APP_FEED}?")
        assert page.headers["link"] == f'<{page.headers["next"]}>; rel="next"'


async def test_absolute_links_begin_with_the_base_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`EVENTS_BASE_URL` decides, not the host of the request."""
    async with running(tmp_path, monkeypatch, EVENTS_BASE_URL="https://platform.example") as service:
        answer = await service.get(APP_FEED, service.org(), from_=ANCIENT)
        older = await service.get("/events/instanceevents/ttd", service.org(), from_=ANCIENT)
    assert answer.headers["next"].startswith(f"https://platform.example{APP_FEED}?")
    assert "<https://platform.example/events/api/v1/app/ttd>" in older.headers["link"]


async def test_next_repeats_the_parameters_of_the_request(service: Service) -> None:
    """Every parameter keeps its value and order; `after` and `at` are replaced."""
    await service.publish(*app_events(2, type="a&b=c"))
    pairs = [
        ("from", "2001-01-01T01:00:00+01:00"),
        ("type", "a&b=c"),
        ("type", "æ %"),
        ("source", "https://%/a?b=c&d#e+f"),
        ("source", "%"),
        ("eventType", "x"),
        ("size", "1"),
    ]
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in pairs)
    answer = await service.request("GET", f"{APP_FEED}?after=unknown&{query}&at=unknown", token=service.org())
    assert next_query(answer)[:-2] == pairs
    assert [name for name, _ in next_query(answer)[-2:]] == ["after", "at"]
    assert answer.headers["next"].isascii()
    assert " " not in answer.headers["next"]


@pytest.mark.parametrize(
    ("path", "query", "named"),
    [
        (RESOURCE_FEED, {"resource": APP_RESOURCE}, {"person": PERSON}),
        (RESOURCE_FEED, {"resource": APP_RESOURCE}, {"Person": PERSON}),
        (APP_FEED, {}, {"subject": f"urn:altinn:person:identifier-no:{PERSON}"}),
        (RESOURCE_FEED, {"resource": APP_RESOURCE}, {"AlternativeSubject": f"/person/{PERSON}"}),
    ],
)
async def test_next_never_names_a_person(
    service: Service, path: str, query: dict[str, Any], named: dict[str, Any]
) -> None:
    """`next` does not repeat a parameter that the feed ignores, if it names a person."""
    answer = await service.get(path, service.org("altinn:events.subscribe"), from_=ANCIENT, **query, **named)
    assert (answer.status, PERSON in str(answer.headers)) == (200, False)


@pytest.mark.on_cosmos
async def test_a_page_that_ends_with_an_event_names_it(service: Service) -> None:
    """`after` is the id of the last event of the page, and `at` its sealed cursor."""
    await service.publish(*(published := app_events(3)))
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT, size=2)
    assert cursor_of(answer)["after"] == published[1]["id"]
    assert "at" in cursor_of(answer)


@pytest.mark.on_cosmos
@pytest.mark.parametrize("size", [1, 2, 3, 50])
async def test_a_hidden_event_is_never_named(service: Service, size: int) -> None:
    """No body or header of a walk holds the id of a hidden event."""
    hide(service)
    secret = hidden_events(5)
    await service.publish(*app_events(2), *secret[:3], *app_events(1), *secret[3:])
    answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT, size=size)
    for _ in range(6):
        text = answer.body.decode() + str(answer.headers)
        assert not [hidden["id"] for hidden in secret if hidden["id"] in text or quote(hidden["id"]) in text]
        answer = await service.request("GET", answer.headers["next"], token=token)


@pytest.mark.on_cosmos
async def test_a_denied_last_event_is_passed_without_its_id(service: Service) -> None:
    """A page whose last row is hidden continues by a sealed cursor, which finds later events."""
    hide(service)
    await service.publish(*(first := app_events(1)), *hidden_events(2))
    answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT)
    assert (ids(answer.json()), list(cursor_of(answer))) == (ids(first), ["after"])
    await service.publish(*(later := app_events(1)))
    assert ids((await service.request("GET", answer.headers["next"], token=token)).json()) == ids(later)


@pytest.mark.parametrize(("path", "query"), FEEDS)
async def test_a_route_with_a_trailing_slash_is_the_same(service: Service, path: str, query: dict[str, Any]) -> None:
    """A trailing slash changes neither the page nor the walk."""
    await service.publish(*(published := app_events(3)))
    token = service.org("altinn:events.subscribe")
    plain = await service.get(path, token, from_=ANCIENT, size=2, **query)
    slash = await service.get(f"{path}/", token, from_=ANCIENT, size=2, **query)
    assert (slash.status, slash.body, cursor_of(slash)) == (200, plain.body, cursor_of(plain))
    assert ids(await service.walk(slash, token)) == ids(published)


@pytest.mark.parametrize(("path", "query"), FEEDS)
async def test_a_page_is_private_and_varies(service: Service, path: str, query: dict[str, Any]) -> None:
    """No shared cache may keep a page; `Vary` lists the headers it depends on."""
    answer = await service.get(path, service.org("altinn:events.subscribe"), from_=ANCIENT, **query)
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["vary"] == "Authorization, Person, Altinn-Subject, Altinn-AlternativeSubject, Accept"


@pytest.mark.on_cosmos
async def test_a_walk_of_denied_events_alone_ends(service: Service) -> None:
    """A feed without readable events is caught up, and its walk ends."""
    service.pdp.decide = lambda _: DENY
    await publish_all(service, app_events(300))
    answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT, size=7)
    assert await service.walk(answer, token, most=20) == []


async def test_a_scope_shows_events_that_the_pdp_denies(service: Service) -> None:
    """A page that a scope opens is full, and its last event is named."""
    service.pdp.decide = lambda _: DENY
    await service.publish(*(published := app_events(5)))
    answer = await service.get(APP_FEED, service.org(APP_TOKEN_SCOPES), from_=ANCIENT, size=3)
    assert (ids(answer.json()), cursor_of(answer)["after"]) == (ids(published)[:3], published[2]["id"])
