"""A minimal keep-alive HTTP/1.1 client. It costs almost nothing, so ratios compare the servers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Reply:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """A connection for one request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, request: bytes) -> bytes:
        """Send a request. Returns the whole response as bytes."""
        self._socket.sendall(request)
        received = bytearray()
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        length = received[:end].lower().split(b"content-length: ")[1].split(b"\r\n")[0]
        while len(received) < end + 4 + int(length):
            received += self._more()
        return bytes(received)

    def get(self, request: bytes) -> Reply:
        """Send a request. Returns the parsed response."""
        head, _, body = self.exchange(request).partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return Reply(int(status.split(" ")[1]), {name.lower(): value for name, value in headers.items()}, body)

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data


def request(method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
    """A request as bytes."""
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *(f"{n}: {v}" for n, v in (headers or {}).items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def latencies(connection: Connection, requests: Sequence[bytes]) -> list[float]:
    """Send requests one after the other. Returns the seconds of each request."""
    seconds = []
    for message in requests:
        started = time.perf_counter()
        connection.exchange(message)
        seconds.append(time.perf_counter() - started)
    return seconds


def throughput(port: int, requests: Sequence[bytes], connections: int) -> float:
    """Requests a second when several connections each send all requests."""
    opened = [Connection(port) for _ in range(connections)]
    threads = [threading.Thread(target=latencies, args=(connection, requests)) for connection in opened]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return connections * len(requests) / (time.perf_counter() - started)
