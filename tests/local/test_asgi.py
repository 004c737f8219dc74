"""HTTP as the local host serves it, by the rules of the Functions host."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import azure.functions as func
import pytest
import pytest_asyncio

from local import asgi
from tests.support.http_host import Hosted, hosted

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
pytestmark = pytest.mark.asyncio(loop_scope="module")
gates: dict[str, asyncio.Event] = {}


@app.function_name("echo")
@app.route("echo/{*rest}")
async def echo(req: func.HttpRequest) -> func.HttpResponse:
    """Return the request as JSON."""
    request = {
        "method": req.method,
        "url": req.url,
        "route": dict(req.route_params),
        "params": dict(req.params),
        "headers": dict(req.headers),
        "body": req.get_body().decode("latin-1"),
    }
    return func.HttpResponse(json.dumps(request), mimetype="application/json")


@app.function_name("headers")
@app.route("headers")
async def headers(req: func.HttpRequest) -> func.HttpResponse:
    """Set some headers twice, and one that belongs to the server."""
    response = func.HttpResponse("x", headers={"X-One": "first", "Content-Length": "77"})
    response.headers.add("x-one", "last")
    response.headers.add("Set-Cookie", "a=1")
    response.headers.add("Set-Cookie", "b=2")
    return response


@app.function_name("returns")
@app.route("returns/{kind}")
async def returns(req: func.HttpRequest) -> Any:
    """Return a right or a wrong value."""
    return {
        "text": "plain",
        "nothing": None,
        "control": func.HttpResponse("x", headers={"X-One": "a\x01b"}),
        "unicode": func.HttpResponse("x", headers={"X-One": "å"}),
        "204": func.HttpResponse("x", status_code=204),
        "304": func.HttpResponse("x", status_code=304, headers={"ETag": '"1"'}),
    }[req.route_params["kind"]]


@app.function_name("sync")
@app.route("sync")
def sync(req: func.HttpRequest) -> str:
    """Return the name of the thread that runs a synchronous function."""
    return threading.current_thread().name


@app.function_name("wait")
@app.route("wait")
async def wait(req: func.HttpRequest) -> str:
    """Wait until the test opens the gate."""
    gates["entered"].set()
    try:
        await gates["released"].wait()
    except asyncio.CancelledError:
        gates["cancelled"].set()
        raise
    gates["finished"].set()
    return "done"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def host() -> AsyncIterator[Hosted]:
    """The app of this file, served."""
    async with hosted(app) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client."""
    async with aiohttp.ClientSession() as client:
        yield client


@pytest.fixture(autouse=True)
def closed_gates() -> None:
    """Close the gates of the function `wait` for each test."""
    gates.update({name: asyncio.Event() for name in ("entered", "released", "finished", "cancelled")})


async def echoed(host: Hosted, request: bytes) -> dict[str, Any]:
    """The request as the function sees it. `Connection: close` is added."""
    head, _, body = request.partition(b"\r\n\r\n")
    response = await host.raw(head + b"\r\nConnection: close\r\n\r\n" + body)
    assert response.startswith(b"HTTP/1.1 200"), response
    seen: dict[str, Any] = json.loads(response.partition(b"\r\n\r\n")[2])
    return seen


async def test_the_url_is_the_one_the_client_used(host: Hosted) -> None:
    """It has the Host header, the escaped path, and the query as the client sent it."""
    seen = await echoed(host, b"GET /echo/a%2Fb%20c?x=%C3%A5&y=1+2 HTTP/1.1\r\nHost: events.example:81\r\n\r\n")
    assert seen["url"] == "http://events.example:81/echo/a%2Fb%20c?x=%C3%A5&y=1+2"
    assert seen["route"] == {"rest": "a%2Fb c"}


async def test_without_a_host_header_the_url_has_the_address(host: Hosted) -> None:
    """HTTP/1.0 allows a request without a Host header."""
    response = await host.raw(b"GET /echo HTTP/1.0\r\n\r\n")
    assert f'"{host.url}/echo"'.encode() in response


