"""Deliveries whose question fails at the decision point: they wait on the retry schedule, and hold nothing up."""

from __future__ import annotations

from events_core.cloudevent import CloudEvent
from events_core.common.clock import SECOND
from events_core.delivery.attempt import PAUSE
from events_core.delivery.delivery import Delivery, Lane
from events_core.delivery.subscription import Subscription
from events_core.delivery.worker import FIRSTS
from tests.contract.event_store import event
from tests.support.askers import instance_url
from tests.support.delivering import Deployment, answering, names
from tests.support.pdp_server import DENY, Asked

FIRST_WAIT, SECOND_WAIT = 11, 33
"""Seconds until the first and second retry are due, with the longest jitter."""
A_DAY = 24 * 3_600
BAD, GOOD = "6fb3738d-6372-48e3-a2d2-f40ab0531fc1", "0c5a1f0e-88a2-4f8b-9c8b-2d0c56b40f9a"


def event_of(event_id: str, guid: str, subject: str = "/party/50002108") -> CloudEvent:
    """An event of an instance."""
    return event(event_id, source=instance_url(guid), subject=subject)


def bad(event_id: str = "bad") -> CloudEvent:
    """An event whose question fails."""
    return event_of(event_id, BAD)


def good(event_id: str = "good") -> CloudEvent:
    """An event about the same subject whose question does not fail."""
    return event_of(event_id, GOOD)


def fails(asked: Asked) -> bool:
    """Whether a question is about the bad instance."""
    return asked.resource.get("urn:altinn:instance-id", "").endswith(BAD)


async def one_of(deployment: Deployment, subscription: Subscription) -> Delivery:
    """The first delivery of a subscription."""
    return (await deployment.deliveries(subscription))[0]


async def undecidable(deployment: Deployment) -> Subscription:
    """A subscription with one delivery that was found undecidable once."""
    subscription = await deployment.subscribe()
    deployment.pdp.fails = fails
    await deployment.publish(bad())
    await deployment.deliver()
    assert (await one_of(deployment, subscription)).undecidable == 1
    return subscription


# -- Waiting ----------------------------------------------------------------------------------------------------------


async def test_later_events_overtake_an_undecidable_delivery(deployment: Deployment) -> None:
    """Those about the same subject too. It stays pending, without an attempt, until its next attempt."""
    subscription = await deployment.subscribe()
    deployment.pdp.fails = fails
    await deployment.publish(bad(), good("b"), good("c"))
    await deployment.deliver()
    assert names(deployment.receiver) == ["b", "c"]
    assert await deployment.states(subscription) == ["pending", "delivered", "delivered"]
    waiting = await one_of(deployment, subscription)
    assert (waiting.attempts, waiting.tries) == ((), 0)
    assert waiting.next_attempt is not None
    assert 0 < waiting.next_attempt - deployment.clock() <= FIRST_WAIT * SECOND


async def test_an_undecidable_delivery_is_asked_about_at_its_time(deployment: Deployment) -> None:
    """Not before, however often its lane is served, and then anew."""
    subscription = await undecidable(deployment)
    deployment.pdp.requests.clear()
    for _ in range(3):
        await deployment.application.lane_worker.serve(Lane(subscription.id))
        deployment.clock.add(3)
    assert deployment.pdp.requests == []
    assert await deployment.application.deliveries.overdue(deployment.clock()) == []
    deployment.clock.add(FIRST_WAIT - 9)
    await deployment.deliver()
    assert any(fails(question) for questions in deployment.pdp.asked for question in questions)
    assert (await one_of(deployment, subscription)).undecidable == 2


async def test_an_undecidable_delivery_is_withheld_after_the_last_wait(deployment: Deployment) -> None:
    """It is asked about as often as an endpoint is tried."""
    subscription = await undecidable(deployment)
    for times in range(2, 16):
        deployment.clock.add(A_DAY)
        await deployment.deliver()
        waiting = await one_of(deployment, subscription)
        assert (waiting.state.value, waiting.undecidable) == ("pending", times)
    deployment.clock.add(A_DAY)
    await deployment.deliver()
    withheld = await one_of(deployment, subscription)
    assert (withheld.state.value, withheld.next_attempt, withheld.attempts) == ("withheld", None, ())
    assert names(deployment.receiver) == []


