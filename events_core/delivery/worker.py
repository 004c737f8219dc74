"""Use case: serve a lane: validate its endpoint when that is asked for, and deliver what is due.

A lane is served by whoever holds its lease, a turn at a time, so that one busy or broken endpoint has no more of the
workers than any other (docs/architecture.md, "Subscriptions and deliveries").
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from events_core.common.clock import SECOND
from events_core.common.errors import EventsError
from events_core.delivery.attempt import PAUSE, Attempts, Turn, lease_length
from events_core.delivery.cache import SubscriptionCache
from events_core.delivery.delivery import Lane
from events_core.delivery.fan_out import FanOut
from events_core.delivery.ports import DeliveryStore, SubscriptionStore
from events_core.delivery.subscription import Subscription, canonical_origin
from events_core.delivery.validate import EndpointValidation
from events_core.delivery.wakeup_queue import WakeupQueue
from events_core.feeds.ports import CheckpointStore

TURN = 20 * SECOND
"""How long a worker begins attempts on one lane before the others have their turn."""
STAND_BY = 5 * SECOND
"""What is due within so short a time is waited for; whatever is due later the sweep finds."""
HOUR = 3_600 * SECOND
"""How long a lane sleeps that may not be sent to; whoever changes that wakes it."""
FIRSTS, RETRIES = 64, 16
REPLAYED_AT_ONCE = 200
LANES_OF_ENDPOINT = 16
"""How many lanes that lead to one endpoint a process serves at once."""

_log = logging.getLogger(__name__)


class Deliverer:
    """Serves lanes. `validation` and `attempts` do the work; whatever is left due is rung for."""

    def __init__(
        self,
        *,
        cache: SubscriptionCache,
        subscriptions: SubscriptionStore,
        deliveries: DeliveryStore,
        checkpoints: CheckpointStore,
        fan_out: FanOut,
        validation: EndpointValidation,
        attempts: Attempts,
        wakeup_queue: WakeupQueue,
    ) -> None:
        self._cache = cache
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._checkpoints = checkpoints
        self._fan_out = fan_out
        self._validation = validation
        self._attempts = attempts
        self._wakeup_queue = wakeup_queue
        self._clock: Callable[[], int] = attempts.clock
        self._served: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, lane: Lane) -> None:
        """Serve a lane until nothing of it is due, or for a turn; a lane that another serves is left to it.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer; the lane is due again when its lease ends.
        """
        ends = self._clock() + TURN
        while (due := await self._turn(lane)) is not None:
            now = self._clock()
            if due > now + STAND_BY or due > ends:
                return
            await asyncio.sleep(max(0, due - now) / SECOND)

    def serve_soon(self, lane: Lane) -> None:
        """Serve a lane in this process without anybody waiting for it; should that fail, the sweep finds it."""
        task = asyncio.create_task(self._serve_quietly(lane))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def sweep(self, limit: int = 1_000) -> None:
        """Ring for the lanes that are due and that nobody serves.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        self._wakeup_queue.put(await self._deliveries.due(self._clock(), limit))

    async def close(self) -> None:
        """Stop what was begun without anybody waiting for it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve_quietly(self, lane: Lane) -> None:
        try:
            await self.serve(lane)
        except EventsError as error:
            _log.warning("A lane has to wait: %s", error.detail)
        except Exception:  # noqa: BLE001 - nobody waits for this task
            _log.exception("A lane has to wait")

    async def _turn(self, lane: Lane) -> int | None:
        """One turn; when something that it put off is due, None when there is nothing to stand by for."""
        now = self._clock()
        lease = await self._deliveries.take(lane, now, now + lease_length(self._attempts.timeout))
        if lease is None:
            return None
        turn = Turn(lease, now + TURN, lease.breaker)
        try:
            goes_on = await self._serve(turn)
        except BaseException:
            with suppress(EventsError):
                now = self._clock()
                await self._deliveries.release(turn.lease, turn.breaker, now=now, at=now + PAUSE)
            raise
        return await self._give_back(turn) if goes_on and not turn.lost else None

    async def _give_back(self, turn: Turn) -> int | None:
        now, lane = self._clock(), turn.lease.lane
        is_due = await self._deliveries.release(turn.lease, turn.breaker, now=now, at=turn.wait_until or None)
        if turn.asleep is not None:  # whoever changed the subscription since it was read woke the lane too early
            current = await self._subscriptions.get(lane.subscription)
            if is_due := current is None or current.version != turn.asleep:
                await self._deliveries.wake(lane, now)
        if is_due:
            self._wakeup_queue.put([lane])
            return None
        return turn.soonest

    async def _serve(self, turn: Turn) -> bool:
        """Serve the lane as long as there is something to do; False when the lane is gone."""
        lane = turn.lease.lane
        subscription = await self._cache.find(lane.subscription)
        while True:
            if subscription is None or subscription.deleted:
                subscription = await self._subscriptions.get(lane.subscription)
                if subscription is None:
                    await self._deliveries.drop(turn.lease)
                    return False
            if await self._serve_known(turn, subscription):
                subscription = await self._cache.find(lane.subscription)
                continue
            if turn.lost or self._clock() >= turn.ends:
                return True
            current = await self._subscriptions.get(lane.subscription)
            if current is not None and current.version == subscription.version:
                return await self._rest(turn, current)
            subscription = current

    async def _rest(self, turn: Turn, subscription: Subscription) -> bool:
        """Nothing is to be done on the lane now: say until when, as the store knows the subscription."""
        now, lane = self._clock(), turn.lease.lane
        tried_next = subscription.validation.next_try if lane.replay == 0 else None
        if tried_next is not None:
            await self._deliveries.wake(lane, tried_next)
            turn.put_off(tried_next)
        if not subscription.sends:
            turn.asleep = subscription.version
            turn.wait(now, now + HOUR if tried_next is None else tried_next)
        elif not turn.breaker.allows(now):
            turn.wait(now, turn.breaker.open_until)
            turn.put_off(turn.breaker.open_until)
        return True

    async def _serve_known(self, turn: Turn, subscription: Subscription) -> bool:
        """Do the next piece of work of a lane, given what is known of its subscription; False when there is none."""
        now = self._clock()
        if turn.lost or now >= turn.ends:
            return False
        with self._place_at(subscription) as has_place:
            if not has_place:
                turn.wait(now, now + SECOND)
                return False
            tried_next = subscription.validation.next_try
            if turn.lease.lane.replay == 0 and tried_next is not None and tried_next <= now:
                return await self._validate(subscription)
            if not subscription.sends or not turn.breaker.allows(now):
                return False
            firsts, retries = (1, 1) if turn.breaker.probing else (FIRSTS, RETRIES)
            ready = await self._deliveries.ready(turn.lease, now, firsts, retries)
            if ready:
                await self._attempts.make(turn, subscription, ready)
                return True
            return await self._replay(turn, subscription)

    async def _validate(self, subscription: Subscription) -> bool:
        """Validate the endpoint if the store too says that this is due, and wake what waited for it."""
        current = await self._subscriptions.get(subscription.id)
        if current is not None and current.validation == subscription.validation:
            validated = await self._validation.validate(current)
            if validated is not None and validated.sends:
                self._wakeup_queue.put(await self._deliveries.wake_all(subscription.id, self._clock()))
        await self._cache.fresh()
        return True

    async def _replay(self, turn: Turn, subscription: Subscription) -> bool:
        """Make the next deliveries of a replay; False when it has no more, or the lane is no replay's."""
        replay = await self._deliveries.replay(turn.lease.lane) if turn.lease.lane.replay else None
        if replay is None or replay.done:
            return False
        rows = await self._checkpoints.read_after(subscription.filter.stream, replay.after, REPLAYED_AT_ONCE)
        wanted = [row for row in rows if row.position <= replay.until]
        made = await self._fan_out.deliveries_to(subscription, wanted, replay.lane.replay)
        await self._deliveries.record(made, self._clock())
        is_done = len(wanted) < REPLAYED_AT_ONCE
        after = wanted[-1].position if wanted else replay.until
        await self._deliveries.move_replay(turn.lease, replace(replay, after=after, done=is_done))
        return True

    @contextmanager
    def _place_at(self, subscription: Subscription) -> Iterator[bool]:
        """Whether this process may serve another lane that leads to the endpoint."""
        origin = canonical_origin(subscription.endpoint)
        served = self._served.get(origin, 0)
        if served >= LANES_OF_ENDPOINT:
            yield False
            return
        self._served[origin] = served + 1
        try:
            yield True
        finally:
            self._served[origin] -= 1
            if not self._served[origin]:
                del self._served[origin]
