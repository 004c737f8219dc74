"""The port SubscriptionStore, against every adapter."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from events_core.common.errors import EventsError, Problem
from events_core.delivery.ports import SubscriptionQuota, SubscriptionStore
from events_core.delivery.subscription import EndpointPause, SealedSecrets, Subscription, SubscriptionIndex, Validation
from tests.support.deliveries import Stores, subscription


@pytest.fixture
def store(stores: Stores) -> SubscriptionStore:
    """An empty store."""
    return stores.subscriptions


async def test_a_created_subscription_is_stored_whole(store: SubscriptionStore) -> None:
    """It has a new id."""
    draft = subscription(
        type="a.%", subject="/party/1", alternative_subject="/person/x", source="https://a", subject_is_derived=True
    )
    draft = replace(draft, secrets=SealedSecrets("a", "b", 7), allowed_rate=5, level=None, paused=True)
    draft = draft.with_pause(EndpointPause(draft.target, 9))
    draft = replace(draft, content_type="application/json", was_validated=True, moves=(1, 2), tests=(3,))
    created, is_new = await store.create(draft)
    assert (is_new, created.id > 0, created.version != "") == (True, True, True)
    assert await store.get(created.id) == created
    assert replace(created, id=0, version="") == draft


async def test_an_equal_subscription_is_the_stored_one(store: SubscriptionStore) -> None:
    """It keeps its secret; another consumer, endpoint or filter makes another subscription."""
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
    created = [await store.create(other) for other in others]
    assert all(new for _, new in created)
    assert len({stored.id for stored, _ in created} | {first.id}) == 6


async def test_simultaneous_equal_subscriptions_are_one(stores: Stores) -> None:
    """Exactly one of eight in two processes is new."""
    both = [stores.subscriptions, stores.other_subscriptions]
    drafts = [subscription(secrets=SealedSecrets(f"{n}")) for n in range(8)]
    outcomes = await asyncio.gather(*(both[n % 2].create(draft) for n, draft in enumerate(drafts)))
    assert [is_new for _, is_new in outcomes].count(True) == 1
    assert len({stored.id for stored, _ in outcomes}) == 1
    assert len({stored.secrets.current for stored, _ in outcomes}) == 1


async def test_simultaneous_subscriptions_have_different_ids(stores: Stores) -> None:
    """Ids rise."""
    both = [stores.subscriptions, stores.other_subscriptions]
    drafts = [subscription(endpoint=f"https://example.com/{n}") for n in range(12)]
    outcomes = await asyncio.gather(*(both[n % 2].create(draft) for n, draft in enumerate(drafts)))
    assert len({stored.id for stored, is_new in outcomes if is_new}) == 12


async def test_simultaneous_subscriptions_stay_within_the_quota(stores: Stores) -> None:
    """A standing, a deleted and another consumer's subscription do not count. No time alone makes room."""
    both, quota = [stores.subscriptions, stores.other_subscriptions], SubscriptionQuota(4, 9)
    gone, _ = await stores.subscriptions.create(subscription(endpoint="https://example.com/gone"))
    await stores.subscriptions.change(replace(gone, deleted=True))
    await stores.subscriptions.create(subscription(consumer="/org/skd"))
    drafts = [subscription(endpoint=f"https://example.com/{n}") for n in range(8)]
    outcomes = await asyncio.gather(
        *(both[n % 2].create(draft, quota) for n, draft in enumerate(drafts)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, EventsError)]
    assert [error.problem for error in refused] == [Problem.TOO_MANY_REQUESTS] * 4
    assert all("Retry-After" not in error.headers for error in refused)
    owned = await stores.subscriptions.owned_by("/org/ttd", 0, 10)
    assert len(owned) == 4
    draft = subscription(endpoint=owned[0].endpoint, secrets=SealedSecrets("another"))
    again, is_new = await stores.subscriptions.create(draft, quota)
    assert (again.id, is_new) == (owned[0].id, False)


async def test_subscriptions_that_were_never_validated_have_their_own_quota(store: SubscriptionStore) -> None:
    """One that was validated at an earlier endpoint does not count."""
    quota = SubscriptionQuota(9, 2)
    await store.create(subscription(endpoint="https://example.com/a"), quota)
    moved = subscription(endpoint="https://example.com/b", validation=Validation(), was_validated=True)
    await store.create(moved, quota)
    for name in ("c", "d"):
        await store.create(subscription(endpoint=f"https://example.com/{name}", validation=Validation()), quota)
    with pytest.raises(EventsError) as refused:
        await store.create(subscription(endpoint="https://example.com/e", validation=Validation()), quota)
    assert (refused.value.problem, refused.value.headers) == (Problem.TOO_MANY_REQUESTS, {"Retry-After": "30"})


