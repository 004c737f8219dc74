"""Lanes in the container `due`: when a lane is due, who holds its lease, and which segments hold its deliveries."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from events_core.adapters.cosmos.client import CosmosDatabase, Document
from events_core.common import errors
from events_core.delivery.delivery import Breaker, Lane, Replay
from events_core.delivery.ports import Lease, Overdue

DUE = "due"
NEVER = 2**53 - 1
_TRIES = 30
_PATCH = 10
"""The most operations of one patch."""

Change = Callable[[Document], bool]
"""Changes a lane's document in place, or returns False to leave it."""


@dataclass(frozen=True, slots=True)
class CosmosLanes:
    """One document per lane.

    `segments` maps each segment with open deliveries to the time of the first attempt in it, `all` holds every segment
    that ever had a delivery. `at` is when the lane is due, `woken` the earliest time that a wake-up asked for. `lease`
    is the token of the lease that runs `until`. `replays` counts the subscription's replays, and `unfinished` are the
    numbers of those that may be unfinished.
    """

    database: CosmosDatabase

    async def get(self, lane: Lane) -> Document | None:
        """A lane's document; None if there is no such lane."""
        return await self.database.read("lane", DUE, str(lane), str(lane))

    async def touch(self, lane: Lane, now: int, segments: Iterable[int], *, is_due: bool) -> None:
        """Note that segments hold deliveries of the lane; with `is_due` each holds one to attempt now.

        The last request makes the lane due, so a worker that looks from then on finds all of the segments.
        """
        numbers = sorted(set(segments))
        changes: dict[str, Any] = {f"all/s{number}": True for number in numbers}
        if is_due:
            changes |= {**{f"segments/s{number}": now for number in numbers}, "at": now}
        for start in range(0, len(changes), _PATCH):
            patch = dict(list(changes.items())[start : start + _PATCH])
            if not await self.database.change("lane", DUE, str(lane), patch):
                await self.database.create_if_absent("lane", DUE, new_lane(lane))
                await self.database.change("lane", DUE, str(lane), patch)

    async def wake(self, lane: Lane, at: int) -> None:
        """Make a lane due at `at`, unless it is due earlier; create it if it does not exist."""
        await self.database.create_if_absent("lane", DUE, new_lane(lane))
        await self._wake(lane, at)

    async def wake_all(self, subscription: int, at: int) -> Sequence[Lane]:
        """Make the live lane and the lanes of running replays due; return these lanes."""
        live = Lane(subscription)
        await self.wake(live, at)
        document = await self.get(live)
        replays = [Lane(subscription, replay) for replay in range(1, document["replays"] + 1)] if document else []
        return [live, *[lane for lane in replays if await self._wake(lane, at)]]

    async def due(self, now: int, limit: int) -> Sequence[Lane]:
        """Lanes that are due and not leased: any `limit` that are due, ordered by how long they have been."""
        sql = "SELECT TOP @limit c.id, c.at, c.until FROM c WHERE c.at <= @now"
        found = await self.database.query("due", DUE, sql, {"limit": limit, "now": now}, None)
        free = sorted((document for document in found if document["until"] <= now), key=lambda lane: int(lane["at"]))
        return [lane for document in free if (lane := Lane.parse(document["id"])) is not None]

    async def overdue(self, now: int) -> Sequence[Overdue]:
        """Lanes in which an attempt is due, put off or leased lanes too."""
        sql = "SELECT c.id, c.segments, c.failures, c.openUntil FROM c WHERE c.at < @never"
        found = await self.database.query("due", DUE, sql, {"never": NEVER}, None)
        since = [(document, min(document["segments"].values(), default=NEVER)) for document in found]
        return [
            Overdue(lane, at, Breaker(document["failures"], document["openUntil"]))
            for document, at in since
            if at <= now and (lane := Lane.parse(document["id"])) is not None
        ]

    async def take(self, lane: Lane, now: int, until: int) -> Lease | None:
        """Lease a lane that has no running lease."""
        token = secrets.token_hex(8)

        def take(document: Document) -> bool:
            if document["until"] > now:
                return False
            document.update(until=until, lease=token, woken=NEVER)
            return True

        taken = await self.changed(lane, take)
        return None if taken is None else Lease(lane, until, Breaker(taken["failures"], taken["openUntil"]), token)

    async def renew(self, lease: Lease, until: int) -> Lease | None:
        """Let a lease run longer; None if it is lost."""

        def renew(document: Document) -> bool:
            document["until"] = until
            return bool(document["lease"] == lease.version)

        return None if await self.changed(lease.lane, renew) is None else replace(lease, until=until)

    async def next_replay(self, subscription: int) -> Lane:
        """Give a number to a replay of a subscription."""
        live = Lane(subscription)
        await self.database.create_if_absent("lane", DUE, new_lane(live))

        def count(document: Document) -> bool:
            document["replays"] += 1
            return True

        counted = await self.changed(live, count)
        assert counted is not None  # the lane was created above
        return Lane(subscription, counted["replays"])

    async def note_unfinished(self, replay: Lane, *, is_unfinished: bool) -> None:
        """Add a replay to those of its subscription that may be unfinished, or remove it."""

        def note(document: Document) -> bool:
            others = [number for number in document.get("unfinished", []) if number != replay.replay]
            document["unfinished"] = [*others, replay.replay] if is_unfinished else others
            return True

        await self.changed(Lane(replay.subscription), note)

    async def unfinished(self, subscriptions: Sequence[int]) -> list[Lane]:
        """The replays of subscriptions that may be unfinished."""
        sql = "SELECT c.id, c.unfinished FROM c WHERE ARRAY_CONTAINS(@ids, c.id) AND IS_DEFINED(c.unfinished)"
        values = {"ids": [str(Lane(subscription)) for subscription in subscriptions]}
        found = await self.database.query("replays", DUE, sql, values, None)
        return [Lane(int(document["id"]), number) for document in found for number in document["unfinished"]]

    async def drop(self, lease: Lease) -> None:
        """Delete the lane of a lease."""
        await self.database.delete("lane", DUE, str(lease.lane), str(lease.lane))

    async def _wake(self, lane: Lane, at: int) -> bool:
        """Make a lane due; return False if it does not exist."""

        def wake(document: Document) -> bool:
            document["at"] = min(document["at"], at)
            document["woken"] = min(document["woken"], at)
            return True

        return await self.changed(lane, wake) is not None

    async def changed(self, lane: Lane, change: Change) -> Document | None:
        """Update with optimistic concurrency. Returns None if the lane is missing or `change` declines."""
        for _ in range(_TRIES):
            document = await self.get(lane)
            if document is None or not change(document):
                return None
            if await self.database.replace_if("lane", DUE, document, document["_etag"]) is not None:
                return document
        raise errors.unavailable("A lane changes too often.")


def new_lane(lane: Lane, replay: Replay | None = None) -> Document:
    """The document of a lane that is not due."""
    document: Document = {
        "id": str(lane),
        "at": NEVER,
        "woken": NEVER,
        "until": 0,
        "lease": "",
        "failures": 0,
        "openUntil": 0,
        "segments": {},
        "all": {},
        "replays": 0,
    }
    return document if replay is None else document | {"replay": document_of_replay(replay)}


def document_of_replay(replay: Replay) -> Document:
    """A replay as the part of its lane's document."""
    return {"after": replay.after, "until": replay.until, "done": replay.done}


def segments_of(document: Document, name: str) -> dict[int, Any]:
    """The segments in `segments` or `all` of a lane's document, in order, with their values."""
    return dict(sorted((int(key[1:]), value) for key, value in document[name].items()))
