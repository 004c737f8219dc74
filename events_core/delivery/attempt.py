"""Use case: one round of a lane's deliveries: decided where that is due, sent in order, each attempt recorded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from events_core.access.authorization import Authorization
from events_core.common.clock import SECOND
from events_core.common.errors import EventsError
from events_core.delivery.cache import SubscriptionCache
from events_core.delivery.delivery import GONE, Breaker, Delivery, RetrySchedule, jitter
from events_core.delivery.fan_out import FanOut, asked_for
from events_core.delivery.ports import DeliveryStore, Lease, SubscriptionStore, WebhookSender
from events_core.delivery.subscription import Subscription
from events_core.delivery.validate import Signing, changed
from events_core.feeds.ports import EventStore, StoredEvent

DECISION_KEPT = 120 * SECOND
"""With what the cache of decisions adds, and a turn, a decision is five minutes old at most when it is used."""
EVENT_KEPT = 2 * SECOND
"""How long an event that was read may wait for its turn; what is erased meanwhile is not sent."""
AT_ONCE = 8
"""How many attempts of one lane are in flight."""
LEASE_MARGIN = 5 * SECOND
PAUSE = 5 * SECOND
"""How long a lane waits when nobody can decide."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Turn:
    """A lane as its worker has it: the lease, the endpoint's breaker, until when attempts may begin.

    `lost`: somebody else has the lease. `soonest` is when the first of what this turn put off is due again, and the
    lane is not to be served before `wait_until`. `asleep`: nothing may be sent, by this version of the subscription.
    """

    lease: Lease
    ends: int
    breaker: Breaker
    lost: bool = False
    soonest: int | None = None
    wait_until: int = 0
    asleep: str | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def put_off(self, until: int | None) -> None:
        """Note that something is due then."""
        if until is not None:
            self.soonest = until if self.soonest is None else min(self.soonest, until)

    def wait(self, now: int, until: int) -> None:
        """Begin nothing more, and let nobody serve the lane before a moment."""
        self.ends, self.wait_until = min(self.ends, now), max(self.wait_until, until)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A delivery that may be sent, and the event as it was read at a moment."""

    delivery: Delivery
    event: StoredEvent
    read_at: int

    @property
    def undecided(self) -> bool:
        """Whether it has to wait for Register or the decision point."""
        return self.delivery.unsure or self.delivery.permit is None


@dataclass(frozen=True, slots=True)
class Attempts:
    """Makes attempts. `timeout` is how long one may take, and `clock` the time of day, both in microseconds."""

    cache: SubscriptionCache
    subscriptions: SubscriptionStore
    deliveries: DeliveryStore
    events: EventStore
    fan_out: FanOut
    authorization: Authorization
    sender: WebhookSender
    signing: Signing
    schedule: RetrySchedule
    timeout: int
    clock: Callable[[], int]

    async def make(self, turn: Turn, subscription: Subscription, some: Sequence[Delivery]) -> None:
        """Attempt deliveries of a lane, those of one order one after the other.

        The lane has to wait a while when nobody can decide on one now, and so does whatever follows that one in its
        order. What may not be sent is withheld, and what was erased is dropped.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer; what was sent and not recorded is sent again.
        """
        matched = await self._matched(subscription, await self._with_events(some))
        decided = await self._decided(subscription, matched)
        await self._send_all(turn, subscription, decided)
        if any(each.undecided for each in decided):
            now = self.clock()
            turn.wait(now, now + PAUSE)

    # -- Before -------------------------------------------------------------------------------------------------------

    async def _with_events(self, some: Sequence[Delivery]) -> list[_Ready]:
        """The deliveries whose events stand; the others are taken away."""
        now = self.clock()
        rows = {row.position: row for row in await self.events.at(some[0].stream, [each.position for each in some])}
        found = []
        for each in some:
            row = rows.get(each.position)
            if row is None or row.json is None:
                await self.deliveries.remove(each)
            else:
                found.append(_Ready(each, row, now))
        return found

    async def _matched(self, subscription: Subscription, some: Sequence[_Ready]) -> list[_Ready]:
        """Those that match after all, and those of which Register does not say so now."""
        matched = []
        for each in some:
            if not each.delivery.unsure:
                matched.append(each)
                continue
            try:
                is_match = await self.fan_out.still_matches(subscription, each.event)
            except EventsError:
                matched.append(each)
                continue
            if is_match:
                matched.append(replace(each, delivery=replace(each.delivery, unsure=False)))
            else:
                await self.deliveries.remove(each.delivery)
        return matched

    async def _decided(self, subscription: Subscription, some: Sequence[_Ready]) -> list[_Ready]:
        """Those that are permitted by a decision of now, or have to wait for one (`permit` None)."""
        oldest = self.clock() - DECISION_KEPT
        stale = [each for each in some if not each.delivery.permit or each.delivery.decided < oldest]
        if not stale:
            return [*some]
        try:
            said = await self.authorization.permitted_each([asked_for(subscription, each.event) for each in stale])
        except EventsError as error:
            _log.warning("%d deliveries wait for a decision: %s", len(stale), error.detail)
            undecided = {each.delivery.position: replace(each.delivery, permit=None) for each in stale}
            return [replace(each, delivery=undecided.get(each.delivery.position, each.delivery)) for each in some]
        now = self.clock()
        decided = {
            each.delivery.position: each.delivery.decision(permit=permit, at=now)
            for each, permit in zip(stale, said, strict=True)
        }
        for each in decided.values():
            if not each.permit:
                await self.deliveries.save(each)
        found = [replace(each, delivery=decided.get(each.delivery.position, each.delivery)) for each in some]
        return [each for each in found if each.delivery.permit]

    # -- Sending ------------------------------------------------------------------------------------------------------

    async def _send_all(self, turn: Turn, subscription: Subscription, some: Sequence[_Ready]) -> None:
        orders: dict[str, list[_Ready]] = {}
        for each in some:
            orders.setdefault(each.delivery.order, []).append(each)
        places = asyncio.Semaphore(1 if turn.breaker.probing or subscription.allowed_rate else AT_ONCE)

        async def send(line: Sequence[_Ready]) -> None:
            async with places:
                for each in line:
                    if each.undecided or not await self._attempt(turn, subscription, each):
                        return  # those behind it have their turn after it

        outcomes = await asyncio.gather(*map(send, orders.values()), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _attempt(self, turn: Turn, subscription: Subscription, ready: _Ready) -> bool:
        """Attempt one delivery; False when no further attempt may follow it in this turn."""
        if not await self._may_begin(turn, subscription):
            return False
        event = await self._event_of_now(ready)
        if event is None:
            await self.deliveries.remove(ready.delivery)
            return True
        now = self.clock()
        message = self.signing.message(subscription, message_id_of(ready.delivery), event, now)
        response = await self.sender.send(message)
        attempted = ready.delivery.attempted(response.attempt, self.schedule, response.retry_after, jitter())
        turn.breaker = turn.breaker.after(
            success=response.attempt.succeeded, now=self.clock(), first_wait=self.schedule.waits[0]
        )
        turn.put_off(attempted.next_attempt)
        if await self.deliveries.save(attempted) is None:
            _log.warning("An attempt was not recorded: another worker has the delivery")
        if response.attempt.status == GONE:
            await changed(self.subscriptions, subscription.id, lambda current: replace(current, disabled=True))
            await self.cache.fresh()
        return await self._pace(turn, subscription)

    async def _may_begin(self, turn: Turn, subscription: Subscription) -> bool:
        now = self.clock()
        if turn.lost or now >= turn.ends or not turn.breaker.allows(now):
            return False
        current = await self.cache.find(subscription.id)
        return current is not None and current.sends and await self._holds(turn)

    async def _holds(self, turn: Turn) -> bool:
        """Whether the lease lasts longer than the attempt can; it is renewed when it does not."""
        async with turn.lock:
            now = self.clock()
            if turn.lease.until - now >= self.timeout + LEASE_MARGIN:
                return True
            kept = await self.deliveries.renew(turn.lease, now + lease_length(self.timeout))
            if kept is None:
                turn.lost = True
                return False
            turn.lease = kept
            return True

    async def _event_of_now(self, ready: _Ready) -> bytes | None:
        if self.clock() - ready.read_at <= EVENT_KEPT:
            return ready.event.json
        rows = await self.events.at(ready.delivery.stream, [ready.delivery.position])
        return rows[0].json if rows else None

    async def _pace(self, turn: Turn, subscription: Subscription) -> bool:
        """Wait as long as the rate that the endpoint asked for wants; False when that is too long for this turn."""
        if subscription.allowed_rate is None:
            return True
        wait = 60 / subscription.allowed_rate
        if wait <= 1:
            await asyncio.sleep(wait)
            return True
        now = self.clock()
        later = now + int(wait * SECOND)
        turn.wait(now, later)
        turn.put_off(later)
        return False


def lease_length(timeout: int) -> int:
    """How long a lease is taken for, and renewed for: enough for two attempts, in microseconds."""
    return 2 * (timeout + LEASE_MARGIN)


def message_id_of(delivery: Delivery) -> str:
    """The delivery's id, in `webhook-id` and in lists: the same in every attempt, and another in a replay."""
    return f"{delivery.lane.subscription}-{delivery.position}" + (
        f"r{delivery.lane.replay}" if delivery.lane.replay else ""
    )
