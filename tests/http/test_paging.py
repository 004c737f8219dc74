"""Walking a feed by `next`: every readable event exactly once, in one order, from wherever one starts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.pdp_server import DENY
from tests.support.reading import FEEDS, HIDDEN_PARTY, app_events, hidden_events, hide, next_query, place, publish_all
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
    """Walk a feed until it is caught up after `done`."""
    answer, seen = await service.get(path, token, from_=ANCIENT, **query), []
    while True:
        seen += ids(answer.json())
        finished = done.is_set()
        answer = await service.request("GET", answer.headers["next"], token=token)
        if finished and not answer.json() and answer.headers["events-caught-up"] == "true":
            return seen


async def publish_one_by_one(service: Service, count: int) -> list[str]:
    """Publish events of which every third is hidden; return the others' ids."""
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
    """With every page size, while four publish at once, every reader sees every readable event once, in one order."""
    hide(service)
    token, done = service.org("altinn:events.subscribe"), asyncio.Event()
    walks = [asyncio.create_task(follow(service, token, path, done, size=size, **query)) for size in SIZES]
    published = await asyncio.gather(*(publish_one_by_one(service, 25) for _ in range(4)))
    done.set()
    orders = await asyncio.gather(*walks)
    assert sorted(orders[0]) == sorted(each for part in published for each in part)
    assert all(order == orders[0] for order in orders)


@pytest.mark.slow
@pytest.mark.on_cosmos
@pytest.mark.parametrize(("path", "query"), [FEEDS[0], FEEDS[2]])
async def test_a_long_run_of_hidden_events_is_crossed(service: Service, path: str, query: dict[str, Any]) -> None:
    """5,000 events between two readable ones, which the reader may not see, are crossed within a few pages."""
    hide(service)
    first, last = app_events(2)
    await service.publish(first)
    await publish_all(service, hidden_events(5_000))
    await service.publish(last)
    token = service.org("altinn:events.subscribe")
    answer = await service.get(path, token, from_=ANCIENT, size=10, **query)
    assert ids(await service.walk(answer, token, most=10)) == [first["id"], last["id"]]


@pytest.mark.slow
@pytest.mark.on_cosmos
async def test_a_run_longer_than_what_one_page_scans_is_crossed(service: Service) -> None:
    """A page that spends its scan is empty, says that more is there, names no event, and its `next` moves on."""
    hide(service)
    await publish_all(service, hidden_events(11_000, source=instance_source(party=HIDDEN_PARTY)))
    await service.publish(*(last := app_events(1)))
    answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT)
    assert (answer.json(), answer.headers["events-caught-up"], list(place(answer))) == ([], "false", ["after"])
    assert ids(await service.walk(answer, token, most=10)) == ids(last)


@pytest.mark.on_cosmos
async def test_the_last_page_says_that_it_is_the_last(service: Service) -> None:
    """`Events-Caught-Up` is false while more is there and true at the end of the stream."""
    await service.publish(*app_events(3))
    answer, said = await service.get(APP_FEED, token := service.org(), from_=ANCIENT, size=2), []
    for _ in range(3):
        said.append((len(answer.json()), answer.headers["events-caught-up"]))
        answer = await service.request("GET", answer.headers["next"], token=token)
    assert said == [(2, "false"), (1, "true"), (0, "true")]


@pytest.mark.on_cosmos
async def test_next_stands_on_an_empty_page_too_and_finds_what_comes_later(service: Service) -> None:
    """`next` of a feed that holds nothing yet returns the first event that comes."""
    answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT)
    assert answer.json() == []
    await service.publish(*(published := app_events(2)))
    assert ids((await service.request("GET", answer.headers["next"], token=token)).json()) == ids(published)


async def test_next_stands_in_the_link_header_too(service: Service) -> None:
    """The same absolute URL stands in `next` and in `Link`, on a page and on an empty one."""
    await service.publish(*app_events(1))
    answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT)
    for page in (answer, await service.request("GET", answer.headers["next"], token=token)):
        assert page.headers["next"].startswith(f"{BASE}{APP_FEED}?")
        assert page.headers["link"] == f'<{page.headers["next"]}>; rel="next"'


