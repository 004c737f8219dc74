"""Use case: serve a lane: validate its endpoint if that is due, and deliver what is due.

The worker that holds a lane's lease serves it, a turn at a time, so that no busy or broken endpoint gets more of the
workers than any other (docs/architecture.md, "Subscriptions and deliveries").
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from cachetools import LRUCache

from events_core.common.clock import SECOND
from events_core.common.errors import EventsError
from events_core.delivery.attempt import PAUSE, Attempts
from events_core.delivery.background_tasks import BackgroundTasks
from events_core.delivery.cache import SubscriptionCache
from events_core.delivery.delivery import Delivery, Lane, Replay
from events_core.delivery.fan_out import FanOut
from events_core.delivery.ports import DeliveryStore, SubscriptionStore
from events_core.delivery.shares import LANES_OF_CONSUMER, ConsumerShares
from events_core.delivery.subscription import Subscription
from events_core.delivery.timers import LaneTimers
from events_core.delivery.turn import Turn
from events_core.delivery.validate import EndpointValidation
from events_core.delivery.wakeup_queue import WakeupQueue
from events_core.feeds.ports import CheckpointStore

TURN = 3 * SECOND
"""How long a worker begins attempts on one lane before other lanes have their turn."""
SLOT = SECOND
"""How long a lane waits for a slot. It holds a message of the queue, which others wait behind."""
SOON = 5 * SECOND
"""A timer wakes a lane that is due within this time. The sweep finds what is due later."""
HOUR = 3_600 * SECOND
"""How long a lane sleeps if nothing may be sent to its endpoint. A change of the subscription wakes it."""
FIRSTS, RETRIES = 64, 16
"""How many first attempts and retries are read at once at most."""
REPLAYED_AT_ONCE = 200
DUE_READ, SWEPT, SWEPT_OF_CONSUMER = 20_000, 1_000, 16
"""How many due lanes a sweep reads and wakes, and how many of one consumer, so that nobody's lanes hide another's."""
SWEPT_FOR = 30 * SECOND
"""How long a sweep leaves a lane to the message that it sent. A lane without a slot is served later anyway."""
SWEPT_REMEMBERED = 5_000
MOST_TASKS = 1_000
"""How many lanes are served or wait for a slot in the background. The sweep finds the others."""
MOST_SLEEPING = 20_000
"""How many lanes wait for their time: more than a few consumers have, whose timers would take the place of others'."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LaneWorker:
    """Serves lanes. `clock` gives microseconds since the epoch."""

    cache: SubscriptionCache
    subscriptions: SubscriptionStore
    deliveries: DeliveryStore
    checkpoints: CheckpointStore
    fan_out: FanOut
    validation: EndpointValidation
    attempts: Attempts
    wakeup_queue: WakeupQueue
    shares: ConsumerShares
    timers: LaneTimers
    clock: Callable[[], int]
    tasks: BackgroundTasks = field(default_factory=BackgroundTasks)
    sleeping: BackgroundTasks = field(default_factory=BackgroundTasks)
    swept: LRUCache[Lane, tuple[int, int]] = field(default_factory=lambda: LRUCache(SWEPT_REMEMBERED))
    """Since when each lane was due that a sweep has woken, and when that was."""

    async def serve(self, lane: Lane) -> None:
        """Serve a lane for a turn, if its consumer has a slot for it. If not, wake it later.

        Leave a lane that another worker serves. A timer wakes the lane if more is due soon.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer. The lane is due again when its lease ends.
        """
        await self.shares.pace.turn()
        subscription = await self.cache.known(lane.subscription)
        if subscription is None:
            await self._take_turn(lane, validates=False)
            return
        validates = lane.replay == 0 and _is_due(subscription.validation.next_try, self.clock())
        async with self._slots(lane, subscription, validates=validates) as has_slots:
            if has_slots:
                self.timers.found_slot(lane)
                due = await self._take_turn(lane, validates=validates)
        if not has_slots:
            await self.timers.put_back(lane)
        elif due is not None:
            await self.timers.wake_at(lane, due)

    def serve_soon(self, lane: Lane, seconds: float = 0) -> None:
        """Serve a lane in the background, after a while. The sweep finds the lane if that fails."""
        if seconds and len(self.sleeping.running) < MOST_SLEEPING:
            self.sleeping.start(self._serve_later(lane, seconds))
        elif not seconds and len(self.tasks.running) < MOST_TASKS:
            self.tasks.start(self._serve_quietly(lane))

    async def wake(self, subscription_id: int) -> None:
        """Make every lane of a subscription due, and serve them in the background.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        for lane in await self.deliveries.wake_all(subscription_id):
            self.serve_soon(lane)

    async def sweep(self) -> None:
        """Enqueue wake-ups for lanes that are due and not served, the longest due first, few of each consumer.

        A lane that was woken a short while ago, and that nobody has served since, is left to its message.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        now = self.clock()
        due = await self.deliveries.due(now, DUE_READ)
        index = await self.cache.recent()
        swept: Counter[str] = Counter()
        for lane, since in due.items():
            subscription = index.get(lane.subscription)
            consumer = "" if subscription is None else subscription.consumer
            if swept.total() >= SWEPT or swept[consumer] >= SWEPT_OF_CONSUMER or self._is_woken(lane, since, now):
                continue
            swept[consumer] += 1
            self.swept[lane] = since, now
            self.wakeup_queue.put([lane])

    def _is_woken(self, lane: Lane, since: int, now: int) -> bool:
        """Whether a timer wakes the lane, or a sweep did for the same reason a short while ago."""
        due, woken = self.swept.get(lane, (-1, 0))
        return self.timers.waits(lane) or (due == since and woken <= now < woken + SWEPT_FOR)

    async def close(self) -> None:
        """Stop the background tasks."""
        await self.sleeping.close()
        await self.tasks.close()

    @asynccontextmanager
    async def _slots(self, lane: Lane, subscription: Subscription, *, validates: bool) -> AsyncIterator[bool]:
        """Hold a slot for a lane, and one for a validation if it is due. False if there are none in time.

        A lane does not wait if it missed its slot and has a timer, or if many lanes of its consumer wait: its messages
        would hold up those of others.
        """
        is_crowded = self.shares.lanes_waiting(subscription) >= LANES_OF_CONSUMER
        ends = self.clock() + (0 if is_crowded or self.timers.missed_slot(lane) else SLOT)
        async with AsyncExitStack() as stack:
            held = True
            if validates:
                held = await stack.enter_async_context(self.shares.validation(subscription, self._seconds_to(ends)))
            if held:
                held = await stack.enter_async_context(self.shares.lane(subscription, self._seconds_to(ends)))
            yield held

    def _seconds_to(self, at: int) -> float:
        return (at - self.clock()) / SECOND

    async def _serve_later(self, lane: Lane, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.serve_soon(lane)

    async def _serve_quietly(self, lane: Lane) -> None:
        try:
            await self.serve(lane)
            for due in self.wakeup_queue.take(lane.subscription):  # no trigger may run for a while
                await self.timers.wake_at(due, self.clock())
        except EventsError as error:
            _log.warning("lane postponed lane=%s: %s", lane, error.detail)
        except Exception:  # noqa: BLE001 - no caller waits for this task
            _log.exception("lane postponed lane=%s", lane)

    # -- One turn, from top to bottom ---------------------------------------------------------------------------------

    async def _take_turn(self, lane: Lane, *, validates: bool) -> int | None:
        """Take a lane, work, and release it: what is due later stays due. Return the time for a timer, if any."""
        turn = await Turn.take(
            self.deliveries, lane, length=TURN, longest_attempt=self.attempts.timeout, clock=self.clock
        )
        if turn is None:
            return None
        try:
            await self._work(turn, validates=validates)
        except BaseException:
            turn.rest(self.clock() + PAUSE)
            with suppress(EventsError):
                await turn.release(latest=turn.rests_until)
            raise
        finally:
            if turn.longest is not None:
                self.shares.remember(lane.subscription, turn.longest)
        return await self._release(turn)

    async def _work(self, turn: Turn, *, validates: bool) -> None:
        """Work until the turn is over or the lane has nothing to do. Drop the lane of a deleted subscription.

        A change of the subscription that was acknowledged before the lane was taken is seen. A later one makes the
        lane due again.
        """
        await self.cache.fresh()
        while (subscription := await self.cache.find(turn.lane.subscription)) is not None:
            if not await self._do_next(turn, subscription, validates=validates):
                if not turn.is_over:
                    self._rest(turn, subscription)
                return
        await turn.drop_lane()

    async def _do_next(self, turn: Turn, subscription: Subscription, *, validates: bool) -> bool:
        """Validate, send or replay, whichever is due first. Return False if nothing is."""
        now = self.clock()
        if turn.is_over:
            return False
        if turn.lane.replay == 0 and _is_due(subscription.validation.next_try, now):
            if not validates:  # it became due after the lane got its slot
                turn.rest(now)
                return False
            await self._validate(subscription)
            return True
        if not subscription.sends:
            return await self.attempts.end_gone(turn, subscription, await self._ready(turn))
        if not turn.breaker.allows(now) or self.cache.paused_until(subscription) > now:
            return False
        return await self._send_next(turn, subscription)

    async def _send_next(self, turn: Turn, subscription: Subscription) -> bool:
        """Begin, attempt or replay. Return False if nothing is due."""
        if turn.has_not_begun:
            await self._begin(turn, subscription)
            return True
        if due := await self._ready(turn):
            await self.attempts.make(turn, subscription, due)
            return True
        return await self._replay(turn, subscription)

    async def _ready(self, turn: Turn) -> Sequence[Delivery]:
        """Read deliveries that are due, few at first, and only one while it probes the endpoint."""
        await self.shares.pace.turn()
        most = 1 if turn.breaker.probing else turn.reads
        due = await turn.ready(most, min(most, RETRIES))
        await self.shares.pace.turn()
        if due:
            turn.reads = min(2 * most, FIRSTS)
        return due

    async def _validate(self, subscription: Subscription) -> None:
        """Validate the endpoint if the store says so too, and wake the lanes that waited for it."""
        stored = await self.subscriptions.get(subscription.id)
        if stored is not None and stored.validation == subscription.validation:
            validated = await self.validation.validate(stored)
            if validated is not None and validated.sends:
                self.wakeup_queue.put(await self.deliveries.wake_all(subscription.id))
        await self.cache.fresh()

    async def _begin(self, turn: Turn, subscription: Subscription) -> None:
        """Have the live lane begin with the events between the subscription's start and the end of its stream.

        The end is read after the first validation was stored. An event beyond it is followed up by a process that
        looks at the subscriptions after that, and so records it. What is recorded beyond it waits in the lane until
        the events up to it are delivered or have failed, so first attempts are in order.
        """
        start, end = subscription.start, await self.checkpoints.end(subscription.filter.stream)
        await turn.move_replay(Replay(turn.lane, start, end, done=end <= start))

    async def _replay(self, turn: Turn, subscription: Subscription) -> bool:
        """Make the next deliveries of a replay. Return False if it is done, or the lane has none."""
        replay = turn.lease.replay
        if replay is None or replay.done:
            return False
        page = await self.checkpoints.read_after(subscription.filter.stream, replay.after, REPLAYED_AT_ONCE)
        wanted = [row for row in page.rows if row.position <= replay.until]
        deliveries = await self.fan_out.deliveries_to(subscription, wanted, replay.lane.replay)
        await self.deliveries.record(deliveries, self.clock())
        done = page.is_end or page.rows[-1].position >= replay.until
        after = wanted[-1].position if wanted else replay.until
        await turn.move_replay(replace(replay, after=after, done=done))
        return True

    def _rest(self, turn: Turn, subscription: Subscription) -> None:
        """Decide how long the lane rests."""
        now, lane = self.clock(), turn.lane
        next_try = subscription.validation.next_try if lane.replay == 0 else None
        if not subscription.sends:
            turn.sleep(now + HOUR if next_try is None else next_try, subscription.version)
        elif (paused_until := self.cache.paused_until(subscription)) > now:
            turn.sleep(paused_until if next_try is None else min(next_try, paused_until), subscription.version)
        elif not turn.breaker.allows(now):
            turn.rest(turn.breaker.open_until)

    async def _due_without_deliveries(self, turn: Turn) -> int | None:
        """When a beginning, an unfinished replay or a validation is due, in a lane without deliveries too."""
        if turn.has_not_begun or turn.lease.is_replaying:
            return self.clock()
        subscription = None if turn.lane.replay else await self.cache.find(turn.lane.subscription)
        return None if subscription is None else subscription.validation.next_try

    async def _release(self, turn: Turn) -> int | None:
        """Release the lane. If more is due, enqueue a wake-up; if it is due soon, return when."""
        if not turn.held:
            return None
        due, now = await turn.release(latest=await self._due_without_deliveries(turn)), self.clock()
        if turn.asleep_by is not None:  # a change meanwhile may have woken the lane too early
            stored = await self.subscriptions.get(turn.lane.subscription)
            if stored is None or stored.version != turn.asleep_by:
                await self.deliveries.wake(turn.lane)
                due = now
        if due is not None and due <= now:
            self.wakeup_queue.put([turn.lane])
            return None
        return due if due is not None and due <= now + SOON and turn.timed else None


def _is_due(at: int | None, now: int) -> bool:
    return at is not None and at <= now
