"""The composed application with its neighbours, and a clock that a test moves."""

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
from events_core.access.identity import caller_of_consumer
from events_core.cloudevent import CloudEvent
from events_core.common.clock import SECOND, now
from events_core.compose import compose
from events_core.delivery.delivery import Delivery
from events_core.delivery.rules import Wanted
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
    """The time of day plus the seconds that a test adds."""

    ahead: int = 0

    def __call__(self) -> int:
        """Microseconds since the epoch."""
        return now() + self.ahead

    def add(self, seconds: float) -> None:
        """Let time pass."""
        self.ahead += int(seconds * SECOND)


@dataclass
class Place:
    """One process of the service, and its neighbours."""

    events: Application
    receiver: WebhookServer
    pdp: PdpServer
    register: RegisterServer
    clock: Clock
    start: Callable[[], Application]
    """Another process on the same store."""

    async def subscribe(self, consumer: str = TTD, path: str = "/hook", **wanted: Any) -> Subscription:
        """Create a subscription, by default to the test's app, and validate its endpoint."""
        made = Wanted(**{"endpoint": self.receiver.url + path, "resource": APP, **wanted})
        caller = replace(caller_of_consumer(consumer, 3), scopes=frozenset({scopes.SUBSCRIBE}))
        subscribed = await self.events.subscriber.subscribe(caller, made)
        await self.idle()
        return await self.known(subscribed.subscription.id)

    async def known(self, number: int) -> Subscription:
        """The stored subscription."""
        found = await self.events.subscriber.subscriptions.get(number)
        assert found is not None
        return found

    async def publish(self, *some: CloudEvent, events: Application | None = None) -> None:
        """Append events and follow them up."""
        events = events or self.events
        await events.store.append(some)
        for resource in {event.resource for event in some}:
            await events.follow_up.follow(Stream.of_resource(resource))

    async def deliver(self, events: Application | None = None) -> None:
        """Serve every lane that is due, until none is."""
        events = events or self.events
        events.wakeup_queue.drain()
        while lanes := await events.subscriber.deliveries.due(self.clock(), 1_000):
            await asyncio.gather(*(events.deliverer.serve(lane) for lane in lanes))

    async def idle(self) -> None:
        """Return once this process serves nothing any more."""
        while tasks := self.events.deliverer._tasks:
            await asyncio.wait(tasks)

    def forget_decisions(self) -> None:
        """Empty the cache of decisions."""
        self.events.authorization._decisions._kept.clear()

    async def deliveries(self, subscription: Subscription) -> Sequence[Delivery]:
        """Every delivery of a subscription."""
        return await self.events.subscriber.deliveries.page(subscription.id, (0, 0), 10_000)

    async def states(self, subscription: Subscription) -> list[str]:
        """The states of a subscription's deliveries, in the order of their events."""
        return [delivery.state.value for delivery in await self.deliveries(subscription)]


@asynccontextmanager
async def place_on(store: str, directory: Path, **settings: Any) -> AsyncIterator[Place]:
    """The service on an empty store, `sqlite` or `cosmos`."""
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

        yield Place(start(), receiver, pdp, register, clock, start)
        for application in started:
            await application.close()


def names(receiver: WebhookServer, path: str | None = None) -> list[str]:
    """The ids of the events that arrived, in the order of arrival."""
    return [str(event["id"]) for event in receiver.events(path)]


def answering(*statuses: int) -> Answer:
    """An endpoint that answers deliveries with these statuses in turn, then the last one; it accepts validations."""
    left = list(statuses)

    def answer(received: Received) -> web.Response:
        if received.method == "OPTIONS" or b"validatesubscription" in received.body:
            return web.Response()
        return web.Response(status=left.pop(0) if len(left) > 1 else left[0])

    return answer