async def test_the_public_base_is_that_of_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`EVENTS_BASE_URL` is the base of absolute links, whatever host was asked."""
    async with running(tmp_path, monkeypatch, EVENTS_BASE_URL="https://platform.example") as service:
        answer = await service.get(APP_FEED, service.org(), from_=ANCIENT)
        older = await service.get("/events/instanceevents/ttd", service.org(), from_=ANCIENT)
    assert answer.headers["next"].startswith(f"https://platform.example{APP_FEED}?")
    assert "<https://platform.example/events/api/v1/app/ttd>" in older.headers["link"]


async def test_next_repeats_the_requests_own_parameters(service: Service) -> None:
    """Every parameter stands in `next` as it was given, URL-encoded, in its order, and `after` is replaced."""
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
    """A person whom a feed does not ask for, and so does not refuse, is not repeated either."""
    answer = await service.get(path, service.org("altinn:events.subscribe"), from_=ANCIENT, **query, **named)
    assert (answer.status, PERSON in str(answer.headers)) == (200, False)


@pytest.mark.on_cosmos
async def test_a_page_that_ends_with_an_event_names_it(service: Service) -> None:
    """`after` is the id of the last event of the page when the page ends with it, `at` an opaque position beside."""
    await service.publish(*(published := app_events(3)))
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT, size=2)
    assert place(answer)["after"] == published[1]["id"]
    assert "at" in place(answer)


@pytest.mark.on_cosmos
@pytest.mark.parametrize("size", [1, 2, 3, 50])
async def test_an_event_that_the_reader_may_not_see_is_never_named(service: Service, size: int) -> None:
    """No hidden event's id, nor its party's, is in any body or header of a walk."""
    hide(service)
    secret = hidden_events(5)
    await service.publish(*app_events(2), *secret[:3], *app_events(1), *secret[3:])
    answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT, size=size)
    for _ in range(6):
        text = answer.body.decode() + str(answer.headers)
        assert not [each["id"] for each in secret if each["id"] in text or quote(each["id"]) in text]
        answer = await service.request("GET", answer.headers["next"], token=token)


@pytest.mark.on_cosmos
async def test_a_denied_last_event_is_passed_without_its_id(service: Service) -> None:
    """A page whose last row is hidden goes on by an opaque cursor, and what comes then is found."""
    hide(service)
    await service.publish(*(first := app_events(1)), *hidden_events(2))
    answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT)
    assert (ids(answer.json()), list(place(answer))) == (ids(first), ["after"])
    await service.publish(*(later := app_events(1)))
    assert ids((await service.request("GET", answer.headers["next"], token=token)).json()) == ids(later)


@pytest.mark.parametrize(("path", "query"), FEEDS)
async def test_a_route_with_a_trailing_slash_is_the_same(service: Service, path: str, query: dict[str, Any]) -> None:
    """With and without a trailing slash the answer is the same, and each goes on."""
    await service.publish(*(published := app_events(3)))
    token = service.org("altinn:events.subscribe")
    plain = await service.get(path, token, from_=ANCIENT, size=2, **query)
    slash = await service.get(f"{path}/", token, from_=ANCIENT, size=2, **query)
    assert (slash.status, slash.body, place(slash)) == (200, plain.body, place(plain))
    assert ids(await service.walk(slash, token)) == ids(published)


@pytest.mark.parametrize(("path", "query"), FEEDS)
async def test_a_page_is_private_and_varies(service: Service, path: str, query: dict[str, Any]) -> None:
    """Every answer says that no shared cache may keep it, and what it depends on."""
    answer = await service.get(path, service.org("altinn:events.subscribe"), from_=ANCIENT, **query)
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["vary"] == "Authorization, Person, Altinn-Subject, Altinn-AlternativeSubject, Accept"


@pytest.mark.on_cosmos
async def test_a_walk_of_denied_events_alone_ends(service: Service) -> None:
    """A feed of which the reader may see nothing is caught up, and its walk ends."""
    service.pdp.decide = lambda _: DENY
    await publish_all(service, app_events(300))
    answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT, size=7)
    assert await service.walk(answer, token, most=20) == []


async def test_a_scope_walks_what_the_decision_point_would_deny(service: Service) -> None:
    """Where the scope is the authorization a page is full, and named by its last event."""
    service.pdp.decide = lambda _: DENY
    await service.publish(*(published := app_events(5)))
    answer = await service.get(APP_FEED, service.org(APP_TOKEN_SCOPES), from_=ANCIENT, size=3)
    assert (ids(answer.json()), place(answer)["after"]) == (ids(published)[:3], published[2]["id"])