async def test_another_process_goes_on_with_the_schedule(deployment: Deployment) -> None:
    """It knows of no undecidable question, and how often this one was."""
    subscription = await undecidable(deployment)
    other = deployment.start()
    await deployment.publish(good("b"), process=other)
    await deployment.deliver(other)
    deployment.clock.add(FIRST_WAIT)
    await deployment.deliver(other)
    assert names(deployment.receiver) == ["b"]
    assert (await one_of(deployment, subscription)).undecidable == 2


# -- Deciding ---------------------------------------------------------------------------------------------------------


async def test_a_delivery_that_becomes_permitted_has_the_whole_schedule_of_attempts(deployment: Deployment) -> None:
    """What was waited for a decision does not count."""
    subscription = await undecidable(deployment)
    deployment.clock.add(FIRST_WAIT)
    await deployment.deliver()
    deployment.pdp.fails = lambda _: False
    deployment.receiver.answer = answering(500)
    deployment.clock.add(SECOND_WAIT)
    await deployment.deliver()
    assert names(deployment.receiver) == ["bad"]
    failing = await one_of(deployment, subscription)
    assert (failing.state.value, failing.tries, failing.undecidable) == ("failing", 1, 0)
    assert failing.next_attempt is not None
    assert failing.next_attempt - deployment.clock() <= FIRST_WAIT * SECOND


async def test_a_delivery_that_becomes_denied_is_withheld(deployment: Deployment) -> None:
    """At its next attempt."""
    subscription = await undecidable(deployment)
    deployment.pdp.fails = lambda _: False
    deployment.pdp.decide = lambda _: DENY
    deployment.clock.add(FIRST_WAIT)
    await deployment.deliver()
    assert await deployment.states(subscription) == ["withheld"]


async def test_a_failing_delivery_that_is_undecidable_keeps_its_attempts(deployment: Deployment) -> None:
    """It waits on the schedule, counts no attempt, and goes on when it is permitted."""
    subscription = await deployment.subscribe()
    deployment.receiver.answer = answering(500)
    await deployment.publish(bad(), good())
    await deployment.deliver()
    sent = await one_of(deployment, subscription)
    deployment.pdp.fails = fails
    deployment.forget_decisions()
    deployment.clock.add(301)
    await deployment.deliver()
    waiting = await one_of(deployment, subscription)
    assert (waiting.state.value, waiting.attempts, waiting.undecidable) == ("failing", sent.attempts, 1)
    assert sorted(names(deployment.receiver)) == ["bad", "good", "good"]
    deployment.pdp.fails = lambda _: False
    deployment.clock.add(FIRST_WAIT)
    await deployment.deliver()
    assert names(deployment.receiver).count("bad") == 2
    assert (await one_of(deployment, subscription)).tries == 2


# -- Without a witness ------------------------------------------------------------------------------------------------


async def test_nothing_is_counted_while_nobody_knows_whether_the_decision_point_works(deployment: Deployment) -> None:
    """The lane rests as while the decision point is down. Then the events are sent in order."""
    subscription = await deployment.subscribe()
    deployment.pdp.fails = lambda _: True
    await deployment.publish(bad("a"), good("b"), bad("c"))
    for _ in range(20):
        await deployment.deliver()
        deployment.clock.add(A_DAY)
    waiting = await deployment.deliveries(subscription)
    assert [(delivery.state.value, delivery.undecidable) for delivery in waiting] == [("pending", 0)] * 3
    deployment.pdp.fails = lambda _: False
    await deployment.deliver()
    assert names(deployment.receiver) == ["a", "b", "c"]


async def test_an_outage_moves_no_undecidable_delivery_along_its_schedule(deployment: Deployment) -> None:
    """It is asked about again every few seconds until the decision point answers."""
    subscription = await undecidable(deployment)
    for outage in ("everything fails", "no answer"):
        deployment.pdp.fails = (lambda _: True) if outage == "everything fails" else fails
        deployment.pdp.status = 200 if outage == "everything fails" else 503
        deployment.clock.add(A_DAY)
        await deployment.deliver()
        waiting = await one_of(deployment, subscription)
        assert (waiting.state.value, waiting.undecidable) == ("pending", 1)
    assert await deployment.application.deliveries.due(deployment.clock() + 5 * SECOND, 1)


