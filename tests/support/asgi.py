"""A client that calls an ASGI application in this process, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

Message = MutableMapping[str, Any]
Application = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True)
class Answer:
    """A response: status, headers with names in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)


async def call(
    application: Application, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Answer:
    """Send one request; `target` is a path with query, escaped, or a whole URL.

    POST, PUT and PATCH have a Content-Length, as those of real clients, unless `Transfer-Encoding` is among the headers
    or an empty `Content-Length` leaves it out.
    """
    parts = urlsplit(target)
    sent = {
        "host": parts.netloc or "127.0.0.1:7071",
        **{name.lower(): value for name, value in (headers or {}).items()},
    }
    if (body or method in _WITH_BODY) and "transfer-encoding" not in sent:
        sent.setdefault("content-length", str(len(body)))
    if sent.get("content-length") == "":
        del sent["content-length"]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": parts.scheme or "http",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
        "server": ("127.0.0.1", 7071),
        "client": ("127.0.0.1", 50_000),
    }
    received: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    messages: list[Message] = []

    async def receive() -> Message:
        return received.pop() if received else await asyncio.Future()

    async def send(message: Message) -> None:
        messages.append(message)

    await application(scope, receive, send)
    start = messages[0]
    names = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
    return Answer(start["status"], names, b"".join(message.get("body", b"") for message in messages[1:]))
