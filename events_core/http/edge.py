"""The edge: starts the trace of a request, calls its handler, logs, and turns every failure into a problem document."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import azure.functions as func

from events_core.common import trace
from events_core.common.errors import EventsError, Problem
from events_core.common.persons import names_person
from events_core.http.request import Request
from events_core.http.response import problem, protect
from events_core.operations.application import Application

Handler = Callable[[Request, Application], Awaitable[func.HttpResponse]]
LEGACY_SINCE = "@1688169600"
_OLDER = re.compile(r"/events(?:/instanceevents(?:(?P<party>forparty)|/(?P<owner>[^/]+(?:/[^/]+)?)))?/?", re.IGNORECASE)

_log = logging.getLogger(__name__)
_INTERNAL = EventsError(Problem.INTERNAL, "Something went wrong here; the trace id finds it in our logs.")


@dataclass(frozen=True, slots=True)
class Edge:
    """Answers requests. `application` returns the application of this process."""

    application: Callable[[], Awaitable[Application]]

    async def __call__(self, handler: Handler, raw: func.HttpRequest) -> func.HttpResponse:
        """Answer a request by calling `handler`. Every response of an older route names the route that replaces it."""
        started = time.perf_counter()
        context = trace.begin(raw.headers.get("traceparent"))
        request = None
        try:
            application = await self.application()
            request = Request(raw, application.settings.base_url)
            response = await handler(request, application)
        except EventsError as error:
            response = problem(error, context.trace_id)
        except Exception:  # noqa: BLE001 - a 500 is a bug, and still a problem document
            _log.exception("request failed", extra={"endpoint": handler.__name__})
            response = problem(_INTERNAL, context.trace_id)
        if request and (successor := _successor(request.path)):
            _deprecate(response, f"{request.base_url}{successor}")
        _record(handler, response, started)
        return protect(response)


def _successor(path: str) -> str | None:
    """The path that replaces the path of an older route, None for any other and for one that names a person."""
    older = _OLDER.fullmatch(path)
    if older is None or names_person(path):
        return None
    if older["owner"]:
        return f"/events/api/v1/app/{older['owner']}"
    return "/events/api/v1/app/party" if older["party"] else "/events/api/v1/events"


def _deprecate(response: func.HttpResponse, successor: str) -> None:
    """Name the successor (RFC 9745, RFC 8288)."""
    link, ours = response.headers.get("Link"), f'<{successor}>; rel="successor-version"'
    response.headers["Link"] = f"{link}, {ours}" if link else ours
    response.headers["Deprecation"] = LEGACY_SINCE


def _record(handler: Handler, response: func.HttpResponse, started: float) -> None:
    """Log the request. Operators read failures; the host already counts successes."""
    level = logging.INFO if response.status_code >= 400 else logging.DEBUG
    if _log.isEnabledFor(level):
        milliseconds = round((time.perf_counter() - started) * 1000, 1)
        fields = {"endpoint": handler.__name__, "status": response.status_code, "milliseconds": milliseconds}
        _log.log(level, "request", extra=fields)
