"""`Prefer: wait`: a response that waits until there is an event to read."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from events_core import app
from tests.support.asgi import Answer
from tests.support.reading import FEEDS, app_events, cursor_of, hidden_events, hide, until_waiting
from tests.support.service import (
    ANCIENT,
    APP_FEED,
    APP_TOKEN_SCOPES,
    RESOURCE,
    RESOURCE_FEED,
    Service,
    event,
    ids,
    running,
)


def wait(seconds: object) -> dict[str, str]:
    """The header that asks to wait."""
    return {"Prefer": f"wait={seconds}"}


def waiting(service: Service, token: str, seconds: int = 20, **query: Any) -> asyncio.Task[Answer]:
    """Ask for the owner's feed in the background and wait."""
    return asyncio.create_task(service.get(APP_FEED, token, from_=ANCIENT, headers=wait(seconds), **query))


@pytest.mark.on_cosmos
@pytest.mark.parametrize(("path", "query"), FEEDS)
async def test_a_waiting_reader_gets_the_next_event(service: Service, path: str, query: dict[str, Any]) -> None:
    """A request on an empty feed waits, and its response is the page with the next event."""
    token = service.org("altinn:events.subscribe")
    reader = asyncio.create_task(service.get(path, token, from_=ANCIENT, headers=wait(20), **query))
    await until_waiting()
    await service.publish(*(published := app_events(1)))
    answer = await reader
    assert (answer.status, ids(answer.json())) == (200, ids(published))
    assert answer.headers["preference-applied"] == "wait=20"


@pytest.mark.on_cosmos
@pytest.mark.parametrize(("path", "query"), FEEDS)
async def test_a_waiting_reader_is_woken_within_50_ms(service: Service, path: str, query: dict[str, Any]) -> None:
    """In one process, a waiting reader has its response less than 50 ms after the publisher."""
    token, took = service.org("altinn:events.subscribe"), []
    answer = await service.get(path, token, from_=ANCIENT, **query)
    for _ in range(5):
        reader = asyncio.create_task(service.request("GET", answer.headers["next"], token=token, headers=wait(20)))
        await until_waiting()
        published, at = await service.publish_app_event(), time.perf_counter()
        answer = await reader
        took.append(time.perf_counter() - at)
        assert ids(answer.json()) == [published]
    assert min(took) < 0.05


@pytest.mark.on_cosmos
async def test_every_waiting_reader_is_woken(service: Service) -> None:
    """One event wakes the readers of all of its feeds."""
    token = service.org("altinn:events.subscribe")
    readers = [
        asyncio.create_task(service.get(path, token, from_=ANCIENT, headers=wait(20), **query))
        for path, query in FEEDS * 2
    ]
    await until_waiting(8)
    await service.publish(*(published := app_events(1)))
    assert [ids(answer.json()) for answer in await asyncio.gather(*readers)] == [ids(published)] * 8


@pytest.mark.on_cosmos
async def test_a_reader_does_not_wait_when_there_is_an_event(service: Service) -> None:
    """A page with events is sent at once."""
    await service.publish(*(published := app_events(1)))
    answer = await waiting(service, service.org(), 30)
    assert ids(answer.json()) == ids(published)


@pytest.mark.on_cosmos
async def test_a_wait_without_events_ends_after_its_seconds(service: Service) -> None:
    """The response is an empty page with the same cursor."""
    before = await service.get(APP_FEED, service.org(), from_=ANCIENT)
    begun = time.perf_counter()
    answer = await waiting(service, service.org(), 1)
    assert 0.95 < time.perf_counter() - begun < 1.5
    assert (answer.status, answer.json(), cursor_of(answer)) == (200, [], cursor_of(before))
    assert answer.headers["preference-applied"] == "wait=1"


