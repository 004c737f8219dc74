"""Responses: JSON documents and problem documents (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import azure.functions as func
import orjson

from events_core.common.errors import EventsError

PROBLEM_TYPE = "/events/api/v1/docs#"


def respond(
    body: bytes, content_type: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> func.HttpResponse:
    """A response; its Content-Type stands in the headers, which the host sends as they are."""
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
