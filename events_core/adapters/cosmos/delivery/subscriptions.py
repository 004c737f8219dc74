"""Subscriptions in Cosmos DB: one logical partition, ids taken optimistically."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from events_core.adapters.cosmos.client import CosmosDatabase
from events_core.adapters.cosmos.failures import FAILURES
from events_core.adapters.cosmos.streams.documents import Document
from events_core.adapters.delivery_documents import document_of_subscription, subscription_of
from events_core.common import errors
from events_core.delivery.ports import Changes
from events_core.delivery.subscription import Subscription

SUBSCRIPTIONS = "subscriptions"
_OVERLAP_SECONDS = 10
"""Times of changes are whole seconds, and a change may be seen later than one of the same second."""
_OF = "SELECT * FROM c WHERE c.partition = 'subscriptions'"
_OF_CONSUMER = """SELECT TOP @limit * FROM c WHERE c.partition = 'subscriptions' AND c.consumer = @consumer
AND c.number > @after AND c.deleted = false ORDER BY c.number"""
_NEWEST = "SELECT TOP 1 c.number FROM c WHERE c.partition = 'subscriptions' ORDER BY c.number DESC"
_TRIES = 50


@dataclass(frozen=True, slots=True)
class CosmosSubscriptions:
    """A SubscriptionStore; a version is a document's etag."""

    database: CosmosDatabase

    async def create(self, draft: Subscription) -> tuple[Subscription, bool]:
        """Store a subscription; see `SubscriptionStore.create`."""
        for _ in range(_TRIES):
            standing = await self._ask(f"{_OF} AND c.ukey = @ukey", ukey=draft.key)
            if standing:
                found = _subscription(standing[0])
                return found, found.secrets.current == draft.secrets.current
            newest = await self._ask(_NEWEST)
            created = replace(draft, id=newest[0]["number"] + 1 if newest else 1)
            try:
                await self.database.create("subscribe", SUBSCRIPTIONS, _document(created))
            except FAILURES:  # a conflict among them: the question tells what stands
                continue
        raise errors.unavailable("The subscription could not be stored in time.")

    async def get(self, subscription_id: int) -> Subscription | None:
        """A subscription, None when it is unknown or deleted."""
        document = await self.database.read("subscription", SUBSCRIPTIONS, _id(subscription_id), SUBSCRIPTIONS)
        return None if document is None or document["deleted"] else _subscription(document)

    async def of_consumer(self, consumer: str, after: int, limit: int) -> Sequence[Subscription]:
        """A consumer's subscriptions; see `SubscriptionStore.of_consumer`."""
        found = await self._ask(_OF_CONSUMER, consumer=consumer, after=after, limit=limit)
        return [_subscription(each) for each in found]

    async def change(self, subscription: Subscription) -> Subscription | None:
        """Replace a subscription; see `SubscriptionStore.change`."""
        etag = await self.database.replace_if(
            "subscription", SUBSCRIPTIONS, _document(subscription), subscription.version
        )
        return None if etag is None else replace(subscription, version=etag)

    async def changes(self, token: str | None = None) -> Changes:
        """What changed since; see `SubscriptionStore.changes`."""
        since = int(token or 0)
        condition = "c.deleted = false" if token is None else "c._ts >= @since"
        found = await self._ask(f"{_OF} AND {condition}", since=max(0, since - _OVERLAP_SECONDS))
        newest = max([since, *(int(each["_ts"]) for each in found)])
        return Changes([_subscription(each) for each in found], str(newest))

    async def _ask(self, sql: str, **values: object) -> list[Document]:
        return await self.database.query("subscriptions", SUBSCRIPTIONS, sql, values, SUBSCRIPTIONS)


def _id(number: int) -> str:
    return f"{number:010d}"


def _document(subscription: Subscription) -> Document:
    return {
        "id": _id(subscription.id),
        "partition": SUBSCRIPTIONS,
        "number": subscription.id,
        "ukey": f"deleted {subscription.id}" if subscription.deleted else subscription.key,
        "consumer": subscription.consumer,
        "deleted": subscription.deleted,
        "subscription": document_of_subscription(subscription),
    }


def _subscription(document: Document) -> Subscription:
    return subscription_of(document["subscription"], document["_etag"])
