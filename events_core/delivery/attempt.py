"""Use case: attempt the ready deliveries of a lane: decide, send in order, record each attempt."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil

from cachetools import LRUCache

from events_core.access.authorization import Authorization, RequestBudget, Verdict
from events_core.access.decisions import DECISION_SECONDS, DecisionBudget
from events_core.common.clock import SECOND, to_rfc3339
from events_core.common.errors import EventsError
from events_core.delivery.cache import SubscriptionCache
from events_core.delivery.delivery import GONE, Delivery, Lane, RetrySchedule, jitter
from events_core.delivery.endpoint import canonical_origin
from events_core.delivery.fan_out import FanOut, asked_for
from events_core.delivery.ports import DeliveryStore, Response, SubscriptionStore, WebhookSender
from events_core.delivery.shares import ConsumerShares
from events_core.delivery.subscription import EndpointPause, Subscription
from events_core.delivery.turn import Turn
from events_core.delivery.update import update_subscription
from events_core.delivery.webhook import Signing
from events_core.feeds.ports import EventStore, StoredEvent

DECISION_MAX_AGE = DECISION_SECONDS * SECOND
"""The age at which a decision is asked for again. With the cache of decisions and a turn it is at most five minutes."""
EVENT_KEPT = 2 * SECOND
"""The age at which an event is read again before it is sent, so that an erased event is not sent."""
AT_ONCE = 8
"""How many attempts of one lane are in flight."""
PAUSE = 5 * SECOND
"""How long a lane rests when the decision point, Register or the store does not answer."""
PAUSING = (429, 503)
"""With one of these statuses, `Retry-After` pauses the endpoint."""
LONGEST_PAUSE = 3_600.0
"""The longest pause of an endpoint, in seconds."""
SEARCH_EVERY = 30 * SECOND
"""How often a process looks for a question that is decided, while none of a lane is."""
LANES_REMEMBERED = 10_000
BYTES_READ = 512 * 1024
"""Events of about so many bytes are read at once for first attempts, and half as many for retries."""
OTHERS_READ = 100
"""How many deliveries are read from the first one on, and after those that are due, to find a witness."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A delivery that is due, and its event as it was read at `read_at`."""

    delivery: Delivery
    event: StoredEvent
    read_at: int

    @property
    def undecided(self) -> bool:
        """Whether the delivery waits for Register or the decision point."""
        return self.delivery.unsure or self.delivery.permit is None


