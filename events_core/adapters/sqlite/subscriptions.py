"""Subscriptions in the SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson
from typing_extensions import override

from events_core.adapters.delivery_documents import document_of_subscription, subscription_of
from events_core.adapters.sqlite.store import SqliteEventStore
from events_core.common import errors
from events_core.common.errors import EventsError
from events_core.delivery.ports import SAME_SUBSCRIPTION, Changes, SubscriptionQuota, SubscriptionStore
from events_core.delivery.subscription import Subscription

_GET = "SELECT version, document FROM subscriptions WHERE id = ? AND NOT deleted"
_OWNED_BY = """SELECT version, document FROM subscriptions
WHERE consumer = ? AND NOT deleted AND id > ? ORDER BY id LIMIT ?"""
_CHANGES = "SELECT version, document FROM subscriptions WHERE version > ? AND (? OR NOT deleted)"
_WITH_KEY = "SELECT version, document FROM subscriptions WHERE key = ?"
_WERE_VALIDATED = """SELECT json_extract(document, '$.validation.validated')
  OR coalesce(json_extract(document, '$.was_validated'), 0) FROM subscriptions WHERE consumer = ? AND NOT deleted"""
_OTHER_WITH_KEY = "SELECT 1 FROM subscriptions WHERE key = ? AND id <> ?"
_CREATE = """INSERT INTO subscriptions (key, consumer, version, deleted, document)
VALUES (?, ?, (SELECT coalesce(max(version), 0) + 1 FROM subscriptions), 0, '') RETURNING id, version"""
_CHANGE = """UPDATE subscriptions SET key = ?, deleted = ?, document = ?,
  version = (SELECT coalesce(max(version), 0) + 1 FROM subscriptions)
WHERE id = ? AND version = ? RETURNING version"""


@dataclass(frozen=True, slots=True)
class SqliteSubscriptions(SubscriptionStore):
    """Subscriptions in the file of an event store.

    A version counts the changes of all subscriptions, so the newest version is also the token of `changes`.
    """

    file: SqliteEventStore

    @override
    async def create(self, draft: Subscription, quota: SubscriptionQuota | None = None) -> tuple[Subscription, bool]:
        outcome = await self.file.write(lambda connection: _create(connection, draft, quota))
        if isinstance(outcome, EventsError):
            raise outcome
        return outcome

    @override
    async def get(self, subscription_id: int) -> Subscription | None:
        rows = await self.file.fetch(_GET, subscription_id)
        return _subscription(*rows[0]) if rows else None

    @override
    async def owned_by(self, consumer: str, after: int, limit: int) -> Sequence[Subscription]:
        return [_subscription(*row) for row in await self.file.fetch(_OWNED_BY, consumer, after, limit)]

    @override
    async def change(self, subscription: Subscription) -> Subscription | None:
        outcome = await self.file.write(lambda connection: _change(connection, subscription))
        if isinstance(outcome, EventsError):
            raise outcome
        return outcome

    @override
    async def changes(self, token: str | None = None) -> Changes:
        since = int(token or 0)
        rows = await self.file.fetch(_CHANGES, since, token is not None)
        newest = max([since, *(version for version, _ in rows)])
        return Changes([_subscription(*row) for row in rows], str(newest))


def _create(
    connection: sqlite3.Connection, draft: Subscription, quota: SubscriptionQuota | None
) -> tuple[Subscription, bool] | EventsError:
    existing = connection.execute(_WITH_KEY, (draft.key,)).fetchone()
    if existing is not None:
        return _subscription(*existing), False
    if quota is not None:
        rows = connection.execute(_WERE_VALIDATED, (draft.consumer,)).fetchall()
        try:
            quota.check([bool(was_validated) for (was_validated,) in rows])
        except EventsError as refused:
            return refused
    subscription_id, version = connection.execute(_CREATE, (draft.key, draft.consumer)).fetchone()
    created = replace(draft, id=subscription_id, version=str(version))
    connection.execute("UPDATE subscriptions SET document = ? WHERE id = ?", (_document(created), subscription_id))
    return created, True


def _change(connection: sqlite3.Connection, subscription: Subscription) -> Subscription | EventsError | None:
    key = None if subscription.deleted else subscription.key
    if key is not None and connection.execute(_OTHER_WITH_KEY, (key, subscription.id)).fetchone():
        return errors.conflict(SAME_SUBSCRIPTION)
    values = (key, subscription.deleted, _document(subscription), subscription.id, int(subscription.version or 0))
    changed = connection.execute(_CHANGE, values).fetchone()
    return None if changed is None else replace(subscription, version=str(changed[0]))


def _document(subscription: Subscription) -> str:
    return orjson.dumps(document_of_subscription(subscription)).decode()


def _subscription(version: int, document: str) -> Subscription:
    return subscription_of(orjson.loads(document), str(version))
