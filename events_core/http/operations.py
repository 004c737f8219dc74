"""Operations: health, and the description of the API (docs/operations.md)."""

from __future__ import annotations

from functools import cache
from importlib import resources

import azure.functions as func

from events_core.http.request import Request
from events_core.http.response import json_response, respond
from events_core.operations.application import Application
from events_core.operations.health import Checks

_NO_STORE = {"Cache-Control": "no-store"}
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
)


def health_response(checks: Checks) -> func.HttpResponse:
    """200 if every check is up, else 503."""
    down = any(result != "up" for result in checks.values())
    headers = {**_NO_STORE, "Retry-After": "5"} if down else _NO_STORE
    return json_response(
        {"status": "down" if down else "up", "checks": checks}, status=503 if down else 200, headers=headers
    )


async def openapi(_: Request, __: Application) -> func.HttpResponse:
    """Serve the OpenAPI document."""
    return respond(_static("openapi.json"), "application/json; charset=utf-8", headers={"Cache-Control": "no-cache"})


async def docs(_: Request, __: Application) -> func.HttpResponse:
    """Serve the documentation page. It loads nothing from other hosts."""
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": _PAGE_POLICY,
        "X-Content-Type-Options": "nosniff",
    }
    return respond(_static("docs.html"), "text/html; charset=utf-8", headers=headers)


@cache
def _static(name: str) -> bytes:
    return (resources.files("events_core.http") / "static" / name).read_bytes()
