"""A deployment of the service for tests: the application, its neighbours, and a clock that a test moves."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from events_core.access import scopes
from events_core.access.identity import Caller, caller_of_consumer
from events_core.cloudevent import CloudEvent
from events_core.common.clock import SECOND, now
from events_core.compose import compose
from events_core.delivery.delivery import Delivery
from events_core.delivery.rules import SubscriptionRequest
from events_core.delivery.subscription import Subscription
from events_core.feeds.stream import Stream
from events_core.operations.application import Application
from events_core.settings import Settings
from tests.contract.event_store import APP
from tests.support.cosmos import cosmos_server
from tests.support.pdp_server import PdpServer
from tests.support.register_server import Person, RegisterServer
from tests.support.webhook_server import Answer, Received, WebhookServer

TTD = "/org/ttd"
KNOWN_PERSON, KNOWN_UNIT = "01899699552", "974760673"


@dataclass
class Clock:
    """The current time, plus what a test added."""

    ahead: int = 0

    def __call__(self) -> int:
        """Return microseconds since the epoch."""
        return now() + self.ahead

    def add(self, seconds: float) -> None:
        """Let time pass."""
        self.ahead += int(seconds * SECOND)


@dataclass
class Deployment:
    """One process of the service, and its neighbours. `start` starts another process on the same store."""

    application: Application
    receiver: WebhookServer
    pdp: PdpServer
    register: RegisterServer
    clock: Clock
    start: Callable[[], Application]

    async def subscribe(self, consumer: str = TTD, path: str = "/hook", **wanted: Any) -> Subscription:
        """Subscribe a consumer to the test app's events, and wait until its endpoint was validated or refused that."""
        request = SubscriptionRequest(**{"endpoint": self.receiver.url + path, "resource": APP, **wanted})
        subscribed = await self.application.subscriber.subscribe(self.caller(consumer), request)
        await self.idle()
        return await self.stored(subscribed.subscription.id)

    def caller(self, consumer: str) -> Caller:
        """A caller who may subscribe for a consumer."""
        return replace(caller_of_consumer(consumer, 3), scopes=frozenset({scopes.SUBSCRIBE}))

    async def stored(self, subscription_id: int) -> Subscription:
        """Read a subscription from the store."""
        found = await self.application.subscriber.subscriptions.get(subscription_id)
        assert found is not None
        return found

    async def publish(self, *events: CloudEvent, process: Application | None = None) -> None:
        """Append events and follow them up, in this process or another."""
        process = process or self.application
        await process.store.append(events)
        for resource in {event.resource for event in events}:
            await process.follow_up.follow(Stream.of_resource(resource))

    async def deliver(self, process: Application | None = None) -> None:
        """Serve due lanes until no lane is due."""
        process = process or self.application
        process.wakeup_queue.drain()
        while lanes := await process.deliveries.due(self.clock(), 1_000):
            await asyncio.gather(*(process.lane_worker.serve(lane) for lane in lanes))

    async def idle(self) -> None:
        """Wait for the background tasks of this process."""
        worker = self.application.lane_worker
        while tasks := worker.tasks.running | worker.sleeping.running:
            await asyncio.wait(tasks)

    def forget_decisions(self) -> None:
        """Empty the cache of decisions, so that the decision point is asked again."""
        self.application.authorization.decisions.cache._kept.clear()

    async def deliveries(self, subscription: Subscription) -> Sequence[Delivery]:
        """Every delivery of a subscription."""
        return await self.application.deliveries.page(subscription.id, (0, 0), 10_000)

    async def states(self, subscription: Subscription) -> list[str]:
        """The states of a subscription's deliveries, in the order of their events."""
        return [delivery.state.value for delivery in await self.deliveries(subscription)]


@asynccontextmanager
async def deployment_on(store: str, directory: Path, **settings: Any) -> AsyncIterator[Deployment]:
    """Start the service on an empty store, `sqlite` or `cosmos`."""
    clock = Clock()
    person = Person(50002108, str(uuid.uuid5(uuid.NAMESPACE_OID, KNOWN_PERSON)))
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(WebhookServer())
        pdp = await stack.enter_async_context(PdpServer())
        register = await stack.enter_async_context(
            RegisterServer(persons={KNOWN_PERSON: person}, units={KNOWN_UNIT: 50074838})
        )
        values: dict[str, Any] = {
            "data_dir": directory,
            "development": True,
            "pdp_url": pdp.url,
            "register_url": register.url,
            "webhook_allow_http": True,
            "webhook_allow_networks": ("127.0.0.0/8",),
            **settings,
        }
        if store == "cosmos":
            server = await stack.enter_async_context(cosmos_server())
            database = await stack.enter_async_context(server.database())
            values |= {"cosmos": server.connection_string, "cosmos_database": database}
        started: list[Application] = []

        def start() -> Application:
            started.append(compose(Settings(**values), clock=clock))
            return started[-1]

        try:
            yield Deployment(start(), receiver, pdp, register, clock, start)
        finally:
            for application in started:
                await application.close()


def names(receiver: WebhookServer, path: str | None = None) -> list[str]:
    """The ids of the delivered events, in the order of arrival."""
    return [str(event["id"]) for event in receiver.events(path)]


def answering(*statuses: int) -> Answer:
    """An endpoint that accepts validations and answers deliveries with these statuses, then with the last for ever."""
    left = list(statuses)

    def answer(received: Received) -> web.Response:
        if received.method == "OPTIONS" or b"validatesubscription" in received.body:
            return web.Response()
        return web.Response(status=left.pop(0) if len(left) > 1 else left[0])

    return answer
