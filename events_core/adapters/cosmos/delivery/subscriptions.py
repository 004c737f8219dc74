"""Subscriptions in Cosmos DB, all in one logical partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from typing_extensions import override

from events_core.adapters.cosmos.client import CosmosDatabase, Document
from events_core.adapters.cosmos.failures import FAILURES
from events_core.adapters.delivery_documents import document_of_subscription, subscription_of
from events_core.common import errors
from events_core.common.errors import EventsError, Problem
from events_core.delivery.ports import SAME_SUBSCRIPTION, Changes, SubscriptionQuota, SubscriptionStore
from events_core.delivery.subscription import EventFilter, SealedSecrets, Subscription

SUBSCRIPTIONS = "subscriptions"
_OVERLAP_SECONDS = 10
"""`_ts` counts whole seconds, and changes of one second may become visible one after the other."""
_OF = "SELECT * FROM c WHERE c.partition = 'subscriptions'"
_OF_CONSUMER = """SELECT TOP @limit * FROM c WHERE c.partition = 'subscriptions' AND c.consumer = @consumer
AND c.number > @after AND c.deleted = false ORDER BY c.partition, c.consumer, c.number"""
_WERE_VALIDATED = """SELECT c.subscription.validation.validated AS now, c.subscription.was_validated AS before FROM c
WHERE c.partition = 'subscriptions' AND c.consumer = @consumer AND c.deleted = false"""
_NEWEST = """SELECT TOP 1 c.number FROM c WHERE c.partition = 'subscriptions'
ORDER BY c.partition DESC, c.number DESC"""
_TRIES = 50


@dataclass(frozen=True, slots=True)
class CosmosSubscriptions(SubscriptionStore):
    """Subscriptions in the container `subscriptions`. A version is a document's etag."""

    database: CosmosDatabase

    @override
    async def create(self, draft: Subscription, quota: SubscriptionQuota | None = None) -> tuple[Subscription, bool]:
        for _ in range(_TRIES):
            same = await self._query(f"{_OF} AND c.ukey = @ukey", ukey=draft.key)
            if same:
                stored = _subscription(same[0])
                # Secrets are new in each draft: the same ones mean that this call has created the subscription.
                return stored, stored.secrets.current == draft.secrets.current
            newest = await self._query(_NEWEST)
            created = replace(draft, id=newest[0]["number"] + 1 if newest else 1)
            if quota is not None:  # read after the newest id: a subscription created since makes this id conflict
                found = await self._query(_WERE_VALIDATED, consumer=draft.consumer)
                quota.check([bool(each.get("now") or each.get("before")) for each in found])
            try:
                await self.database.create("subscribe", SUBSCRIPTIONS, _document(created))
            except FAILURES:  # a conflict too: the next query tells what the partition holds
                continue
        raise errors.unavailable("The subscription could not be stored in time.")

    @override
    async def get(self, subscription_id: int) -> Subscription | None:
        document = await self.database.read("subscription", SUBSCRIPTIONS, _id(subscription_id), SUBSCRIPTIONS)
        return None if document is None or document["deleted"] else _subscription(document)

    @override
    async def owned_by(self, consumer: str, after: int, limit: int) -> Sequence[Subscription]:
        found = await self._query(_OF_CONSUMER, consumer=consumer, after=after, limit=limit)
        return [_subscription(document) for document in found]

    @override
    async def change(self, subscription: Subscription) -> Subscription | None:
        document, version = _document(subscription), subscription.version
        try:
            etag = await self.database.replace_if("subscription", SUBSCRIPTIONS, document, version)
        except EventsError as error:
            raise errors.conflict(SAME_SUBSCRIPTION) if error.problem is Problem.CONFLICT else error from None
        return None if etag is None else replace(subscription, version=etag)

    @override
    async def changes(self, token: str | None = None) -> Changes:
        since = int(token or 0)
        condition = "c.deleted = false" if token is None else "c._ts >= @since"
        found = await self._query(f"{_OF} AND {condition}", since=max(0, since - _OVERLAP_SECONDS))
        newest = max([since, *(int(document["_ts"]) for document in found)])
        return Changes([_subscription(document) for document in found], str(newest))

    async def use_up(self, count: int) -> None:
        """Leave out so many ids: they may have been used by subscriptions that a restored store does not hold."""
        newest = await self._query(_NEWEST)
        last = Subscription(
            id=count + (newest[0]["number"] if newest else 0),
            endpoint="",
            filter=EventFilter(""),
            consumer="",
            created_by="",
            created=0,
            start=0,
            level=None,
            secrets=SealedSecrets(""),
            deleted=True,
        )
        await self.database.create_if_absent("restore", SUBSCRIPTIONS, _document(last))

    async def _query(self, sql: str, **values: object) -> list[Document]:
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
