"""Erasure: an event becomes a tombstone in every stream that holds it."""

from __future__ import annotations

from dataclasses import dataclass

from events_core.adapters.cosmos.client import CosmosDatabase, Document
from events_core.adapters.cosmos.streams.documents import CursorProof, Row, tombstone, ukey_of
from events_core.adapters.cosmos.streams.names import Names
from events_core.adapters.cosmos.streams.projection import CosmosProjectedStreams
from events_core.adapters.cosmos.streams.queries import STREAMS, StreamQueries
from events_core.adapters.cosmos.streams.retention import Retention
from events_core.adapters.cosmos.streams.states import StreamStates
from events_core.common.errors import EventsError, Problem
from events_core.feeds.ports import PROJECTION
from events_core.feeds.stream import Stream, projections_of


@dataclass(frozen=True, slots=True)
class Eraser:
    """Erases events. A repeated call completes what an earlier call left undone."""

    database: CosmosDatabase
    queries: StreamQueries
    states: StreamStates
    projection: CosmosProjectedStreams
    names: Names
    retention: Retention
    proof: CursorProof

    async def erase(self, resource: str, source: str, event_id: str) -> bool:
        """Replace an event by a tombstone in every stream; return False if no stream holds the event.

        A process may be about to project the event. Then its tombstone is projected first, to take its unique key in
        each target before the copies are looked for. Until that is done the original stays: it names the targets.
        """
        ukey = ukey_of(resource, source, event_id)
        name = self.names.of(Stream.of_resource(resource))
        state = await self.states.get(name)  # read before the copies, so they include whatever was projected until now
        copies = await self.queries.copies(ukey)
        original = next((copy for copy in copies if copy["stream"] == name), None)
        if original is not None and _may_be_projected(int(original["seq"]), state):
            await self._project_tombstone(original)
            copies = await self.queries.copies(ukey)
        for copy in copies:
            if copy["live"]:
                # The time to live counts anew from a write. The tombstone must not expire before its neighbours.
                left = max(1, self.retention.time_to_live(copy["registered"]))
                await self.database.replace("erase", STREAMS, tombstone(copy) | {"ttl": left})
        return bool(copies)

    async def _project_tombstone(self, original: Document) -> None:
        for target in projections_of(original["resource"], original.get("subject")):
            try:
                await self.projection.project(target, [Row(tombstone(original), self.proof)])
            except EventsError as error:
                if error.problem is Problem.UNAVAILABLE:
                    raise
                # A stream that refuses the tombstone refuses the event too.


def _may_be_projected(position: int, state: Document | None) -> bool:
    """Whether the event at a position may still be projected: it is after the checkpoint, or quarantined."""
    if state is None or state["checkpoints"].get(PROJECTION, 0) < position:
        return True
    return any(int(quarantined["position"]) <= position for quarantined in state.get("quarantined", ()))
