"""The SubscriptionStore port, held against every adapter."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from events_core.delivery.ports import SubscriptionStore
from events_core.delivery.subscription import SealedSecrets, Subscription, SubscriptionIndex, Validation
from tests.support.deliveries import Stores, subscription


@pytest.fixture
def store(stores: Stores) -> SubscriptionStore:
    """An empty store."""
    return stores.subscriptions


async def test_what_is_created_is_there_as_it_was(store: SubscriptionStore) -> None:
    """Every field of it, under a new id."""
    draft = subscription(
        type="a.%", subject="/party/1", alternative_subject="/person/x", source="https://a", subject_is_derived=True
    )
    draft = replace(draft, secrets=SealedSecrets("a", "b", 7), allowed_rate=5, level=None, paused=True)
    created, is_new = await store.create(draft)
    assert (is_new, created.id > 0, created.version != "") == (True, True, True)
    assert await store.get(created.id) == created
    assert replace(created, id=0, version="") == draft


async def test_the_same_again_is_the_one_that_stands(store: SubscriptionStore) -> None:
    """With the secret that it had; another consumer, endpoint or filter is another one."""
    first, _ = await store.create(subscription(secrets=SealedSecrets("first")))
    again, is_new = await store.create(subscription(secrets=SealedSecrets("second")))
    assert (again, is_new) == (first, False)
    others = [
        subscription(consumer="/org/skd"),
        subscription(endpoint="https://example.com/other"),
        subscription(type="a"),
        subscription(subject="/party/1"),
        subscription(subject="/party/1", include_subunits=True),
    ]
    created = [await store.create(each) for each in others]
    assert all(new for _, new in created)
    assert len({each.id for each, _ in created} | {first.id}) == 6


async def test_eight_at_once_are_one(stores: Stores) -> None:
    """Exactly one of them is new, in two processes."""
    both = [stores.subscriptions, stores.other_subscriptions]
    drafts = [subscription(secrets=SealedSecrets(f"{n}")) for n in range(8)]
    outcomes = await asyncio.gather(*(both[n % 2].create(each) for n, each in enumerate(drafts)))
    assert [is_new for _, is_new in outcomes].count(True) == 1
    assert len({each.id for each, _ in outcomes}) == 1
    assert len({each.secrets.current for each, _ in outcomes}) == 1


async def test_different_ones_at_once_have_different_ids(stores: Stores) -> None:
    """Ids rise, and none is given twice."""
    both = [stores.subscriptions, stores.other_subscriptions]
    drafts = [subscription(endpoint=f"https://example.com/{n}") for n in range(12)]
    outcomes = await asyncio.gather(*(both[n % 2].create(each) for n, each in enumerate(drafts)))
    assert len({each.id for each, is_new in outcomes if is_new}) == 12


async def test_a_change_needs_the_version_that_was_read(store: SubscriptionStore) -> None:
    """Of two changes of one version the second is refused, and what the first wrote stays."""
    created, _ = await store.create(subscription())
    first = await store.change(replace(created, paused=True))
    assert first is not None
    assert await store.change(replace(created, disabled=True)) is None
    standing = await store.get(created.id)
    assert standing == first
    assert (standing.paused, standing.disabled) == (True, False)


async def test_what_is_deleted_is_gone_and_its_key_is_free(store: SubscriptionStore) -> None:
    """Nobody finds it any more; the same again is a new one with another id."""
    created, _ = await store.create(subscription())
    assert await store.change(replace(created, deleted=True)) is not None
    assert await store.get(created.id) is None
    assert list(await store.owned_by(created.consumer, 0, 10)) == []
    again, is_new = await store.create(subscription())
    assert (is_new, again.id > created.id) == (True, True)


async def test_a_consumers_own_are_listed_in_pages(store: SubscriptionStore) -> None:
    """By id, whoever else has some."""
    own = [(await store.create(subscription(endpoint=f"https://example.com/{n}")))[0] for n in range(5)]
    await store.create(subscription(consumer="/org/skd"))
    first = await store.owned_by("/org/ttd", 0, 3)
    rest = await store.owned_by("/org/ttd", first[-1].id, 3)
    assert [*first, *rest] == own
    assert list(await store.owned_by("/org/ttd", own[-1].id, 3)) == []


async def test_changes_tell_everything_since_the_token(stores: Stores) -> None:
    """What another process created, changed and deleted; without a token all that stands."""
    index = SubscriptionIndex()
    token: str | None = None

    async def catch_up() -> set[int]:
        nonlocal token
        changes = await stores.other_subscriptions.changes(token)
        for each in changes.subscriptions:
            index.put(each)
        token = changes.token
        return set(index._by_id)

    assert await catch_up() == set()
    one, _ = await stores.subscriptions.create(subscription())
    assert await catch_up() == {one.id}
    two, _ = await stores.subscriptions.create(subscription(type="b"))
    changed = await stores.subscriptions.change(replace(one, validation=Validation(validated=True)))
    assert await catch_up() == {one.id, two.id}
    assert index.get(one.id) == changed
    assert changed is not None
    await stores.subscriptions.change(replace(changed, deleted=True))
    assert await catch_up() == {two.id}
    everything: list[Subscription] = list((await stores.subscriptions.changes()).subscriptions)
    assert [each.id for each in everything] == [two.id]


async def test_nobody_is_nobody(store: SubscriptionStore) -> None:
    """An id that was never given."""
    assert await store.get(12345) is None
    assert await store.change(replace(subscription(), id=12345, version="1")) is None
