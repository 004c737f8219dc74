"""Deliveries while the decision point has outages within, and while it fails on some instances."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from events_core.cloudevent import CloudEvent
from events_core.common.clock import SECOND
from events_core.operations.application import Application
from tests.delivery.test_undecidable import event_of
from tests.support.delivering import Deployment, deployment_on
from tests.support.pdp_server import DENY, PERMIT, Asked, Ruling
from tests.support.webhook_server import Received

GUIDS = [str(uuid.UUID(int=number, version=4)) for number in range(1, 13)]
DENIED, FAILING = GUIDS[:3], GUIDS[:6]
STEPS = 100


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    """The service on SQLite: on Cosmos DB the virtual days would take minutes."""
    async with deployment_on("sqlite", tmp_path) as deployment:
        yield deployment


def guid_of(asked: Asked) -> str:
    """The instance that a question is about, "" for a question about the app."""
    return asked.resource.get("urn:altinn:instance-id", "").rpartition("/")[2]


def decide(asked: Asked) -> Ruling:
    """Every instance may be read, except for three."""
    return DENY if guid_of(asked) in DENIED else PERMIT


@dataclass
class World:
    """A deployment of up to two processes whose decision point and endpoint fail by chance."""

    deployment: Deployment
    dice: random.Random
    processes: list[Application]
    down_until: int = 0
    failing_until: dict[str, int] = field(default_factory=dict)
    attempted: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    accepted: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def fails(self, asked: Asked) -> bool:
        """Whether the decision point fails on a question now."""
        now = self.deployment.clock()
        return now < max(self.down_until, self.failing_until.get(guid_of(asked), 0))

    def answer(self, received: Received) -> web.Response:
        """Note an attempt, and refuse it now and then."""
        if received.method == "OPTIONS" or b"validatesubscription" in received.body:
            return web.Response()
        name = str(received.event["id"])
        if name not in self.attempted[received.path]:
            self.attempted[received.path].append(name)
        if self.dice.random() < 0.15:
            return web.Response(status=500)
        self.accepted[received.path].add(name)
        return web.Response()

    def chance(self, share: float) -> bool:
        """True in this share of the calls."""
        return self.dice.random() < share

    def change(self) -> None:
        """Let an outage begin, an instance fail, a process start, or its decisions end, by chance."""
        now = self.deployment.clock()
        if self.chance(0.15):
            self.down_until = now + int(self.dice.choice([0.001, 0.02, 1, 30, 600, 7_200]) * SECOND)
        if self.chance(0.3):
            self.failing_until[self.dice.choice(FAILING)] = now + self.dice.choice([5, 60, 3_600, 43_200]) * SECOND
        if self.chance(0.1):
            self.processes = [*self.processes[-1:], self.deployment.start()]
        if self.chance(0.1):
            for process in self.processes:
                process.authorization.decisions.cache._kept.clear()

    async def serve(self, *, stop: bool = False) -> bool:
        """Serve the lanes that are due, and stop midway if asked to. Return False if nothing is to come."""
        deliveries = self.deployment.application.deliveries
        lanes = await deliveries.due(self.deployment.clock(), 100)
        tasks = [asyncio.ensure_future(self.dice.choice(self.processes).lane_worker.serve(lane)) for lane in lanes]
        if stop:
            await asyncio.sleep(0.02 * self.dice.random())
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=stop)
        return bool(lanes or await deliveries.due(self.deployment.clock() + 10**15, 1))


@pytest.mark.parametrize("seed", range(3))
async def test_every_permitted_event_arrives_once_the_decision_point_is_well(deployment: Deployment, seed: int) -> None:
    """No denied one does, and first attempts of events on which it fails only in outages are in order."""
    world = World(deployment, random.Random(seed), [deployment.application])
    deployment.pdp.fails, deployment.pdp.decide = world.fails, decide
    deployment.receiver.answer = world.answer
    subscriptions = [await deployment.subscribe(path=f"/{n}", subject=f"/party/{n}") for n in range(3)]
    published = await _publish_for_days(world)
    world.down_until, world.failing_until = 0, {}
    while await world.serve():
        deployment.clock.add(60)
    for subscription in subscriptions:
        matching = [event for event in published if event.subject == subscription.filter.subject]
        _check(world, f"/{subscription.endpoint.rpartition('/')[2]}", matching)
        assert {*await deployment.states(subscription)} == {"delivered", "withheld"}


async def _publish_for_days(world: World) -> list[CloudEvent]:
    published: list[CloudEvent] = []
    for step in range(STEPS):
        world.change()
        subjects = [f"/party/{world.dice.randrange(3)}" for _ in range(world.dice.randrange(4))]
        batch = [event_of(f"e{step}.{n}", world.dice.choice(GUIDS), subject) for n, subject in enumerate(subjects)]
        await world.deployment.publish(*batch, process=world.dice.choice(world.processes))
        published += batch
        await world.serve(stop=world.chance(0.2))
        world.deployment.clock.add(world.dice.choice([0.01, 1, 5, 5, 30, 600]))
    return published


def _check(world: World, path: str, matching: list[CloudEvent]) -> None:
    guids = {event.id: event.source.rpartition("/")[2] for event in matching}
    permitted = [name for name, guid in guids.items() if guid not in DENIED]
    assert world.accepted[path] == {*permitted}
    assert {*world.attempted[path]} == {*permitted}
    never_failed = [name for name in permitted if guids[name] not in FAILING]
    assert [name for name in world.attempted[path] if name in never_failed] == never_failed