async def test_decisions_that_arrived_are_used(deployment: Deployment) -> None:
    """A round that has spent its requests sends what is permitted. Later rounds decide the rest."""
    subscription = await deployment.subscribe()
    deployment.pdp.fails = lambda asked: int(asked.resource.get("urn:altinn:partyid", 0)) % 2 == 1
    await deployment.publish(*(event_of(f"e{n}", GOOD, f"/party/{n}") for n in range(1, 61)))
    deployment.pdp.requests.clear()
    await deployment.deliver()
    assert 0 < len(deployment.pdp.requests) <= 64
    assert 0 < len(names(deployment.receiver)) < 30
    for _ in range(6):
        deployment.clock.add(6)
        await deployment.deliver()
    assert sorted(names(deployment.receiver)) == sorted(f"e{n}" for n in range(2, 61, 2))
    assert await deployment.states(subscription) == ["pending", "delivered"] * 30


# -- Searching for a witness ------------------------------------------------------------------------------------------


def odd(asked: Asked) -> bool:
    """Whether a question is about a party with an odd number."""
    return int(asked.resource.get("urn:altinn:partyid", 0)) % 2 == 1


async def test_a_new_process_finds_a_witness_among_other_deliveries(deployment: Deployment) -> None:
    """Else an undecidable delivery that is due alone would be asked about for ever, and never withheld."""
    subscription = await deployment.subscribe()
    deployment.pdp.fails = fails
    await deployment.publish(bad(), good())
    await deployment.deliver()
    other = deployment.start()
    deployment.clock.add(FIRST_WAIT)
    await deployment.deliver(other)
    assert (await one_of(deployment, subscription)).undecidable == 2


async def test_a_round_of_undecidable_deliveries_holds_up_none_behind_it(deployment: Deployment) -> None:
    """Also in a process that knows no question of the consumer."""
    subscription = await deployment.subscribe()
    deployment.pdp.fails = lambda _: True
    undecidable, permitted = range(1, 2 * FIRSTS, 2), range(2, 2 * FIRSTS + 1, 2)
    await deployment.publish(*(event_of(f"e{n}", GOOD, f"/party/{n}") for n in [*undecidable, *permitted]))
    deployment.pdp.fails = odd
    other = deployment.start()
    for _ in range(20):
        await deployment.deliver(other)
        deployment.clock.add(PAUSE / SECOND)
    assert sorted(names(deployment.receiver)) == sorted(f"e{n}" for n in permitted)
    assert await deployment.states(subscription) == ["pending"] * FIRSTS + ["delivered"] * FIRSTS


async def test_a_process_seldom_searches_for_a_witness(deployment: Deployment) -> None:
    """While nothing is decided, most rounds send one request. A round sends at most 64 in all."""
    await deployment.subscribe()
    deployment.pdp.fails = lambda _: True
    await deployment.publish(*(event_of(f"e{n}", GOOD, f"/party/{n}") for n in range(1, 101)))
    other, sent = deployment.start(), []
    for _ in range(60):
        deployment.pdp.requests.clear()
        await deployment.deliver(other)
        sent.append(len(deployment.pdp.requests))
        deployment.clock.add(PAUSE / SECOND)
    assert sent.count(1) >= 49
    assert max(sent) <= 20


async def test_a_search_in_vain_stops_no_other_lane_of_the_consumer(deployment: Deployment) -> None:
    """The other subscription has a delivery that can be decided."""
    in_vain = await deployment.subscribe(path="/a", subject="/party/1")
    other = await deployment.subscribe(path="/b", subject="/party/%")
    deployment.pdp.fails = lambda _: True
    await deployment.publish(event_of("a", GOOD, "/party/1"), event_of("b", GOOD, "/party/2"))
    deployment.pdp.fails = odd
    lane_worker = deployment.start().lane_worker
    for subscription in (in_vain, other):
        await lane_worker.serve(Lane(subscription.id))
    assert names(deployment.receiver) == ["b"]
