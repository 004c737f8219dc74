"""The socket that a local server listens at, and its URL."""

from __future__ import annotations

import os
import socket

from local.errors import LocalError


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at the address; port 0 takes a free one.

    Raises:
        LocalError: the address is taken, or none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise LocalError(f"cannot listen at {host}:{port}: {os.strerror(error.errno or 0)}") from None


def url_of(listener: socket.socket, host: str | None = None) -> str:
    """The URL of what listens there, by `host`, else by its address, the loopback's instead of a wildcard."""
    address, port = listener.getsockname()[:2]
    named = host or {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - not listened at
    return f"http://[{named}]:{port}" if ":" in named else f"http://{named}:{port}"
