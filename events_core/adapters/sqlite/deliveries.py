"""Deliveries and their lanes in the embedded store's file."""
# ruff: noqa: S608  statements are put together from constants; every value is bound

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from events_core.adapters.delivery_documents import delivery_of, document_of_delivery
from events_core.adapters.sqlite.store import SqliteEventStore
from events_core.delivery.delivery import Breaker, Delivery, Lane, Replay, State
from events_core.delivery.ports import Lease, Overdue
from events_core.feeds.stream import Stream

_COLUMNS = "version, document"
_RECORD = """INSERT OR IGNORE INTO deliveries
  (subscription, position, replay, state, next_attempt, settled, registered, version, document)
VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?)"""
_SAVE = """UPDATE deliveries SET state = ?, next_attempt = ?, settled = ?, document = ?, version = version + 1
WHERE subscription = ? AND position = ? AND replay = ? AND version = ?"""
_WAKE = """INSERT INTO lanes (subscription, replay, at) VALUES (?1, ?2, ?3)
ON CONFLICT DO UPDATE SET at = min(coalesce(at, ?3), ?3), version = version + 1"""
_TAKE = """UPDATE lanes SET until = ?, owner = ?, version = version + 1
WHERE subscription = ? AND replay = ? AND until <= ?
RETURNING version, failures, open_until"""
_IN = f"SELECT {_COLUMNS} FROM deliveries WHERE subscription = ? AND replay = ? AND state = ?"
_NEXT = "SELECT min(next_attempt) FROM deliveries WHERE subscription = ? AND replay = ? AND state = ?"
_OVERDUE = """SELECT subscription, replay, min(next_attempt), failures, open_until
FROM deliveries JOIN lanes USING (subscription, replay) WHERE next_attempt <= ? GROUP BY subscription, replay"""
_EXPIRED = """DELETE FROM deliveries WHERE (settled < ? AND state <> 'dead') OR registered < ?"""
_OPEN = (State.PENDING, State.FAILING)
_PROCESS = f"{os.getpid()}.{time.time_ns()}"
"""This process, and no other that has or had its number."""
_begun: set[Path] = set()
"""The files whose leases this process has looked at."""


