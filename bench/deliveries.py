"""Deliveries on the embedded store: `python -m bench.deliveries`.

Endpoints and decision point share the machine. For the latency, the service runs in its own process, as the local host
serves it. All other parts run in this process.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median, quantiles

from aiohttp import web

from bench.cosmos import row
from events_core.cloudevent import CloudEvent
from events_core.common.slices import Slices
from events_core.delivery.delivery import Lane
from events_core.delivery.matching import Comparison
from events_core.delivery.subscription import SubscriptionIndex
from events_core.feeds.stream import Stream
from tests.contract.event_store import APP, OTHER_APP, event, events
from tests.local.test_delivering import Host, hosts
from tests.support.deliveries import subscription
from tests.support.delivering import Deployment, deployment_on
from tests.support.webhook_server import Received, WebhookServer, accepting

PUBLISHED, SUBSCRIBERS, ENDPOINTS, DELIVERIES, OTHERS = 60, 1_000, 20, 4_000, 100_000


@asynccontextmanager
async def empty_deployment() -> AsyncIterator[Deployment]:
    """The service in this process, on an empty store."""
    with tempfile.TemporaryDirectory() as directory:
        async with deployment_on("sqlite", Path(directory)) as deployment:
            yield deployment


async def latency() -> None:
    """Measure from the publishing request to the arrival of the webhook, one event at a time."""
    with tempfile.TemporaryDirectory() as directory, hosts() as started:
        async with WebhookServer() as receiver:
            started.append(Host(Path(directory)))
            await started[0].subscribe(receiver)
            took = []
            for number in range(PUBLISHED):
                began = time.perf_counter()
                await started[0].publish(f"{number}")
                await receiver.until(number + 1)
                took.append(1_000 * (time.perf_counter() - began))
                await asyncio.sleep(0.05)
    row("published to received, p50", f"{median(took):.0f} ms", "under 100 ms", kept=median(took) < 100)
    row("published to received, p95", f"{quantiles(took, n=20)[-1]:.0f} ms", "", kept=True)


async def fan_out() -> None:
    """Follow up one event that a thousand subscriptions match, each of another consumer."""
    async with empty_deployment() as deployment:
        store = deployment.application.subscriber.subscriptions
        for number in range(SUBSCRIBERS):
            await store.create(subscription(consumer=f"/user/{number}", endpoint=f"https://x.example/{number}"))
        await deployment.application.store.append([event()])
        deployment.pdp.requests.clear()
        began = time.perf_counter()
        await deployment.application.follow_up.follow(Stream.of_resource(APP))
        took = time.perf_counter() - began
        asked = len(deployment.pdp.requests)
    row(f"one event to {SUBSCRIBERS:,} subscriptions", f"{took:.2f} s", "under 1 s", kept=took < 1)
    row("requests to the decision point", f"{asked}", "1", kept=asked == 1)


async def throughput(dead: int) -> float:
    """Deliveries a second to twenty endpoints, beside `dead` endpoints that hang."""
    async with empty_deployment() as deployment, AsyncExitStack() as stack:
        gate = asyncio.Event()

        async def hang(received: Received) -> web.Response:
            if received.method == "POST" and b"validatesubscription" not in received.body:
                await gate.wait()
            return web.Response()

        handlers = [accepting] * ENDPOINTS + [hang] * dead
        receivers = [await stack.enter_async_context(WebhookServer(handler)) for handler in handlers]
        subscriptions = [
            await deployment.subscribe(endpoint=receiver.url, type=f"t{number % ENDPOINTS}")
            for number, receiver in enumerate(receivers)
        ]
        published = [event(type=f"t{number % ENDPOINTS}", subject=f"/party/{number}") for number in range(DELIVERIES)]
        await deployment.publish(*published)
        before = _arrived(receivers)
        lanes = [asyncio.create_task(deployment.application.lane_worker.serve(Lane(made.id))) for made in subscriptions]
        began = time.perf_counter()
        await asyncio.wait(lanes[:ENDPOINTS])
        rate = (_arrived(receivers) - before) / (time.perf_counter() - began)
        gate.set()
        await asyncio.wait(lanes)
    return rate


def _arrived(receivers: Sequence[WebhookServer]) -> int:
    return sum(len(receiver.received) for receiver in receivers[:ENDPOINTS])


async def matching() -> float:
    """How much longer an event takes to match beside subscriptions of other apps, as a ratio of medians."""
    index = SubscriptionIndex(subscription(id=number) for number in range(1, 11))
    published = events(200)
    alone = await _seconds(index, published)
    for number in range(OTHERS):
        index.put(subscription(id=100 + number, resource=f"{OTHER_APP}{number}"))
    return await _seconds(index, published) / alone


async def _seconds(index: SubscriptionIndex, published: Sequence[CloudEvent]) -> float:
    times = []
    for _ in range(31):
        began = time.perf_counter()
        for cloud_event in published:
            await index.matching(Comparison(cloud_event), 1, Slices())
        times.append(time.perf_counter() - began)
    return median(times)


async def measure() -> None:
    """Run all parts and print the results."""
    ratio = await matching()
    row(f"matching among {OTHERS:,} of other apps", f"{ratio:.2f}x", "at most 1.2x", kept=ratio <= 1.2)
    await latency()
    await fan_out()
    rates = [(await throughput(0), await throughput(1)) for _ in range(3)]
    alone, beside = map(median, zip(*rates, strict=True))
    row(f"deliveries/s to {ENDPOINTS} endpoints", f"{alone:.0f}", "at least 200", kept=alone >= 200)
    row("beside one that hangs", f"{beside / alone:.2f}", "at least 0.9", kept=beside / alone >= 0.9)


if __name__ == "__main__":
    asyncio.run(measure())
