"""Serve `function_app.py`: compose the application, run HTTP and the other triggers, stop cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path

import uvicorn
import uvloop
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from events_core import app
from events_core.common.clock import now
from events_core.common.errors import EventsError, MisconfiguredError
from events_core.feeds.wait import WaitingReaders
from events_core.operations.application import Application
from events_core.settings import SettingsError, load_settings
from local.asgi import PROTECTION_HEADERS, HttpHost
from local.background import background
from local.environment import prepare
from local.errors import LocalError
from local.first_steps import first_steps
from local.host import load_functions, route_prefix
from local.listener import listen, url_of
from local.routing import Router
from local.sample_data import insert_sample_data

GRACE_SECONDS = 1.0
"""How long current requests may still take once the host stops."""
KEEP_ALIVE_SECONDS = 60
LONGEST_HEAD = 64 * 1024
"""How many bytes of a request's head, or of what follows a chunked body, may arrive without an end."""


def serve(host: str, port: int, data_dir: Path, *, sample_data: bool = True) -> None:
    """Serve until SIGTERM or SIGINT. Prints `listening on http://HOST:PORT` once it accepts connections.

    Raises:
        LocalError: A setting is missing or bad, the store does not open, the address is in use, or the local host
            cannot run `function_app.py`.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    issuer = prepare(data_dir)
    try:
        load_settings()
    except SettingsError as error:
        raise LocalError(str(error), 2) from None
    with listen(host, port) as listener, contextlib.suppress(KeyboardInterrupt):

        def ready() -> None:
            print(f"listening on {url_of(listener, host)}", flush=True)
            if issuer:
                print(first_steps(issuer, url_of(listener), now()), flush=True)

        uvloop.run(_serve(listener, ready, sample_data=sample_data))


async def _serve(listener: socket.socket, ready: Callable[[], None], *, sample_data: bool) -> None:
    functions = load_functions()
    http = HttpHost(Router(functions, route_prefix()))
    try:
        application = await _compose(sample_data=sample_data)
        async with background(functions):
            await _Server(http, application.waiting, ready).serve([listener])
    finally:
        await app.close()


async def _compose(*, sample_data: bool) -> Application:
    try:
        application = await app.current()
        if sample_data:
            await insert_sample_data(application.store, progress=sys.stderr.isatty())
    except MisconfiguredError as error:
        raise LocalError(error.line, 2) from None
    except EventsError as error:
        raise LocalError(error.detail) from None
    return application


class _Protocol(HttpToolsProtocol):
    """HTTP of uvicorn, with a bound on what is neither body nor a whole head: uvicorn keeps heads of any length.

    Uvicorn's own answer to a malformed request gets the headers of every response too.
    """

    _waiting = 0  # bytes since the last piece of a body or the last whole head

    @override
    def data_received(self, data: bytes) -> None:
        self._waiting += len(data)
        super().data_received(data)
        if self._waiting > LONGEST_HEAD and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    @override
    def on_headers_complete(self) -> None:
        self._waiting = 0
        super().on_headers_complete()

    @override
    def on_body(self, body: bytes) -> None:
        self._waiting = 0
        super().on_body(body)

    @override
    def send_400_response(self, msg: str) -> None:
        self.server_state = copy(self.server_state)  # of this connection, which ends
        self.server_state.default_headers = PROTECTION_HEADERS
        super().send_400_response(msg)


class _Server(uvicorn.Server):
    """Uvicorn that calls `ready` once it listens, and ends long polls when it stops."""

    def __init__(self, http: HttpHost, waiting: WaitingReaders, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                http,
                http=_Protocol,
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
        self._waiting = waiting
        self._ready = ready

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Uvicorn would raise SIGTERM and SIGINT again at the end, and so not exit with status 0.
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
        self._waiting.close()
        self._http.stop(GRACE_SECONDS)
