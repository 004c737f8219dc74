"""Wake-ups: what is due is served when it is due, and no lane is forgotten, whatever ended the turn before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from events_core.common.clock import SECOND
from events_core.delivery.delivery import Lane
from events_core.delivery.rules import SubscriptionRequest
from events_core.delivery.subscribe import Change
from events_core.delivery.subscription import Subscription
from events_core.delivery.timers import FIRST_WAIT
from events_core.delivery.worker import MOST_TASKS
from tests.contract.event_store import APP, event, events
from tests.support.delivering import TTD, Deployment, answering, deployment_on, names
from tests.support.webhook_server import Received


@asynccontextmanager
async def every_slot_taken(deployment: Deployment, subscription: Subscription) -> AsyncIterator[None]:
    """Hold all the slots for lanes that a subscription may use."""
    async with AsyncExitStack() as stack:
        while await stack.enter_async_context(deployment.application.lane_worker.shares.lane(subscription, 0)):
            pass
        yield


def taking_longer_than_a_turn(deployment: Deployment, status: int) -> None:
    """Let each answer of the endpoint take four seconds."""

    def answer(_: Received) -> web.Response:
        deployment.clock.add(4)
        return web.Response(status=status)

    deployment.receiver.answer = answer


async def test_a_validation_that_fails_slowly_is_tried_again(deployment: Deployment) -> None:
    """Though the turn ended before it, and nothing waits for the endpoint."""
    taking_longer_than_a_turn(deployment, 500)
    subscription = await deployment.subscribe()
    assert subscription.validation.tries == 1
    deployment.receiver.answer = answering(200)
    deployment.clock.add(12)
    await deployment.deliver()
    assert (await deployment.stored(subscription.id)).validation.validated


async def test_a_validation_without_a_connection_stays_due(deployment: Deployment) -> None:
    """The consumer's other endpoints may hold every connection for longer than a turn."""
    subscription = await deployment.subscribe()
    shares = deployment.application.lane_worker.shares
    async with AsyncExitStack() as stack:
        while await stack.enter_async_context(shares.connection(subscription, 0)):
            pass
        await due_again(deployment, subscription)
        await deployment.application.lane_worker.serve(Lane(subscription.id))
    await deployment.deliver()
    assert (await deployment.stored(subscription.id)).validation.next_try is None


async def due_again(deployment: Deployment, subscription: Subscription) -> None:
    """Make a validation due, as another process does."""
    subscriptions = deployment.application.subscriber.subscriptions
    stored = await deployment.stored(subscription.id)
    await subscriptions.change(
        replace(stored, validation=replace(stored.validation, tries=0, next_try=deployment.clock()))
    )
    await deployment.application.deliveries.wake_all(subscription.id)


async def test_a_validation_that_becomes_due_while_its_lane_waits_for_a_slot_stays_due(deployment: Deployment) -> None:
    """The lane holds no slot for a validation then."""
    subscription = await deployment.subscribe()
    worker = deployment.application.lane_worker
    async with every_slot_taken(deployment, subscription):
        serving = asyncio.create_task(worker.serve(Lane(subscription.id)))
        await asyncio.sleep(0)
        await due_again(deployment, subscription)
    await serving
    await deployment.deliver()
    assert (await deployment.stored(subscription.id)).validation.next_try is None


async def test_what_is_left_after_a_turn_in_the_background_is_served_at_once(deployment: Deployment) -> None:
    """No trigger sends its wake-up to the queue."""
    subscription = await deployment.subscribe()
    caller = deployment.caller(TTD)
    subscriber = deployment.application.subscriber
    await subscriber.change(caller, subscription.id, Change(paused=True))
    await deployment.publish(*events(4))
    await deployment.idle()
    taking_longer_than_a_turn(deployment, 200)
    await subscriber.change(caller, subscription.id, Change(paused=False))
    await deployment.idle()
    assert len(names(deployment.receiver)) == 4


