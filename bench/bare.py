"""The floor of the HTTP benchmarks: an endpoint on the same server that only reads rows and joins them."""

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
    """Return the page after `?position=…`, of `&size=…` events."""
    arguments = int(req.params["position"]), int(req.params["size"])
    body = await asyncio.get_running_loop().run_in_executor(_READERS, _page, *arguments)
    return func.HttpResponse(body, mimetype="application/json")


def _page(position: int, size: int) -> bytes:
    if not hasattr(_LOCAL, "connection"):
        _LOCAL.connection = sqlite3.connect(Path(os.environ["EVENTS_DATA_DIR"]) / "events.db", isolation_level=None)
    rows = _LOCAL.connection.execute(_SQL, (1, position, size)).fetchall()
    return b"[" + b",".join(row[0] for row in rows) + b"]"


application = HttpHost(Router(functions_of(app), ""))
