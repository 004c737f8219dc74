"""A follower beside the projections."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from typing_extensions import override

from events_core.common import errors
from events_core.feeds.follow_up import Follower
from events_core.feeds.ports import StoredEvent
from events_core.feeds.stream import Stream


@dataclass
class Recording(Follower[str]):
    """A follower that records the ids of events, unless its store is down: then it fails after `timeout` seconds."""

    name: str = "deliveries"
    recorded: list[str] = field(default_factory=list)
    is_down: bool = False
    timeout: float = 0

    @override
    async def wants(self, stream: Stream) -> bool:
        return True

    @override
    async def targets(self, events: Sequence[StoredEvent]) -> Mapping[str, Mapping[int, str]]:
        return {"all": {each.position: each.id for each in events}}

    @override
    async def put(self, target: str, items: Sequence[str]) -> None:
        if self.is_down:
            await asyncio.sleep(self.timeout)
            raise errors.unavailable("The store does not answer.")
        self.recorded += items
