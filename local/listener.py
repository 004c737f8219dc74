"""The socket that a local server listens on, and its URL."""

from __future__ import annotations

import os
import socket

from local.errors import LocalError

LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not listened on
"""A destination for each wildcard address."""


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address. Port 0 picks a free port.

    Raises:
        LocalError: The address is in use, or does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise LocalError(f"cannot listen at {host}:{port}: {os.strerror(error.errno or 0)}") from None


def url_of(listener: socket.socket, host: str | None = None) -> str:
    """The URL of a listener, with `host` or else its own address. Its own wildcard address becomes the loopback."""
    address, port = listener.getsockname()[:2]
    name = host or LOOPBACK_OF.get(address, address)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
