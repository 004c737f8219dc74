"""Operating: health, the API's own description, and what no route takes (docs/operations.md)."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any

import azure.functions as func
import orjson

from events_core import app, errors
from events_core.app import Events
from events_core.errors import EventsError
from events_core.http.request import Request
from events_core.http.response import json_response, respond
from events_core.ports import Pingable

KEPT_SECONDS = 5.0
PING_SECONDS = 5.0
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_NO_STORE = {"Cache-Control": "no-store"}
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
)


async def health(_: func.HttpRequest) -> func.HttpResponse:
    """Whether the settings are right and the store answers; asked at most every 5 seconds."""
    return await _health.answer()


async def ready(_: func.HttpRequest) -> func.HttpResponse:
    """Whether every port answers: store, decision point, Register, issuers; who asks meanwhile shares the answer."""
    global _checking  # noqa: PLW0603 - one check at a time is for the process
    if _checking is None or _checking.done() or _checking.get_loop() is not asyncio.get_running_loop():
        _checking = asyncio.create_task(_check(_every_port))
    return _report(await asyncio.shield(_checking))


def _every_port(events: Events) -> Mapping[str, Pingable]:
    return {
        "store": events.store,
        "decisionPoint": events.decision_point,
        "register": events.register,
        "issuers": events.tokens,
    }


_checking: asyncio.Task[dict[str, str]] | None = None


class _Health:
    """The last report, kept for a while so that probes do not load the store."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._report: dict[str, str] = {}
        self._until = -math.inf

    async def answer(self) -> func.HttpResponse:
        if self._clock() >= self._until:
            self._report = await _check(lambda events: {"store": events.store})
            self._until = self._clock() + KEPT_SECONDS
        return _report(self._report)


_health = _Health()


async def _check(ports: Callable[[Events], Mapping[str, Pingable]]) -> dict[str, str]:
    """What each part says of itself: "up", or why it is down."""
    try:
        events = await app.current()
    except app.MisconfiguredError as error:
        return {"settings": error.line}
    except EventsError as error:
        return {"settings": "up", "store": error.detail}
    named = ports(events)
    said = await asyncio.gather(*(_ping(port) for port in named.values()))
    return {"settings": "up", **dict(zip(named, said, strict=True))}


async def _ping(port: Pingable) -> str:
    try:
        async with asyncio.timeout(PING_SECONDS):
            await port.ping()
    except EventsError as error:
        return error.detail
    except TimeoutError:
        return f"did not answer within {PING_SECONDS:.0f} s"
    return "up"


def _report(checks: Mapping[str, str]) -> func.HttpResponse:
    down = any(said != "up" for said in checks.values())
    headers = {**_NO_STORE, "Retry-After": "5"} if down else _NO_STORE
    return json_response(
        {"status": "down" if down else "up", "checks": checks}, status=503 if down else 200, headers=headers
    )


async def openapi(_: Request, __: Events) -> func.HttpResponse:
    """The OpenAPI document."""
    return respond(_static("openapi.json"), "application/json; charset=utf-8", headers={"Cache-Control": "no-cache"})


async def docs(_: Request, __: Events) -> func.HttpResponse:
    """The documentation page; it loads nothing from elsewhere."""
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": _PAGE_POLICY,
        "X-Content-Type-Options": "nosniff",
    }
    return respond(_static("docs.html"), "text/html; charset=utf-8", headers=headers)


@cache
def _static(name: str) -> bytes:
    return (resources.files("events_core.http") / "static" / name).read_bytes()


async def fallback(request: Request, _: Events) -> func.HttpResponse:
    """405 with the methods that the path has, else 404."""
    path = request.path.rstrip("/").lower()
    allowed = {method for pattern, methods in _routes() if pattern.fullmatch(path) for method in methods}
    if not allowed:
        raise errors.not_found()
    raise errors.method_not_allowed(sorted(allowed))


@cache
def _routes() -> list[tuple[re.Pattern[str], list[str]]]:
    """The documented paths as patterns, with their methods."""
    paths: dict[str, dict[str, Any]] = orjson.loads(_static("openapi.json"))["paths"]
    return [
        (_pattern(path), [method.upper() for method in _METHODS if method in operations])
        for path, operations in paths.items()
    ]


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path.rstrip("/").lower())))
