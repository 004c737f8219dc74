"""What counts of a response to a webhook, byte for byte on the socket, and which connections are kept."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from events_core.adapters.neighbours import http_connections
from events_core.adapters.neighbours.http_response import MAX_BODY_BYTES, MAX_BYTES, IncomingResponse
from events_core.adapters.neighbours.webhooks import HttpWebhookSender
from events_core.delivery.endpoint import EndpointPolicy
from events_core.delivery.ports import Outgoing, Response
from tests.support.raw_server import RawServer, answering, request_from

LOOPBACK = EndpointPolicy.of(http=True, networks=["127.0.0.0/8"])
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def sender(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpWebhookSender]:
    """A sender with a timeout of five seconds that waits a short time for the rest of a response."""
    monkeypatch.setattr(http_connections, "REST_SECONDS", 0.2)
    sender = HttpWebhookSender(LOOPBACK, timeout_seconds=5)
    yield sender
    await sender.close()


async def post(sender: HttpWebhookSender, url: str, body: bytes = b"{}") -> Response:
    """Send a body."""
    return await sender.send(Outgoing(url, "/org/ttd", {"X-Test": "1"}, body))


async def outcome(sender: HttpWebhookSender, answer: bytes, *, hold: bool = False) -> tuple[int | None, str | None]:
    """The status and the error of an attempt that gets these bytes."""
    async with RawServer(answering(answer, hold=hold)) as server:
        attempt = (await post(sender, server.url)).attempt
    return attempt.status, attempt.error


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nfive!",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfive!\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 9_000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Endless: " + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\nno header at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConte",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
async def test_a_status_that_arrived_is_the_outcome(sender: HttpWebhookSender, answer: bytes, *, hold: bool) -> None:
    """The rest may be cut off, missing, malformed or too long, and the connection may stay open."""
    assert await outcome(sender, answer, hold=hold) == (200, None)


async def test_a_202_whose_body_never_comes_has_succeeded(sender: HttpWebhookSender) -> None:
    """The body is waited for a short time only."""
    answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\n"
    async with RawServer(answering(answer, hold=True)) as server:
        response = await post(sender, server.url)
        assert (response.attempt.status, response.attempt.succeeded) == (202, True)
        assert response.attempt.duration_ms < 4_000
        await server.ended.wait()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 20", "connection closed"),
        (b"HTTP/1.1 200 O", "connection closed"),
        (b"HTTP/1.1 20\r\n\r\n", "no HTTP answer"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "connection closed"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3_000, "no HTTP answer"),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "no HTTP answer"),
        (b"HTTP/2 200\r\n\r\n", "no HTTP answer"),
        (b"ICY 200 OK\r\n\r\n", "no HTTP answer"),
    ],
)
async def test_what_is_no_whole_final_status_line_is_no_status(
    sender: HttpWebhookSender, answer: bytes, error: str
) -> None:
    """Neither a part of the line nor an interim response counts."""
    assert await outcome(sender, answer) == (None, error)


async def test_headers_count_from_the_final_response_alone(sender: HttpWebhookSender) -> None:
    """Not those of an interim response, a trailer, or bytes behind the response."""
    answer = (
        b"HTTP/1.1 103 Early Hints\r\nWebHook-Allowed-Rate: 1\r\n\r\n"
        b"HTTP/1.1 503 Busy\r\nRETRY-AFTER:  7 \r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nok\r\n0\r\nWebHook-Allowed-Origin: trailer\r\nRetry-After: 9\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nRetry-After: 8\r\n\r\n"
    )
    async with RawServer(answering(answer)) as server:
        response = await post(sender, server.url)
    assert (response.attempt.status, response.retry_after, response.headers) == (503, 7, {})


def test_a_response_is_read_up_to_a_limit() -> None:
    """64 KiB in all, with interim responses and headers, and 16 KiB of body."""
    interim, headers, body = IncomingResponse(), IncomingResponse(), IncomingResponse()
    interim.feed(b"HTTP/1.1 100 Continue\r\n\r\n" * 200)
    headers.feed(b"HTTP/1.1 200 OK\r\nX: ")
    body.feed(b"HTTP/1.1 200 OK\r\n\r\n")
    for response, data in ((interim, b"HTTP/1.1 100 Continue\r\n\r\n"), (headers, b"x"), (body, b"x")):
        while response.room:
            response.feed((data * response.room)[: response.room])
    assert (interim.read, interim.status, headers.read, headers.status) == (MAX_BYTES, None, MAX_BYTES, 200)
    assert (body.read, body.status) == (MAX_BODY_BYTES + len(b"HTTP/1.1 200 OK\r\n\r\n"), 200)


async def test_a_response_before_the_whole_request_was_read_counts(sender: HttpWebhookSender) -> None:
    """The endpoint judges by the headers, and closes."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)

    async with RawServer(refuse) as server:
        assert (await post(sender, server.url, b"x" * 8_000_000)).attempt.status == 413


