"""Filters that were made to be slow hold up nobody else."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from events_core.access.identity import caller_of_consumer
from events_core.cloudevent import CloudEvent
from events_core.common.slices import Slices
from events_core.delivery.matching import Comparison
from events_core.delivery.subscription import SubscriptionIndex
from events_core.feeds.patterns import Pattern
from events_core.feeds.stream import Stream
from tests.contract.event_store import APP, event, events
from tests.support.deliveries import subscription
from tests.support.delivering import TTD, Deployment, deployment_on

SUBSCRIPTIONS, EVENTS = 800, 100
LONGEST_GAP = 0.05
MATCHING = "%a" * 10
FAILING = [f"%{'a' * (number % 40 + 1)}{'%a' * 7}%a{number}%" for number in range(SUBSCRIPTIONS)]


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    """The service on SQLite."""
    async with deployment_on("sqlite", tmp_path) as deployment:
        yield deployment


@pytest.fixture
def no_garbage() -> Iterator[None]:
    """Collect no garbage: the heap of the tests alone takes longer than a slice."""
    gc.disable()
    yield
    gc.enable()


@asynccontextmanager
async def longest_gap() -> AsyncIterator[list[float]]:
    """Measure the longest time between two turns of another task, in seconds of this thread's processor time."""
    found = [0.0]

    async def tick() -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            found[0], last = max(found[0], now - last), now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    yield found
    await asyncio.sleep(0)
    ticking.cancel()


def hostile(count: int = EVENTS) -> list[CloudEvent]:
    """Events on which the patterns are slow."""
    return events(count, type="a" * 256, subject="a" * 512)


@pytest.mark.usefixtures("no_garbage")
@pytest.mark.parametrize("patterns", [[MATCHING] * SUBSCRIPTIONS, FAILING], ids=["matching", "failing"])
async def test_hostile_filters_do_not_block_the_event_loop(deployment: Deployment, patterns: list[str]) -> None:
    """Eight hundred subscriptions and a hundred events: other tasks have their turn every 50 ms."""
    application = deployment.application
    index = await application.lane_worker.cache.fresh()
    for number, pattern in enumerate(patterns, 1):
        index.put(subscription(id=number, type=pattern, subject=pattern))
    await application.store.append(hostile())
    rows = (await application.lane_worker.checkpoints.read_after(Stream.of_resource(APP), 0, EVENTS)).rows
    async with longest_gap() as gap:
        lanes = await application.lane_worker.fan_out.targets(rows)
    assert len(lanes) == (SUBSCRIPTIONS if patterns[0] == MATCHING else 0)
    assert gap[0] < LONGEST_GAP


@pytest.mark.usefixtures("no_garbage")
async def test_an_explanation_does_not_block_the_event_loop(deployment: Deployment) -> None:
    """It compares an event with every subscription of its caller."""
    (published,) = hostile(1)
    await deployment.publish(published)
    store = deployment.application.subscriber.subscriptions
    for number, pattern in enumerate(FAILING):
        await store.create(subscription(endpoint=f"https://example.com/{number}", type=pattern))
    (row,) = await deployment.application.store.find(None, published.id)
    async with longest_gap() as gap:
        explanation = deployment.application.tracer.explanation
        found = await explanation.unreached(caller_of_consumer(TTD, 3), row, [], is_publisher=True)
    assert len(found) == SUBSCRIPTIONS
    assert {unreached.reason.partition(":")[0] for unreached in found} == {"typeFilter"}
    assert gap[0] < LONGEST_GAP


async def test_the_index_may_change_during_a_comparison() -> None:
    """Subscriptions are compared as they were when it began: a deleted one may match once more, a new one does not."""
    index = SubscriptionIndex(subscription(id=number) for number in range(1, 4))

    class Changing(Slices):
        async def pause(self) -> None:
            index.put(subscription(id=2, deleted=True))
            index.put(subscription(id=9))

    one = Comparison(events(1)[0])
    assert [found.id for found in await index.matching(one, 1, Changing())] == [1, 2, 3]
    assert [found.id for found in await index.matching(one, 1, Slices())] == [1, 3, 9]


def test_a_pattern_is_compared_once_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many filters have it."""
    compared: list[str] = []
    matches = Pattern.matches

    def counting(self: Pattern, text: str) -> bool:
        compared.append(self.text)
        return matches(self, text)

    monkeypatch.setattr(Pattern, "matches", counting)
    comparison = Comparison(events(1)[0])
    for number in range(5):
        subscription(id=number, type="app.%.x%").filter.compiled().lets_through(comparison)
    assert compared == ["app.%.x%"]


def test_a_filter_is_compiled_once() -> None:
    """A change of something else, such as a pause, compiles nothing."""
    index = SubscriptionIndex([subscription(id=1, type="a%b%c")])
    compiled = index._by_id[1][1]
    index.put(subscription(id=1, type="a%b%c", paused=True))
    assert index._by_id[1][1] is compiled
    index.put(subscription(id=1, type="a%b%d"))
    assert index._by_id[1][1] is not compiled


async def test_a_round_asks_a_thousand_questions(deployment: Deployment) -> None:
    """The others are asked at delivery."""
    application = deployment.application
    index = await application.lane_worker.cache.fresh()
    for number in range(1, 16):
        index.put(subscription(id=number, consumer=f"/org/o{number}"))
    await application.store.append([event(subject=f"/party/{number}") for number in range(EVENTS)])
    stored = (await application.lane_worker.checkpoints.read_after(Stream.of_resource(APP), 0, EVENTS)).rows
    asked = len(deployment.pdp.asked)
    lanes = await application.lane_worker.fan_out.targets(stored)
    made = [delivery for items in lanes.values() for delivery in items.values()]
    assert sum(map(len, deployment.pdp.asked[asked:])) == 1_000
    assert (len(made), sum(delivery.permit is None for delivery in made)) == (1_500, 500)
