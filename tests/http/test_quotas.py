"""Quotas of one consumer over HTTP: subscriptions, those never validated, and unfinished replays."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from events_core import app
from events_core.common import clock
from events_core.common.clock import SECOND
from events_core.delivery.update import update_subscription
from events_core.operations.background import Background
from tests.support.asgi import Answer
from tests.support.openapi import assert_documented
from tests.support.service import ANCIENT, APP_RESOURCE, Service, instance_source, running
from tests.support.subscribing import LOOPBACK, SUBSCRIPTIONS, asked, published, settled, subscribed
from tests.support.webhook_server import WebhookServer

ENDPOINT = "https://subscriber.example/events"


async def test_a_consumer_has_so_many_subscriptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is 429 without `Retry-After`; the one that stands is none more, and a deletion makes room."""
    async with running(tmp_path, monkeypatch, EVENTS_MAX_SUBSCRIPTIONS="2") as service:

        async def create(path: str, org: str = "ttd") -> Answer:
            return await asked(service, service.org(org=org), endPoint=ENDPOINT + path, resourceFilter=APP_RESOURCE)

        first, second, third, standing = [await create(path) for path in ("/1", "/2", "/3", "/2")]
        assert [answer.status for answer in (first, second, third, standing)] == [201, 201, 429, 201]
        assert "retry-after" not in third.headers
        assert_documented("POST", SUBSCRIPTIONS, 429, third.headers, third.body)
        assert (await create("/3", org="skd")).status == 201
        await service.request("DELETE", f"{SUBSCRIPTIONS}/{first.json()['id']}", token=service.org())
        assert (await create("/3")).status == 201


async def test_a_consumer_has_a_hundred_subscriptions_that_were_never_validated(service: Service) -> None:
    """One more is 429 with `Retry-After`, until the platform or the endpoint validates one."""
    token = service.org()

    async def create(number: int) -> Answer:
        return await asked(service, token, endPoint=f"{ENDPOINT}/{number}", resourceFilter=APP_RESOURCE)

    answers = await asyncio.gather(*(create(number) for number in range(101)))
    assert sorted(answer.status for answer in answers) == [201] * 100 + [429]
    (refused,) = [answer for answer in answers if answer.status == 429]
    assert refused.headers["retry-after"] == "30"
    number = next(answer.json()["id"] for answer in answers if answer.status == 201)
    platform = service.app("platform/events")
    await service.request("PUT", f"{SUBSCRIPTIONS}/validate/{number}", platform_token=platform)
    assert (await create(200)).status == 201


async def test_a_consumer_has_five_unfinished_replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is 429 without `Retry-After`. Neither dead deliveries nor deleted subscriptions count."""
    async with running(tmp_path, monkeypatch, **LOOPBACK) as service, WebhookServer() as receiver:
        made = [await subscribed(service, receiver, path=f"/{n}") for n in range(2)]
        await published(service)
        await settled()

        async def replay(number: int, **body: object) -> Answer:
            path = f"{SUBSCRIPTIONS}/{made[number]['id']}/replay"
            return await service.request("POST", path, token=service.org(), json_body=body)

        for subscription in made:
            path = f"{SUBSCRIPTIONS}/{subscription['id']}"
            await service.request("PATCH", path, token=service.org(), json_body={"paused": True})
        answers = await asyncio.gather(*(replay(n % 2, **{"from": ANCIENT}) for n in range(8)))
        assert sorted(answer.status for answer in answers) == [202] * 5 + [429] * 3
        (refused, *_) = [answer for answer in answers if answer.status == 429]
        assert "retry-after" not in refused.headers
        assert_documented("POST", f"{SUBSCRIPTIONS}/{{id}}/replay", 429, refused.headers, refused.body)
        assert (await replay(0, dead=True)).status == 202
        await service.request("DELETE", f"{SUBSCRIPTIONS}/{made[1]['id']}", token=service.org())
        assert (await replay(0, **{"from": ANCIENT})).status == 202
        resumed = f"{SUBSCRIPTIONS}/{made[0]['id']}"
        await service.request("PATCH", resumed, token=service.org(), json_body={"paused": False})
        await settled()
        statuses = [(await replay(0, **{"from": ANCIENT})).status for _ in range(3)]
        assert statuses == [202, 202, 202]


async def test_replays_of_one_event_count_and_others_replays_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay of an event by its id is one of the five. Neither another consumer's replays nor dead ones are."""
    async with running(tmp_path, monkeypatch, **LOOPBACK) as service, WebhookServer() as receiver:
        skd = service.org(org="skd")
        own = await subscribed(service, receiver, path="/own")
        other = await subscribed(service, receiver, skd, path="/other")
        source = instance_source()
        (name,) = await published(service, source=source)
        await settled()

        async def replay(token: str, subscription: dict[str, Any], **body: object) -> int:
            path = f"{SUBSCRIPTIONS}/{subscription['id']}/replay"
            return (await service.request("POST", path, token=token, json_body=body)).status

        for token, subscription in ((service.org(), own), (skd, other)):
            path = f"{SUBSCRIPTIONS}/{subscription['id']}"
            await service.request("PATCH", path, token=token, json_body={"paused": True})
        assert [await replay(skd, other, **{"from": ANCIENT}) for _ in range(5)] == [202] * 5
        one = {"eventId": name, "source": source}
        assert [await replay(service.org(), own, **one) for _ in range(6)] == [202] * 5 + [429]
        assert await replay(service.org(), own, dead=True) == 202
        assert await replay(skd, other, **one) == 429


@pytest.mark.on_cosmos
async def test_what_is_never_validated_in_seven_days_is_removed(service: Service) -> None:
    """By the nightly run; what was validated once, or is younger, stays. The removal makes room."""
    events = await app.current()
    store, now = events.subscriber.subscriptions, clock.now()
    made = [
        (await asked(service, service.org(), endPoint=f"{ENDPOINT}/{path}", resourceFilter=APP_RESOURCE)).json()["id"]
        for path in ("old", "young", "validated")
    ]
    await service.request("PUT", f"{SUBSCRIPTIONS}/validate/{made[2]}", platform_token=service.app("platform/events"))
    for number, age in zip(made, (7 * 86_400 + 60, 7 * 86_400 - 60, 7 * 86_400 + 60), strict=True):
        await update_subscription(store, number, partial(replace, created=now - age * SECOND))
    await Background(app.current).retention()
    listed = (await service.get(SUBSCRIPTIONS, service.org())).json()["subscriptions"]
    assert [subscription["id"] for subscription in listed] == made[1:]
