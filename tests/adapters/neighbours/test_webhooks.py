"""The webhook sender over real HTTP: redirects, inner networks, endless responses and failures."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from events_core.adapters.neighbours.webhooks import HttpWebhookSender
from events_core.delivery.endpoint import EndpointPolicy
from events_core.delivery.ports import Outgoing, Response
from tests.support.certificates import KEY, certificate_of, pem
from tests.support.raw_server import RawServer, answering, request_from
from tests.support.webhook_server import Received, WebhookServer

LOOPBACK = EndpointPolicy.of(http=True, networks=["127.0.0.0/8"])
ANYWHERE_PUBLIC = EndpointPolicy(http=True)


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookServer]:
    """A receiver that accepts every request."""
    async with WebhookServer() as server:
        yield server


@pytest.fixture
async def sender() -> AsyncIterator[HttpWebhookSender]:
    """A sender that may reach loopback, with a timeout of one second."""
    sender = HttpWebhookSender(LOOPBACK, timeout_seconds=1)
    yield sender
    await sender.close()


async def post(sender: HttpWebhookSender, url: str, body: bytes | None = b"{}") -> Response:
    """Send a request with a body."""
    return await sender.send(Outgoing(url, "/org/ttd", {"X-Test": "1", "Content-Type": "application/json"}, body))


async def test_a_request_arrives_as_sent(sender: HttpWebhookSender, receiver: WebhookServer) -> None:
    """Method, path, query, headers and body arrive, and the attempt has succeeded; OPTIONS has no body."""
    response = await post(sender, f"{receiver.url}/hook?key=1")
    assert (response.attempt.status, response.attempt.error, response.attempt.succeeded) == (200, None, True)
    assert response.attempt.at > 0
    await post(sender, receiver.url, None)
    first, second = receiver.received
    assert (first.method, first.path, first.headers["x-test"], first.body) == ("POST", "/hook?key=1", "1", b"{}")
    assert (second.method, second.body) == ("OPTIONS", b"")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_failures_and_not_followed(
    sender: HttpWebhookSender, receiver: WebhookServer, status: int
) -> None:
    """The location gets no request."""
    receiver.answer = lambda _: web.Response(status=status, headers={"Location": f"{receiver.url}/inner"})
    attempt = (await post(sender, receiver.url)).attempt
    assert (attempt.status, attempt.error, attempt.succeeded) == (status, "redirect", False)
    assert [request.path for request in receiver.received] == ["/"]


async def test_a_refusal_carries_status_retry_after_and_handshake(
    sender: HttpWebhookSender, receiver: WebhookServer
) -> None:
    """Other response headers are dropped."""
    headers = {"Retry-After": "7", "WebHook-Allowed-Origin": "*", "X-Other": "secret"}
    receiver.answer = lambda _: web.Response(status=503, headers=headers)
    response = await post(sender, receiver.url)
    assert (response.attempt.status, response.attempt.error, response.retry_after) == (503, "refused", 7)
    assert response.headers == {"webhook-allowed-origin": "*"}


async def test_a_hanging_endpoint_fails_with_timeout(sender: HttpWebhookSender, receiver: WebhookServer) -> None:
    """The attempt ends at the sender's timeout."""

    async def hang(_: Received) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    receiver.answer = hang
    attempt = (await post(sender, receiver.url)).attempt
    assert (attempt.status, attempt.error) == (None, "timeout")
    assert 900 <= attempt.duration_ms < 5_000


