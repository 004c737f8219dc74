"""Lanes in the container `due`: when a lane is due, who holds its lease, and which segments hold its deliveries."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from typing_extensions import override

from events_core.adapters.cosmos.client import CosmosDatabase, Document
from events_core.common import errors
from events_core.delivery.delivery import Breaker, Lane, Replay
from events_core.delivery.ports import DeliveryStore, Lease, Overdue

DUE = "due"
NEVER = 2**53 - 1
AT_ONCE = 0
"""The time of what is due whatever the clock of a process says."""
_UNFINISHED = "SELECT * FROM c WHERE c.subscription IN (@subscriptions) AND c.number > 0 AND c.at < @never"
_TRIES = 30
_NOTED_AT_ONCE = 3
"""How many segments one patch notes. A patch has ten operations at most."""


@dataclass(frozen=True, slots=True)
class CosmosLease(Lease):
    """A lease with the lane's `segments` as they were when it began, or when its replay was moved."""

    segments: Mapping[int, int] = field(default_factory=dict)


class ToCome(NamedTuple):
    """A first attempt to come in a `segment`: it is due at `at`, and was to be made at `planned`."""

    segment: int
    at: int
    planned: int


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a lease at `now`: the state of the endpoint, and what is to come in the lane.

    The lane is due with the first that is `to_come`, and at `latest` at the latest, but not before `at`.
    """

    breaker: Breaker
    now: int
    at: int | None
    latest: int | None
    to_come: Sequence[ToCome]

    @property
    def due(self) -> int | None:
        """When the lane is due again, by the worker's clock; None for never."""
        due = min([NEVER if self.latest is None else self.latest, *(each.at for each in self.to_come)])
        return None if due == NEVER else max(due, self.at or 0, self.now)

    @property
    def changes(self) -> dict[str, Any]:
        """The properties of the lane's document that change."""
        due = NEVER if self.due is None else self.due
        segments: dict[str, int] = {}
        for segment, at, _ in self.to_come:
            segments[f"s{segment}"] = min(at, segments.get(f"s{segment}", NEVER))
        return {
            "at": due if due > self.now else AT_ONCE,
            "until": 0,
            "lease": "",
            "failures": self.breaker.failures,
            "openUntil": self.breaker.open_until,
            "segments": segments,
            "since": min((each.at or min(each.planned, self.now) for each in self.to_come), default=NEVER),
        }


