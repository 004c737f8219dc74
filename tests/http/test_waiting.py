"""`Prefer: wait`: an answer that waits until there is something to read."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from events_core import app
from tests.support.asgi import Answer
from tests.support.reading import FEEDS, app_events, hidden_events, hide, place, until_waiting
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
    """Ask for the owner's feed, ready to wait, in the background."""
    return asyncio.create_task(service.get(APP_FEED, token, from_=ANCIENT, headers=wait(seconds), **query))


@pytest.mark.on_cosmos
@pytest.mark.parametrize(("path", "query"), FEEDS)
async def test_a_waiting_reader_gets_the_event_that_comes(service: Service, path: str, query: dict[str, Any]) -> None:
    """When nothing is there the answer waits for an event, and is that page."""
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
    """From the answer to the publisher to the answer to the reader pass less than 50 ms, in one process."""
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
async def test_every_reader_that_waits_is_woken(service: Service) -> None:
    """One event answers all who wait for it, in whichever of its feeds."""
    token = service.org("altinn:events.subscribe")
    readers = [
        asyncio.create_task(service.get(path, token, from_=ANCIENT, headers=wait(20), **query))
        for path, query in FEEDS * 2
    ]
    await until_waiting(8)
    await service.publish(*(published := app_events(1)))
    assert [ids(answer.json()) for answer in await asyncio.gather(*readers)] == [ids(published)] * 8


@pytest.mark.on_cosmos
async def test_what_is_there_is_answered_at_once(service: Service) -> None:
    """With an event to read nobody waits, whatever is preferred."""
    await service.publish(*(published := app_events(1)))
    answer = await waiting(service, service.org(), 30)
    assert ids(answer.json()) == ids(published)


@pytest.mark.on_cosmos
async def test_nothing_comes_and_the_answer_comes_after_the_time(service: Service) -> None:
    """After the preferred seconds the answer is an empty page that goes on where it was."""
    before = await service.get(APP_FEED, service.org(), from_=ANCIENT)
    begun = time.perf_counter()
    answer = await waiting(service, service.org(), 1)
    assert 0.95 < time.perf_counter() - begun < 1.5
    assert (answer.status, answer.json(), place(answer)) == (200, [], place(before))
    assert answer.headers["preference-applied"] == "wait=1"


@pytest.mark.on_cosmos
async def test_only_what_the_reader_may_read_ends_the_wait(service: Service) -> None:
    """Events that are denied wake nobody; the answer holds the readable one alone, and leads past all."""
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
async def test_only_what_the_filters_let_through_ends_the_wait(service: Service) -> None:
    """Events of other types do not end the wait."""
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
    """What is preferred is read as RFC 7240 writes it, 30 s at most; a preference that is none is not applied."""
    await service.publish(*app_events(1))
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT, headers={"Prefer": prefer})
    assert (answer.status, answer.headers.get("preference-applied")) == (200, applied)


async def test_when_too_many_wait_the_answer_comes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond `EVENTS_MAX_WAITERS` nobody waits: the empty page comes without `Preference-Applied`."""
    async with running(tmp_path, monkeypatch, EVENTS_MAX_WAITERS="2") as service:
        readers = [waiting(service, service.org()) for _ in range(2)]
        await until_waiting(2)
        begun = time.perf_counter()
        answer = await waiting(service, service.org())
        assert time.perf_counter() - begun < 1
        assert (answer.status, answer.json(), "preference-applied" in answer.headers) == (200, [], False)
        await service.publish(*(published := app_events(1)))
        assert [ids((await reader).json()) for reader in readers] == [ids(published)] * 2


async def test_of_many_who_come_at_once_no_more_than_allowed_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit holds when all come in the same moment."""
    async with running(tmp_path, monkeypatch, EVENTS_MAX_WAITERS="3") as service:
        readers = [waiting(service, service.org(), 1) for _ in range(20)]
        answers = await asyncio.gather(*readers)
    assert sum("preference-applied" in answer.headers for answer in answers) == 3


async def test_a_place_is_free_again_after_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was answered, or left, makes room for the next."""
    async with running(tmp_path, monkeypatch, EVENTS_MAX_WAITERS="1") as service:
        left = waiting(service, service.org())
        await until_waiting()
        left.cancel()
        await asyncio.wait([left])
        for _ in range(2):
            answer = await waiting(service, service.org(), 1)
            assert answer.headers["preference-applied"] == "wait=1"


async def test_no_waiter_at_all_can_be_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `EVENTS_MAX_WAITERS=0` every answer comes at once."""
    async with running(tmp_path, monkeypatch, EVENTS_MAX_WAITERS="0") as service:
        answer = await waiting(service, service.org())
    assert (answer.status, "preference-applied" in answer.headers) == (200, False)


async def test_waiting_holds_no_thread(service: Service) -> None:
    """While 8 readers wait, on a store that reads with 2 threads, others read and publish as ever."""
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


async def test_nobody_waits_once_to_has_passed(service: Service) -> None:
    """A feed that ends in the past can hold nothing new: the answer comes at once, no preference applied."""
    answer = await waiting(service, service.org(), 20, to="2001-01-01T00:00:00Z")
    assert (answer.json(), "preference-applied" in answer.headers) == ([], False)


@pytest.mark.on_cosmos
async def test_waiting_readers_are_answered_when_the_service_stops(service: Service) -> None:
    """A reader that waits is answered as things are when the process stops."""
    reader = waiting(service, service.org())
    await until_waiting()
    (await app.current()).waiting.close()
    answer = await reader
    assert (answer.status, answer.json()) == (200, [])


async def test_the_decision_point_going_down_ends_the_wait(service: Service) -> None:
    """What cannot be authorized while one waits is 503, never an unfiltered page."""
    reader = waiting(service, service.org())
    await until_waiting()
    service.pdp.status = 500
    await service.publish(*app_events(1))
    assert (await reader).status == 503


@pytest.mark.on_cosmos
async def test_waiting_with_a_known_etag_ends_in_304_or_the_new_page(service: Service) -> None:
    """A conditional request waits too: 304 when nothing came, the page when something did."""
    etag = (await service.get(APP_FEED, token := service.org(), from_=ANCIENT)).headers["etag"]
    sent = {**wait(1), "If-None-Match": etag}
    assert (await service.get(APP_FEED, token, from_=ANCIENT, headers=sent)).status == 304
    reader = asyncio.create_task(service.get(APP_FEED, token, from_=ANCIENT, headers={**sent, **wait(20)}))
    await until_waiting()
    await service.publish(*(published := app_events(1)))
    assert ids((await reader).json()) == ids(published)
