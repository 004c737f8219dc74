"""Operations: health, the description of the API, and paths without a route (docs/operations.md)."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any

import azure.functions as func
import orjson

from events_core.common import errors
from events_core.http.request import Request
from events_core.http.response import json_response, respond
from events_core.operations.application import Application
from events_core.operations.health import Checks

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
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


async def fallback(request: Request, _: Application) -> func.HttpResponse:
    """Refuse a request that no route takes: 405 with the methods of the path, else 404."""
    path = request.path.rstrip("/").lower()
    allowed = {method for pattern, methods in _routes() if pattern.fullmatch(path) for method in methods}
    if not allowed:
        raise errors.not_found()
    raise errors.method_not_allowed(sorted(allowed))


@cache
def _routes() -> list[tuple[re.Pattern[str], list[str]]]:
    """The paths of the OpenAPI document as patterns, each with its methods."""
    paths: dict[str, dict[str, Any]] = orjson.loads(_static("openapi.json"))["paths"]
    return [
        (_pattern(path), [method.upper() for method in _METHODS if method in operations])
        for path, operations in paths.items()
    ]


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path.rstrip("/").lower())))
