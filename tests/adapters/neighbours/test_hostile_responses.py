"""Endpoints that answer without end, with TLS and without: bytes, memory and time of an attempt are bounded."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from events_core.adapters.neighbours.http_response import MAX_BYTES
from events_core.adapters.neighbours.webhooks import HttpWebhookSender
from events_core.adapters.neighbours.wire import MAX_WIRE_BYTES
from events_core.delivery.endpoint import EndpointPolicy
from events_core.delivery.ports import Outgoing, Response
from tests.support.certificates import KEY, certificate_of, pem
from tests.support.raw_server import Handler, RawServer, answering, request_from

HOST = "hooks.example"
BUFFERS = 1_000_000
"""What the buffers of both sides hold of an answer that nobody reads, by far."""
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\n" + b"".join(b"X-%d: hint\r\n" % n for n in range(100)) + b"\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ENDLESS = {
    "interim responses": (b"", EARLY_HINTS, (None, "no HTTP answer")),
    "a status line": (b"HTTP/1.1 200 ", b"x" * 9_000, (None, "no HTTP answer")),
    "a header line": (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 9_000, (200, None)),
    "the name of a header": (b"HTTP/1.1 200 OK\r\n", b"x" * 9_000, (200, None)),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: x\r\n" * 1_000, (200, None)),
    "headers of an interim response": (b"HTTP/1.1 103 Early\r\n", b"X: x\r\n" * 1_000, (None, "no HTTP answer")),
    "a body": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 9_000, (200, None)),
    "small chunks": (CHUNKED, b"1\r\nx\r\n" * 1_000, (200, None)),
    "a chunk extension": (CHUNKED + b"1;", b"x" * 9_000, (200, None)),
    "chunk extensions": (CHUNKED, (b"1;" + b"x" * 6_000 + b"\r\nx\r\n"), (200, None)),
    "the digits of a chunk's size": (CHUNKED, b"0" * 9_000, (200, None)),
    "trailers": (CHUNKED + b"0\r\n", b"X: x\r\n" * 1_000, (200, None)),
    "responses": (OK, OK * 200, (200, None)),
    "empty lines": (b"", b"\r\n" * 4_000, (None, "no HTTP answer")),
}


@dataclass
class Endless:
    """An answer that begins with `head` and repeats `block`, until the client closes the connection."""

    head: bytes
    block: bytes
    sent: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        await request_from(reader)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        writer.write(self.head)
        while True:
            writer.write(self.block)
            await writer.drain()
            await asyncio.sleep(0)  # lets the server learn that the connection is closed
            self.sent += len(self.block)


@dataclass(frozen=True)
class Client:
    """A sender that trusts the certificate of the servers of this test."""

    sender: HttpWebhookSender
    server_tls: ssl.SSLContext

    def server(self, handler: Handler, scheme: str) -> RawServer:
        """A server with TLS or without."""
        return RawServer(handler, self.server_tls if scheme == "https" else None)

    async def post(self, server: RawServer, body: bytes = b"{}", *media_types: str) -> Response:
        """Send a body to a server."""
        url = f"{'https' if server.tls else 'http'}://{HOST}:{server.port}/"
        return await self.sender.send(Outgoing(url, "/org/ttd", {}, body, media_types))


@pytest.fixture
async def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """A client with a timeout of ten seconds. The name of the servers leads to this machine."""
    certificate = certificate_of(KEY, host=HOST)
    (tmp_path / "server.pem").write_text(pem(KEY, certificate))
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(tmp_path / "server.pem")
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, port, **options: real("127.0.0.1", port, **options))
    policy = EndpointPolicy.of(http=True, networks=["127.0.0.0/8"])
    trusted = pem(certificate)
    sender = HttpWebhookSender(policy, timeout_seconds=10, tls=lambda: ssl.create_default_context(cadata=trusted))
    yield Client(sender, server_tls)
    await sender.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("answer", ENDLESS)
async def test_an_endless_answer_ends_within_its_budget(client: Client, answer: str, scheme: str) -> None:
    """A status that arrived counts. The connection is closed at once."""
    head, block, outcome = ENDLESS[answer]
    endless = Endless(head, block)
    async with client.server(endless.serve, scheme) as server:
        attempt = (await client.post(server)).attempt
        async with asyncio.timeout(5):
            await server.ended.wait()
    assert (attempt.status, attempt.error) == outcome
    assert attempt.duration_ms < 5_000
    assert endless.sent < BUFFERS


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_endless_answers_fill_no_memory(client: Client, scheme: str) -> None:
    """Eight at once, with the memory of their server, take less than eight megabytes."""
    endless = Endless(b"", EARLY_HINTS)
    async with client.server(endless.serve, scheme) as server:
        await client.post(server)
        tracemalloc.start()
        try:
            await asyncio.gather(*(client.post(server) for _ in range(8)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 8_000_000


async def test_an_answer_is_not_decompressed(client: Client) -> None:
    """A body that would fill the memory is dropped as it comes."""
    body = gzip.compress(bytes(10_000_000))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with client.server(answering(head + body), "http") as server:
        tracemalloc.start()
        try:
            assert (await client.post(server)).attempt.succeeded
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_slow_endless_answer_ends_at_the_timeout(client: Client, scheme: str) -> None:
    """An interim response comes byte by byte."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_from(reader)
        while True:
            for byte in EARLY_HINTS:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.01)

    async with client.server(drip, scheme) as server:
        url = f"{scheme}://{HOST}:{server.port}/"
        attempt = (await client.sender.send(Outgoing(url, "/org/ttd", {}, b"{}"), 0.5)).attempt
        async with asyncio.timeout(5):
            await server.ended.wait()
    assert (attempt.status, attempt.error) == (None, "timeout")
    assert attempt.duration_ms < 5_000


