"""Positions that a writer may use: the next ones after the head, up to the bound in the stream's state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from events_core.adapters.cosmos.client import CosmosDatabase
from events_core.adapters.cosmos.streams.documents import placeholder
from events_core.adapters.cosmos.streams.heads import Head, Heads
from events_core.adapters.cosmos.streams.names import partition, position_id, segment_of
from events_core.adapters.cosmos.streams.queries import STREAMS
from events_core.adapters.cosmos.streams.retention import Retention
from events_core.adapters.cosmos.streams.states import Bounds, StreamStates
from events_core.common import errors
from events_core.feeds.stream import Stream

_TRIES = 3


@dataclass(frozen=True, slots=True)
class Reservations:
    """Finds the heads to write after, and reserves positions. `clock` gives the time at which rows are registered."""

    database: CosmosDatabase
    states: StreamStates
    heads: Heads
    retention: Retention
    segment_size: int
    clock: Callable[[], int]

    async def head(self, stream: Stream, name: str) -> Head:
        """The head to write after.

        If readers see no row, any position up to the bound may have been used, and the stream goes on after it.
        """
        head = await self.heads.warm(name)
        for _ in range(_TRIES):
            if self.heads.is_visible(head) or (head == Head() and await self._begin(stream, name)):
                return head
            bounds = await self.states.bounds(name)
            if head.position < bounds.floor and bounds.floor_set >= self.retention.oldest():
                # What was written from the floor on is still there. No row is registered before its stream's floor.
                return Head(bounds.floor - 1, max(head.registered, bounds.floor_set), is_placeholder=True)
            if await self._close(name, bounds, head):
                last = max(bounds.reserved, head.position)
                await self.states.go_on_after(name, last, bounds, size=self.heads.block, now=self.clock())
            head = await self.heads.fresh(name)
        raise errors.unavailable("The stream changes too fast.")

    async def reserve(self, stream: Stream, name: str, head: Head, count: int) -> None:
        """Reserve some positions after the head, before one of them is used."""
        if head.position + count > await self.states.reserved(name):
            await self.states.reserve(stream, name, head.position + self.heads.block, now=self.clock())

    async def _begin(self, stream: Stream, name: str) -> bool:
        return await self.states.begin(stream, name, self.heads.block, now=self.clock())

    async def _close(self, name: str, bounds: Bounds, head: Head) -> bool:
        """Leave no position before the bound to a writer. Return False if an event has come in between.

        A writer to which the head was visible, or the floor new, a moment ago may be about to use the next position. A
        placeholder takes it first, and the id decides between the two. Beyond the bound a writer has to reserve first.
        """
        head = head if head.position >= bounds.floor else Head(bounds.floor - 1, head.registered)
        if head.is_placeholder or head.position >= bounds.reserved:
            return True
        position = head.position + 1
        document = placeholder(
            {
                "id": position_id(position),
                "partition": partition(name, segment_of(position, self.segment_size)),
                "stream": name,
                "seq": position,
                "registered": head.registered,
            }
        )
        left = self.retention.time_to_live(self.clock())
        return await self.database.create_if_absent("floor", STREAMS, document | {"ttl": left})
