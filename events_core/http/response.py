"""Responses: JSON documents, problem documents (RFC 9457), and the headers of lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import azure.functions as func
import orjson

from events_core.common import clock
from events_core.common.errors import EventsError

PROBLEM_TYPE = "/events/api/v1/docs#"
PROTECTION = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Headers of every response: browsers neither guess its type, nor run anything in it, nor show it in a frame."""


def protect(response: func.HttpResponse) -> func.HttpResponse:
    """Add the headers of every response. A page keeps a policy of its own."""
    for name, value in PROTECTION.items():
        response.headers.setdefault(name, value)
    return response


def respond(
    body: bytes, content_type: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> func.HttpResponse:
    """A response. Its Content-Type is among the headers too, because the host sends those unchanged."""
    return func.HttpResponse(
        body, status_code=status, headers={**(headers or {}), "Content-Type": content_type}, mimetype=content_type
    )


def json_response(document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> func.HttpResponse:
    """A JSON document."""
    return respond(orjson.dumps(document), "application/json; charset=utf-8", status=status, headers=headers)


def problem(error: EventsError, trace_id: str) -> func.HttpResponse:
    """The problem document of an error."""
    document: dict[str, Any] = {
        "type": PROBLEM_TYPE + error.problem.slug,
        "title": error.problem.title,
        "status": error.problem.status,
        "detail": error.detail,
        "traceId": trace_id,
    }
    if error.errors:
        document["errors"] = [{"field": fault.field, "detail": fault.detail} for fault in error.errors]
    headers = {**error.headers, "Cache-Control": "no-store"}
    return respond(orjson.dumps(document), "application/problem+json", status=error.problem.status, headers=headers)


def next_headers(url: str) -> dict[str, str]:
    """The headers that link to the next page."""
    return {"next": url, "Link": f'<{url}>; rel="next"'}


def rfc3339(at: int | None) -> str | None:
    """A time in microseconds since the epoch as text in UTC."""
    return None if at is None else clock.to_rfc3339(at)
