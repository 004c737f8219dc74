"""Timers of lanes: one a lane, and longer waits for a lane that finds no slot again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from events_core.adapters.storage_queue import DelayedWakeups, client_of_string
from events_core.common.clock import SECOND
from events_core.common.errors import unavailable
from events_core.delivery.delivery import Lane
from events_core.delivery.timers import LaneTimers
from events_core.settings import SettingsError
from tests.contract.event_store import event
from tests.support.azurite import azurite
from tests.support.delivering import Clock, answering, deployment_on

LANE, OTHER = Lane(5), Lane(6)


class Started:
    """The timers that were started."""

    def __init__(self) -> None:
        self.seconds: list[tuple[Lane, int]] = []
        self.clock = Clock()
        now = self.clock()
        self.timers = LaneTimers(self.start, lambda: now + self.clock.ahead)

    async def start(self, lane: Lane, seconds: float) -> None:
        """Note a timer."""
        self.seconds.append((lane, round(seconds)))


async def test_a_lane_without_a_slot_waits_twice_as_long_each_time() -> None:
    """From one second to thirty; once it found a slot, it starts anew."""
    started = Started()
    for wait in (1, 2, 4, 8, 16, 30, 30):
        await started.timers.put_back(LANE)
        started.clock.add(wait)
    started.timers.found_slot(LANE)
    await started.timers.put_back(LANE)
    assert [seconds for _, seconds in started.seconds] == [1, 2, 4, 8, 16, 30, 30, 1]


async def test_a_waiting_lane_has_one_timer() -> None:
    """However often it is woken meanwhile. Another lane has its own."""
    started = Started()
    for _ in range(3):
        await started.timers.put_back(LANE)
    await started.timers.put_back(OTHER)
    assert started.seconds == [(LANE, 1), (OTHER, 1)]


async def test_an_earlier_time_gets_a_timer_of_its_own() -> None:
    """A later one is covered by the timer that runs."""
    started = Started()
    now = started.timers.clock()
    for seconds in (4, 5, 2):
        await started.timers.wake_at(LANE, now + seconds * SECOND)
    assert started.seconds == [(LANE, 4), (LANE, 2)]


async def test_a_timer_that_cannot_be_started_fails_nothing() -> None:
    """The sweep finds the lane."""

    async def start(lane: Lane, seconds: float) -> None:
        raise unavailable(f"{lane} {seconds}")

    await LaneTimers(start, Clock()).put_back(LANE)


@pytest.fixture(scope="module")
def account() -> Iterator[str]:
    """A storage account."""
    with azurite() as connection:
        yield connection


async def test_a_delayed_wake_up_is_handed_out_after_its_wait(account: str) -> None:
    """The queue hides the message until then."""
    client = client_of_string(account)
    await client.create_queue()
    wakeups = DelayedWakeups(client)
    await wakeups.send(LANE, 0.9)
    assert await client.receive_message() is None
    async with asyncio.timeout(10):
        while (message := await client.receive_message()) is None:  # noqa: ASYNC110 - a queue has no event
            await asyncio.sleep(0.1)
    assert message.content == str(LANE)
    await wakeups.close()


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("AzureWebJobsStorage", {"storage": "no account"}),
        ("AzureWebJobsStorage__queueServiceUri", {"storage_queue_service_uri": "http://queue.example/"}),
    ],
)
async def test_a_storage_account_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, setting: dict[str, str]
) -> None:
    """As a setting, not as a failure of every request."""
    with pytest.raises(SettingsError, match=f"^{name}: "):
        async with deployment_on("sqlite", tmp_path, **setting):
            pass


async def test_deliveries_go_on_without_the_storage_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer of a retry cannot be started; a sweep finds the lane."""
    monkeypatch.setattr("events_core.adapters.storage_queue.DEADLINE_SECONDS", 0.1)
    nowhere = "DefaultEndpointsProtocol=http;AccountName=x;AccountKey=eA==;QueueEndpoint=http://127.0.0.1:9/x;"
    async with deployment_on("sqlite", tmp_path, storage=nowhere, webhook_retry_seconds=(4,)) as deployment:
        subscription = await deployment.subscribe()
        deployment.receiver.answer = answering(500, 200)
        await deployment.publish(event("a"))
        worker = deployment.application.lane_worker
        await deployment.deliver()
        assert await deployment.states(subscription) == ["failing"]
        deployment.clock.add(5)
        await worker.sweep()
        assert deployment.application.wakeup_queue.drain() == [str(Lane(subscription.id))]
        await deployment.deliver()
        assert await deployment.states(subscription) == ["delivered"]