@pytest.mark.parametrize("name", ["[", "a b", "exämple", "a>;x", "a/b", "x:y", "user@host"])
async def test_a_host_header_that_names_no_host_is_refused(host: Hosted, name: str) -> None:
    """Kestrel answers 400 too; such a header could break the URL or a response header."""
    response = await host.raw(f"GET /echo HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
    assert response.startswith(b"HTTP/1.1 400")


async def test_the_query_map_has_the_last_value_of_a_name_and_no_empty_values(host: Hosted) -> None:
    """The Functions worker parses the query the same way."""
    seen = await echoed(host, b"GET /echo?a=1&a=2&b=&c HTTP/1.1\r\nHost: h\r\n\r\n")
    assert seen["params"] == {"a": "2"}


async def test_header_names_are_lower_case_and_repeated_headers_are_joined(host: Hosted) -> None:
    """A comma separates the values."""
    seen = await echoed(host, b"GET /echo HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\n\r\n")
    assert seen["headers"]["x-a"] == "1,2"


@pytest.mark.parametrize("sent", ["å".encode(), "å".encode("latin-1")])
async def test_a_header_is_decoded_as_utf_8_or_else_latin_1(host: Hosted, sent: bytes) -> None:
    """Every header reaches the function, whatever its bytes are."""
    seen = await echoed(host, b"GET /echo HTTP/1.1\r\nHost: h\r\nX-A: " + sent + b"\r\n\r\n")
    assert seen["headers"]["x-a"] == "å"


async def test_a_body_with_a_content_length_arrives_whole(host: Hosted, session: aiohttp.ClientSession) -> None:
    """The host puts its chunks together."""
    body = "ab" * 300_000
    async with session.post(f"{host.url}/echo", data=body.encode()) as response:
        assert (await response.json())["body"] == body


async def test_a_chunked_body_arrives_whole(host: Hosted) -> None:
    """The Functions host drops it; this host hands it on."""
    request = b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
    assert (await echoed(host, request))["body"] == "hello!"


async def test_a_body_above_2_mib_is_refused_unread(host: Hosted) -> None:
    """The answer to a length that is too large comes before the body, as a problem document."""
    length = asgi.MAX_BODY_BYTES + 1
    request = f"POST /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    answer = await host.raw(request.encode())
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"content-type: application/problem+json" in answer


async def test_the_bytes_of_a_chunked_body_are_counted_as_they_come(host: Hosted) -> None:
    """Beyond 2 MiB the answer is 413 although the body never ends. Exactly 2 MiB arrive."""
    head = b"POST /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    answer = await host.raw(head + chunk * 32 + b"0\r\n\r\n")
    assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["body"]) == 2 * 1024 * 1024
    assert (await host.raw(head + chunk * 32 + b"1\r\na\r\n")).startswith(b"HTTP/1.1 413")


