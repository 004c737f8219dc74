"""The floor of the HTTP benchmarks: a bare ASGI endpoint that reads the same rows in a thread and joins them."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
_READERS = ThreadPoolExecutor(4)
_LOCAL = threading.local()
_SQL = "SELECT json FROM events INDEXED BY by_resource WHERE resource = ? AND position > ? ORDER BY position LIMIT ?"


def _connection() -> sqlite3.Connection:
    if not hasattr(_LOCAL, "connection"):
        path = os.path.join(os.environ["EVENTS_DATA_DIR"], "events.db")  # noqa: PTH118 - nothing is imported for it
        _LOCAL.connection = sqlite3.connect(path, isolation_level=None)
    connection: sqlite3.Connection = _LOCAL.connection
    return connection


def _page(position: int, size: int) -> bytes:
    rows = _connection().execute(_SQL, (1, position, size)).fetchall()
    return b"[" + b",".join(row[0] for row in rows) + b"]"


async def application(
    scope: MutableMapping[str, Any],
    _: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answer `?position=…&size=…`."""
    query = parse_qs(scope["query_string"].decode())
    arguments = int(query["position"][0]), int(query["size"][0])
    body = await asyncio.get_running_loop().run_in_executor(_READERS, _page, *arguments)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
