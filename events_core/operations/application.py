"""The composed application: what triggers call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from events_core.access.authorization import Authorization
from events_core.access.names import AppId
from events_core.access.ports import DecisionPoint, PartyRegister, TokenVerifier
from events_core.delivery.endpoint_test import EndpointTest
from events_core.delivery.ports import DeliveryStore
from events_core.delivery.replay import Replays
from events_core.delivery.subscribe import Subscriber
from events_core.delivery.trace_event import Tracer
from events_core.delivery.wakeup_queue import WakeupQueue
from events_core.delivery.worker import LaneWorker
from events_core.feeds.follow_up import FollowUp
from events_core.feeds.ports import CheckpointStore, EventStore
from events_core.feeds.publish import Publisher
from events_core.feeds.read import FeedReader
from events_core.feeds.stream import CursorCodec
from events_core.feeds.wait import WaitingReaders
from events_core.operations.gauges import Gauges
from events_core.operations.measure import Measure

if TYPE_CHECKING:
    from events_core.settings import Settings  # pydantic is not loaded before the first request


class Connections(Protocol):
    """Network connections of an adapter."""

    async def close(self) -> None:
        """Close them."""


@dataclass(frozen=True, slots=True)
class Application:
    """Settings, ports and use cases of one process."""

    settings: Settings
    store: EventStore
    decision_point: DecisionPoint
    register: PartyRegister
    tokens: TokenVerifier
    authorization: Authorization
    cursors: CursorCodec
    waiting: WaitingReaders
    publisher: Publisher
    reader: FeedReader
    anonymous_apps: tuple[AppId, ...]
    checkpoints: CheckpointStore
    follow_up: FollowUp
    subscriber: Subscriber
    replays: Replays
    deliveries: DeliveryStore
    lane_worker: LaneWorker
    endpoint_test: EndpointTest
    tracer: Tracer
    measure: Measure
    report: Callable[[Gauges], None]
    restored: Callable[[], Awaitable[int]]
    wakeup_queue: WakeupQueue
    connections: Sequence[Connections]

    async def close(self) -> None:
        """Answer waiting readers, stop deliveries, then release connections, threads and files."""
        self.waiting.close()
        await self.lane_worker.close()
        for connections in self.connections:
            await connections.close()
        await self.store.close()