async def test_an_endless_response_is_cut_off() -> None:
    """The connection is closed after 16 KiB, and the status counts."""
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
        try:
            while sent < 104_857_600:
                writer.write(b"x" * 65_536)
                await writer.drain()
                sent += 65_536
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    sender = HttpWebhookSender(LOOPBACK, timeout_seconds=10)
    attempt = (await post(sender, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")).attempt
    await sender.close()
    server.close()
    await server.wait_closed()
    assert attempt.status == 200
    assert sent < 104_857_600 / 4  # the buffers of both sockets


@pytest.mark.parametrize(
    ("answer", "error"), [(b"", "connection closed"), (b"nonsense\r\n\r\n", "no HTTP answer"), (b"\x00" * 100, None)]
)
async def test_an_invalid_response_is_a_failed_attempt(
    sender: HttpWebhookSender, answer: bytes, error: str | None
) -> None:
    """A closed connection and a response that is not HTTP have no status."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    attempt = (await post(sender, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")).attempt
    server.close()
    assert attempt.status is None
    assert attempt.error is not None
    assert error in (None, attempt.error)


async def test_an_unreachable_endpoint_is_a_failed_attempt(sender: HttpWebhookSender) -> None:
    """A closed port and an unknown host have no status."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert (await post(sender, f"http://127.0.0.1:{port}/")).attempt.error == "no connection"
    assert (await post(sender, "http://nobody.invalid/")).attempt.error in ("unknown host", "timeout", "no connection")


INNER = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "localhost",
    "[::ffff:127.0.0.1]",
    "[::1]",
    "169.254.169.254",
    "10.0.0.1",
]


@pytest.mark.parametrize("host", INNER)
async def test_an_inner_network_is_never_dialled(receiver: WebhookServer, host: str) -> None:
    """Every notation of an inner address is refused without a connection."""
    sender = HttpWebhookSender(ANYWHERE_PUBLIC, timeout_seconds=2)
    attempt = (await post(sender, f"http://{host}:{receiver.port}/")).attempt
    await sender.close()
    assert (attempt.status, attempt.error) == (None, "forbidden address")
    assert receiver.connections == 0


async def test_dns_rebinding_does_not_reach_an_inner_network(
    receiver: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check uses the address that DNS returns for the connection, not an earlier one."""
    resolved: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, port: Any, **options: Any) -> Any:
        resolved.append(host)
        return real("127.0.0.1", port, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    sender = HttpWebhookSender(ANYWHERE_PUBLIC, timeout_seconds=2)
    attempt = (await post(sender, f"http://rebinding.example:{receiver.port}/")).attempt
    await sender.close()
    assert resolved == ["rebinding.example"]
    assert (attempt.error, receiver.connections) == ("forbidden address", 0)


@pytest.mark.parametrize(("host", "error"), [("hooks.example", None), ("other.example", "TLS failed")])
async def test_a_certificate_must_name_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, error: str | None
) -> None:
    """The host of the endpoint is asked for by name, and its certificate is checked for it."""
    asked: list[str | None] = []
    certificate = certificate_of(KEY, host="hooks.example")
    (tmp_path / "server.pem").write_text(pem(KEY, certificate))
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(tmp_path / "server.pem")
    server_tls.sni_callback = lambda _, name, __: asked.append(name)
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, port, **options: real("127.0.0.1", port, **options))
    sender = HttpWebhookSender(LOOPBACK, tls=lambda: ssl.create_default_context(cadata=pem(certificate)))
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with RawServer(answering(answer, answer), server_tls) as server:
        for _ in range(2):
            attempt = (await post(sender, f"https://{host}:{server.port}/")).attempt
            assert (attempt.status, attempt.error) == (None if error else 200, error)
        await sender.close()
        assert server.accepted == (0 if error else 1)
    assert asked[0] == host


async def test_the_request_is_on_the_wire_as_it_was_registered(sender: HttpWebhookSender) -> None:
    """Escape for escape; other characters are percent-encoded, and the host is in ASCII without the scheme's port."""
    heads: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await request_from(reader))[0])
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with RawServer(keep) as server:
        for target in (
            "/a/../invoke%3Av1/?sp=%2Ftriggers%2Fmanual%2Frun&sig=aB%2Bc%2fd%3D+~!$'()*,;:@[]{}|^`\"<>",
            "/bl\u00e5/\U0001f600?x=\u00e6",
            "?",
            "",
        ):
            assert (await post(sender, server.url + target)).attempt.status == 204
    assert [head.split(b"\r\n")[0].decode() for head in heads] == [
        "POST /a/../invoke%3Av1/?sp=%2Ftriggers%2Fmanual%2Frun&sig=aB%2Bc%2fd%3D+~!$'()*,;:@[]{}|^`\"<> HTTP/1.1",
        "POST /bl%C3%A5/%F0%9F%98%80?x=%C3%A6 HTTP/1.1",
        "POST /? HTTP/1.1",
        "POST / HTTP/1.1",
    ]
    assert f"\r\nHost: 127.0.0.1:{server.port}\r\n".encode() in heads[0]


async def test_no_test_dials_another_machine() -> None:
    """The test guard blocks a public address that the service would reach."""
    sender = HttpWebhookSender(EndpointPolicy(http=True), timeout_seconds=5)
    response = await sender.send(Outgoing("http://192.0.46.8/", "/org/ttd", {}, b""))
    await sender.close()
    assert (response.attempt.status, response.attempt.error) == (None, "no connection")
