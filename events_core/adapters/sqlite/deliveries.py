"""Deliveries and their lanes in the SQLite file."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from typing_extensions import override

from events_core.adapters.delivery_documents import delivery_of, document_of_delivery
from events_core.adapters.sqlite.store import SqliteEventStore
from events_core.common.texts import storable
from events_core.delivery.delivery import Breaker, Delivery, Lane, Replay, State
from events_core.delivery.ports import ALL, DeliveryFilter, DeliveryStore, Lease, Overdue, Ready, ReplayQuota
from events_core.feeds.stream import Stream

_RECORD = """INSERT OR IGNORE INTO deliveries
  (subscription, position, replay, state, next_attempt, settled, registered, version, document)
VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?)"""
_SAVE = """UPDATE deliveries SET state = ?, next_attempt = ?, settled = ?, document = ?, version = version + 1
WHERE subscription = ? AND position = ? AND replay = ? AND version = ?"""
_REMOVE = "DELETE FROM deliveries WHERE subscription = ? AND position = ? AND replay = ?"
_PENDING = """SELECT version, document FROM deliveries WHERE subscription = ? AND replay = ? AND state = 'pending'
AND position <= ? ORDER BY position LIMIT ?"""
_RETRIES = """SELECT version, document FROM deliveries WHERE subscription = ? AND replay = ? AND state = 'failing'
AND next_attempt IS NOT NULL AND position <= ? ORDER BY next_attempt LIMIT ?"""
_PAGE = "SELECT version, document FROM deliveries WHERE subscription = :subscription"
_AFTER, _BEFORE = " AND (position, replay) > (:position, :replay)", " AND (position, replay) < (:position, :replay)"
_OF_STATE = " AND state = :column AND json_extract(document, '$.state') = :state"
_SHOWN = " AND json_extract(document, '$.permit')"
_OF_DELIVERY, _OF_EVENT_ID, _OF_SOURCE = (
    f" AND json_extract(document, '$.{name}') = :{name}" for name in ("deliveryId", "eventId", "source")
)
_ORDERS = {False: " ORDER BY position, replay", True: " ORDER BY position DESC, replay DESC"}
_OF_EVENT = "SELECT version, document FROM deliveries WHERE position = ? ORDER BY subscription, replay"
_DEAD = "SELECT version, document FROM deliveries WHERE subscription = ? AND state = 'dead'"
_NEXT_ATTEMPT = "SELECT min(next_attempt) FROM deliveries WHERE subscription = ? AND replay = ? AND state = ?"
# A worker ends the open deliveries of a lane, and says so in the log.
_EXPIRE = """DELETE FROM deliveries WHERE (settled < ? AND state <> 'dead') OR (registered < ?
AND (next_attempt IS NULL OR (subscription, replay) NOT IN (SELECT subscription, replay FROM lanes)))"""

_LAST = 2**63 - 1
"""A position beyond every delivery."""

# What is due at once has the time 0, because the clock may be set back before somebody looks.
_WAKE = """INSERT INTO lanes (subscription, replay, at) VALUES (?, ?, 0)
ON CONFLICT DO UPDATE SET at = 0, version = version + 1"""
_DUE = "SELECT subscription, replay, at FROM lanes WHERE at <= ?1 AND until <= ?1 ORDER BY at LIMIT ?2"
_OVERDUE = """SELECT subscription, replay, min(min(next_attempt, ?1)), failures, open_until
FROM deliveries JOIN lanes USING (subscription, replay)
WHERE next_attempt <= ?1 OR (state = 'pending' AND next_attempt IS NOT NULL) GROUP BY subscription, replay"""
# A leased lane is due when its lease ends, unless it is woken for an earlier time.
_TAKE = """UPDATE lanes SET at = ?1, until = ?1, owner = ?2, version = version + 1
WHERE subscription = ?3 AND replay = ?4 AND until <= ?5 RETURNING version, failures, open_until"""
_RENEW = "UPDATE lanes SET until = ? WHERE subscription = ? AND replay = ? AND until = ?"
_LEASED = "SELECT version, at FROM lanes WHERE subscription = ? AND replay = ? AND until = ?"
_RELEASE = """UPDATE lanes SET at = ?, until = 0, failures = ?, open_until = ?
WHERE subscription = ? AND replay = ?"""
_TO_WAKE = "SELECT replay FROM lanes WHERE subscription = ? AND replay > 0 AND at IS NOT NULL ORDER BY replay"
_DROP = "DELETE FROM lanes WHERE subscription = ? AND replay = ?"

_UNFINISHED = """SELECT count(*) FROM replays WHERE subscription IN (SELECT value FROM json_each(?))
AND replay > 0 AND (NOT done OR EXISTS (SELECT 1 FROM deliveries WHERE deliveries.subscription = replays.subscription
  AND deliveries.replay = replays.replay AND state IN ('pending', 'failing') AND next_attempt IS NOT NULL
  AND json_extract(document, '$.state') = 'pending'))"""
_BEGIN_REPLAY = "INSERT INTO replays VALUES (?, ?, ?, ?, 0)"
_REPLAY = "SELECT after, until, done FROM replays WHERE subscription = ? AND replay = ?"
_MOVE_REPLAY = """INSERT INTO replays SELECT subscription, replay, ?3, ?4, ?5 FROM lanes
WHERE subscription = ?1 AND replay = ?2 AND until = ?6
ON CONFLICT DO UPDATE SET after = excluded.after, until = excluded.until, done = excluded.done"""

_PROCESS = f"{os.getpid()}.{time.time_ns()}"
"""Identifies this process among all processes that have or had its process id."""
_opened: set[Path] = set()
"""The files in which this process has ended the leases of processes that are gone."""


@dataclass(frozen=True, slots=True)
class SqliteDeliveries(DeliveryStore):
    """Deliveries in the file of an event store.

    Whatever makes a lane due raises the lane's version, so the end of a lease notices that there is more to do. A
    lease is valid while its end (`until`) is the lane's. A process that opens a file ends the leases of processes
    that are gone. It can tell, since all processes with the file are on this machine.

    The column `state` of an undecidable delivery is FAILING, and its document says PENDING if it is, so one index finds
    all retries by their time.
    """

    file: SqliteEventStore

    @override
    async def record(self, deliveries: Sequence[Delivery], now: int) -> None:
        rows = [_row(delivery) for delivery in deliveries]
        lanes = dict.fromkeys(delivery.lane for delivery in deliveries if delivery.state.open)

        def record(connection: sqlite3.Connection) -> None:
            connection.executemany(_RECORD, rows)
            for lane in lanes:
                connection.execute(_WAKE, _key(lane))

        await self.file.write(record)

    @override
    async def wake(self, lane: Lane) -> None:
        await self.file.execute(_WAKE, *_key(lane))

    @override
    async def wake_all(self, subscription: int) -> Sequence[Lane]:
        return await self.file.write(lambda connection: _wake_all(connection, subscription))

    @override
    async def due(self, now: int, limit: int) -> Mapping[Lane, int]:
        await self._end_leases_of_dead_processes(now)
        found = await self.file.fetch(_DUE, now, limit)
        return {Lane(subscription, replay): at for subscription, replay, at in found}

    @override
    async def overdue(self, now: int) -> Sequence[Overdue]:
        return [
            Overdue(Lane(subscription, replay), since, Breaker(failures, open_until))
            for subscription, replay, since, failures, open_until in await self.file.fetch(_OVERDUE, now)
        ]

    @override
    async def dead(self) -> int:
        [(count,)] = await self.file.fetch("SELECT count(*) FROM deliveries WHERE state = 'dead'")
        return int(count)

    @override
    async def take(self, lane: Lane, now: int, until: int) -> Lease | None:
        await self._end_leases_of_dead_processes(now)
        return await self.file.write(lambda connection: _take(connection, lane, now, until))

    @override
    async def renew(self, lease: Lease, until: int) -> Lease | None:
        renewed = await self.file.execute(_RENEW, until, *_key(lease.lane), lease.until)
        return replace(lease, until=until) if renewed else None

    @override
    async def release(
        self,
        lease: Lease,
        breaker: Breaker,
        *,
        now: int,
        at: int | None = None,
        latest: int | None = None,
        to_come: Sequence[Delivery] | None = None,
    ) -> int | None:
        return await self.file.write(
            lambda connection: _release(connection, lease, breaker, now=now, at=at, latest=latest)
        )

    @override
    async def drop(self, lease: Lease) -> None:
        await self.file.execute(_DROP, *_key(lease.lane))

    @override
    async def ready(self, lease: Lease, now: int, firsts: int, retries: int) -> Ready:
        last = lease.replay.after if lease.replay is not None and lease.is_replaying else _LAST
        key = (*_key(lease.lane), last)

        def read(connection: sqlite3.Connection) -> list[list[Any]]:
            # One more than is asked for tells whether there are more.
            limits = ((_PENDING, firsts + 1), (_RETRIES, retries + 1))
            return [connection.execute(sql, (*key, limit)).fetchall() for sql, limit in limits]

        first, retry = ([_delivery(*row) for row in rows] for rows in await self.file.query(read))
        due = [item for item in retry[:retries] if item.next_attempt is not None and item.next_attempt <= now]
        is_whole = len(first) <= firsts and len(retry) <= retries and not lease.is_replaying
        return Ready([*first[:firsts], *due], retry[len(due) :] if is_whole else None)

    @override
    async def save(self, delivery: Delivery) -> Delivery | None:
        saved = await self.file.write(lambda connection: _save(connection, delivery))
        return replace(delivery, version=str(int(delivery.version or 0) + 1)) if saved else None

    @override
    async def remove(self, delivery: Delivery) -> None:
        await self.file.execute(_REMOVE, delivery.lane.subscription, delivery.position, delivery.lane.replay)

    @override
    async def page(
        self, subscription: int, after: tuple[int, int] | None, limit: int, wanted: DeliveryFilter = ALL
    ) -> Sequence[Delivery]:
        sql, values = _page(subscription, after, limit, wanted)
        states: tuple[State | None, ...] = (wanted.state,)
        if wanted.state is State.PENDING:
            states = (State.PENDING, State.FAILING)  # the columns of pending deliveries

        def read(connection: sqlite3.Connection) -> list[Any]:
            each = ({**values, "column": state.value if state else None} for state in states)
            return [row for named in each for row in connection.execute(sql, named).fetchall()]

        found = [_delivery(*row) for row in await self.file.query(read)]
        page = {(delivery.position, delivery.lane.replay): delivery for delivery in found}
        return [page[key] for key in sorted(page, reverse=wanted.newest_first)][:limit]

    @override
    async def of_event(self, stream: Stream, position: int) -> Sequence[Delivery]:
        found = [_delivery(*row) for row in await self.file.fetch(_OF_EVENT, position)]
        return [delivery for delivery in found if delivery.stream == stream]

    @override
    async def revive(self, subscription: int, now: int) -> int:
        return await self.file.write(lambda connection: _revive(connection, subscription, now))

    @override
    async def begin_replay(self, replay: Replay, now: int, quota: ReplayQuota | None = None) -> Replay:
        begun = await self.file.write(lambda connection: _begin_replay(connection, replay, quota))
        if begun is None:
            assert quota is not None
            raise quota.exceeded()
        return begun

    @override
    async def move_replay(self, lease: Lease, replay: Replay) -> Lease | None:
        values = (*_key(lease.lane), replay.after, replay.until, replay.done, lease.until)
        return replace(lease, replay=replay) if await self.file.execute(_MOVE_REPLAY, *values) else None

    @override
    async def expire(self, settled_before: int, registered_before: int) -> int:
        return await self.file.execute(_EXPIRE, settled_before, registered_before)

    async def _end_leases_of_dead_processes(self, now: int) -> None:
        path = self.file.path
        if path not in _opened:
            await self.file.write(lambda connection: _end_leases_of_dead_processes(connection, now))
            _opened.add(path)


def _end_leases_of_dead_processes(connection: sqlite3.Connection, now: int) -> None:
    owners = connection.execute("SELECT DISTINCT owner FROM lanes WHERE until > ?", (now,)).fetchall()
    for (owner,) in owners:
        if not _lives(owner):
            connection.execute("UPDATE lanes SET at = min(at, ?), until = 0 WHERE owner = ?", (now, owner))


def _lives(owner: str) -> bool:
    """Whether the process that leased a lane is still running."""
    process_id = owner.partition(".")[0]
    if owner == _PROCESS or not process_id or os.name == "nt":
        return True  # on Windows there is no way to ask, and the lease ends by itself
    if int(process_id) == os.getpid():
        return False
    try:
        os.kill(int(process_id), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _wake_all(connection: sqlite3.Connection, subscription: int) -> Sequence[Lane]:
    """Make due the live lane, and the other lanes of a subscription that are due at some time."""
    rows = connection.execute(_TO_WAKE, (subscription,)).fetchall()
    lanes = [Lane(subscription), *(Lane(subscription, replay) for (replay,) in rows)]
    connection.executemany(_WAKE, [_key(lane) for lane in lanes])
    return lanes


def _take(connection: sqlite3.Connection, lane: Lane, now: int, until: int) -> Lease | None:
    row = connection.execute(_TAKE, (until, _PROCESS, *_key(lane), now)).fetchone()
    if row is None:
        return None
    version, failures, open_until = row
    replay = connection.execute(_REPLAY, _key(lane)).fetchone()
    begun = None if replay is None else Replay(lane, replay[0], replay[1], bool(replay[2]))
    return Lease(lane, until, Breaker(failures, open_until), str(version), begun)


def _release(
    connection: sqlite3.Connection, lease: Lease, breaker: Breaker, *, now: int, at: int | None, latest: int | None
) -> int | None:
    """End a lease. Returns when the lane is due."""
    key = _key(lease.lane)
    row = connection.execute(_LEASED, (*key, lease.until)).fetchone()
    if row is None:
        return None
    version, woken_at = row
    (first,) = connection.execute(_NEXT_ATTEMPT, (*key, State.PENDING.value)).fetchone()
    (retry,) = connection.execute(_NEXT_ATTEMPT, (*key, State.FAILING.value)).fetchone()
    times = [
        None if first is None else min(first, now),  # a clock that was ahead may have recorded it for later
        retry,
        max(woken_at, now) if str(version) != lease.version else None,  # the lane was woken during the lease
        latest,
    ]
    due = min((time for time in times if time is not None), default=None)
    if due is not None and at is not None:
        due = max(due, at)
    connection.execute(_RELEASE, (due, breaker.failures, breaker.open_until, *key))
    return due


def _save(connection: sqlite3.Connection, delivery: Delivery) -> bool:
    """Replace a delivery. Returns False if it has another version."""
    key = (delivery.lane.subscription, delivery.position, delivery.lane.replay)
    values = (_state(delivery), delivery.next_attempt, delivery.settled, _document(delivery))
    return connection.execute(_SAVE, (*values, *key, int(delivery.version or 0))).rowcount > 0


def _revive(connection: sqlite3.Connection, subscription: int, now: int) -> int:
    dead = [_delivery(*row) for row in connection.execute(_DEAD, (subscription,)).fetchall()]
    for delivery in dead:
        _save(connection, delivery.revived(now))
    for lane in dict.fromkeys(delivery.lane for delivery in dead):
        connection.execute(_WAKE, _key(lane))
    return len(dead)


def _begin_replay(connection: sqlite3.Connection, replay: Replay, quota: ReplayQuota | None) -> Replay | None:
    """Store a replay. Return None if that would exceed the quota."""
    if quota is not None:
        ids = orjson.dumps(list(quota.subscriptions)).decode()
        (count,) = connection.execute(_UNFINISHED, (ids,)).fetchone()
        if count >= quota.most:
            return None
    subscription = replay.lane.subscription
    (number,) = connection.execute(
        "SELECT coalesce(max(replay), 0) + 1 FROM replays WHERE subscription = ?", (subscription,)
    ).fetchone()
    begun = replace(replay, lane=Lane(subscription, number))
    connection.execute(_BEGIN_REPLAY, (subscription, number, replay.after, replay.until))
    connection.execute(_WAKE, _key(begun.lane))
    return begun


def _page(
    subscription: int, after: tuple[int, int] | None, limit: int, wanted: DeliveryFilter
) -> tuple[str, dict[str, Any]]:
    """The statement of a page and its values, but for the column `state`."""
    conditions = {
        _BEFORE if wanted.newest_first else _AFTER: after is not None,
        _OF_STATE: wanted.state is not None,
        _OF_DELIVERY: wanted.id is not None,
        _OF_EVENT_ID: wanted.event_id is not None,
        _OF_SOURCE: wanted.source is not None,
        _SHOWN: wanted.event_id is not None or wanted.source is not None,
    }
    position, replay = after or (0, 0)
    values = {
        "subscription": subscription,
        "position": position,
        "replay": replay,
        "state": wanted.state.value if wanted.state else None,
        "deliveryId": wanted.id,
        "eventId": wanted.event_id and storable(wanted.event_id),
        "source": wanted.source and storable(wanted.source),
        "limit": limit,
    }
    chosen = "".join(sql for sql, is_wanted in conditions.items() if is_wanted)
    return f"{_PAGE}{chosen}{_ORDERS[wanted.newest_first]} LIMIT :limit", values


def _key(lane: Lane) -> tuple[int, int]:
    return lane.subscription, lane.replay


def _row(delivery: Delivery) -> tuple[Any, ...]:
    return (
        delivery.lane.subscription,
        delivery.position,
        delivery.lane.replay,
        _state(delivery),
        delivery.next_attempt,
        delivery.settled,
        delivery.registered,
        _document(delivery),
    )


def _state(delivery: Delivery) -> str:
    return (State.FAILING if delivery.undecidable else delivery.state).value


def _document(delivery: Delivery) -> str:
    return orjson.dumps(document_of_delivery(delivery)).decode()


def _delivery(version: int, document: str) -> Delivery:
    return delivery_of(orjson.loads(document), str(version))
