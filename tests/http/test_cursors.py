"""Cursors of a feed, `at` and `after`, also when events and stores are gone."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from events_core import app
from events_core.feeds.stream import Cursor, Stream
from tests.support.asgi import Answer
from tests.support.reading import FEEDS, app_events, cursor_of, expire, store_clock
from tests.support.service import ANCIENT, APP_FEED, APP_RESOURCE, RESOURCE_FEED, Service, event, ids, running


async def second_page(service: Service, path: str = APP_FEED, **query: Any) -> Answer:
    """Read the first two of five events; `next` leads to the second page."""
    return await service.get(path, service.org("altinn:events.subscribe"), from_=ANCIENT, size=2, **query)


@pytest.mark.on_cosmos
@pytest.mark.parametrize(("path", "query"), FEEDS)
async def test_at_alone_is_enough(service: Service, path: str, query: dict[str, Any]) -> None:
    """A walk goes on by the sealed cursor alone."""
    await service.publish(*(published := app_events(5)))
    at = cursor_of(await second_page(service, path, **query))["at"]
    answer = await service.get(path, service.org("altinn:events.subscribe"), at=at, **query)
    assert ids(answer.json()) == ids(published)[2:]


@pytest.mark.on_cosmos
@pytest.mark.parametrize(("path", "query"), FEEDS)
async def test_a_bare_id_is_accepted_as_after(service: Service, path: str, query: dict[str, Any]) -> None:
    """A consumer may continue just after an event whose id it kept."""
    await service.publish(*(published := app_events(5)))
    answer = await service.get(path, service.org("altinn:events.subscribe"), after=published[1]["id"], **query)
    assert ids(answer.json()) == ids(published)[2:]


@pytest.mark.on_cosmos
async def test_at_decides_over_after(service: Service) -> None:
    """When both are valid, the sealed cursor decides."""
    await service.publish(*(published := app_events(5)))
    at = cursor_of(await second_page(service))["at"]
    answer = await service.get(APP_FEED, service.org(), after=published[3]["id"], at=at)
    assert ids(answer.json()) == ids(published)[2:]


@pytest.mark.parametrize("at", ["x", "AAAA", "%00", "_" * 60, "æ"])
async def test_an_invalid_at_leaves_the_choice_to_after(service: Service, at: str) -> None:
    """A cursor that this service did not seal is ignored."""
    await service.publish(*(published := app_events(5)))
    answer = await service.get(APP_FEED, service.org(), after=published[3]["id"], at=at)
    assert ids(answer.json()) == ids(published)[4:]


@pytest.mark.on_cosmos
async def test_an_at_whose_row_is_not_that_row_makes_the_id_unknown_too(service: Service) -> None:
    """It opens for the feed but is of a store before its restore, say: the walk starts from the oldest event."""
    await service.publish(*(published := app_events(5)))
    other_store = Cursor(4, b"restored")
    at = (await app.current()).cursors.encode(other_store, Stream.of_resource(APP_RESOURCE))
    answer = await service.get(APP_FEED, service.org(), after=published[3]["id"], at=at)
    assert ids(answer.json()) == ids(published)


@pytest.mark.on_cosmos
@pytest.mark.parametrize(("path", "query"), FEEDS[:3])
async def test_a_cursor_of_another_feed_is_unknown(service: Service, path: str, query: dict[str, Any]) -> None:
    """A cursor is valid in its own feed only; an unknown one starts from the oldest event."""
    await service.publish(*(published := app_events(5)))
    at = cursor_of(await second_page(service, path, **query))["at"]
    others = [feed for feed in FEEDS[:3] if feed != (path, query)]
    for other, parameters in others:
        assert ids((await service.get(other, service.org(), at=at, **parameters)).json()) == ids(published)


@pytest.mark.on_cosmos
async def test_the_feeds_of_an_app_and_of_its_resource_share_their_cursors(service: Service) -> None:
    """The app owner's feed and the generic feed of the app's resource are one stream."""
    await service.publish(*(published := app_events(5)))
    answer = await service.get(
        RESOURCE_FEED,
        service.org("altinn:events.subscribe"),
        resource=APP_RESOURCE,
        at=cursor_of(await second_page(service))["at"],
    )
    assert ids(answer.json()) == ids(published)[2:]


@pytest.mark.on_cosmos
@pytest.mark.parametrize(("path", "query"), FEEDS)
@pytest.mark.parametrize("after", ["unknown", "æøå", "0"])
async def test_an_unknown_after_starts_from_the_oldest_event(
    service: Service, path: str, query: dict[str, Any], after: str
) -> None:
    """An unknown id starts from the oldest kept event, so that nothing is lost."""
    await service.publish(*(published := app_events(3)))
    answer = await service.get(path, service.org("altinn:events.subscribe"), after=after, **query)
    assert ids(answer.json()) == ids(published)


@pytest.mark.on_cosmos
async def test_the_id_of_an_event_of_another_feed_is_unknown(service: Service) -> None:
    """An id counts only in a feed that holds its event."""
    await service.publish(*(published := app_events(3)), foreign := event())
    assert ids((await service.get(APP_FEED, service.org(), after=foreign["id"])).json()) == ids(published)


@pytest.mark.on_cosmos
async def test_an_id_under_several_sources_counts_as_the_first(service: Service) -> None:
    """An id that several events have means the first of them."""
    published = [*app_events(1), *app_events(3, id="same"), *app_events(1)]
    await service.publish(*published)
    assert ids((await service.get(APP_FEED, service.org(), after="same")).json()) == ids(published)[2:]


@pytest.mark.on_cosmos
@pytest.mark.parametrize("size", [1, 2, 3])
async def test_an_id_under_several_sources_makes_no_walk_loop(service: Service, size: int) -> None:
    """A walk over many events of one id passes each of them once."""
    published = [*app_events(5, id="same"), *app_events(1), *app_events(2, id="same")]
    await service.publish(*published)
    answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT, size=size)
    assert [found["source"] for found in await service.walk(answer, token)] == [found["source"] for found in published]


async def erase(service: Service, erased: dict[str, Any]) -> None:
    """Erase an event."""
    query = f"source={quote(erased['source'])}&resource={quote(erased['resource'])}"
    token = service.org("altinn:events.erase")
    answer = await service.request("DELETE", f"{RESOURCE_FEED}/{erased['id']}?{query}", token=token)
    assert answer.status == 204


@pytest.mark.on_cosmos
@pytest.mark.parametrize("size", [1, 3, 50])
@pytest.mark.parametrize(("path", "query"), FEEDS)
async def test_erased_events_are_skipped(service: Service, path: str, query: dict[str, Any], size: int) -> None:
    """Erased events are on no page of any size, and a walk passes them."""
    await service.publish(*(published := app_events(7)))
    for number in (0, 2, 3, 6):
        await erase(service, published[number])
    token = service.org("altinn:events.subscribe")
    answer = await service.get(path, token, from_=ANCIENT, size=size, **query)
    assert ids(await service.walk(answer, token)) == [published[number]["id"] for number in (1, 4, 5)]


@pytest.mark.on_cosmos
@pytest.mark.parametrize("bare", [True, False])
async def test_a_cursor_outlives_the_erasure_of_its_event(service: Service, *, bare: bool) -> None:
    """`next` goes on after an event that was erased meanwhile; so does its bare id."""
    await service.publish(*(published := app_events(5)))
    answer = await second_page(service)
    await erase(service, published[1])
    query = {"after": published[1]["id"]} if bare else cursor_of(answer)
    assert ids((await service.get(APP_FEED, service.org(), **query)).json()) == ids(published)[2:]


@pytest.mark.on_cosmos
@pytest.mark.parametrize("bare", [True, False])
async def test_an_expired_cursor_starts_from_the_oldest_kept_event(service: Service, *, bare: bool) -> None:
    """A cursor whose event retention has removed is unknown."""
    clock = await store_clock()
    await service.publish(*(published := app_events(5)))
    following = await second_page(service)
    clock.now += 1
    await service.publish(*(kept := app_events(2)))
    await expire(clock.now)
    query = {"after": published[1]["id"]} if bare else cursor_of(following)
    assert ids((await service.get(APP_FEED, service.org(), **query)).json()) == ids(kept)


@pytest.mark.on_cosmos
async def test_a_cursor_of_a_wiped_store_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service recognises it although the key is the same, and starts from the oldest event."""
    key = {"EVENTS_SUBJECT_KEY": base64.b64encode(os.urandom(32)).decode()}
    async with running(tmp_path / "one", monkeypatch, **key) as service:
        await service.publish(*app_events(5))
        at = cursor_of(await second_page(service))["at"]
    async with running(tmp_path / "two", monkeypatch, **key) as service:
        await service.publish(*(published := app_events(5)))
        assert ids((await service.get(APP_FEED, service.org(), at=at)).json()) == ids(published)


@pytest.mark.on_cosmos
async def test_cursors_outlive_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk continues after a restart of the service."""
    async with running(tmp_path, monkeypatch) as service:
        await service.publish(*(published := app_events(5)))
        following = (await second_page(service)).headers["next"]
    async with running(tmp_path, monkeypatch) as service:
        answer = await service.request("GET", following, token=service.org())
    assert ids(answer.json()) == ids(published)[2:4]
