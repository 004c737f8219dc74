"""Changes of a subscription whose write is done, said to be another's, and tried again."""

from __future__ import annotations

from dataclasses import replace

from events_core.access import scopes
from events_core.access.identity import caller_of_consumer
from events_core.delivery.subscribe import Change
from events_core.delivery.subscription import Subscription
from tests.support.delivering import TTD, Deployment

OWNER = replace(caller_of_consumer(TTD, 3), scopes=frozenset({scopes.SUBSCRIBE}))


class _Unanswered:
    """A store that changes a subscription and then says that another process did, once."""

    def __init__(self, store: object) -> None:
        self._store, self._left = store, 1

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def change(self, wanted: Subscription) -> Subscription | None:
        """Change a subscription."""
        stored: Subscription | None = await self._store.change(wanted)  # type: ignore[attr-defined]
        self._left -= 1
        return None if self._left == 0 else stored


async def test_a_rotation_whose_write_is_repeated_keeps_the_old_secret(deployment: Deployment) -> None:
    """The second write finds the new secret, and does not make it the previous one too."""
    subscription = await deployment.subscribe()
    subscriber = deployment.application.subscriber
    unanswered = replace(subscriber, subscriptions=_Unanswered(subscriber.subscriptions))  # type: ignore[arg-type]
    new = await unanswered.rotate_secret(OWNER, subscription.id)
    rotated = (await deployment.stored(subscription.id)).secrets
    assert subscriber.secrets.open(rotated.current, TTD) == new
    assert rotated.previous == subscription.secrets.current


async def test_a_deletion_whose_write_is_repeated_succeeds(deployment: Deployment) -> None:
    """The second write finds no subscription."""
    subscription = await deployment.subscribe()
    subscriber = deployment.application.subscriber
    unanswered = replace(subscriber, subscriptions=_Unanswered(subscriber.subscriptions))  # type: ignore[arg-type]
    await unanswered.delete(OWNER, subscription.id)
    assert await subscriber.subscriptions.get(subscription.id) is None


async def test_a_move_whose_write_is_repeated_counts_once(deployment: Deployment) -> None:
    """The second write finds the new endpoint."""
    subscription = await deployment.subscribe()
    subscriber = deployment.application.subscriber
    unanswered = replace(subscriber, subscriptions=_Unanswered(subscriber.subscriptions))  # type: ignore[arg-type]
    await unanswered.change(OWNER, subscription.id, Change(endpoint=deployment.receiver.url + "/new"))
    assert len((await deployment.stored(subscription.id)).moves) == 1