async def test_tls_without_data_counts(client: Client) -> None:
    """A server that sends session tickets without end is cut off long before the timeout, in each attempt."""
    client.server_tls.num_tickets = 4 * MAX_WIRE_BYTES // 200
    async with client.server(answering(OK), "https") as server:
        attempt = (await client.post(server)).attempt
        assert (attempt.status, attempt.error) == (None, "no HTTP answer")
        assert attempt.duration_ms < 5_000
        async with asyncio.timeout(5):
            await server.ended.wait()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_both_answers_of_an_attempt_share_its_budget(client: Client, scheme: str) -> None:
    """An endpoint that answers 415 gets no second budget for the other media type, and no request without budget."""
    statuses: list[bytes] = []

    def padded(status: bytes, size: int) -> bytes:
        lines = b"X: " + b"x" * 4_000 + b"\r\n"
        return b"HTTP/1.1 " + status + b"\r\n" + lines * (size // len(lines)) + b"Content-Length: 0\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_from(reader)
            statuses.append(next(answers))
            writer.write(statuses[-1])
            await writer.drain()

    async def outcome() -> tuple[int | None, str | None]:
        statuses.clear()
        attempt = (await client.post(server, b"{}", "a", "b")).attempt
        return attempt.status, attempt.error

    small, most, all_of_it = MAX_BYTES // 4, MAX_BYTES - 8_000, MAX_BYTES + 8_000
    async with client.server(serve, scheme) as server:
        answers = iter([padded(b"415 No", small), padded(b"103 Early", small) + padded(b"200 OK", 0)])
        assert await outcome() == (200, None)
        answers = iter([padded(b"415 No", most), padded(b"103 Early", small) + padded(b"200 OK", 0)])
        assert await outcome() == (None, "no HTTP answer")
        answers = iter([padded(b"415 No", all_of_it), padded(b"200 OK", 0)])
        assert (await outcome(), len(statuses)) == ((415, "refused"), 1)


# -- TLS --------------------------------------------------------------------------------------------------------------


async def test_a_large_request_arrives_whole_over_tls(client: Client) -> None:
    """In many records, and the connection is kept for the next one."""
    bodies: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            bodies.append((await request_from(reader))[1])
            writer.write(OK)

    large = bytes(range(256)) * 8_000
    async with client.server(keep, "https") as server:
        for body in (large, b"{}"):
            assert (await client.post(server, body)).attempt.succeeded
        assert server.accepted == 1
    assert bodies == [large, b"{}"]


async def test_what_comes_behind_a_response_over_tls_is_no_answer_to_the_next_request(client: Client) -> None:
    """Also in a record that has arrived and was not read."""

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_from(reader)
        writer.write(OK)
        writer.write(b"HTTP/1.1 500 Unasked\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with client.server(twice, "https") as server:
        for _ in range(3):
            assert (await client.post(server)).attempt.status == 200
        assert server.accepted == 3


async def test_a_kept_connection_that_ends_over_tls_is_replaced(client: Client) -> None:
    """Each connection serves one request."""
    async with client.server(answering(OK), "https") as server:
        for _ in range(3):
            assert (await client.post(server)).attempt.succeeded
        assert server.accepted == 3


@pytest.mark.parametrize(
    ("answer", "error"),
    [(b"", "connection closed"), (b"HTTP/1.1 20", "connection closed"), (b"x\r\n", "no HTTP answer")],
)
async def test_a_connection_that_ends_without_a_status_over_tls_has_none(
    client: Client, answer: bytes, error: str
) -> None:
    """As without TLS."""
    async with client.server(answering(answer), "https") as server:
        attempt = (await client.post(server)).attempt
    assert (attempt.status, attempt.error) == (None, error)


async def test_a_server_without_tls_fails_the_handshake(client: Client) -> None:
    """It answers the handshake in clear."""

    async def clear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with RawServer(clear) as server:
        url = f"https://{HOST}:{server.port}/"
        attempt = (await client.sender.send(Outgoing(url, "/org/ttd", {}, b"{}"))).attempt
        assert (attempt.status, attempt.error) == (None, "TLS failed")
        async with asyncio.timeout(5):
            await server.ended.wait()
