"""Routing as on the Functions host: the first function, by name, whose route and method match."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from events_core.common.paths import without_dot_segments
from local.errors import HostError
from local.host import Function
from local.templates import Template, compile_template

_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ESCAPED_SLASH = re.compile(r"(%2[Ff])")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PATH_CHARACTERS = "/!$&'()*+,;=:@%"


def decode_path(raw: str) -> str:
    """Decode a path as Kestrel does: decode UTF-8 escapes but no escaped slash, then resolve dot segments."""
    path = _ESCAPES.sub(lambda match: _decoded(match[0]), raw) if "%" in raw else raw
    return without_dot_segments(path) if "/." in path else path


def encode_path(path: str) -> str:
    """Escape a decoded path as the host does in a request's URL."""
    return _BARE_PERCENT.sub("%25", quote(path, safe=_PATH_CHARACTERS))


def _decoded(escapes: str) -> str:
    parts = _ESCAPED_SLASH.split(escapes)
    text = "".join(part if index % 2 else unquote(part, errors="surrogateescape") for index, part in enumerate(parts))
    return _NOT_UTF8.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", text)


@dataclass(frozen=True, slots=True)
class _Route:
    function: Function
    methods: frozenset[str]
    template: Template


class Router:
    """The HTTP triggers of an app, in the order in which the host tries them.

    Raises:
        HostError: The Functions host would refuse a route.
    """

    def __init__(self, functions: Iterable[Function], prefix: str = "api") -> None:
        http = [function for function in functions if function.trigger["type"] == "httpTrigger"]
        self._routes = [_route(function, prefix) for function in sorted(http, key=lambda http: http.name.lower())]

    def match(self, method: str, path: str) -> tuple[Function, dict[str, str]] | None:
        """The function for a method and a decoded path, with its route parameters."""
        for route in self._routes:
            if route.methods and method not in route.methods:
                continue
            values = route.template.match(path)
            if values is not None:
                return route.function, values
        return None


def _route(function: Function, prefix: str) -> _Route:
    text = function.trigger.get("route") or function.name
    if text.startswith("/") or text.split("/")[0].lower() in {"admin", "runtime"}:
        raise HostError(f"{function.name}: the route {text!r} begins with a name that the Functions host reserves")
    try:
        template = compile_template(f"{prefix.strip('/')}/{text}" if prefix.strip("/") else text)
    except (ValueError, re.error) as error:
        raise HostError(f"{function.name}: the route {text!r} is not a template: {error}") from None
    methods = frozenset(str(getattr(method, "value", method)) for method in function.trigger.get("methods") or ())
    return _Route(function, methods, template)
