"""The follower that copies app events to the streams of their subject and org."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from events_core.access.names import Resource
from events_core.feeds.ports import ProjectedStreams, StoredEvent
from events_core.feeds.stream import Stream, projections_of
from events_core.feeds.wait import WaitingReaders


@dataclass(frozen=True, slots=True)
class Projection:
    """Projects events, for a store that keeps streams apart (`Follower`). A target is the name of a stream."""

    streams: ProjectedStreams
    waiting: WaitingReaders
    name: str = "projection"

    async def wants(self, stream: Stream) -> bool:
        """Whether it is an app's stream."""
        return Resource.parse(stream.key).app is not None

    async def targets(self, events: Iterable[StoredEvent]) -> dict[str, dict[int, StoredEvent]]:
        """The events of each stream that they are projected to."""
        targets: dict[str, dict[int, StoredEvent]] = {}
        for event in events:
            for stream in projections_of(event.resource, event.subject):
                targets.setdefault(stream.name, {})[event.position] = event
        await self.streams.prepare([Stream(target) for target in targets])
        return targets

    async def put(self, target: str, items: Sequence[StoredEvent]) -> None:
        """Append events to a stream and wake its waiting readers."""
        stream = Stream(target)
        await self.streams.project(stream, items)
        self.waiting.wake([stream])
