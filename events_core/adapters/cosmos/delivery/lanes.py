"""Lanes of deliveries in the container `due`: when each is due, who serves it, and where its open ones stand."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from events_core.adapters.cosmos.client import CosmosDatabase
from events_core.adapters.cosmos.streams.documents import Document
from events_core.common import errors
from events_core.delivery.delivery import Breaker, Lane, Replay
from events_core.delivery.ports import Lease, Overdue

DUE = "due"
NEVER = 2**53 - 1
_TRIES = 30
_PATCH = 10
"""A patch has ten operations at most."""

Change = Callable[[Document], bool]
"""Changes a lane's document in place; False when it must not be."""


@dataclass(frozen=True, slots=True)
class CosmosLanes:
    """Documents of lanes. `segments` maps a segment that holds open deliveries to when the first of them is due.

    `all` holds every segment in which the lane ever had one; `lease` is the token of whoever serves it until `until`.
    """

    database: CosmosDatabase

    async def get(self, lane: Lane) -> Document | None:
        """A lane's document."""
        return await self.database.read("lane", DUE, str(lane), str(lane))

    async def touch(self, lane: Lane, now: int, segments: Iterable[int], *, is_due: bool) -> None:
        """Note that deliveries stand in segments; with `is_due` there is an attempt to be made in each.

        The lane is due with the last request: whoever serves it finds all of the segments.
        """
        numbers = sorted(set(segments))
        changes: dict[str, Any] = {f"all/s{each}": True for each in numbers}
        if is_due:
            changes |= {**{f"segments/s{each}": now for each in numbers}, "at": now}
        for at in range(0, len(changes), _PATCH):
            some = dict(list(changes.items())[at : at + _PATCH])
            if not await self.database.change("lane", DUE, str(lane), some, None):
                await self.database.create_if_absent("lane", DUE, new_lane(lane))
                await self.database.change("lane", DUE, str(lane), some, None)

    async def wake(self, lane: Lane, at: int) -> None:
        """Make a lane due at `at`, or earlier if it is."""
        await self.database.create_if_absent("lane", DUE, new_lane(lane))
        await self._wake(lane, at)

    async def wake_all(self, subscription: int, at: int) -> Sequence[Lane]:
        """Make every lane of a subscription due, those of replays that have ended left out; return them."""
        live = Lane(subscription)
        await self.wake(live, at)
        document = await self.get(live)
        replays = [Lane(subscription, replay) for replay in range(1, document["jobs"] + 1)] if document else []
        return [live, *[lane for lane in replays if await self._wake(lane, at)]]

    async def due(self, now: int, limit: int) -> Sequence[Lane]:
        """Lanes that are due and not leased; the longest due first of those that are found."""
        sql = "SELECT TOP @limit c.id, c.at, c.until FROM c WHERE c.at <= @now"
        found = await self.database.query("due", DUE, sql, {"limit": limit, "now": now}, None)
        free = sorted((each for each in found if each["until"] <= now), key=lambda each: int(each["at"]))
        return [lane for each in free if (lane := Lane.parse(each["id"])) is not None]

    async def overdue(self, now: int) -> Sequence[Overdue]:
        """Lanes in which an attempt is due; see `DeliveryStore.overdue`."""
        sql = "SELECT c.id, c.segments, c.failures, c.openUntil FROM c WHERE c.at < @never"
        found = await self.database.query("due", DUE, sql, {"never": NEVER}, None)
        since = [(each, min(each["segments"].values(), default=NEVER)) for each in found]
        return [
            Overdue(lane, at, Breaker(each["failures"], each["openUntil"]))
            for each, at in since
            if at <= now and (lane := Lane.parse(each["id"])) is not None
        ]

    async def take(self, lane: Lane, now: int, until: int) -> Lease | None:
        """Lease a lane that nobody serves."""
        token = secrets.token_hex(8)

        def take(document: Document) -> bool:
            if document["until"] > now:
                return False
            document.update(until=until, lease=token, woken=NEVER)
            return True

        taken = await self.changed(lane, take)
        return None if taken is None else Lease(lane, until, Breaker(taken["failures"], taken["openUntil"]), token)

    async def keep(self, lease: Lease, until: int) -> Lease | None:
        """Prolong a lease."""

        def keep(document: Document) -> bool:
            document["until"] = until
            return bool(document["lease"] == lease.version)

        return None if await self.changed(lease.lane, keep) is None else replace(lease, until=until)

    async def drop(self, lease: Lease) -> None:
        """End a lane."""
        await self.database.delete("lane", DUE, str(lease.lane), str(lease.lane))

    async def _wake(self, lane: Lane, at: int) -> bool:
        def wake(document: Document) -> bool:
            document["at"] = min(document["at"], at)
            document["woken"] = min(document["woken"], at)
            return True

        return await self.changed(lane, wake) is not None

    async def changed(self, lane: Lane, change: Change) -> Document | None:
        """The lane's document once it is changed, whoever else changes it; None when it must not be, or is none."""
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
        "jobs": 0,
    }
    return document if replay is None else document | {"replay": document_of_replay(replay)}


def document_of_replay(replay: Replay) -> Document:
    """What a replay's lane holds of it."""
    return {"after": replay.after, "until": replay.until, "done": replay.done}


def segments_of(document: Document, name: str) -> dict[int, Any]:
    """The segments that a lane's document maps under a name, in order."""
    return dict(sorted((int(key[1:]), value) for key, value in document[name].items()))
