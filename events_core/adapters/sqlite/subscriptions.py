"""Subscriptions in the embedded store's file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from events_core.adapters.delivery_documents import document_of_subscription, subscription_of
from events_core.adapters.sqlite.store import SqliteEventStore
from events_core.delivery.ports import Changes
from events_core.delivery.subscription import Subscription

_VERSION = "(SELECT coalesce(max(version), 0) + 1 FROM subscriptions)"
_COLUMNS = "id, version, document"


@dataclass(frozen=True, slots=True)
class SqliteSubscriptions:
    """A SubscriptionStore; a version is the number of a change, and rises over all subscriptions."""

    file: SqliteEventStore

    async def create(self, draft: Subscription) -> tuple[Subscription, bool]:
        """Store a subscription; see `SubscriptionStore.create`."""
        return await self.file.write(lambda connection: _create(connection, draft))

    async def get(self, subscription_id: int) -> Subscription | None:
        """A subscription, None when it is unknown or deleted."""
        sql = f"SELECT {_COLUMNS} FROM subscriptions WHERE id = ? AND NOT deleted"  # noqa: S608 - constants
        found = await self.file.query(lambda connection: connection.execute(sql, (subscription_id,)).fetchone())
        return None if found is None else _subscription(found)

    async def owned_by(self, consumer: str, after: int, limit: int) -> Sequence[Subscription]:
        """A consumer's subscriptions; see `SubscriptionStore.owned_by`."""
        sql = f"""SELECT {_COLUMNS} FROM subscriptions
            WHERE consumer = ? AND NOT deleted AND id > ? ORDER BY id LIMIT ?"""  # noqa: S608 - constants
        values = (consumer, after, limit)
        found = await self.file.query(lambda connection: connection.execute(sql, values).fetchall())
        return list(map(_subscription, found))

    async def change(self, subscription: Subscription) -> Subscription | None:
        """Replace a subscription; see `SubscriptionStore.change`."""
        return await self.file.write(lambda connection: _change(connection, subscription))

    async def changes(self, token: str | None = None) -> Changes:
        """What changed since; see `SubscriptionStore.changes`."""
        since = int(token or 0)
        sql = f"SELECT {_COLUMNS} FROM subscriptions WHERE version > ? AND (? OR NOT deleted)"  # noqa: S608 - constants
        found = await self.file.query(lambda connection: connection.execute(sql, (since, token is not None)).fetchall())
        newest = max([since, *(row[1] for row in found)])
        return Changes(list(map(_subscription, found)), str(newest))


def _create(connection: sqlite3.Connection, draft: Subscription) -> tuple[Subscription, bool]:
    standing = connection.execute(
        f"SELECT {_COLUMNS} FROM subscriptions WHERE key = ?",  # noqa: S608 - constants
        (draft.key,),
    ).fetchone()
    if standing is not None:
        return _subscription(standing), False
    sql = f"INSERT INTO subscriptions (key, consumer, version, deleted, document) VALUES (?, ?, {_VERSION}, 0, '')"  # noqa: S608
    subscription_id = connection.execute(sql, (draft.key, draft.consumer)).lastrowid
    assert subscription_id is not None
    created = replace(draft, id=subscription_id)
    connection.execute("UPDATE subscriptions SET document = ? WHERE id = ?", (_text(created), subscription_id))
    (version,) = connection.execute("SELECT version FROM subscriptions WHERE id = ?", (subscription_id,)).fetchone()
    return replace(created, version=str(version)), True


def _change(connection: sqlite3.Connection, subscription: Subscription) -> Subscription | None:
    key = None if subscription.deleted else subscription.key
    sql = f"""UPDATE subscriptions SET key = ?, version = {_VERSION}, deleted = ?, document = ?
        WHERE id = ? AND version = ? RETURNING version"""  # noqa: S608 - constants
    values = (key, subscription.deleted, _text(subscription), subscription.id, int(subscription.version or 0))
    changed = connection.execute(sql, values).fetchone()
    return None if changed is None else replace(subscription, version=str(changed[0]))


def _text(subscription: Subscription) -> str:
    return orjson.dumps(document_of_subscription(subscription)).decode()


def _subscription(row: tuple[Any, ...]) -> Subscription:
    _, version, document = row
    return subscription_of(orjson.loads(document), str(version))
