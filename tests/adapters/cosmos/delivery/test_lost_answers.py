"""What the stores of deliveries and subscriptions do is done once, whatever becomes of the answer to its write."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from events_core.adapters.cosmos import CosmosConnection
from events_core.adapters.cosmos.client import CosmosDatabase, Document
from events_core.adapters.cosmos.delivery.deliveries import CosmosDeliveries
from events_core.adapters.cosmos.delivery.subscriptions import CosmosSubscriptions
from events_core.common.clock import SECOND
from events_core.delivery.delivery import Breaker, Lane, Replay, State
from events_core.delivery.subscription import SealedSecrets, Subscription
from events_core.delivery.update import update_subscription
from tests.adapters.cosmos.database import Database, Discovering
from tests.support.cosmos import Fault, ours_only
from tests.support.deliveries import LANE, NOW, delivery, leased, subscription

pytestmark = ours_only
UNTIL = NOW + 60 * SECOND


@dataclass
class Stores:
    """The stores of one process."""

    server: Database
    subscriptions: CosmosSubscriptions
    deliveries: CosmosDeliveries

    async def lose(self, fault: Fault, container: str) -> None:
        """Lose the answer to the next write of a document of a container that exists."""
        lost = [replace(fault, operation=operation, container=container) for operation in ("replace", "patch")]
        await self.server.inject(*lost)

    async def lane(self, lane: Lane = LANE) -> Document:
        """The document of a lane."""
        return dict(await self.server.container("due").read_item(str(lane), str(lane)))


@pytest.fixture(params=[CosmosConnection, Discovering], ids=["once", "repeating"])
async def stores(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Stores]:
    """The stores of an empty database."""
    opened = CosmosDatabase(request.param.of_string(database.server.connection_string), database.name)
    yield Stores(database, CosmosSubscriptions(opened), CosmosDeliveries(opened))
    await opened.close()


lost = pytest.mark.parametrize("fault", [Fault(status=503, after=True), Fault(cut=True, after=True)], ids=str)


@lost
async def test_a_lane_is_leased_to_whoever_took_it(stores: Stores, fault: Fault) -> None:
    """Nobody has to wait until the lease of a worker that knows nothing of it ends."""
    await stores.deliveries.record([delivery(1)], NOW)
    await stores.lose(fault, "due")
    lease = await stores.deliveries.take(LANE, NOW, UNTIL)
    assert lease is not None
    await stores.server.server.heal()
    assert (await stores.lane())["until"] == UNTIL
    await stores.lose(fault, "due")
    renewed = await stores.deliveries.renew(lease, UNTIL + SECOND)
    assert renewed is not None
    await stores.server.server.heal()
    assert await stores.deliveries.take(LANE, NOW, UNTIL) is None
    await stores.deliveries.release(renewed, Breaker(), now=NOW)
    assert await stores.deliveries.take(LANE, NOW, UNTIL) is not None


@lost
async def test_an_attempt_is_saved_once(stores: Stores, fault: Fault) -> None:
    """The worker goes on from the delivery that it saved."""
    await stores.deliveries.record([delivery(1)], NOW)
    lease = await leased(stores.deliveries)
    (one,) = (await stores.deliveries.page(1, None, 10))[:1]
    await stores.lose(fault, "deliveries")
    saved = await stores.deliveries.save(replace(one, state=State.FAILING, next_attempt=NOW + SECOND))
    assert saved is not None
    await stores.server.server.heal()
    assert await stores.deliveries.save(replace(saved, state=State.DELIVERED, next_attempt=None, settled=NOW))
    assert [found.state for found in await stores.deliveries.page(1, None, 10)] == [State.DELIVERED]
    await stores.deliveries.release(lease, Breaker(), now=NOW)


@lost
async def test_a_replay_is_counted_once_and_moves_once(stores: Stores, fault: Fault) -> None:
    """The numbers of replays have no gap, and a replay's progress is not lost."""
    await stores.lose(fault, "due")
    first = await stores.deliveries.begin_replay(Replay(LANE, 0, 9), NOW)
    await stores.server.server.heal()
    second = await stores.deliveries.begin_replay(Replay(LANE, 0, 9), NOW)
    assert [first.lane.replay, second.lane.replay] == [1, 2]
    lease = await leased(stores.deliveries, first.lane)
    await stores.lose(fault, "due")
    await stores.deliveries.move_replay(lease, replace(first, after=5))
    await stores.server.server.heal()
    assert (await stores.lane(first.lane))["replay"]["after"] == 5


@lost
async def test_a_subscription_is_deleted_once(stores: Stores, fault: Fault) -> None:
    """Whoever deletes it is not told that there is none."""
    made, _ = await stores.subscriptions.create(subscription())
    await stores.lose(fault, "subscriptions")
    deleted = await update_subscription(stores.subscriptions, made.id, Subscription.deletion_marker)
    assert deleted is not None
    assert await stores.subscriptions.get(made.id) is None


@lost
async def test_a_rotation_keeps_the_secret_before(stores: Stores, fault: Fault) -> None:
    """The previous secret is the one that receivers know, not the new one again."""
    made, _ = await stores.subscriptions.create(subscription(secrets=SealedSecrets("old")))

    def rotate(current: Subscription) -> Subscription:
        return replace(current, secrets=SealedSecrets("new", current.secrets.current, UNTIL))

    await stores.lose(fault, "subscriptions")
    rotated = await update_subscription(stores.subscriptions, made.id, rotate)
    assert rotated is not None
    stored = await stores.subscriptions.get(made.id)
    assert stored is not None
    assert stored.secrets == rotated.secrets == SealedSecrets("new", "old", UNTIL)


@pytest.mark.parametrize("fault", [Fault(status=503, after=True, times=3), Fault(cut=True, after=True)], ids=str)
async def test_a_subscription_is_created_once(stores: Stores, fault: Fault) -> None:
    """The call that created it shows its secret."""
    await stores.server.inject(replace(fault, operation="create", container="subscriptions"))
    made, is_new = await stores.subscriptions.create(subscription(secrets=SealedSecrets("mine")))
    assert (made.id, is_new) == (1, True)
