"""Health: whether the settings are right and each port answers."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping

from events_core.common.errors import EventsError, MisconfiguredError
from events_core.common.ports import Pingable
from events_core.operations.application import Application

KEPT_SECONDS = 5.0
"""How long a report of `alive` is kept, so that probes do not load the store."""
PING_SECONDS = 5.0

Checks = Mapping[str, str]
"""What each part says: "up", or why it is down."""


class HealthChecks:
    """Asks the parts of the application of this process. `clock` gives seconds and never goes back."""

    def __init__(
        self, application: Callable[[], Awaitable[Application]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._application = application
        self._clock = clock
        self._alive: Checks = {}
        self._alive_until = -math.inf
        self._ready: asyncio.Task[Checks] | None = None

    async def alive(self) -> Checks:
        """Whether the settings are right and the store answers; the answer may be `KEPT_SECONDS` old."""
        if self._clock() >= self._alive_until:
            self._alive = await self._check(lambda application: {"store": application.store})
            self._alive_until = self._clock() + KEPT_SECONDS
        return self._alive

    async def ready(self) -> Checks:
        """Whether store, decision point, Register and issuers answer; concurrent callers share one check."""
        running = self._ready
        if running is None or running.done() or running.get_loop() is not asyncio.get_running_loop():
            running = self._ready = asyncio.create_task(self._check(_every_port))
        return await asyncio.shield(running)

    async def _check(self, ports: Callable[[Application], Mapping[str, Pingable]]) -> Checks:
        try:
            application = await self._application()
        except MisconfiguredError as error:
            return {"settings": error.line}
        except EventsError as error:
            return {"settings": "up", "store": error.detail}
        named = ports(application)
        answers = await asyncio.gather(*(_ping(port) for port in named.values()))
        return {"settings": "up", **dict(zip(named, answers, strict=True))}


def _every_port(application: Application) -> Mapping[str, Pingable]:
    return {
        "store": application.store,
        "decisionPoint": application.decision_point,
        "register": application.register,
        "issuers": application.tokens,
    }


async def _ping(port: Pingable) -> str:
    try:
        async with asyncio.timeout(PING_SECONDS):
            await port.ping()
    except EventsError as error:
        return error.detail
    except TimeoutError:
        return f"did not answer within {PING_SECONDS:.0f} s"
    return "up"
