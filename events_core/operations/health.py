"""Health: whether the settings are right and each port answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from events_core.common.errors import EventsError, MisconfiguredError
from events_core.common.ports import Pingable
from events_core.common.single_flight import SingleFlightCache
from events_core.operations.application import Application

ALIVE_SECONDS, READY_SECONDS = 5.0, 1.0
"""How long each report is kept, so that probes do not load the store and the neighbours."""
PING_SECONDS = 5.0

Checks = Mapping[str, str]
"""What each part says: "up", or why it is down."""
Ports = Callable[[Application], Mapping[str, Pingable]]
"""Chooses the ports of a report."""


class HealthChecks:
    """Asks the parts of the application of this process. `clock` gives seconds and never goes back.

    Requests that come while a report is made share it.
    """

    def __init__(
        self, application: Callable[[], Awaitable[Application]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._application = application
        self._alive: SingleFlightCache[Ports, Checks] = SingleFlightCache(
            clock=clock, ttl_seconds=ALIVE_SECONDS, size=1
        )
        self._ready: SingleFlightCache[Ports, Checks] = SingleFlightCache(
            clock=clock, ttl_seconds=READY_SECONDS, size=1
        )

    async def alive(self) -> Checks:
        """Whether the settings are right and the store answers."""
        return (await self._alive.get([_only_store], self._checked))[_only_store]

    async def ready(self) -> Checks:
        """Whether store, decision point, Register and issuers answer."""
        return (await self._ready.get([_every_port], self._checked))[_every_port]

    async def _checked(self, wanted: Sequence[Ports]) -> Mapping[Ports, Checks]:
        return {ports: await self._check(ports) for ports in wanted}

    async def _check(self, ports: Ports) -> Checks:
        try:
            application = await self._application()
        except MisconfiguredError as error:
            return {"settings": error.line}
        except EventsError as error:
            return {"settings": "up", "store": error.detail}
        named = ports(application)
        answers = await asyncio.gather(*(_ping(port) for port in named.values()))
        return {"settings": "up", **dict(zip(named, answers, strict=True))}


def _only_store(application: Application) -> Mapping[str, Pingable]:
    return {"store": application.store}


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
