"""Serves function_app.py: composition, HTTP, timers, and a clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
import uvloop

from events_core import app
from events_core.common.errors import EventsError, MisconfiguredError
from events_core.operations.application import Application
from events_core.settings import SettingsError, load_settings
from local.asgi import HttpHost
from local.background import background
from local.environment import prepare
from local.errors import LocalError
from local.first_steps import first_steps
from local.host import load_functions, route_prefix
from local.listener import listen, url_of
from local.routing import Router
from local.sample_data import insert_sample_data

GRACE_SECONDS = 1.0
"""How long the requests at hand may take once the host stops."""
KEEP_ALIVE_SECONDS = 60


def serve(host: str, port: int, data_dir: Path, *, sample_data: bool = True) -> None:
    """Serve until SIGTERM or SIGINT; says `listening on http://HOST:PORT` on standard output once it does.

    Raises:
        LocalError: a setting is missing or bad, the store or the address cannot be had, or function_app.py cannot be
            run here.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    issuer = prepare(data_dir)
    _check_settings()
    with listen(host, port) as listener, contextlib.suppress(KeyboardInterrupt):

        def ready() -> None:
            print(f"listening on {url_of(listener, host)}", flush=True)
            if issuer:
                print(first_steps(issuer, url_of(listener), datetime.now(UTC)), flush=True)

        uvloop.run(_serve(listener, ready, sample_data=sample_data))


def _check_settings() -> None:
    try:
        load_settings()
    except SettingsError as error:
        raise LocalError(str(error), 2) from None


async def _serve(listener: socket.socket, ready: Callable[[], None], *, sample_data: bool) -> None:
    functions = load_functions()
    http = HttpHost(Router(functions, route_prefix()))
    try:
        events = await _composed(sample_data=sample_data)
        async with background(functions):
            await _Server(http, events, ready).serve([listener])
    finally:
        await app.close()


async def _composed(*, sample_data: bool) -> Application:
    try:
        events = await app.current()
        if sample_data:
            await insert_sample_data(events.store, progress=sys.stderr.isatty())
    except MisconfiguredError as error:
        raise LocalError(error.line, 2) from None
    except EventsError as error:
        raise LocalError(error.detail) from None
    return events


class _Server(uvicorn.Server):
    """uvicorn, which tells when it listens, and ends long polls when it is told to stop."""

    def __init__(self, http: HttpHost, events: Application, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                http,
                http="httptools",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                log_level="error",
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=round(3 * GRACE_SECONDS),
            )
        )
        self._http = http
        self._events = events
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT; uvicorn would raise them again in the end, and so not exit with 0."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        self._events.waiting.close()
        self._http.stop(GRACE_SECONDS)
