"""The local host with a simulated name service, a part of which is silent: support of `bench.neighbours`."""

from __future__ import annotations

import asyncio
import socket
import time
from functools import partial
from typing import Any

import uvloop

SILENT = ".silent.example"
GIVES_UP_AFTER = 10.0
"""The C library asks a silent server twice, for five seconds each."""

_look_up = socket.getaddrinfo


def serve() -> None:
    """Run `python -m local` with the arguments of this process."""
    socket.getaddrinfo = addresses
    # uvloop would ask the C library. The Functions host runs the loop of asyncio, which calls `socket.getaddrinfo`.
    uvloop.Loop.getaddrinfo = _addresses_in_a_thread  # type: ignore[assignment,method-assign] # other names of arguments
    from local.__main__ import cli  # noqa: PLC0415 - what it imports finds the name service above

    cli(prog_name="python -m local")


def addresses(  # noqa: PLR0917 - as `socket.getaddrinfo`
    host: Any,
    port: Any,
    family: int = 0,
    type: int = 0,  # noqa: A002 - its name there
    proto: int = 0,
    flags: int = 0,
) -> Any:
    """Read an address. `localhost` and the names below it are loopback, SILENT names hang, all others are unknown."""
    name = host.decode() if isinstance(host, bytes) else host or ""
    if name.endswith(SILENT):
        time.sleep(GIVES_UP_AFTER)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    address = "127.0.0.1" if name.endswith("localhost") else host
    return _look_up(address, port, family, type, proto, flags | socket.AI_NUMERICHOST)


async def _addresses_in_a_thread(loop: asyncio.AbstractEventLoop, host: Any, port: Any, **named: Any) -> Any:
    """Look up as the loop of asyncio does: in the default executor."""
    return await loop.run_in_executor(None, partial(socket.getaddrinfo, host, port, **named))