@pytest.mark.on_cosmos
async def test_only_a_readable_event_ends_the_wait(service: Service) -> None:
    """Denied events do not end the wait; `next` leads past them."""
    hide(service)
    reader = waiting(service, token := service.org())
    await until_waiting()
    for _ in range(3):
        await service.publish(*hidden_events(2))
    assert not reader.done()
    await service.publish(*(published := app_events(1)))
    answer = await reader
    assert ids(answer.json()) == ids(published)
    assert (await service.request("GET", answer.headers["next"], token=token)).json() == []


@pytest.mark.on_cosmos
async def test_only_a_matching_event_ends_the_wait(service: Service) -> None:
    """Events that the filters leave out do not end the wait."""
    reader = waiting(service, service.org(), type="wanted")
    await until_waiting()
    await service.publish(*app_events(3, type="other"))
    await service.publish(*(published := app_events(1, type="wanted")))
    assert ids((await reader).json()) == ids(published)


@pytest.mark.on_cosmos
async def test_events_of_other_feeds_end_no_wait(service: Service) -> None:
    """An event of another resource leaves the reader waiting."""
    reader = waiting(service, service.org())
    await until_waiting()
    await service.publish(event())
    await service.publish(*(published := app_events(1)))
    assert ids((await reader).json()) == ids(published)


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("wait=30", "wait=30"),
        ("wait=31", "wait=30"),
        ("wait=100000000000000000000", "wait=30"),
        ("respond-async, wait=7", "wait=7"),
        ("WAIT = 7; foo=bar", "wait=7"),
        ('wait="7"', "wait=7"),
        ("wait=0", None),
        ("wait=-1", None),
        ("wait=soon", None),
        ("wait", None),
        ("respond-async", None),
    ],
)
async def test_a_wait_is_thirty_seconds_at_most(service: Service, prefer: str, applied: str | None) -> None:
    """A preference is read by RFC 7240 and limited to 30 s; an invalid one is ignored."""
    await service.publish(*app_events(1))
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT, headers={"Prefer": prefer})
    assert (answer.status, answer.headers.get("preference-applied")) == (200, applied)


async def test_a_reader_beyond_the_limit_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond `EVENTS_MAX_WAITERS` an empty page is sent at once, without `Preference-Applied`."""
    async with running(tmp_path, monkeypatch, EVENTS_MAX_WAITERS="2") as service:
        readers = [waiting(service, service.org()) for _ in range(2)]
        await until_waiting(2)
        begun = time.perf_counter()
        answer = await waiting(service, service.org())
        assert time.perf_counter() - begun < 1
        assert (answer.status, answer.json(), "preference-applied" in answer.headers) == (200, [], False)
        await service.publish(*(published := app_events(1)))
        assert [ids((await reader).json()) for reader in readers] == [ids(published)] * 2


async def test_nobody_can_hold_every_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer displaces the oldest request of whoever holds most; it is answered at once, without the header."""
    async with running(tmp_path, monkeypatch, EVENTS_MAX_WAITERS="2") as service:
        greedy = []
        for count in (1, 2):
            greedy.append(waiting(service, service.org()))
            await until_waiting(count)
        newcomer = waiting(service, service.organisation())
        oldest = await asyncio.wait_for(greedy[0], 10)
        assert (oldest.status, oldest.json(), "preference-applied" in oldest.headers) == (200, [], False)
        refused = await asyncio.wait_for(waiting(service, service.org(org="skd")), 10)
        assert (refused.status, "preference-applied" in refused.headers) == (200, False)
        await service.publish(*(published := app_events(1)))
        for reader in (greedy[1], newcomer):
            answer = await reader
            assert (ids(answer.json()), answer.headers["preference-applied"]) == (ids(published), "wait=20")


