"""Shares: whatever the endpoints of a consumer do, other consumers' deliveries and validations go on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from events_core.delivery.delivery import Lane
from events_core.delivery.shares import (
    CONNECTIONS_OF_CONSUMER,
    LANES_OF_CONSUMER,
    SLOW_MILLISECONDS,
    VALIDATIONS_OF_CONSUMER,
)
from events_core.delivery.subscription import Subscription
from events_core.delivery.worker import MOST_TASKS, SWEPT_OF_CONSUMER
from tests.contract.event_store import event, events
from tests.support.delivering import TTD, Deployment, names
from tests.support.webhook_server import Received, WebhookServer

OTHER = "/org/skd"


def is_delivery(received: Received) -> bool:
    """Whether a request brings an event."""
    return received.method == "POST" and b"validatesubscription" not in received.body


@dataclass
class HangingServers:
    """Endpoints on several ports that accept the requests of one kind at once and answer the others never."""

    hangs: Callable[[Received], bool] = is_delivery
    hanging: Counter[str] = field(default_factory=Counter)
    most: int = 0
    """The most requests that hung at once."""
    most_paths: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    urls: list[str] = field(default_factory=list)

    async def _answer(self, received: Received) -> web.Response:
        if self.hangs(received):
            self.hanging[received.path] += 1
            self.most = max(self.most, self.hanging.total())
            self.most_paths = max(self.most_paths, len(self.hanging))
            self.changed.set()
            await self.gate.wait()
        return web.Response()

    @asynccontextmanager
    async def on(self, ports: int) -> AsyncIterator[HangingServers]:
        """Listen on so many ports."""
        async with AsyncExitStack() as stack:
            for _ in range(ports):
                self.urls.append((await stack.enter_async_context(WebhookServer(self._answer))).url)
            try:
                yield self
            finally:
                self.gate.set()

    async def until(self, count: int) -> None:
        """Wait until so many requests hang."""
        async with asyncio.timeout(15):
            while self.hanging.total() < count:
                self.changed.clear()
                await self.changed.wait()


async def hostile(deployment: Deployment, servers: HangingServers, consumer: str, count: int) -> list[Subscription]:
    """Subscribe a consumer so many times to endpoints of these servers."""
    urls = [f"{servers.urls[number % len(servers.urls)]}{consumer}/{number}" for number in range(count)]
    return [await deployment.subscribe(consumer, endpoint=url) for url in urls]


async def test_a_consumer_holds_few_lanes_and_connections(deployment: Deployment) -> None:
    """However many subscriptions and origins lead to its endpoints."""
    async with HangingServers().on(4) as servers:
        await hostile(deployment, servers, TTD, 24)
        await deployment.publish(*(event(f"e{number}", subject=f"/party/{number + 1}") for number in range(8)))
        delivering = asyncio.create_task(deployment.deliver())
        await servers.until(CONNECTIONS_OF_CONSUMER)
        async with WebhookServer() as receiver:
            other = await deployment.subscribe(OTHER, endpoint=receiver.url)
            await deployment.publish(event("other"))
            await deployment.application.lane_worker.serve(Lane(other.id))
            assert names(receiver) == ["other"]
        assert servers.most == CONNECTIONS_OF_CONSUMER
        assert servers.most_paths <= LANES_OF_CONSUMER
        servers.gate.set()
        await delivering


async def test_seven_hostile_consumers_delay_no_other_consumer(deployment: Deployment) -> None:
    """Each holds its share at most, and the shares of seven leave enough."""
    async with HangingServers().on(3) as servers, WebhookServer() as receiver:
        for number in range(7):
            await hostile(deployment, servers, f"/org/hostile{number}", LANES_OF_CONSUMER + 2)
        good = await deployment.subscribe(OTHER, endpoint=receiver.url)
        await deployment.publish(*events(3))
        lanes = await deployment.application.deliveries.due(deployment.clock(), 1_000)
        worker = deployment.application.lane_worker
        serving = [asyncio.create_task(worker.serve(lane)) for lane in lanes if lane.subscription != good.id]
        await servers.until(7 * LANES_OF_CONSUMER)
        await worker.serve(Lane(good.id))
        assert len(names(receiver)) == 3
        servers.gate.set()
        await asyncio.gather(*serving)


async def test_slow_endpoints_delay_no_healthy_one_on_their_host(deployment: Deployment) -> None:
    """Not even of the same consumer: those that were slow hold half of its slots at most."""
    async with HangingServers(lambda received: is_delivery(received) and "good" not in received.path).on(1) as servers:
        slow = await hostile(deployment, servers, TTD, 30)
        for subscription in slow:
            deployment.application.lane_worker.shares.remember(subscription.id, SLOW_MILLISECONDS)
        good = await deployment.subscribe(endpoint=f"{servers.urls[0]}/good")
        await deployment.publish(event("a"))
        worker = deployment.application.lane_worker
        serving = [asyncio.create_task(worker.serve(Lane(subscription.id))) for subscription in slow]
        await servers.until(LANES_OF_CONSUMER // 2)
        await worker.serve(Lane(good.id))
        assert await deployment.states(good) == ["delivered"]
        assert servers.most_paths == LANES_OF_CONSUMER // 2
        servers.gate.set()
        await asyncio.gather(*serving)


async def test_an_endpoint_is_slow_until_it_answers_quickly_again(deployment: Deployment) -> None:
    """As its longest attempt says."""
    shares = deployment.application.lane_worker.shares
    subscription = await deployment.subscribe()
    shares.remember(subscription.id, SLOW_MILLISECONDS)
    assert subscription.id in shares.slow
    await deployment.publish(event("a"))
    await deployment.deliver()
    assert subscription.id not in shares.slow


async def test_hanging_validations_hold_a_small_share(deployment: Deployment) -> None:
    """The validations of another consumer, and deliveries of the same one, go on."""
    good = await deployment.subscribe()
    async with HangingServers(lambda received: "hang" in received.path).on(2) as servers:
        worker = deployment.application.lane_worker
        subscribing = [
            asyncio.create_task(deployment.subscribe(TTD, endpoint=f"{servers.urls[number % 2]}/hang/{number}"))
            for number in range(20)
        ]
        await servers.until(VALIDATIONS_OF_CONSUMER)
        async with WebhookServer() as receiver:
            other = asyncio.create_task(deployment.subscribe(OTHER, endpoint=receiver.url))
            async with asyncio.timeout(15):
                while not receiver.received:
                    await receiver.arrived.wait()
        await deployment.publish(event("a"))
        await worker.serve(Lane(good.id))
        assert await deployment.states(good) == ["delivered"]
        assert servers.most == VALIDATIONS_OF_CONSUMER
        servers.gate.set()
        await asyncio.gather(*subscribing, other)


async def test_a_lane_without_a_slot_is_served_later(deployment: Deployment) -> None:
    """The worker waits a second for a slot, then returns; a timer wakes the lane."""
    subscription = await deployment.subscribe()
    await deployment.publish(event("a"))
    worker, lane = deployment.application.lane_worker, Lane(subscription.id)
    async with AsyncExitStack() as stack:
        held = True
        while held:
            held = await stack.enter_async_context(worker.shares.lane(subscription, 0))
        async with asyncio.timeout(3):
            await worker.serve(lane)
        assert worker.timers.waits(lane)
        assert names(deployment.receiver) == []
    await deployment.receiver.until(1)
    await deployment.idle()


async def test_few_lanes_of_a_consumer_wait_for_a_slot(deployment: Deployment) -> None:
    """Each holds a message of the queue, which the messages of others wait behind. The rest comes back later."""
    async with HangingServers().on(1) as servers:
        lanes = [Lane(each.id) for each in await hostile(deployment, servers, TTD, 3 * LANES_OF_CONSUMER)]
        await deployment.publish(event("a"))
        worker = deployment.application.lane_worker
        serving = [asyncio.create_task(worker.serve(lane)) for lane in lanes]
        await servers.until(LANES_OF_CONSUMER * 3 // 4)
        assert sum(worker.timers.waits(lane) for lane in lanes) >= LANES_OF_CONSUMER
        servers.gate.set()
        await asyncio.gather(*serving)


async def test_waiting_for_a_connection_is_no_part_of_an_attempt(deployment: Deployment) -> None:
    """The duration counts from when the request may be sent."""
    subscription = await deployment.subscribe()
    await deployment.publish(event("a"))
    shares = deployment.application.lane_worker.shares
    async with AsyncExitStack() as stack:
        held = True
        while held:
            held = await stack.enter_async_context(shares.connection(subscription, 0))
        serving = asyncio.create_task(deployment.application.lane_worker.serve(Lane(subscription.id)))
        await asyncio.sleep(0.3)
        released = deployment.clock()
    await serving
    (delivery,) = await deployment.deliveries(subscription)
    (attempt,) = delivery.attempts
    assert attempt.at >= released
    assert attempt.duration_ms < 300


async def test_a_sweep_wakes_few_lanes_of_one_consumer(deployment: Deployment) -> None:
    """The lanes of another consumer are woken too, though they are due for a shorter time."""
    application = deployment.application
    for number in range(SWEPT_OF_CONSUMER + 5):
        await deployment.subscribe(path=f"/{number}")
    await deployment.publish(event("a"))
    other = await deployment.subscribe(OTHER)
    await deployment.publish(event("b"))
    application.wakeup_queue.drain()
    await application.lane_worker.sweep()
    swept = application.wakeup_queue.drain()
    assert len(swept) == SWEPT_OF_CONSUMER + 1
    assert str(Lane(other.id)) in swept


async def test_the_background_holds_a_bounded_number_of_lanes(deployment: Deployment) -> None:
    """What is more waits for the sweep."""
    worker = deployment.application.lane_worker
    for number in range(MOST_TASKS + 10):
        worker.serve_soon(Lane(1_000_000 + number))
    assert len(worker.tasks.running) == MOST_TASKS
    await deployment.idle()
