"""Gauges, measured on both stores."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from azure.functions.timer import TimerRequest

import function_app
from events_core import app
from events_core.adapters.cosmos.streams.checkpoints import CosmosCheckpoints
from events_core.common.errors import EventsError
from events_core.delivery.delivery import State
from events_core.feeds.ports import Quarantined
from events_core.feeds.stream import Stream
from events_core.operations.gauges import Gauges
from local.host import functions_of
from tests.contract.event_store import APP, OTHER_APP, event, events
from tests.support.delivering import Place, answering, place_on

APPS = Stream.of_resource(APP)
NOTHING = Gauges(0, 0, 0, 0, 0)


async def test_an_idle_service_reports_zero(place: Place) -> None:
    """Before the first event is published and after all of them were delivered."""
    assert await place.events.measure.gauges() == NOTHING
    await place.subscribe()
    await place.publish(*events(3))
    await place.deliver()
    place.clock.add(100)
    assert await place.events.measure.gauges() == NOTHING


async def test_the_oldest_unprojected_event_ages(place: Place) -> None:
    """A stream that was never followed counts too."""
    await place.subscribe()
    await place.events.store.append([event(resource=OTHER_APP)])
    await place.events.follow_up.follow(Stream.of_resource(OTHER_APP))
    await place.events.store.append([event("a")])
    await place.events.store.append([event("b")])
    place.clock.add(100)
    assert 100 <= (await place.events.measure.gauges()).oldest_unprojected_seconds < 160
    await place.events.follow_up.follow(APPS)
    assert (await place.events.measure.gauges()).oldest_unprojected_seconds == 0


async def test_a_due_delivery_ages(place: Place) -> None:
    """It ages while no worker serves its lane and while the decision point does not answer."""
    await place.subscribe()
    place.pdp.status = 503
    place.forget_decisions()
    await place.publish(event("a"))
    for _ in range(3):
        await place.deliver()
        place.clock.add(100)
    assert 300 <= (await place.events.measure.gauges()).oldest_undelivered_seconds < 360
    place.pdp.status = 200
    await place.deliver()
    assert (await place.events.measure.gauges()).oldest_undelivered_seconds == 0


async def test_deliveries_that_wait_for_the_subscriber_do_not_age(place: Place) -> None:
    """The subscription is paused, or its endpoint not validated."""
    paused = await place.subscribe()
    subscriptions = place.events.subscriber.subscriptions
    await subscriptions.change(replace(paused, paused=True))
    place.receiver.answer = lambda _: web.Response(status=500)
    await place.subscribe(path="/never-validated")
    await place.events.measure.cache.fresh()
    await place.publish(*events(2))
    place.clock.add(100)
    assert (await place.events.measure.gauges()).oldest_undelivered_seconds == 0


async def test_deliveries_to_a_failing_endpoint_do_not_age(place: Place) -> None:
    """They wait for the breaker's next probe."""
    await place.subscribe()
    place.receiver.answer = answering(500)
    await place.publish(*events(40))
    await place.deliver()
    place.clock.add(5)
    assert (await place.events.measure.gauges()).oldest_undelivered_seconds == 0


async def test_dead_letters_count_until_they_are_replayed(place: Place) -> None:
    """They count over all subscriptions."""
    one, other = await place.subscribe(), await place.subscribe("/org/digdir", "/other")
    deliveries = place.events.subscriber.deliveries
    await place.publish(*events(2))
    dead = [*await place.deliveries(one), *await place.deliveries(other)]
    for each in dead:
        await deliveries.save(replace(each, state=State.DEAD, next_attempt=None, settled=place.clock()))
    assert (await place.events.measure.gauges()).dead_letters == 4
    await deliveries.revive(one.id, place.clock())
    assert (await place.events.measure.gauges()).dead_letters == 2


async def test_parked_counts_quarantined_targets(place: Place) -> None:
    """Streams and subscriptions count alike."""
    await place.publish(event())
    checkpoints = place.events.checkpoints
    held = [Quarantined("projection", f"subject:/party/{n}", 1, "ValueError") for n in (1, 2)]
    await checkpoints.advance(APPS, await checkpoints.checkpoint(APPS), 1, catch_up_pending=False, quarantined=held)
    assert (await place.events.measure.gauges()).parked == 2


async def test_a_hole_in_a_stream_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Cosmos DB; other streams are measured all the same."""
    async with place_on("cosmos", tmp_path) as place:
        await place.events.store.append(events(3))
        await place.events.store.append([event(resource=OTHER_APP)])
        checkpoints = place.events.checkpoints
        assert isinstance(checkpoints, CosmosCheckpoints)
        holed = replace(checkpoints, reader=replace(checkpoints.reader, hole_seconds=-5))
        (first, *_) = await checkpoints.read_after(APPS, 0, 1)
        database = checkpoints.states._database
        await database.delete("test", "streams", f"{first.position:020}", first.document["partition"])  # type: ignore[attr-defined]
        place.clock.add(100)
        gauges = await replace(place.events.measure, checkpoints=holed).gauges()
        assert (gauges.stream_holes, gauges.oldest_unprojected_seconds >= 100) == (1, True)


async def test_no_age_is_negative(place: Place) -> None:
    """The clock may have been set back."""
    await place.events.store.append([event()])
    place.clock.add(-1_000)
    assert (await place.events.measure.gauges()).oldest_unprojected_seconds == 0


async def test_a_store_that_is_down_reports_nothing(place: Place) -> None:
    """The missing report is an alert of its own."""
    await place.events.store.close()
    with pytest.raises(EventsError):
        await place.events.measure.gauges()


# -- The report -------------------------------------------------------------------------------------------------------


async def test_one_log_line_has_every_gauge(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In development it is logged at DEBUG."""
    monkeypatch.setattr(app, "_application", place.events)
    function = next(each for each in functions_of(function_app.app) if each.name == "measure")
    assert function.trigger["schedule"] == "30 * * * * *"
    with caplog.at_level(logging.DEBUG, "events_core"):
        await function(TimerRequest(past_due=False, schedule={}, schedule_status={}))
        full = place.events.report.func  # type: ignore[attr-defined] # a partial, which is quiet on a laptop
        monkeypatch.setattr(app, "_application", replace(place.events, report=full))
        await function(TimerRequest(past_due=False, schedule={}, schedule_status={}))
    lines: list[Any] = [record for record in caplog.records if record.message == "gauges"]
    assert [line.levelname for line in lines] == ["DEBUG", "INFO"]
    assert all(asdict(NOTHING).items() <= vars(line).items() for line in lines)