async def test_nine_honest_callers_leave_each_other_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has one request: the ninth is answered at once, however often it asks, and the others wait on."""
    async with running(tmp_path, monkeypatch) as service:
        readers = []
        for count in range(1, 9):
            readers.append(waiting(service, service.org(org=f"org{count}")))
            await until_waiting(count)
        for _ in range(5):
            refused = await asyncio.wait_for(waiting(service, service.org(org="org9")), 10)
            assert (refused.status, refused.json(), "preference-applied" in refused.headers) == (200, [], False)
        assert not any(reader.done() for reader in readers)
        await service.publish(*(published := app_events(1)))
        assert [ids((await reader).json()) for reader in readers] == [ids(published)] * 8


async def test_the_limit_holds_for_simultaneous_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 readers at once, as many wait as the setting allows."""
    async with running(tmp_path, monkeypatch, EVENTS_MAX_WAITERS="3") as service:
        readers = [waiting(service, service.org(), 1) for _ in range(20)]
        answers = await asyncio.gather(*readers)
    assert sum("preference-applied" in answer.headers for answer in answers) == 3


async def test_a_slot_is_free_again_after_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that got its response or went away frees its slot."""
    async with running(tmp_path, monkeypatch, EVENTS_MAX_WAITERS="1") as service:
        left = waiting(service, service.org())
        await until_waiting()
        left.cancel()
        await asyncio.wait([left])
        for _ in range(2):
            answer = await waiting(service, service.org(), 1)
            assert answer.headers["preference-applied"] == "wait=1"


async def test_waiting_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `EVENTS_MAX_WAITERS=0` every response is sent at once."""
    async with running(tmp_path, monkeypatch, EVENTS_MAX_WAITERS="0") as service:
        answer = await waiting(service, service.org())
    assert (answer.status, "preference-applied" in answer.headers) == (200, False)


async def test_waiting_holds_no_thread(service: Service) -> None:
    """While 8 readers wait on a store that reads with 2 threads, others read and publish."""
    store: Any = (await app.current()).store
    readers = [waiting(service, service.org(APP_TOKEN_SCOPES)) for _ in range(8)]
    await until_waiting(8)
    assert store._readers._max_workers < len(readers)
    await service.publish(*(other := [event() for _ in range(3)]))
    token = service.org("altinn:events.subscribe")
    answers = await asyncio.gather(
        *(service.get(RESOURCE_FEED, token, resource=RESOURCE, from_=ANCIENT) for _ in range(20))
    )
    assert [ids(answer.json()) for answer in answers] == [ids(other)] * 20
    assert not any(reader.done() for reader in readers)
    await service.publish(*(published := app_events(1)))
    assert [ids((await reader).json()) for reader in readers] == [ids(published)] * 8


async def test_a_reader_does_not_wait_once_to_has_passed(service: Service) -> None:
    """A feed that ends in the past gets no new event."""
    answer = await waiting(service, service.org(), 20, to="2001-01-01T00:00:00Z")
    assert (answer.json(), "preference-applied" in answer.headers) == ([], False)


@pytest.mark.on_cosmos
async def test_waiting_readers_are_answered_when_the_service_stops(service: Service) -> None:
    """A reader gets the page as it is when the process stops."""
    reader = waiting(service, service.org())
    await until_waiting()
    (await app.current()).waiting.close()
    answer = await reader
    assert (answer.status, answer.json()) == (200, [])


async def test_a_wait_ends_with_503_when_the_pdp_fails(service: Service) -> None:
    """The service never sends an unfiltered page."""
    reader = waiting(service, service.org())
    await until_waiting()
    service.pdp.status = 500
    await service.publish(*app_events(1))
    assert (await reader).status == 503


@pytest.mark.on_cosmos
async def test_waiting_with_a_known_etag_ends_in_304_or_the_new_page(service: Service) -> None:
    """A conditional request waits too: it gets 304 without a new event, and the page with one."""
    etag = (await service.get(APP_FEED, token := service.org(), from_=ANCIENT)).headers["etag"]
    sent = {**wait(1), "If-None-Match": etag}
    assert (await service.get(APP_FEED, token, from_=ANCIENT, headers=sent)).status == 304
    reader = asyncio.create_task(service.get(APP_FEED, token, from_=ANCIENT, headers={**sent, **wait(20)}))
    await until_waiting()
    await service.publish(*(published := app_events(1)))
    assert ids((await reader).json()) == ids(published)
