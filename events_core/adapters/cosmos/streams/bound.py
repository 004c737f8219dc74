"""The bound of a stream's positions: it is raised before a position is used, so that no position is used twice."""

from __future__ import annotations

from dataclasses import dataclass

from events_core.adapters.cosmos.client import CosmosDatabase
from events_core.adapters.cosmos.streams.documents import placeholder
from events_core.adapters.cosmos.streams.heads import Head, Heads
from events_core.adapters.cosmos.streams.names import partition, position_id, segment_of
from events_core.adapters.cosmos.streams.queries import STREAMS
from events_core.adapters.cosmos.streams.retention import Retention
from events_core.adapters.cosmos.streams.states import StreamStates
from events_core.common import errors
from events_core.feeds.stream import Stream

_TRIES = 3


@dataclass(slots=True)
class Bound:
    """The bound of one stream, for its writer. No position beyond `reserved` may be used yet."""

    stream: Stream
    name: str
    database: CosmosDatabase
    states: StreamStates
    heads: Heads
    retention: Retention
    segment_size: int
    reserved: int = 0

    async def reserve(self, head: Head, count: int) -> None:
        """Allow the use of so many positions after the head: one request for `BLOCK` positions."""
        if head.position + count > self.reserved:
            bound, is_new = head.position + self.heads.block, head.position == 0
            await self.states.reserve(self.stream, self.name, bound, now=self.retention.clock(), is_new=is_new)
            self.reserved = bound

    async def head_after(self, head: Head) -> Head:
        """The head to go on after if readers see no row: any position up to the bound may have been used.

        A writer to which the head was visible a moment ago may be about to use the next position. So that one is taken
        first, and the id decides between the two.
        """
        for _ in range(_TRIES):
            if self.heads.is_visible(head):
                return head
            bounds = await self.states.bounds(self.name)
            if bounds.reserved == 0:
                return head
            if bounds.floor_set >= self.retention.oldest():  # what was written from the floor on is still there
                return Head(bounds.floor - 1, head.registered, is_placeholder=True)
            if head.position == 0 or head.is_placeholder or await self._take_next(head):
                await self.states.go_on_after_bound(self.name, bounds, self.heads.block, self.retention.clock())
            head = await self.heads.fresh(self.name)
        raise errors.unavailable("The stream changes too fast.")

    async def _take_next(self, head: Head) -> bool:
        """Put a placeholder at the position after the head. Return False if a document is there."""
        position = head.position + 1
        document = placeholder(
            {
                "id": position_id(position),
                "partition": partition(self.name, segment_of(position, self.segment_size)),
                "stream": self.name,
                "seq": position,
                "registered": head.registered,
            }
        )
        left = self.retention.time_to_live(self.retention.clock())
        return await self.database.create_if_absent("floor", STREAMS, document | {"ttl": left})
