"""Quotas of one consumer over HTTP: subscriptions, those never validated, and unfinished replays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.asgi import Answer
from tests.support.openapi import assert_documented
from tests.support.service import ANCIENT, APP_RESOURCE, Service, running
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