async def test_the_connection_stays_usable_after_a_body_that_is_too_large(
    host: Hosted, session: aiohttp.ClientSession
) -> None:
    """A client that sends all of it before it reads gets the answer, and the next request its own."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"a" * 0x10000

    async with session.post(f"{host.url}/echo", data=chunks()) as response:
        assert (response.status, (await response.json(content_type=None))["status"]) == (413, 413)
    async with session.post(f"{host.url}/echo", data=b"small") as response:
        assert (await response.json())["body"] == "small"


async def test_a_response_header_has_one_value_and_the_last_one_wins(
    host: Hosted, session: aiohttp.ClientSession
) -> None:
    """`Set-Cookie` may occur several times; the host sets `Content-Length` itself."""
    async with session.get(f"{host.url}/headers") as response:
        assert response.headers.getall("X-One") == ["last"]
        assert response.headers.getall("Set-Cookie") == ["a=1", "b=2"]
        assert response.headers.getall("Content-Length") == ["1"]


async def test_a_function_may_return_a_string(host: Hosted, session: aiohttp.ClientSession) -> None:
    """The response is plain text."""
    async with session.get(f"{host.url}/returns/text") as response:
        assert (response.status, await response.text()) == (200, "plain")
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("kind", ["204", "304"])
async def test_statuses_204_and_304_have_no_body(host: Hosted, kind: str) -> None:
    """They have no Content-Length either (RFC 9110, section 8.6)."""
    response = await host.raw(f"GET /returns/{kind} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
    head, _, body = response.partition(b"\r\n\r\n")
    assert body == b""
    assert b"content-length" not in head.lower()


async def test_a_response_to_head_has_no_body(host: Hosted, session: aiohttp.ClientSession) -> None:
    """The function sees HEAD as any other method."""
    async with session.head(f"{host.url}/echo") as response:
        assert int(response.headers["Content-Length"]) > 0
        assert await response.read() == b""


@pytest.mark.parametrize("kind", ["missing", "nothing", "control", "unicode"])
async def test_a_function_that_fails_gives_an_empty_500_and_a_log_line(
    host: Hosted, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """It raises, returns nothing, or sets a header with a character that HTTP does not allow."""
    async with session.get(f"{host.url}/returns/{kind}") as response:
        assert (response.status, await response.read()) == (500, b"")
    assert [record.levelno for record in caplog.records if record.name == "local.host"] == [logging.ERROR]


async def test_a_path_without_a_function_gives_an_empty_404(host: Hosted, session: aiohttp.ClientSession) -> None:
    """The host answers by itself."""
    async with session.get(f"{host.url}/other") as response:
        assert (response.status, await response.read()) == (404, b"")


async def test_a_synchronous_function_runs_in_a_thread(host: Hosted, session: aiohttp.ClientSession) -> None:
    """It must not block other requests; the Functions worker does the same."""
    async with session.get(f"{host.url}/sync") as response:
        assert await response.text() != threading.main_thread().name


async def test_a_disconnect_does_not_stop_the_function(host: Hosted, session: aiohttp.ClientSession) -> None:
    """The function runs to its end."""
    request = asyncio.create_task(session.get(f"{host.url}/wait").__aenter__())
    await gates["entered"].wait()
    request.cancel()
    await asyncio.wait([request])
    gates["released"].set()
    await asyncio.wait_for(gates["finished"].wait(), 5)


async def test_a_disconnect_ends_a_long_poll(host: Hosted, session: aiohttp.ClientSession) -> None:
    """A GET with `Prefer` is cancelled, so that its slot is free at once."""
    poll = asyncio.create_task(session.get(f"{host.url}/wait", headers={"Prefer": "wait=30"}).__aenter__())
    await gates["entered"].wait()
    poll.cancel()
    await asyncio.wait_for(gates["cancelled"].wait(), 5)
    assert not gates["finished"].is_set()


async def test_a_disconnect_does_not_stop_a_change(host: Hosted, session: aiohttp.ClientSession) -> None:
    """A POST runs to its end, also with `Prefer`."""
    request = asyncio.create_task(session.post(f"{host.url}/wait", headers={"Prefer": "wait=30"}).__aenter__())
    await gates["entered"].wait()
    request.cancel()
    await asyncio.wait([request])
    gates["released"].set()
    await asyncio.wait_for(gates["finished"].wait(), 5)


@pytest.mark.parametrize("kind", ["text", "missing"])
async def test_a_long_poll_is_answered_as_any_request(host: Hosted, session: aiohttp.ClientSession, kind: str) -> None:
    """A client that stays gets the response, or the 500 of a function that fails."""
    async with session.get(f"{host.url}/returns/{kind}", headers={"Prefer": "wait=30"}) as response:
        assert (response.status, await response.text()) == ((200, "plain") if kind == "text" else (500, ""))


async def test_a_request_with_half_a_body_reaches_no_function(host: Hosted) -> None:
    """The client disconnects before it has sent the whole body."""
    _, writer = await asyncio.open_connection("127.0.0.1", host.port)
    writer.write(b"POST /wait HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await host.raw(b"GET /other HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")).startswith(b"HTTP/1.1 404")
    assert not gates["entered"].is_set()


async def test_a_running_request_gets_503_when_the_host_stops(session: aiohttp.ClientSession) -> None:
    """The host cancels it after the given time."""
    async with hosted(app) as stopping:
        request = asyncio.create_task(session.get(f"{stopping.url}/wait").__aenter__())
        await gates["entered"].wait()
        stopping.host.stop(0)
        assert (await request).status == 503