async def test_every_retry_that_is_due_soon_has_its_timer(tmp_path: Path) -> None:
    """Also one that was put off by a turn before the last."""
    async with deployment_on("sqlite", tmp_path, webhook_retry_seconds=(1, 1)) as deployment:
        await deployment.subscribe()
        deployment.receiver.answer = answering(*[500] * 8, 200)
        await deployment.publish(*(event(f"e{number}", subject=f"/party/{number + 1}") for number in range(8)))
        await deployment.deliver()
        await deployment.idle()
        assert len(names(deployment.receiver)) == 16


async def test_a_lane_that_found_a_slot_waits_for_no_timer(deployment: Deployment) -> None:
    """The sweep finds it, though a timer of a long wait still runs."""
    subscription = await deployment.subscribe()
    timers, lane = deployment.application.lane_worker.timers, Lane(subscription.id)
    await timers.put_back(lane)
    assert timers.waits(lane)
    await deployment.publish(event("a"))
    await deployment.deliver()
    assert not timers.waits(lane)


async def test_a_lane_that_waits_for_a_slot_holds_up_no_message(deployment: Deployment) -> None:
    """Its timer wakes it; until then a message takes a free slot, or ends at once."""
    subscription = await deployment.subscribe()
    worker, lane = deployment.application.lane_worker, Lane(subscription.id)
    async with every_slot_taken(deployment, subscription):
        await worker.timers.put_back(lane)
        async with asyncio.timeout(FIRST_WAIT / 2):
            await worker.serve(lane)


async def test_starting_a_timer_holds_no_slot(tmp_path: Path) -> None:
    """The storage account that keeps the timers may answer late."""
    async with deployment_on("sqlite", tmp_path, webhook_retry_seconds=(4,)) as deployment:
        subscription = await deployment.subscribe()
        worker = deployment.application.lane_worker
        free: list[bool] = []

        async def start(_lane: Lane, _seconds: float) -> None:
            async with AsyncExitStack() as stack:
                slots = [await stack.enter_async_context(worker.shares.lane(subscription, 0)) for _ in range(12)]
                free.append(all(slots))

        deployment.receiver.answer = answering(500)
        await deployment.publish(event("a"))
        await replace(worker, timers=replace(worker.timers, start=start)).serve(Lane(subscription.id))
        assert free == [True]


async def test_timers_take_no_place_of_what_is_due(deployment: Deployment) -> None:
    """A few consumers have a thousand lanes that wait; a new subscription of another one is validated at once."""
    worker = deployment.application.lane_worker
    for number in range(MOST_TASKS):
        worker.serve_soon(Lane(1_000_000 + number), 3_600)
    caller = deployment.caller(TTD)
    request = SubscriptionRequest(endpoint=f"{deployment.receiver.url}/hook", resource=APP)
    await deployment.application.subscriber.subscribe(caller, request)
    await asyncio.wait(worker.tasks.running, timeout=5)
    assert len(deployment.receiver.received) == 2


async def test_the_sweep_sends_few_messages_for_lanes_that_wait(deployment: Deployment) -> None:
    """Fifty lanes find no slot in a minute. Each gets a message, and the next one after thirty seconds."""
    deliveries, application = deployment.application.deliveries, deployment.application
    lanes = [Lane(number) for number in range(1, 51)]
    for lane in lanes:
        await deliveries.wake(lane)
    messages: list[str] = []
    for _ in range(12):
        await application.lane_worker.sweep()
        messages += application.wakeup_queue.drain()
        deployment.clock.add(5)
    assert {*messages} == {str(lane) for lane in lanes}
    assert len(messages) <= 2 * len(lanes)


async def test_the_sweep_wakes_a_lane_again_that_is_due_for_another_reason(deployment: Deployment) -> None:
    """A worker had a turn at it since, and put it off for a short while."""
    deliveries, application = deployment.application.deliveries, deployment.application
    lane = Lane(1)
    await deliveries.wake(lane)
    await application.lane_worker.sweep()
    assert application.wakeup_queue.drain() == ["1"]
    now = deployment.clock()
    lease = await deliveries.take(lane, now, now + SECOND)
    assert lease is not None
    await deliveries.release(lease, lease.breaker, now=now, latest=now + 7 * SECOND)
    deployment.clock.add(8)
    await application.lane_worker.sweep()
    assert application.wakeup_queue.drain() == ["1"]
