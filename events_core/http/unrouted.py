"""Requests that no route of the host takes: paths with doubled slashes, other methods, unknown paths."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit, urlunsplit

import azure.functions as func
from azure.functions.decorators.http import HttpTrigger

from events_core.common import errors
from events_core.http.edge import Edge
from events_core.http.request import Request
from events_core.operations.application import Application

_SLASHES = re.compile("/{2,}")


@dataclass(frozen=True, slots=True)
class _Route:
    """A route of the app. `pattern` matches a decoded path without slashes at its ends."""

    pattern: re.Pattern[str]
    methods: frozenset[str]
    function: Callable[[func.HttpRequest], Awaitable[func.HttpResponse]]


class UnroutedRequests:
    """Hands a path with doubled slashes on to its function, and refuses every other request with 404 or 405."""

    def __init__(self, app: func.FunctionApp, serve: Edge) -> None:
        self._app = app
        self._serve = serve

    async def __call__(self, raw: func.HttpRequest) -> func.HttpResponse:
        """Answer a request of the catch-all route `{*path}`."""
        path = _SLASHES.sub("/", raw.route_params.get("path", "")).strip("/")
        found = [(route, match) for route in self._routes if (match := route.pattern.fullmatch(path))]
        if "//" in urlsplit(raw.url).path:
            for route, match in found:
                if raw.method in route.methods:
                    return await route.function(_handed_on(raw, match.groupdict()))

        async def fallback(_: Request, __: Application) -> func.HttpResponse:
            if not found:
                raise errors.not_found()
            raise errors.method_not_allowed(sorted({method for route, _ in found for method in route.methods}))

        return await self._serve(fallback, _handed_on(raw, {}))

    @cached_property
    def _routes(self) -> list[_Route]:
        """The other HTTP functions in the order in which the host tries them, which is that of their names."""
        self._app.functions_bindings = {}  # otherwise the library finds every name used twice
        functions = sorted(self._app.get_functions(), key=lambda function: str(function.get_function_name()).lower())
        found = []
        for function in functions:
            trigger = function.get_trigger()
            if isinstance(trigger, HttpTrigger) and trigger.methods:
                methods = frozenset(method.value for method in trigger.methods)
                found.append(_Route(_pattern(str(trigger.route)), methods, function.get_user_function()))
        return found


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(template)), re.IGNORECASE)


def _handed_on(raw: func.HttpRequest, route_params: Mapping[str, str]) -> func.HttpRequest:
    """The request as the host hands it to a function: single slashes, and the parameters of its route."""
    parts = urlsplit(raw.url)
    url = urlunsplit(parts._replace(path=_SLASHES.sub("/", parts.path)))
    body = raw.get_body()
    return func.HttpRequest(raw.method, url, headers=raw.headers, params={}, route_params=route_params, body=body)
