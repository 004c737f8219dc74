"""Gauges, measured on both stores."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from azure.functions.timer import TimerRequest
from pydantic import SecretStr

import function_app
from events_core import app
from events_core.adapters.cosmos.streams.checkpoints import CosmosCheckpoints
from events_core.adapters.cosmos.streams.names import partition, position_id
from events_core.adapters.gauges import report
from events_core.common.errors import EventsError
from events_core.delivery.delivery import State
from events_core.feeds.ports import Quarantined
from events_core.feeds.stream import Stream
from events_core.operations.gauges import Gauges
from local.host import functions_of
from tests.contract.event_store import APP, OTHER_APP, event, events
from tests.support.certificates import KEY, certificate_of, pem
from tests.support.delivering import Deployment, answering, deployment_on

APPS = Stream.of_resource(APP)
NOTHING = Gauges(0, 0, 0, 0, 0, None)


async def test_an_idle_service_reports_zero(deployment: Deployment) -> None:
    """Before the first event is published and after all of them were delivered."""
    assert await deployment.application.measure.gauges() == NOTHING
    await deployment.subscribe()
    await deployment.publish(*events(3))
    await deployment.deliver()
    deployment.clock.add(100)
    assert await deployment.application.measure.gauges() == NOTHING


async def test_the_oldest_unprojected_event_ages(deployment: Deployment) -> None:
    """A stream that was never followed counts too."""
    await deployment.subscribe()
    await deployment.application.store.append([event(resource=OTHER_APP)])
    await deployment.application.follow_up.follow(Stream.of_resource(OTHER_APP))
    await deployment.application.store.append([event("a")])
    await deployment.application.store.append([event("b")])
    deployment.clock.add(100)
    assert 100 <= (await deployment.application.measure.gauges()).oldest_unprojected_seconds < 160
    await deployment.application.follow_up.follow(APPS)
    assert (await deployment.application.measure.gauges()).oldest_unprojected_seconds == 0


async def test_a_due_delivery_ages(deployment: Deployment) -> None:
    """It ages while no worker serves its lane and while the decision point does not answer."""
    await deployment.subscribe()
    deployment.pdp.status = 503
    deployment.forget_decisions()
    await deployment.publish(event("a"))
    for _ in range(3):
        await deployment.deliver()
        deployment.clock.add(100)
    assert 300 <= (await deployment.application.measure.gauges()).oldest_undelivered_seconds < 360
    deployment.pdp.status = 200
    await deployment.deliver()
    assert (await deployment.application.measure.gauges()).oldest_undelivered_seconds == 0


async def test_deliveries_that_wait_for_the_subscriber_do_not_age(deployment: Deployment) -> None:
    """The subscription is paused, or its endpoint not validated."""
    paused = await deployment.subscribe()
    subscriptions = deployment.application.subscriber.subscriptions
    await subscriptions.change(replace(paused, paused=True))
    deployment.receiver.answer = lambda _: web.Response(status=500)
    await deployment.subscribe(path="/never-validated")
    await deployment.application.measure.cache.fresh()
    await deployment.publish(*events(2))
    deployment.clock.add(100)
    assert (await deployment.application.measure.gauges()).oldest_undelivered_seconds == 0


async def test_deliveries_to_a_failing_endpoint_do_not_age(deployment: Deployment) -> None:
    """They wait for the breaker's next probe."""
    await deployment.subscribe()
    deployment.receiver.answer = answering(500)
    await deployment.publish(*events(40))
    await deployment.deliver()
    deployment.clock.add(5)
    assert (await deployment.application.measure.gauges()).oldest_undelivered_seconds == 0


async def test_dead_letters_count_until_they_are_replayed(deployment: Deployment) -> None:
    """They count over all subscriptions."""
    one, other = await deployment.subscribe(), await deployment.subscribe("/org/digdir", "/other")
    deliveries = deployment.application.subscriber.deliveries
    await deployment.publish(*events(2))
    dead = [*await deployment.deliveries(one), *await deployment.deliveries(other)]
    for each in dead:
        await deliveries.save(replace(each, state=State.DEAD, next_attempt=None, settled=deployment.clock()))
    assert (await deployment.application.measure.gauges()).dead_letters == 4
    await deliveries.revive(one.id, deployment.clock())
    assert (await deployment.application.measure.gauges()).dead_letters == 2


