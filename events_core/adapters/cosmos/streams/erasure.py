"""Erasing an event: tombstones in place, in every stream that holds it."""

from __future__ import annotations

from dataclasses import dataclass

from events_core.access.names import Resource
from events_core.adapters.cosmos.client import CosmosDatabase
from events_core.adapters.cosmos.streams.cursors import CursorDocuments, bounds_of
from events_core.adapters.cosmos.streams.documents import CursorProof, Document, Row, tombstone, ukey_of
from events_core.adapters.cosmos.streams.names import Names
from events_core.adapters.cosmos.streams.projection import CosmosProjection
from events_core.adapters.cosmos.streams.queries import STREAMS, StreamQueries
from events_core.common.errors import EventsError, Problem
from events_core.feeds.stream import Stream


@dataclass(frozen=True, slots=True)
class Eraser:
    """Erases events; every call may be repeated, and completes what another one left."""

    database: CosmosDatabase
    queries: StreamQueries
    cursors: CursorDocuments
    projection: CosmosProjection
    names: Names
    proof: CursorProof

    async def erase(self, resource: str, source: str, event_id: str) -> bool:
        """Answer `EventStore.erase`.

        Who follows up or replays may be about to project the event: then its tombstone is projected first, while the
        original still says where to, so that its key is taken everywhere before the copies are looked for.
        """
        ukey = ukey_of(resource, source, event_id)
        name = self.names.of(Stream.of_resource(resource))
        followed = await self.cursors.get(name)  # before the copies: what was projected by then is among them
        copies = await self.queries.copies(ukey)
        original = next((each for each in copies if each["stream"] == name), None)
        if original is not None and _is_under_way(int(original["seq"]), followed):
            await self._occupy(original)
            copies = await self.queries.copies(ukey)
        for each in copies:
            await self._replace(each)
        return bool(copies)

    async def _replace(self, document: Document) -> None:
        """Leave a tombstone; rows that retention has removed meanwhile are gone all the same."""
        if document["live"]:
            await self.database.replace("erase", STREAMS, tombstone(document))

    async def _occupy(self, original: Document) -> None:
        """Project the tombstone to wherever the event itself may still be on its way to."""
        app = Resource.parse(original["resource"]).app
        if app is None:
            return
        targets = [Stream.of_org(app.org)]
        if original.get("subject"):
            targets.append(Stream.of_subject(original["subject"]))
        for target in targets:
            try:
                await self.projection.project(target, [Row(tombstone(original), self.proof)])
            except EventsError as error:
                if error.problem is Problem.UNAVAILABLE:
                    raise  # else what takes not even the tombstone does not take the event


def _is_under_way(position: int, followed: Document | None) -> bool:
    """Whether an event may still be projected, by what the document of its stream says of following up."""
    if followed is None or bounds_of(followed).checkpoint < position:
        return True
    return any(int(each["position"]) <= position for each in followed.get("quarantined", ()))
