"""Operations: health, and the description of the API (docs/operations.md)."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources

import azure.functions as func

from events_core.http.request import Request
from events_core.http.response import json_response, protect, respond
from events_core.operations.application import Application
from events_core.operations.health import Checks

_NO_STORE = {"Cache-Control": "no-store"}


def health_response(checks: Checks) -> func.HttpResponse:
    """200 if every check is up, else 503. The edge does not see it, since it needs no application."""
    down = any(result != "up" for result in checks.values())
    headers = {**_NO_STORE, "Retry-After": "5"} if down else _NO_STORE
    document = {"status": "down" if down else "up", "checks": checks}
    return protect(json_response(document, status=503 if down else 200, headers=headers))


async def openapi(_: Request, __: Application) -> func.HttpResponse:
    """Serve the OpenAPI document."""
    return respond(_static("openapi.json"), "application/json; charset=utf-8", headers={"Cache-Control": "no-cache"})


async def docs(_: Request, __: Application) -> func.HttpResponse:
    """Serve the documentation page. It loads nothing from other hosts."""
    page = _static("docs.html")
    headers = {"Cache-Control": "no-cache", "Content-Security-Policy": _page_policy(page)}
    return respond(page, "text/html; charset=utf-8", headers=headers)


@cache
def _page_policy(page: bytes) -> str:
    """The Content-Security-Policy of a page: its own style and script by their hashes, and nothing from elsewhere."""
    style, script = (_hashes(page, tag) for tag in (b"style", b"script"))
    return (
        f"default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hashes(page: bytes, tag: bytes) -> str:
    inline = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in inline)


@cache
def _static(name: str) -> bytes:
    return (resources.files("events_core.http") / "static" / name).read_bytes()