async def test_parked_counts_quarantined_targets(deployment: Deployment) -> None:
    """Streams and subscriptions count alike."""
    await deployment.publish(event())
    checkpoints = deployment.application.checkpoints
    held = [Quarantined("projection", f"subject:/party/{n}", 1, "ValueError") for n in (1, 2)]
    await checkpoints.advance(
        APPS, await checkpoints.checkpoint(APPS), {"projection": 1}, catch_up_pending=False, quarantined=held
    )
    assert (await deployment.application.measure.gauges()).parked == 2


async def test_a_hole_in_a_stream_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Cosmos DB; other streams are measured all the same."""
    async with deployment_on("cosmos", tmp_path) as deployment:
        await deployment.application.store.append(events(3))
        await deployment.application.store.append([event(resource=OTHER_APP)])
        checkpoints = deployment.application.checkpoints
        assert isinstance(checkpoints, CosmosCheckpoints)
        holed = replace(checkpoints, reader=replace(checkpoints.reader, hole_seconds=-5))
        database = checkpoints.states._database
        await database.delete("test", "streams", position_id(1), partition(checkpoints.names.of(APPS), 0))
        deployment.clock.add(100)
        gauges = await replace(deployment.application.measure, checkpoints=holed).gauges()
        assert (gauges.stream_holes, gauges.oldest_unprojected_seconds >= 100) == (1, True)


async def test_the_days_until_the_certificate_ends_go_down(tmp_path: Path) -> None:
    """They are negative after its end."""
    certificate = SecretStr(pem(KEY, certificate_of(KEY, days=21)))
    async with deployment_on("sqlite", tmp_path, platform_certificate=certificate) as deployment:
        left = []
        for _ in range(2):
            left.append((await deployment.application.measure.gauges()).certificate_days_left)
            deployment.clock.add(22 * 86_400)
    assert left == pytest.approx([21, -1], abs=0.01)


async def test_no_age_is_negative(deployment: Deployment) -> None:
    """The clock may have been set back."""
    await deployment.application.store.append([event()])
    deployment.clock.add(-1_000)
    assert (await deployment.application.measure.gauges()).oldest_unprojected_seconds == 0


async def test_a_store_that_is_down_reports_nothing(deployment: Deployment) -> None:
    """The missing report is an alert of its own."""
    await deployment.application.store.close()
    with pytest.raises(EventsError):
        await deployment.application.measure.gauges()


# -- The report -------------------------------------------------------------------------------------------------------


async def test_one_log_line_has_every_gauge(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In development it is logged at DEBUG."""
    monkeypatch.setattr(app, "_application", deployment.application)
    function = next(each for each in functions_of(function_app.app) if each.name == "measure")
    assert function.trigger["schedule"] == "30 * * * * *"
    with caplog.at_level(logging.DEBUG, "events_core"):
        await function(TimerRequest(past_due=False, schedule={}, schedule_status={}))
        full = deployment.application.report.func  # type: ignore[attr-defined] # a partial, which is quiet on a laptop
        monkeypatch.setattr(app, "_application", replace(deployment.application, report=full))
        await function(TimerRequest(past_due=False, schedule={}, schedule_status={}))
    lines: list[Any] = [record for record in caplog.records if record.message == "gauges"]
    assert [line.levelname for line in lines] == ["DEBUG", "INFO"]
    values = {name: value for name, value in asdict(NOTHING).items() if value is not None}
    assert all(values.items() <= vars(line).items() for line in lines)


@pytest.mark.parametrize("days", [None, -1.5])
def test_the_certificates_days_are_reported_only_with_a_certificate(
    caplog: pytest.LogCaptureFixture, days: float | None
) -> None:
    """A missing value is no zero, which would be an alert."""
    with caplog.at_level(logging.INFO, "events_core"):
        report(replace(NOTHING, certificate_days_left=days))
    (line,) = caplog.records
    assert vars(line).get("certificate_days_left", "none") == (days or "none")
