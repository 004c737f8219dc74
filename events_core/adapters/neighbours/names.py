"""Look-ups of endpoints' names, in threads of their own: a silent name service holds up its own consumers alone."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import Any

from events_core.common.fair_slots import FairSlots
from events_core.delivery.addresses import literal_of

THREADS, THREADS_PER_CONSUMER = 64, 4
"""Look-ups that a process runs at once. Fifteen consumers with silent names leave four threads for another one."""
SECONDS = 5.0
"""How long a look-up may take, with its wait for a thread."""
ADDRESSES_PER_FAMILY = 2
"""How many IPv4 and how many IPv6 addresses of a name are dialled: an answer can hold thousands."""

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]


class NameLookups:
    """Looks names up, a few at once for each consumer.

    A thread cannot be stopped: after the deadline it still counts against its consumer, until the C library gives up.
    The threads are daemons, because the threads of a pool would hold up the exit of the process.
    """

    def __init__(self) -> None:
        self._slots = FairSlots(THREADS, THREADS_PER_CONSUMER)

    async def addresses_of(self, host: str, port: int, consumer: str) -> Sequence[AddressInfo]:
        """Return a few addresses of a host. A literal address needs no look-up.

        Raises:
            socket.gaierror: The name is unknown, or no answer came before the deadline.
        """
        if literal_of(host) is not None:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        try:
            async with asyncio.timeout(SECONDS):
                return _few(await asyncio.wrap_future(await self._started(look_up, consumer)))
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, "No answer of the name service in time.") from None

    async def _started(
        self, look_up: Callable[[], Sequence[AddressInfo]], consumer: str
    ) -> Future[Sequence[AddressInfo]]:
        """Start a look-up in a thread, which keeps a slot of the consumer until it ends."""
        loop = asyncio.get_running_loop()

        def ended(_: Future[Sequence[AddressInfo]]) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._slots.give_back, consumer)

        await self._slots.take(consumer, None)
        answer = _in_thread(look_up)
        answer.add_done_callback(ended)
        return answer


def _few(addresses: Sequence[AddressInfo]) -> list[AddressInfo]:
    """The first addresses of each family, in their order."""
    seen: Counter[int] = Counter()
    few: list[AddressInfo] = []
    for address in addresses:
        seen[address[0]] += 1
        if seen[address[0]] <= ADDRESSES_PER_FAMILY:
            few.append(address)
    return few


def _in_thread(work: Callable[[], Sequence[AddressInfo]]) -> Future[Sequence[AddressInfo]]:
    """Start a daemon thread for `work`. Its result cannot be cancelled."""
    future: Future[Sequence[AddressInfo]] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 - raised again where the result is awaited
            future.set_exception(error)

    try:
        Thread(target=run, name="look-up", daemon=True).start()
    except RuntimeError as error:  # no more threads
        future.set_exception(socket.gaierror(socket.EAI_AGAIN, str(error)))
    return future