@dataclass(frozen=True, slots=True)
class CosmosLanes(DeliveryStore):
    """What the store does with lanes: one document each.

    `at` is when the lane is due. `lease` is the token of the lease that runs `until`. `segments` maps each segment with
    open deliveries to the earliest time at which one of them is due, and `since` is the earliest of all, for measuring
    alone. The live lane's `all` holds every segment that ever had a delivery of the subscription, and its `replays`
    counts the replays.

    Processes have different clocks, so nothing that is due at once has a time: it is AT_ONCE. What is left to clocks:

    - A retry, and a lane that was put off, are due at a time of the worker that failed. For a worker with another clock
      they are as much too early or too late. They wait for seconds to hours anyway, and no order depends on it.
    - A lease ends at a time of its holder. A worker whose clock is ahead by most of a lease takes the lane too early:
      then both attempt a delivery, and only the first one is recorded, by the delivery's version. If the holder stops
      without a release, and its clock was ahead, the lane waits for as much longer.
    """

    database: CosmosDatabase

    async def _lane(self, lane: Lane) -> Document | None:
        """A lane's document; None if there is no such lane."""
        return await self.database.read("lane", DUE, str(lane), str(lane))

    async def _note(self, lane: Lane, now: int, segments: Sequence[int], due: Collection[int]) -> None:
        """Note that segments hold deliveries of a lane. Those of them that are `due` make the lane due.

        A request that names a segment as due makes the lane due too, so a release at any time leaves both or neither.
        """
        for start in range(0, len(segments), _NOTED_AT_ONCE):
            part = segments[start : start + _NOTED_AT_ONCE]
            noted: dict[str, Any] = {f"all/s{segment}": True for segment in part}
            if lane.replay:
                await self._set(Lane(lane.subscription), noted)
                noted = {}
            if made_due := {f"segments/s{segment}": AT_ONCE for segment in part if segment in due}:
                noted |= {**made_due, "since": now, "at": AT_ONCE}
            if noted:
                await self._set(lane, noted)

    async def _set(self, lane: Lane, changes: Mapping[str, Any]) -> None:
        """Set properties of a lane. Create the lane if it does not exist."""
        if not await self.database.change("lane", DUE, str(lane), changes):
            await self.database.create_if_absent("lane", DUE, new_lane(lane))
            await self.database.change("lane", DUE, str(lane), changes)

    @override
    async def wake(self, lane: Lane) -> None:
        await self._set(lane, {"at": AT_ONCE})

    @override
    async def wake_all(self, subscription: int) -> Sequence[Lane]:
        sql = "SELECT c.id FROM c WHERE c.subscription = @subscription AND c.number > 0 AND c.at < @never"
        found = await self.database.query("wake", DUE, sql, {"subscription": subscription, "never": NEVER}, None)
        replays = sorted(_lanes(found), key=lambda lane: lane.replay)
        await self.wake(live := Lane(subscription))
        woken = [await self.database.change("lane", DUE, str(lane), {"at": AT_ONCE}) for lane in replays]
        return [live, *(lane for lane, exists in zip(replays, woken, strict=True) if exists)]

    @override
    async def due(self, now: int, limit: int) -> Mapping[Lane, int]:
        sql = "SELECT TOP @limit c.id, c.at, c.until, c.since FROM c WHERE c.at <= @now"
        found = await self.database.query("due", DUE, sql, {"limit": limit, "now": now}, None)
        free = [document for document in found if document["until"] <= now]
        free.sort(key=lambda document: int(document["at"] or min(document["since"], now)))
        return {lane: document["at"] for document in free if (lane := Lane.parse(document["id"])) is not None}

    @override
    async def overdue(self, now: int) -> Sequence[Overdue]:
        sql = "SELECT c.id, c.since, c.failures, c.openUntil FROM c WHERE c.since <= @now OR c.at = 0"
        found = await self.database.query("due", DUE, sql, {"now": now}, None)
        return [
            Overdue(lane, min(document["since"], now), Breaker(document["failures"], document["openUntil"]))
            for document in found
            if document["since"] < NEVER and (lane := Lane.parse(document["id"])) is not None
        ]

    @override
    async def take(self, lane: Lane, now: int, until: int) -> Lease | None:
        token = secrets.token_hex(8)
        changes = {"until": until, "at": until, "lease": token}
        taken = await self.database.changed("lane", DUE, str(lane), changes, unless=f"c.until > {now}")
        if taken is None:
            return None
        breaker = Breaker(taken["failures"], taken["openUntil"])
        return CosmosLease(lane, until, breaker, token, replay_of(lane, taken), segments_of(taken))

    @override
    async def renew(self, lease: Lease, until: int) -> Lease | None:
        renewed = await self.database.change("lane", DUE, str(lease.lane), {"until": until}, unless=_lost(lease))
        return replace(lease, until=until) if renewed else None

    @override
    async def move_replay(self, lease: Lease, replay: Replay) -> Lease | None:
        assert isinstance(lease, CosmosLease)
        changes = {"replay": _document_of_replay(replay)}
        moved = await self.database.changed("lane", DUE, str(lease.lane), changes, unless=_lost(lease))
        return None if moved is None else replace(lease, replay=replay, segments=segments_of(moved))

    async def _end(self, lease: Lease, ending: Ending, etag: str | None = None) -> bool:
        """End a lease, of the document with `etag` if it is given. Return False if the document is another.

        Without `etag`, return False if the lease is lost, or the lane was made due since it began.
        """
        unless = f"{_lost(lease)} OR c.at = {AT_ONCE}" if etag is None else ""
        return await self.database.change("lane", DUE, str(lease.lane), ending.changes, etag=etag, unless=unless)

    @override
    async def drop(self, lease: Lease) -> None:
        await self._delete(lease.lane)

    async def _delete(self, lane: Lane) -> None:
        """Delete a lane."""
        await self.database.delete("lane", DUE, str(lane), str(lane))

    # -- Replays ------------------------------------------------------------------------------------------------------

    async def _add_replay(self, replay: Replay, at: int) -> Replay:
        """Give a number to a replay of a subscription, and store it with a lane that is due at `at`."""
        for _ in range(_TRIES):
            live = await self._lane(Lane(replay.lane.subscription))
            if live is None:
                await self.database.create_if_absent("lane", DUE, new_lane(Lane(replay.lane.subscription)))
                continue
            number = int(live["replays"]) + 1
            if await self.database.change("lane", DUE, live["id"], {"replays": number}, etag=live["_etag"]):
                begun = replace(replay, lane=Lane(replay.lane.subscription, number))
                document = new_lane(begun.lane) | {"replay": _document_of_replay(begun), "at": at}
                await self.database.create_if_absent("lane", DUE, document)
                return begun
        raise errors.unavailable("A lane changes too often.")

    async def recover(self, lane: Lane, segment: int, now: int) -> None:
        """Have a worker look at a segment, which may hold deliveries that the lane does not know after a restore."""
        await self._note(lane, now, [segment], {segment})
        live, number = str(Lane(lane.subscription)), lane.replay
        await self.database.change("lane", DUE, live, {"replays": number}, unless=f"c.replays >= {number}")

    async def _replays_to_come(self, subscriptions: Sequence[int]) -> Sequence[Document]:
        """The lanes of replays that are due at some time: of those that are unfinished, and of some others."""
        names = {f"s{index}": subscription for index, subscription in enumerate(subscriptions)}
        listed = ", ".join(f"@{name}" for name in names)
        sql = _UNFINISHED.replace("@subscriptions", listed)
        return await self.database.query("replays", DUE, sql, {**names, "never": NEVER}, None) if names else []


def new_lane(lane: Lane) -> Document:
    """The document of a lane that is not due."""
    return {
        "id": str(lane),
        "subscription": lane.subscription,
        "number": lane.replay,
        "at": NEVER,
        "until": 0,
        "lease": "",
        "failures": 0,
        "openUntil": 0,
        "segments": {},
        "since": NEVER,
        "all": {},
        "replays": 0,
    }


def replay_of(lane: Lane, document: Document) -> Replay | None:
    """The replay in a lane's document."""
    values = document.get("replay")
    return Replay(lane, values["after"], values["until"], values["done"]) if values else None


def segments_of(document: Document, name: str = "segments") -> dict[int, Any]:
    """The segments in `segments` or `all` of a lane's document, in order, with their values."""
    return dict(sorted((int(key[1:]), value) for key, value in document[name].items()))


def _document_of_replay(replay: Replay) -> Document:
    return {"after": replay.after, "until": replay.until, "done": replay.done}


def _lanes(documents: Iterable[Document]) -> list[Lane]:
    return [lane for document in documents if (lane := Lane.parse(document["id"])) is not None]


def _lost(lease: Lease) -> str:
    """The condition that a lane has another lease, or none."""
    return f"c.lease <> '{lease.version}'"
