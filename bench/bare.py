"""The floor of the HTTP benchmarks: on the same server, a bare endpoint that does just the read, and joins it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import azure.functions as func

from local.asgi import HttpHost
from local.host import functions_of
from local.routing import Router

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
_READERS = ThreadPoolExecutor(2)
_LOCAL = threading.local()
_SQL = "SELECT json FROM events INDEXED BY by_resource WHERE resource = ? AND position > ? ORDER BY position LIMIT ?"


@app.function_name("bare")
@app.route("page", methods=["GET"])
async def bare(req: func.HttpRequest) -> func.HttpResponse:
    """Answer `?position=…&size=…`."""
    arguments = int(req.params["position"]), int(req.params["size"])
    body = await asyncio.get_running_loop().run_in_executor(_READERS, _page, *arguments)
    return func.HttpResponse(body, mimetype="application/json")


def _page(position: int, size: int) -> bytes:
    rows = _connection().execute(_SQL, (1, position, size)).fetchall()
    return b"[" + b",".join(row[0] for row in rows) + b"]"


def _connection() -> sqlite3.Connection:
    if not hasattr(_LOCAL, "connection"):
        _LOCAL.connection = sqlite3.connect(Path(os.environ["EVENTS_DATA_DIR"]) / "events.db", isolation_level=None)
    connection: sqlite3.Connection = _LOCAL.connection
    return connection


application = HttpHost(Router(functions_of(app), ""))
