"""Receivers of other makers get every event of a run in which the service is stopped and killed."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from pathlib import Path

import pytest

from tests.local.test_delivering import RESOURCE, Host, hosts
from tests.support.clients import webhook_receiver

JSON = "application/json"


async def lines_until(receiver: Process, ids: set[str]) -> list[str]:
    """The lines that a receiver prints until it has verified all these ids."""
    assert receiver.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(30):
        while not {f"verified {name}" for name in ids} <= set(lines):
            lines.append((await receiver.stdout.readline()).decode().strip())
    return lines


async def subscribe(host: Host, receiver: Process, **fields: str) -> None:
    """Subscribe a receiver to the resource, and tell it the secret."""
    assert receiver.stdin is not None
    assert receiver.stdout is not None
    url = (await receiver.stdout.readline()).decode().strip()
    made = await host.post("/events/api/v1/subscriptions", {"endPoint": url, "resourceFilter": RESOURCE, **fields})
    receiver.stdin.write(f"{made['secret']}\n".encode())


@pytest.mark.slow
@pytest.mark.parametrize(
    "content_type",
    [
        pytest.param((), id="any type"),
        pytest.param((JSON,), id="JSON only"),
    ],
)
async def test_a_receiver_gets_every_event_of_a_run_with_restarts(
    tmp_path: Path, content_type: tuple[str, ...]
) -> None:
    """It verifies by the npm package standardwebhooks, may take application/json only, and refuses nothing."""
    with hosts() as started:
        async with webhook_receiver(*content_type) as receiver:
            started.append(Host(tmp_path))
            await subscribe(started[0], receiver)
            await started[0].publish("a1", "a2", "a3")
            started[0].kill()  # before most are delivered
            started.append(Host(tmp_path))
            await started[1].publish("b1", "b2", "b3")
            seen = await lines_until(receiver, {"b1"})  # while others are on their way
            started[1].process.terminate()
            started[1].process.wait(20)
            started.append(Host(tmp_path))
            await started[2].publish("c1", "c2", "c3")
            wanted = {f"{run}{number}" for run in "abc" for number in (1, 2, 3)}
            seen += await lines_until(receiver, wanted - {line.removeprefix("verified ") for line in seen})
    assert [line for line in seen if line.startswith("refused")] == []