@dataclass(frozen=True, slots=True)
class SqliteDeliveries:
    """A DeliveryStore in the file of an event store.

    A lane's version rises with whatever makes it due: so whoever gives it back learns that there is more. What proves
    a lease is its end, as long as no later one stands in its place. A process that begins with a file ends the leases
    of those that are gone: all of them are on this machine.
    """

    file: SqliteEventStore

    async def record(self, deliveries: Sequence[Delivery], now: int) -> None:
        """Store deliveries, and make their lanes due; see `DeliveryStore.record`."""
        rows = [_row(each) for each in deliveries]
        lanes = dict.fromkeys(each.lane for each in deliveries if each.state.open)

        def record(connection: sqlite3.Connection) -> None:
            connection.executemany(_RECORD, rows)
            for lane in lanes:
                _wake(connection, lane, now)

        await self.file.write(record)

    async def wake(self, lane: Lane, at: int) -> None:
        """Make a lane due; see `DeliveryStore.wake`."""
        await self.file.write(lambda connection: _wake(connection, lane, at))

    async def wake_all(self, subscription: int, at: int) -> Sequence[Lane]:
        """Make every lane of a subscription due; see `DeliveryStore.wake_all`."""
        return await self.file.write(lambda connection: _wake_all(connection, subscription, at))

    async def due(self, now: int, limit: int) -> Sequence[Lane]:
        """Lanes that are due; see `DeliveryStore.due`."""
        await self._end_leases_of_the_dead(now)
        sql = "SELECT subscription, replay FROM lanes WHERE at <= ? AND until <= ? ORDER BY at LIMIT ?"
        found = await self.file.query(lambda connection: connection.execute(sql, (now, now, limit)).fetchall())
        return [Lane(*row) for row in found]

    async def overdue(self, now: int) -> Sequence[Overdue]:
        """Lanes in which an attempt is due; see `DeliveryStore.overdue`."""
        found = await self.file.query(lambda connection: connection.execute(_OVERDUE, (now,)).fetchall())
        return [Overdue(Lane(*row[:2]), row[2], Breaker(*row[3:])) for row in found]

    async def dead(self) -> int:
        """How many deliveries are dead."""
        sql = "SELECT count(*) FROM deliveries WHERE state = ?"
        found = await self.file.query(lambda connection: connection.execute(sql, (State.DEAD.value,)).fetchone())
        return int(found[0])

    async def take(self, lane: Lane, now: int, until: int) -> Lease | None:
        """Lease a lane; see `DeliveryStore.take`."""
        await self._end_leases_of_the_dead(now)
        values = (until, _PROCESS, lane.subscription, lane.replay, now)
        row = await self.file.write(lambda connection: connection.execute(_TAKE, values).fetchone())
        return None if row is None else Lease(lane, until, Breaker(row[1], row[2]), str(row[0]))

    async def renew(self, lease: Lease, until: int) -> Lease | None:
        """Prolong a lease; see `DeliveryStore.renew`."""
        sql = "UPDATE lanes SET until = ? WHERE subscription = ? AND replay = ? AND until = ?"
        kept = await self._changed(sql, until, *_key(lease.lane), lease.until)
        return replace(lease, until=until) if kept else None

    async def release(self, lease: Lease, breaker: Breaker, *, now: int, at: int | None = None) -> bool:
        """End a lease; see `DeliveryStore.release`."""
        return await self.file.write(lambda connection: _give_back(connection, lease, breaker, now, at))

    async def drop(self, lease: Lease) -> None:
        """End a lease and its lane."""
        await self._changed("DELETE FROM lanes WHERE subscription = ? AND replay = ?", *_key(lease.lane))

    async def ready(self, lease: Lease, now: int, firsts: int, retries: int) -> Sequence[Delivery]:
        """Deliveries that are due; see `DeliveryStore.ready`."""
        key = _key(lease.lane)

        def read(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            first = connection.execute(
                f"{_IN} ORDER BY position LIMIT ?", (*key, State.PENDING.value, firsts)
            ).fetchall()
            again = connection.execute(
                f"{_IN} AND next_attempt <= ? ORDER BY next_attempt LIMIT ?", (*key, State.FAILING.value, now, retries)
            ).fetchall()
            return [*first, *again]

        return list(map(_delivery, await self.file.query(read)))

    async def save(self, delivery: Delivery) -> Delivery | None:
        """Replace a delivery; see `DeliveryStore.save`."""
        version = int(delivery.version or 0)
        values = (delivery.state.value, delivery.next_attempt, delivery.settled, _text(delivery))
        saved = await self._changed(
            _SAVE, *values, delivery.lane.subscription, delivery.position, delivery.lane.replay, version
        )
        return replace(delivery, version=str(version + 1)) if saved else None

    async def remove(self, delivery: Delivery) -> None:
        """Take a delivery away."""
        sql = "DELETE FROM deliveries WHERE subscription = ? AND position = ? AND replay = ?"
        await self._changed(sql, delivery.lane.subscription, delivery.position, delivery.lane.replay)

    async def page(
        self, subscription: int, after: tuple[int, int], limit: int, state: State | None = None
    ) -> Sequence[Delivery]:
        """Deliveries of a subscription; see `DeliveryStore.page`."""
        wanted = "" if state is None else "AND state = ?"
        sql = f"""SELECT {_COLUMNS} FROM deliveries WHERE subscription = ? AND (position, replay) > (?, ?) {wanted}
            ORDER BY position, replay LIMIT ?"""
        values = (subscription, *after, *([] if state is None else [state.value]), limit)
        found = await self.file.query(lambda connection: connection.execute(sql, values).fetchall())
        return list(map(_delivery, found))

    async def of_event(self, stream: Stream, position: int) -> Sequence[Delivery]:
        """The deliveries of one event; see `DeliveryStore.of_event`."""
        sql = f"SELECT {_COLUMNS} FROM deliveries WHERE position = ? ORDER BY subscription, replay"
        found = await self.file.query(lambda connection: connection.execute(sql, (position,)).fetchall())
        return [each for each in map(_delivery, found) if each.stream == stream]

    async def revive(self, subscription: int, now: int) -> int:
        """Let dead deliveries begin anew; see `DeliveryStore.revive`."""
        return await self.file.write(lambda connection: _revive(connection, subscription, now))

    async def begin_replay(self, replay: Replay, now: int) -> Replay:
        """Store a replay; see `DeliveryStore.begin_replay`."""
        return await self.file.write(lambda connection: _begin_replay(connection, replay, now))

    async def replay(self, lane: Lane) -> Replay | None:
        """The replay of a lane; see `DeliveryStore.replay`."""
        sql = "SELECT after, until, done FROM replays WHERE subscription = ? AND replay = ?"
        row = await self.file.query(lambda connection: connection.execute(sql, _key(lane)).fetchone())
        return None if row is None else Replay(lane, row[0], row[1], bool(row[2]))

    async def move_replay(self, lease: Lease, replay: Replay) -> None:
        """Note how far a replay has come; see `DeliveryStore.move_replay`."""
        sql = """UPDATE replays SET after = ?, done = ? WHERE subscription = ? AND replay = ? AND EXISTS
            (SELECT 1 FROM lanes WHERE subscription = ? AND replay = ? AND until = ?)"""
        key = _key(lease.lane)
        await self._changed(sql, replay.after, replay.done, *key, *key, lease.until)

    async def expire(self, settled_before: int, registered_before: int) -> int:
        """Remove what is no longer kept; see `DeliveryStore.expire`."""
        values = (settled_before, registered_before)
        return await self.file.write(lambda connection: connection.execute(_EXPIRED, values).rowcount)

    async def _end_leases_of_the_dead(self, now: int) -> None:
        path = self.file.path
        if path not in _begun:
            await self.file.write(lambda connection: _end_leases(connection, now))
            _begun.add(path)

    async def _changed(self, sql: str, *values: Any) -> bool:
        return await self.file.write(lambda connection: connection.execute(sql, values).rowcount) > 0


def _end_leases(connection: sqlite3.Connection, now: int) -> None:
    owners = [row[0] for row in connection.execute("SELECT DISTINCT owner FROM lanes WHERE until > ?", (now,))]
    for owner in owners:
        if not _lives(owner):
            connection.execute("UPDATE lanes SET until = 0 WHERE owner = ?", (owner,))


def _lives(owner: str) -> bool:
    """Whether the process that leased a lane is there."""
    number = owner.partition(".")[0]
    if owner == _PROCESS or not number or os.name == "nt":
        return True  # or there is no asking
    if int(number) == os.getpid():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _wake(connection: sqlite3.Connection, lane: Lane, at: int) -> None:
    connection.execute(_WAKE, (*_key(lane), at))


def _wake_all(connection: sqlite3.Connection, subscription: int, at: int) -> Sequence[Lane]:
    rows = connection.execute("SELECT replay FROM lanes WHERE subscription = ?", (subscription,)).fetchall()
    lanes = [Lane(subscription, replay) for replay in sorted({0, *(row[0] for row in rows)})]
    for lane in lanes:
        _wake(connection, lane, at)
    return lanes


def _give_back(connection: sqlite3.Connection, lease: Lease, breaker: Breaker, now: int, at: int | None) -> bool:
    key = _key(lease.lane)
    row = connection.execute(
        "SELECT version, at FROM lanes WHERE subscription = ? AND replay = ? AND until = ?", (*key, lease.until)
    ).fetchone()
    if row is None:
        return False
    first, again = (connection.execute(_NEXT, (*key, state.value)).fetchone()[0] for state in _OPEN)
    times = [] if again is None else [again]
    if first is not None:
        times.append(min(first, now))  # it is due, whatever the clock says that it was recorded by
    if str(row[0]) != lease.version and row[1] is not None:
        times.append(row[1])  # it was woken meanwhile
    due = min(times) if times else None
    if due is not None and at is not None:
        due = max(due, at)
    connection.execute(
        "UPDATE lanes SET at = ?, until = 0, failures = ?, open_until = ? WHERE subscription = ? AND replay = ?",
        (due, breaker.failures, breaker.open_until, *key),
    )
    return due is not None and due <= now


def _revive(connection: sqlite3.Connection, subscription: int, now: int) -> int:
    sql = f"SELECT {_COLUMNS} FROM deliveries WHERE subscription = ? AND state = ?"
    dead = [_delivery(row) for row in connection.execute(sql, (subscription, State.DEAD.value)).fetchall()]
    for each in (delivery.revived(now) for delivery in dead):
        values = (each.state.value, each.next_attempt, each.settled, _text(each))
        connection.execute(_SAVE, (*values, each.lane.subscription, each.position, each.lane.replay, int(each.version)))
    for lane in dict.fromkeys(each.lane for each in dead):
        _wake(connection, lane, now)
    return len(dead)


def _begin_replay(connection: sqlite3.Connection, replay: Replay, now: int) -> Replay:
    subscription = replay.lane.subscription
    (number,) = connection.execute(
        "SELECT coalesce(max(replay), 0) + 1 FROM replays WHERE subscription = ?", (subscription,)
    ).fetchone()
    begun = replace(replay, lane=Lane(subscription, number))
    connection.execute("INSERT INTO replays VALUES (?, ?, ?, ?, 0)", (subscription, number, replay.after, replay.until))
    _wake(connection, begun.lane, now)
    return begun


def _key(lane: Lane) -> tuple[int, int]:
    return lane.subscription, lane.replay


def _row(delivery: Delivery) -> tuple[Any, ...]:
    lane = delivery.lane
    place = (lane.subscription, delivery.position, lane.replay)
    moments = (delivery.next_attempt, delivery.settled, delivery.registered)
    return (*place, delivery.state.value, *moments, _text(delivery))


def _text(delivery: Delivery) -> str:
    return orjson.dumps(document_of_delivery(delivery)).decode()


def _delivery(row: tuple[Any, ...]) -> Delivery:
    version, document = row
    return delivery_of(orjson.loads(document), str(version))