@dataclass(frozen=True, slots=True)
class Attempts:
    """Makes attempts. `timeout` is the longest that an attempt takes; it and `clock` are in microseconds."""

    cache: SubscriptionCache
    subscriptions: SubscriptionStore
    deliveries: DeliveryStore
    store: EventStore
    fan_out: FanOut
    authorization: Authorization
    sender: WebhookSender
    shares: ConsumerShares
    signing: Signing
    schedule: RetrySchedule
    timeout: int
    clock: Callable[[], int]
    searched: LRUCache[Lane, int] = field(default_factory=lambda: LRUCache(LANES_REMEMBERED))
    """When a search for each lane found no question that is decided."""

    async def make(self, turn: Turn, subscription: Subscription, due: Sequence[Delivery]) -> None:
        """Attempt due deliveries of a lane, those with the same `order` one after the other.

        A denied delivery is withheld, an undecidable one postponed, and the delivery of an erased event removed. While
        a decision is missing, the lane rests, and so do the deliveries behind the undecided one in its order.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer. A delivery that was sent and not recorded is sent
                again.
        """
        matched = await self._match(turn, subscription, await self._read_events(turn, subscription, that_fit(due)))
        decided = await self._decide(turn, subscription, matched)
        await self._send_all(turn, subscription, decided)
        if any(ready.undecided for ready in decided):
            turn.rest(self.clock() + PAUSE, timed=False)
        elif turn.budget.decision_point.left <= 0:
            turn.rest(self.clock())

    async def end_gone(self, turn: Turn, subscription: Subscription, due: Sequence[Delivery]) -> bool:
        """End those of the first due deliveries whose event is gone, and send none. Return whether there are any.

        Raises:
            EventsError: UNAVAILABLE when the store does not answer.
        """
        read = that_fit(due)
        return bool(read) and len(await self._read_events(turn, subscription, read)) < len(read)

    # -- Before sending -----------------------------------------------------------------------------------------------

    async def _read_events(self, turn: Turn, subscription: Subscription, due: Sequence[Delivery]) -> list[_Ready]:
        """Read the events of deliveries. End the deliveries whose event is gone."""
        now = self.clock()
        by_position = {row.position: row for row in await self.store.at(due[0].stream, [one.position for one in due])}
        found = []
        for delivery in due:
            event = by_position.get(delivery.position)
            if event is None or event.json is None:
                await self._end(turn, subscription, delivery, event)
            else:
                found.append(_Ready(delivery, event, now))
        return found

    async def _end(
        self, turn: Turn, subscription: Subscription, delivery: Delivery, tombstone: StoredEvent | None
    ) -> None:
        """End a delivery whose event is gone: it is dead, unless the event was erased, which leaves a tombstone."""
        if tombstone is not None:
            await turn.remove(delivery)
        elif await turn.save(delivery.died(self.clock())):
            _log.warning(
                "delivery dead subscriptionId=%d consumer=%s endPoint=%s status=none delivery=%s: its event is gone",
                subscription.id,
                subscription.consumer,
                canonical_origin(subscription.endpoint),
                delivery.id,
            )

    async def _match(self, turn: Turn, subscription: Subscription, due: Sequence[_Ready]) -> list[_Ready]:
        """Ask Register about unsure deliveries. Remove those that do not match; keep them unsure if it is down."""
        matched = []
        for ready in due:
            if not ready.delivery.unsure:
                matched.append(ready)
                continue
            try:
                matches = await self.fan_out.still_matches(subscription, ready.event)
            except EventsError:
                matched.append(ready)
                continue
            if matches:
                matched.append(replace(ready, delivery=replace(ready.delivery, unsure=False)))
            else:
                await turn.remove(ready.delivery)
        return matched

    async def _decide(self, turn: Turn, subscription: Subscription, due: Sequence[_Ready]) -> list[_Ready]:
        """Ask again for missing and old decisions. Save what is denied or undecidable, and return the rest in order."""
        stale = [ready for ready in due if not ready.delivery.permit or self._is_old(ready.delivery.decided)]
        positions = [ready.delivery.position for ready in stale]
        verdicts = dict(zip(positions, await self._verdicts(turn, subscription, stale), strict=True)) if stale else {}
        decided = []
        for ready in due:
            verdict = verdicts.get(ready.delivery.position)
            delivery = ready.delivery if verdict is None else self._with_verdict(ready.delivery, verdict)
            if verdict in (Verdict.DENIED, Verdict.UNDECIDABLE):
                await turn.save(delivery)
            else:
                decided.append(replace(ready, delivery=delivery))
        return decided

    def _is_old(self, decided: int) -> bool:
        """Whether a decision is too old. One from the future is, too: the clock was set back, so its age is unknown."""
        return abs(self.clock() - decided) > DECISION_MAX_AGE

    async def _verdicts(self, turn: Turn, subscription: Subscription, due: Sequence[_Ready]) -> Sequence[Verdict]:
        """The verdict on each delivery; UNDECIDED for all of them if the decision point is down."""
        reason = "not decided yet"
        try:
            verdicts = await self._ask(turn, subscription, due)
        except EventsError as error:
            verdicts, reason = [Verdict.UNDECIDED] * len(due), error.detail
        if undecided := verdicts.count(Verdict.UNDECIDED):
            _log.warning("decision postponed subscription=%d deliveries=%d: %s", subscription.id, undecided, reason)
        return verdicts

    async def _ask(self, turn: Turn, subscription: Subscription, due: Sequence[_Ready]) -> Sequence[Verdict]:
        """Ask about deliveries. While nothing is decided, only some rounds send more than one request."""
        asked = [asked_for(subscription, ready.event) for ready in due]
        anew = any(ready.delivery.undecidable for ready in due)
        lane = due[0].delivery.lane
        searches = not 0 <= self.clock() - self.searched.get(lane, 0) < SEARCH_EVERY
        budget = turn.budget if searches else RequestBudget(decision_point=DecisionBudget(1))
        others = partial(self._other_events, subscription, due)
        verdicts = await self.authorization.verdicts_each(asked, budget, anew=anew, ahead=others)
        if set(verdicts) <= {Verdict.PERMITTED, Verdict.DENIED}:
            turn.budget = RequestBudget()
        if searches and set(verdicts) == {Verdict.UNDECIDED}:
            self.searched[lane] = self.clock()
        return verdicts

    async def _other_events(self, subscription: Subscription, due: Sequence[_Ready]) -> Sequence[StoredEvent]:
        """The events of some deliveries of the subscription, from its first one on and after those that are due.

        The decision point may fail on all that are due, and a process that has just started knows no other question.
        """
        positions: set[int] = set()
        for after in (0, max(ready.delivery.position for ready in due)):
            page = await self.deliveries.page(subscription.id, (after, 0), OTHERS_READ)
            positions |= {delivery.position for delivery in that_fit(page)}
        rows = await self.store.at(subscription.filter.stream, sorted(positions))
        return [row for row in rows if row.json is not None]

    def _with_verdict(self, delivery: Delivery, verdict: Verdict) -> Delivery:
        """The delivery after a verdict; with `permit` None if it is UNDECIDED."""
        if verdict is Verdict.UNDECIDED:
            return replace(delivery, permit=None)
        if verdict is Verdict.UNDECIDABLE:
            return delivery.postponed(self.schedule, jitter(), self.clock())
        return delivery.decision(permit=verdict is Verdict.PERMITTED, at=self.clock())

    # -- Sending ------------------------------------------------------------------------------------------------------

    async def _send_all(self, turn: Turn, subscription: Subscription, due: Sequence[_Ready]) -> None:
        by_order: dict[str, list[_Ready]] = {}
        for ready in due:
            by_order.setdefault(ready.delivery.order, []).append(ready)
        slots = asyncio.Semaphore(1 if turn.breaker.probing or subscription.allowed_rate else AT_ONCE)

        async def send(in_order: Sequence[_Ready]) -> None:
            async with slots:
                for ready in in_order:
                    if ready.undecided or not await self._attempt(turn, subscription, ready):
                        return

        outcomes = await asyncio.gather(*map(send, by_order.values()), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _attempt(self, turn: Turn, subscription: Subscription, ready: _Ready) -> bool:
        """Attempt one delivery. Return False if no further attempt may follow in this turn."""
        current = None if turn.is_over else await self.cache.find(subscription.id)
        if current is None:
            return False
        async with self.shares.connection(current, turn.seconds_left) as has_connection:
            if not has_connection:
                return False
            event = await self._current_event(turn, current, ready)
            if event is None:
                return True
            await self.shares.pace.turn()
            if not await self._may_begin(turn, current):
                return False
            message = self.signing.message(current, ready.delivery.id, event, self.clock())
            response = await self.sender.send(message)
        await self.shares.pace.turn()
        turn.longest = max(turn.longest or 0, response.attempt.duration_ms)
        pause = self._pause_asked_by(current, response)
        self.cache.pause(pause)
        attempted = ready.delivery.attempted(response.attempt, self.schedule, response.retry_after, jitter())
        turn.breaker = turn.breaker.after(
            success=response.attempt.succeeded, now=self.clock(), first_wait=self.schedule.first_wait
        )
        if not await turn.save(attempted):
            _log.warning(
                "attempt not recorded subscriptionId=%d delivery=%s: another worker has the lane",
                current.id,
                attempted.id,
            )
        if pause.until:
            await self._store_pause(current, pause, response)
        if response.attempt.status == GONE:
            await self._disable(current)
        if response.took_json:
            await self._remember_json(current)
        return await self._pace(turn, subscription)

    async def _may_begin(self, turn: Turn, sent: Subscription) -> bool:
        """Whether an attempt may begin: nothing begins after an acknowledged move, pause or deletion."""
        if not await turn.may_begin():
            return False
        current = await self.cache.find(sent.id)
        is_same = current is not None and current.sends and current.endpoint == sent.endpoint
        return is_same and self.cache.paused_until(sent) <= self.clock()

    async def _remember_json(self, sent: Subscription) -> None:
        """Send events as `application/json` from now on, unless the subscription has another endpoint meanwhile."""

        def remember(current: Subscription) -> Subscription:
            return current.with_learned_json() if current.endpoint == sent.endpoint else current

        await update_subscription(self.subscriptions, sent.id, remember)
        await self.cache.fresh()

    def _pause_asked_by(self, subscription: Subscription, response: Response) -> EndpointPause:
        """The pause that an answer asks for. It ends at a whole second, so that simultaneous answers give the same."""
        seconds = response.retry_after if response.attempt.status in PAUSING else None
        if not seconds:
            return EndpointPause()
        ends = self.clock() / SECOND + min(seconds, LONGEST_PAUSE)
        return EndpointPause(subscription.target, ceil(ends) * SECOND)

    async def _store_pause(self, subscription: Subscription, pause: EndpointPause, response: Response) -> None:
        """Pause the endpoint in every process."""
        await update_subscription(self.subscriptions, subscription.id, lambda current: current.with_pause(pause))
        await self.cache.fresh()
        _log.warning(
            "endpoint paused subscriptionId=%d consumer=%s endPoint=%s status=%d until=%s",
            subscription.id,
            subscription.consumer,
            canonical_origin(subscription.endpoint),
            response.attempt.status,
            to_rfc3339(pause.until),
        )

    async def _disable(self, sent: Subscription) -> None:
        """Disable a subscription whose endpoint is gone, unless it has moved meanwhile."""
        await update_subscription(
            self.subscriptions,
            sent.id,
            lambda current: replace(current, disabled=True) if current.endpoint == sent.endpoint else None,
        )
        await self.cache.fresh()

    async def _current_event(self, turn: Turn, subscription: Subscription, ready: _Ready) -> bytes | None:
        """The event's JSON text, read again if it is old. None if the event is gone, and so its delivery ended."""
        if self.clock() - ready.read_at <= EVENT_KEPT:
            return ready.event.json
        read = await self._read_events(turn, subscription, [ready.delivery])
        return read[0].event.json if read else None

    async def _pace(self, turn: Turn, subscription: Subscription) -> bool:
        """Wait as the allowed rate of the endpoint says. Return False if that is too long for this turn."""
        if subscription.allowed_rate is None:
            return True
        wait = 60 / subscription.allowed_rate
        if wait <= 1:
            await asyncio.sleep(wait)
            return True
        turn.rest(self.clock() + int(wait * SECOND))
        return False


def that_fit(due: Sequence[Delivery]) -> list[Delivery]:
    """The deliveries whose events are read at once: at least the first one, and the first retry. Others stay due."""
    left = {False: BYTES_READ, True: BYTES_READ // 2}
    chosen = []
    for delivery in due:
        if left[delivery.is_retry] > 0:
            left[delivery.is_retry] -= delivery.size
            chosen.append(delivery)
    return chosen
