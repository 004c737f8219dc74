"""Ids and lists of deliveries over HTTP: they tell a subscriber nothing of the events between."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.support.asgi import Answer
from tests.support.pdp_server import DENY, PERMIT
from tests.support.service import PUBLISH, Service, instance_source, running
from tests.support.subscribing import LOOPBACK, SUBSCRIPTIONS, published, settled, subscribed
from tests.support.webhook_server import WebhookServer


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """The service with permission to deliver to loopback."""
    async with running(tmp_path, monkeypatch, **LOOPBACK) as service:
        yield service


def after_of(page: Answer) -> str:
    """The cursor in `next`."""
    return dict(parse_qsl(urlsplit(page.headers["next"]).query))["after"]


async def listed(service: Service, number: int, token: str | None = None, **query: Any) -> Answer:
    """A page of the deliveries of a subscription."""
    return await service.get(f"{SUBSCRIPTIONS}/{number}/deliveries", token or service.org(), **query)


@pytest.mark.on_cosmos
async def test_an_id_does_not_count_the_events_between(service: Service, receiver: WebhookServer) -> None:
    """It is 32 random hexadecimal digits, in the header, the list and the trace."""
    number = (await subscribed(service, receiver, typeFilter="mine"))["id"]
    source = instance_source()
    (first,) = await published(service, source=source, type="mine")
    await published(service, 3, type="other")
    await published(service, source=source, type="mine")
    await settled()
    deliveries = (await listed(service, number)).json()["deliveries"]
    found = [delivery["id"] for delivery in deliveries]
    assert all(re.fullmatch("[0-9a-f]{32}", delivery_id) for delivery_id in found)
    assert len(set(found)) == 2
    assert [request.headers["webhook-id"] for request in receiver.received[-2:]] == found
    trace = await service.get(f"{PUBLISH}/{first}/trace", service.org(), source=source)
    assert {entry["deliveryId"] for entry in trace.json()["entries"]} == {None, found[0]}


async def test_ids_do_not_come_again_in_another_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: WebhookServer
) -> None:
    """The first delivery of the first subscription has another id in each: a receiver may keep ids for ever."""
    for name in ("one", "other"):
        async with running(tmp_path / name, monkeypatch, **LOOPBACK) as service:
            await subscribed(service, receiver)
            await published(service)
            await settled()
    found = [request.headers["webhook-id"] for request in receiver.received if "webhook-signature" in request.headers]
    assert len(set(found)) == len(found) == 4


@pytest.mark.on_cosmos
async def test_next_of_a_list_tells_no_position(service: Service, receiver: WebhookServer) -> None:
    """It is the same text for the same place, has one length, and differs from list to list."""
    mine = (await subscribed(service, receiver))["id"]
    other = (await subscribed(service, receiver, path="/other"))["id"]
    await published(service, 3)
    await settled()
    cursors = [after_of(await listed(service, number, size=size)) for number in (mine, other) for size in (1, 2, 3)]
    assert len(set(cursors)) == len(cursors)
    assert {len(cursor) for cursor in cursors} == {44}
    assert after_of(await listed(service, mine, size=1)) == cursors[0]
    assert after_of(await listed(service, mine, size=1, order="desc")) == cursors[2]


@pytest.mark.on_cosmos
async def test_next_of_another_list_is_refused(service: Service, receiver: WebhookServer) -> None:
    """So is an altered one, and a position in the clear; the problem names `after`."""
    mine = (await subscribed(service, receiver))["id"]
    other = (await subscribed(service, receiver, path="/other"))["id"]
    await published(service)
    await settled()
    cursor = after_of(await listed(service, mine))
    assert (await listed(service, mine, after=cursor)).json()["count"] == 0
    altered = cursor[:-1] + ("A" if cursor[-1] != "A" else "B")
    for number, after in ((other, cursor), (mine, altered), (mine, f"{mine}-1"), (mine, "1")):
        refused = await listed(service, number, after=after)
        assert (refused.status, refused.json()["errors"][0]["field"]) == (400, "after")


@pytest.mark.on_cosmos
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_walk_by_next_lists_each_delivery_once(service: Service, receiver: WebhookServer, order: str) -> None:
    """Also one that is withheld, of which it shows no event, and also with a filter."""
    number = (await subscribed(service, receiver))["id"]
    first = await published(service, 2)
    await settled()
    service.pdp.decide = lambda asked: DENY if asked.action == "read" else PERMIT
    await published(service, 2)
    await settled()
    service.pdp.decide = lambda _: PERMIT
    last = await published(service, 2)
    await settled()
    withheld: list[str | None] = [None, None]
    for query, expected in (({}, [*first, *withheld, *last]), ({"state": "withheld"}, withheld)):
        page = await listed(service, number, size=1, order=order, **query)
        seen = []
        while page.json()["count"]:
            seen += [delivery["eventId"] for delivery in page.json()["deliveries"]]
            page = await service.request("GET", page.headers["next"], token=service.org())
        assert seen == (expected if order == "asc" else expected[::-1])
