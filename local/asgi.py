"""An app's HTTP triggers as an ASGI application, with the HTTP rules of the Functions host."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import azure.functions as func

from events_core.common import errors, trace
from events_core.common.errors import EventsError
from events_core.http.response import PROTECTION, problem, protect
from local.routing import Router, decode_path, encode_path

MAX_BODY_BYTES = 2 * 1024 * 1024
"""Twice what the largest route takes. The Functions host answers larger bodies by itself too."""
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Response = tuple[int, Headers, bytes]

PROTECTION_HEADERS: Headers = [(name.lower().encode(), value.encode()) for name, value in PROTECTION.items()]
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_HOST = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_SET_BY_SERVER = frozenset({"content-length", "transfer-encoding", "connection", "date"})
_NO_CONTENT = frozenset({204, 304})
_log = logging.getLogger("local.host")


class _Request(func.HttpRequest):
    """A request of the Functions worker that parses its query only when `params` is read."""

    @property
    def params(self) -> Mapping[str, str]:
        """The last value of each parameter, without empty values."""
        return dict(parse_qsl(urlsplit(self.url).query))


class HttpHost:
    """The ASGI application. It routes a request to a function and sends the function's response."""

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
            status, headers, body = await self._respond(scope, receive)
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            status, headers, body = _empty(503)
        finally:
            self._running.discard(task)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def stop(self, after_seconds: float) -> None:
        """Let current requests run for `after_seconds`, then cancel them and answer 503."""
        asyncio.get_running_loop().call_later(after_seconds, self._cancel)

    def _cancel(self) -> None:
        self._stopping = True
        for task in self._running:
            task.cancel()

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        path = decode_path(_text(scope["raw_path"]))
        found = self._router.match(scope["method"], path)
        if found is None:
            return _empty(404)
        function, parameters = found
        headers = _request_headers(scope["headers"])
        if not _HOST.fullmatch(headers.get("host", "")):
            return _empty(400)
        try:
            body = await _read_body(headers, receive)
        except EventsError as error:
            return _response(protect(problem(error, trace.begin(headers.get("traceparent")).trace_id)))
        if body is None:
            return _empty(400)
        try:
            call = function(_request(scope, path, headers, parameters, body))
            may_wait = scope["method"] == "GET" and "prefer" in headers
            return _response(await (_until_gone(call, receive) if may_wait else call))
        except Exception:  # noqa: BLE001 - no function may stop the host
            _log.exception("function failed name=%s", function.name)
            return _empty(500)


def _empty(status: int) -> Response:
    return status, [*PROTECTION_HEADERS, (b"content-length", b"0")], b""


def _request_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by lower-case name. The values of a repeated header are joined by a comma."""
    values: dict[str, list[str]] = {}
    for name, value in raw:
        values.setdefault(name.decode("latin-1"), []).append(_text(value))
    return {name: ",".join(joined) for name, joined in values.items()}


def _text(value: bytes) -> str:
    """Decode UTF-8 as Kestrel does, and other bytes as Latin-1, for the function to judge."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


async def _read_body(headers: dict[str, str], receive: Receive) -> bytes | None:
    """Read the body, chunked or not. Returns None if the client disconnects first.

    Raises:
        EventsError: CONTENT_TOO_LARGE as soon as the length, given or counted, exceeds `MAX_BODY_BYTES`.
    """
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return b""
    length, body, more = int(headers.get("content-length", 0)), bytearray(), True
    while more and max(length, len(body)) <= MAX_BODY_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if max(length, len(body)) > MAX_BODY_BYTES:
        raise errors.too_large(f"A body has at most {MAX_BODY_BYTES // 1024**2} MiB.")
    return bytes(body)


async def _until_gone(call: Coroutine[Any, Any, Any], receive: Receive) -> object:
    """Run a function that only reads; end it if the client goes away, so that a long poll gives its slot back."""
    calling, leaving = asyncio.create_task(call), asyncio.create_task(_disconnect(receive))
    try:
        await asyncio.wait((calling, leaving), return_when=asyncio.FIRST_COMPLETED)
        return calling.result() if calling.done() else func.HttpResponse(status_code=503)  # which nobody reads
    finally:
        calling.cancel()
        leaving.cancel()
        await asyncio.gather(calling, leaving, return_exceptions=True)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _request(
    scope: Scope, path: str, headers: dict[str, str], parameters: dict[str, str], body: bytes
) -> func.HttpRequest:
    query = _text(scope["query_string"])
    host = headers.get("host") or "{}:{}".format(*scope["server"])
    url = f"{scope['scheme']}://{host}{encode_path(path)}{'?' if query else ''}{query}"
    return _Request(scope["method"], url, headers=headers, route_params=parameters, body=body)


def _response(returned: object) -> Response:
    """A function's response as the worker and the host send it."""
    if isinstance(returned, str):
        returned = func.HttpResponse(returned)
    if not isinstance(returned, func.HttpResponse):
        raise TypeError(f"returned {type(returned).__name__}, not an HttpResponse")
    if returned.status_code in _NO_CONTENT:
        return returned.status_code, _response_headers(returned), b""
    body = returned.get_body()
    headers = [*_response_headers(returned), (b"content-length", b"%d" % len(body))]
    return returned.status_code, headers, body


def _response_headers(response: func.HttpResponse) -> Headers:
    """The headers, each with its last value. Only `Set-Cookie` may occur several times."""
    single: dict[str, str] = {}
    cookies = []
    for name, value in response.headers.items():
        lower = name.lower()
        if not (value.isascii() and value.isprintable()) and not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the response header {lower} holds a character that HTTP does not allow")
        if lower == "set-cookie":
            cookies.append((b"set-cookie", value.encode()))
        elif lower not in _SET_BY_SERVER:
            single[lower] = value
    mimetype = response.mimetype
    charset = f"; charset={response.charset}" if mimetype.startswith("text/") else ""
    single.setdefault("content-type", mimetype + charset)
    return [*((name.encode(), value.encode()) for name, value in single.items()), *cookies]
