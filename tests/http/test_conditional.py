"""ETag and If-None-Match: an unchanged page is not sent again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.asgi import Answer
from tests.support.pdp_server import Ruling
from tests.support.reading import FEEDS, app_events
from tests.support.service import (
    ANCIENT,
    APP_FEED,
    APP_RESOURCE,
    PARTY,
    PARTY_FEED,
    RESOURCE_FEED,
    Service,
    ids,
    running,
)


async def read(service: Service, etag: str | None = None, token: str | None = None, **query: Any) -> Answer:
    """Read the owner's feed, on condition that it changed if an ETag is given."""
    headers = {"If-None-Match": etag} if etag else {}
    return await service.get(APP_FEED, token or service.org(), from_=ANCIENT, headers=headers, **query)


@pytest.mark.on_cosmos
@pytest.mark.parametrize(("path", "query"), FEEDS)
async def test_an_unchanged_page_is_304_with_next(service: Service, path: str, query: dict[str, Any]) -> None:
    """304 has no body, and the headers of the page."""
    await service.publish(*app_events(3))
    token = service.org("altinn:events.subscribe")
    page = await service.get(path, token, from_=ANCIENT, size=2, **query)
    headers = {"If-None-Match": page.headers["etag"]}
    answer = await service.get(path, token, from_=ANCIENT, size=2, headers=headers, **query)
    assert (answer.status, answer.body) == (304, b"")
    kept = ("next", "link", "etag", "events-caught-up", "cache-control", "vary")
    assert {name: answer.headers[name] for name in kept} == {name: page.headers[name] for name in kept}


async def test_a_posted_feed_is_conditional_too(service: Service) -> None:
    """A feed asked by POST has an ETag, and gets 304 for it."""
    body, token = {"from": ANCIENT, "party": PARTY}, service.user()
    page = await service.request("POST", PARTY_FEED, token=token, json_body=body)
    headers = {"If-None-Match": page.headers["etag"]}
    answer = await service.request("POST", PARTY_FEED, token=token, headers=headers, json_body=body)
    assert (answer.status, answer.headers["next"]) == (304, page.headers["next"])


@pytest.mark.on_cosmos
async def test_an_empty_page_has_an_etag_too(service: Service) -> None:
    """Polling an empty feed gets 304 until there is an event."""
    etag = (await read(service)).headers["etag"]
    assert (await read(service, etag)).status == 304
    await service.publish(*app_events(1))
    assert (await read(service, etag)).status == 200


@pytest.mark.on_cosmos
async def test_a_page_that_grew_is_sent(service: Service) -> None:
    """A new event changes the page's ETag."""
    await service.publish(*app_events(1))
    etag = (await read(service)).headers["etag"]
    await service.publish(*app_events(1))
    answer = await read(service, etag)
    assert (answer.status, len(answer.json()), answer.headers["etag"] == etag) == (200, 2, False)


@pytest.mark.on_cosmos
async def test_a_full_page_changes_when_it_is_no_longer_the_last(service: Service) -> None:
    """`Events-Caught-Up` is part of the ETag, so a poll sees that there is more."""
    await service.publish(*app_events(2))
    etag = (await read(service, size=2)).headers["etag"]
    await service.publish(*app_events(1))
    answer = await read(service, etag, size=2)
    assert (answer.status, answer.headers["events-caught-up"]) == (200, "false")


@pytest.mark.on_cosmos
async def test_an_erased_event_changes_the_page(service: Service) -> None:
    """The old ETag does not match after an erasure."""
    await service.publish(*(published := app_events(2)))
    etag = (await read(service)).headers["etag"]
    query = {"source": published[0]["source"], "resource": APP_RESOURCE}
    token = service.org("altinn:events.erase")
    await service.request(
        "DELETE",
        f"{RESOURCE_FEED}/{published[0]['id']}?" + "&".join(f"{name}={value}" for name, value in query.items()),
        token=token,
    )
    answer = await read(service, etag)
    assert (answer.status, ids(answer.json())) == (200, ids(published[1:]))


async def test_the_etag_depends_on_authorization(service: Service) -> None:
    """The same caller at a lower level gets another page and no 304."""
    service.pdp.decide = lambda _: Ruling(level=3)
    await service.publish(*app_events(1))
    high, low = [service.org(**{"urn:altinn:authlevel": level}) for level in ("3", "2")]
    etag = (await read(service, token=high)).headers["etag"]
    answer = await read(service, etag, token=low)
    assert (answer.status, answer.json()) == (200, [])
    assert (await read(service, etag, token=high)).status == 304


async def test_an_etag_is_of_one_caller(service: Service) -> None:
    """Two callers who read the same page have different ETags."""
    await service.publish(*app_events(1))
    mine, theirs = await read(service), await read(service, token=service.org(org="skd"))
    assert mine.body == theirs.body
    assert mine.headers["etag"] != theirs.headers["etag"]
    assert (await read(service, mine.headers["etag"], token=service.org(org="skd"))).status == 200


async def test_the_etag_is_of_one_representation(service: Service) -> None:
    """Another media type has another ETag."""
    tags = [
        (await service.get(APP_FEED, service.org(), from_=ANCIENT, headers={"Accept": accept})).headers["etag"]
        for accept in ("application/json", "application/cloudevents+json", "application/cloudevents-batch+json")
    ]
    assert len(set(tags)) == 3


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ("{}", 304),
        ("W/{}", 304),
        ('"other", {}', 304),
        ('"a",W/"b" , W/{}', 304),
        ("*", 304),
        ('"other"', 200),
        ("nonsense", 200),
        (",", 200),
    ],
)
async def test_if_none_match_is_read_as_a_list_and_compared_weakly(service: Service, form: str, status: int) -> None:
    """Lists, weak tags and `*` are understood (RFC 9110, section 13.1.2); anything else matches nothing."""
    await service.publish(*app_events(1))
    etag = (await read(service)).headers["etag"]
    assert (await read(service, form.format(etag))).status == status


@pytest.mark.on_cosmos
async def test_the_etag_outlives_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unchanged page is still 304 after a restart on the same store."""
    async with running(tmp_path, monkeypatch) as service:
        await service.publish(*app_events(3))
        etag = (await read(service, size=2)).headers["etag"]
    async with running(tmp_path, monkeypatch) as service:
        assert (await read(service, etag, size=2)).status == 304


async def test_a_304_is_authorized_like_a_page(service: Service) -> None:
    """While the PDP is down, a caller that needs it gets no 304."""
    await service.publish(*app_events(1))
    etag = (await read(service, token=service.org(org="skd"))).headers["etag"]
    service.pdp.status = 500
    assert (await read(service, etag)).status == 503