async def test_simultaneous_subscriptions_stay_within_the_quota_of_those_never_validated(stores: Stores) -> None:
    """In two processes, beside one that was validated and another consumer's."""
    both, quota = [stores.subscriptions, stores.other_subscriptions], SubscriptionQuota(9, 3)
    await stores.subscriptions.create(subscription())
    await stores.subscriptions.create(subscription(consumer="/org/skd", validation=Validation()))
    drafts = [subscription(endpoint=f"https://example.com/{n}", validation=Validation()) for n in range(8)]
    outcomes = await asyncio.gather(
        *(both[n % 2].create(draft, quota) for n, draft in enumerate(drafts)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, EventsError)]
    assert [error.headers for error in refused] == [{"Retry-After": "30"}] * 5
    assert len(await stores.subscriptions.owned_by("/org/ttd", 0, 10)) == 4


async def test_a_change_needs_the_version_that_was_read(store: SubscriptionStore) -> None:
    """The second of two changes to one version fails."""
    created, _ = await store.create(subscription())
    first = await store.change(replace(created, paused=True))
    assert first is not None
    assert await store.change(replace(created, disabled=True)) is None
    standing = await store.get(created.id)
    assert standing == first
    assert (standing.paused, standing.disabled) == (True, False)


async def test_no_change_gives_two_subscriptions_one_key(store: SubscriptionStore) -> None:
    """The second is a conflict, and stays as it was. A deleted subscription has no key."""
    one, _ = await store.create(subscription())
    two, _ = await store.create(subscription(endpoint="https://example.com/two"))
    with pytest.raises(EventsError) as conflict:
        await store.change(replace(two, endpoint=one.endpoint))
    assert conflict.value.problem is Problem.CONFLICT
    assert await store.get(two.id) == two
    assert await store.change(replace(one, deleted=True)) is not None
    assert await store.change(replace(two, endpoint=one.endpoint)) is not None


async def test_a_deleted_subscription_is_gone_and_its_key_is_free(store: SubscriptionStore) -> None:
    """An equal subscription gets another id."""
    created, _ = await store.create(subscription())
    assert await store.change(replace(created, deleted=True)) is not None
    assert await store.get(created.id) is None
    assert list(await store.owned_by(created.consumer, 0, 10)) == []
    again, is_new = await store.create(subscription())
    assert (is_new, again.id > created.id) == (True, True)


async def test_a_consumers_subscriptions_are_listed_in_pages(store: SubscriptionStore) -> None:
    """The order is that of ids."""
    own = [(await store.create(subscription(endpoint=f"https://example.com/{n}")))[0] for n in range(5)]
    await store.create(subscription(consumer="/org/skd"))
    first = await store.owned_by("/org/ttd", 0, 3)
    rest = await store.owned_by("/org/ttd", first[-1].id, 3)
    assert [*first, *rest] == own
    assert list(await store.owned_by("/org/ttd", own[-1].id, 3)) == []


async def test_changes_are_complete_since_the_token(stores: Stores) -> None:
    """They are those of every process; without a token they are all subscriptions."""
    index = SubscriptionIndex()
    token: str | None = None

    async def catch_up() -> set[int]:
        nonlocal token
        changes = await stores.other_subscriptions.changes(token)
        for changed in changes.subscriptions:
            index.put(changed)
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
    assert [listed.id for listed in everything] == [two.id]


async def test_a_pause_of_an_endpoint_reaches_every_process(stores: Stores) -> None:
    """Also with the marker of a subscription that is deleted meanwhile."""
    paused, _ = await stores.subscriptions.create(subscription())
    other, _ = await stores.subscriptions.create(subscription(type="b"))
    token = (await stores.other_subscriptions.changes()).token
    changed = await stores.subscriptions.change(paused.with_pause(EndpointPause(paused.target, 9)))
    assert changed is not None
    assert SubscriptionIndex((await stores.other_subscriptions.changes()).subscriptions).paused_until(other) == 9
    await stores.subscriptions.change(changed.deletion_marker())
    assert SubscriptionIndex((await stores.other_subscriptions.changes(token)).subscriptions).paused_until(other) == 9


async def test_an_unknown_id_has_no_subscription(store: SubscriptionStore) -> None:
    """The id was never given."""
    assert await store.get(12345) is None
    assert await store.change(replace(subscription(), id=12345, version="1")) is None