async def test_an_endpoint_that_answers_415_is_asked_in_the_next_media_type(sender: HttpWebhookSender) -> None:
    """Both requests are one attempt, and the rest is the same. The answer to the last one counts."""
    heads: list[bytes] = []

    async def only_json(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append((await request_from(reader))[0])
            status = b"200 OK" if b"\r\nContent-Type: b\r\n" in heads[-1] else b"415 No"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")

    async def sent(*media_types: str) -> tuple[int | None, bool, bool]:
        response = await sender.send(Outgoing(server.url, "/org/ttd", {"X-Test": "1"}, b"{}", media_types))
        return response.attempt.status, response.retyped, response.took_json

    async with RawServer(only_json) as server:
        assert await sent("a", "b") == (200, True, True)
        assert heads[0].replace(b"Type: a", b"Type: b") == heads[1]
        assert await sent("b", "a") == (200, False, False)
        assert await sent("a", "c") == (415, True, False)
        assert await sent("a") == (415, False, False)
        assert len(heads) == 6


# -- Kept connections -------------------------------------------------------------------------------------------------


async def test_a_connection_is_kept(sender: HttpWebhookSender) -> None:
    """Several requests go over one connection."""
    async with RawServer(answering(OK, OK, OK)) as server:
        for _ in range(3):
            assert (await post(sender, server.url)).attempt.succeeded
        assert server.accepted == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        OK + b"HTTP/1.1 500 Unasked\r\nContent-Length: 0\r\n\r\n",
        OK + b"nonsense",
    ],
)
async def test_a_connection_that_may_not_be_used_again_is_closed(sender: HttpWebhookSender, answer: bytes) -> None:
    """By the endpoint's word, or because more came than was asked for."""
    async with RawServer(answering(answer, answer, hold=True)) as server:
        for _ in range(2):
            assert (await post(sender, server.url)).attempt.status == 200
        assert server.accepted == 2


async def test_a_kept_connection_that_the_endpoint_closed_is_replaced_at_once(sender: HttpWebhookSender) -> None:
    """The attempt succeeds on a new connection, whether the close was seen before the request or after it."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_from(reader)
        writer.write(OK)
        if server.accepted % 2:  # the first, third and fifth take one more request, and close without an answer
            await request_from(reader)

    async with RawServer(once) as server:
        for _ in range(5):
            assert (await post(sender, server.url)).attempt.succeeded
        assert server.accepted >= 4


async def test_a_new_connection_that_the_endpoint_closes_is_a_failed_attempt(sender: HttpWebhookSender) -> None:
    """The request is not sent again."""
    async with RawServer(answering(b"")) as server:
        assert (await post(sender, server.url)).attempt.error == "connection closed"
        assert server.accepted == 1


async def test_a_message_on_an_idle_connection_is_no_answer(sender: HttpWebhookSender) -> None:
    """Such as a 408 before the endpoint closes it."""
    sent = asyncio.Event()

    async def impatient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_from(reader)
        writer.write(OK)
        await writer.drain()
        await reader_is_idle.wait()
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        sent.set()
        await reader.read()

    reader_is_idle = asyncio.Event()
    async with RawServer(impatient) as server:
        assert (await post(sender, server.url)).attempt.status == 200
        reader_is_idle.set()
        await sent.wait()
        await server.ended.wait()
        assert (await post(sender, server.url)).attempt.status == 200
        assert server.accepted == 2


async def test_a_cancelled_request_leaves_no_connection(sender: HttpWebhookSender) -> None:
    """Wherever it is cancelled: each step of a task is tried."""
    async with RawServer(answering(OK, OK, b"")) as server:
        for steps in range(12):
            await post(sender, server.url)
            cancelled = asyncio.create_task(post(sender, server.url))
            for _ in range(steps):
                await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.wait([cancelled])
            gc.collect()  # warns of a connection that nobody closed


async def test_an_idle_connection_is_closed_after_a_while(
    sender: HttpWebhookSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asks for it."""
    monkeypatch.setattr(http_connections, "KEPT_SECONDS", 0.05)
    async with RawServer(answering(OK, hold=True)) as server:
        await post(sender, server.url)
        async with asyncio.timeout(5):
            await server.ended.wait()


async def test_the_oldest_idle_connection_makes_room(sender: HttpWebhookSender) -> None:
    """A process holds so many connections, idle ones included."""
    sender._connections._most = 2
    async with RawServer(answering(OK, hold=True)) as first, RawServer(answering(OK, hold=True)) as second:
        await post(sender, first.url)
        await post(sender, second.url)
        async with RawServer(answering(OK, hold=True)) as third:
            await post(sender, third.url)
            async with asyncio.timeout(5):
                await first.ended.wait()
            assert not second.ended.is_set()
