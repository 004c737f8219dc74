"""An app's HTTP triggers as an ASGI application that keeps to the Functions host's rules on HTTP."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import azure.functions as func

from local.routing import Router, decode_path, encode_path

MAX_BODY_BYTES = 100 * 1024 * 1024
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, Headers, bytes]

_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_HOST = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_SET_BY_SERVER = frozenset({"content-length", "transfer-encoding", "connection", "date"})
_NO_CONTENT = frozenset({204, 304})
_log = logging.getLogger("local.host")


class _Request(func.HttpRequest):
    """The worker's request; its map of query parameters is made when it is asked for."""

    @property
    def params(self) -> Mapping[str, str]:
        """One value for each name, the last; empty ones are left out."""
        return dict(parse_qsl(urlsplit(self.url).query))


class HttpHost:
    """The ASGI application: routes a request to its function and sends what the function answers."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._running: set[asyncio.Task[Any]] = set()
        self._stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request (ASGI 3.0)."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            status, headers, body = await self._answer(scope, receive)
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            status, headers, body = _empty(503)
        finally:
            self._running.discard(task)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def stop(self, after_seconds: float) -> None:
        """Let the requests at hand finish within that time; then answer 503 in their place."""
        asyncio.get_running_loop().call_later(after_seconds, self._cancel)

    def _cancel(self) -> None:
        self._stopping = True
        for task in self._running:
            task.cancel()

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path = decode_path(_text(scope["raw_path"]))
        found = self._router.match(scope["method"], path)
        if found is None:
            return _empty(404)
        function, parameters = found
        headers = _request_headers(scope["headers"])
        if not _HOST.fullmatch(headers.get("host", "")):
            return _empty(400)
        if int(headers.get("content-length", 0)) > MAX_BODY_BYTES:
            return _empty(413)
        body = await _read_body(headers, receive)
        if body is None:
            return _empty(400)
        try:
            return _response(await function(_request(scope, path, headers, parameters, body)))
        except Exception:  # noqa: BLE001 - the host outlives whatever a function does
            _log.exception("the function %s failed", function.name)
            return _empty(500)


def _empty(status: int) -> Answer:
    return status, [(b"content-length", b"0")], b""


def _request_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by their lower-case names, the values of a repeated one joined by a comma."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1"), _text(raw_value)
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _text(value: bytes) -> str:
    """UTF-8, as Kestrel reads it; other bytes are left for the function to judge."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


async def _read_body(headers: dict[str, str], receive: Receive) -> bytes | None:
    """The body, None when the client left before its end; the host drops one that comes without Content-Length."""
    if headers.get("content-length", "0") == "0":
        return b""
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _request(
    scope: Scope, path: str, headers: dict[str, str], parameters: dict[str, str], body: bytes
) -> func.HttpRequest:
    query = _text(scope["query_string"])
    host = headers.get("host") or "{}:{}".format(*scope["server"])
    url = f"{scope['scheme']}://{host}{encode_path(path)}{'?' if query else ''}{query}"
    return _Request(scope["method"], url, headers=headers, route_params=parameters, body=body)


def _response(answer: object) -> Answer:
    """A function's answer as the worker and the host pass it on: one value a header, the last one wins."""
    if isinstance(answer, str):
        answer = func.HttpResponse(answer)
    if not isinstance(answer, func.HttpResponse):
        raise TypeError(f"answered {type(answer).__name__}, not an HttpResponse")
    body = b"" if answer.status_code in _NO_CONTENT else answer.get_body()
    headers = _response_headers(answer)
    if answer.status_code not in _NO_CONTENT:
        headers.append((b"content-length", b"%d" % len(body)))
    return answer.status_code, headers, body


def _response_headers(answer: func.HttpResponse) -> Headers:
    single: dict[str, str] = {}
    cookies = []
    for name, value in answer.headers.items():
        lower = name.lower()
        if not (value.isascii() and value.isprintable()) and not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the response header {lower} holds a character that HTTP does not carry")
        if lower == "set-cookie":
            cookies.append((b"set-cookie", value.encode()))
        elif lower not in _SET_BY_SERVER:
            single[lower] = value
    single.setdefault("content-type", _content_type(answer))
    return [*((name.encode(), value.encode()) for name, value in single.items()), *cookies]


def _content_type(answer: func.HttpResponse) -> str:
    return f"{answer.mimetype}; charset={answer.charset}" if answer.mimetype.startswith("text/") else answer.mimetype
