"""The decision point over HTTP: how it asks, and what it makes of bad answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from events_core.access.xacml_request import Question
from events_core.adapters.neighbours.http_client import HttpClient, JsonService
from events_core.adapters.neighbours.pdp import PdpDecisionPoint
from events_core.common.errors import EventsError, Problem
from tests.support.askers import question
from tests.support.pdp_server import DENY, PERMIT, Asked, PdpServer, Ruling

QUESTIONS = [question(resource="a"), question(resource="b")]


@pytest.fixture
async def server() -> AsyncIterator[PdpServer]:
    """A decision point that permits `a` alone."""
    async with PdpServer(_a_alone) as server:
        yield server


def _a_alone(asked: Asked) -> Ruling:
    return PERMIT if asked.resource["urn:altinn:resource"] == "a" else DENY


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    """The session to ask through."""
    client = HttpClient()
    yield client
    await client.close()


@pytest.fixture
def service(client: HttpClient, server: PdpServer) -> JsonService:
    """The server as a service, without any credentials."""
    return JsonService(client, "The decision point", server.url)


@pytest.fixture
def point(service: JsonService) -> PdpDecisionPoint:
    """The adapter under test."""
    return PdpDecisionPoint(service)


async def _permits(point: PdpDecisionPoint) -> list[bool]:
    return [decision.permit for decision in await point.decide(QUESTIONS)]


async def _assert_unavailable(point: PdpDecisionPoint) -> None:
    with pytest.raises(EventsError) as caught:
        await point.decide(QUESTIONS)
    assert caught.value.problem is Problem.UNAVAILABLE
    assert int(caught.value.headers["Retry-After"]) > 0


async def test_all_questions_go_in_one_request(point: PdpDecisionPoint, server: PdpServer) -> None:
    """However many questions, one POST."""
    await point.decide(QUESTIONS)
    assert [[asked.resource["urn:altinn:resource"] for asked in request] for request in server.asked] == [["a", "b"]]


async def test_event_id_is_sent_along(point: PdpDecisionPoint, server: PdpServer) -> None:
    """The id of the event that stands for a question is among its resource attributes."""
    await point.decide(QUESTIONS)
    assert [asked.resource["urn:altinn:event-id"] for asked in server.asked[0]] == ["e-a", "e-b"]


async def test_no_questions_are_not_asked(point: PdpDecisionPoint, server: PdpServer) -> None:
    """Nothing to ask, no request."""
    await point.decide([])
    assert server.requests == []


async def test_reordered_answer_is_matched(point: PdpDecisionPoint, server: PdpServer) -> None:
    """Results in another order decide the same."""
    server.edit = lambda results: results[::-1]
    assert await _permits(point) == [True, False]


async def test_partial_answer_denies_the_rest(point: PdpDecisionPoint, server: PdpServer) -> None:
    """A result that is missing is no permit."""
    server.edit = lambda results: results[1:]
    assert await _permits(point) == [False, False]


async def test_credentials_go_along(server: PdpServer, client: HttpClient) -> None:
    """Subscription key, acquired bearer and the trace's parent are headers of the request."""

    async def bearer() -> str:
        return "acquired"

    service = JsonService(client, "P", server.url, "key", bearer, traceparent=lambda: "00-trace")
    await PdpDecisionPoint(service).decide(QUESTIONS)
    names = ("Ocp-Apim-Subscription-Key", "Authorization", "traceparent", "Content-Type")
    assert [server.headers[0].get(name) for name in names] == ["key", "Bearer acquired", "00-trace", "application/json"]


async def test_nothing_is_sent_that_is_not_configured(point: PdpDecisionPoint, server: PdpServer) -> None:
    """Without key, bearer and trace there are no such headers."""
    await point.decide(QUESTIONS)
    assert {"Ocp-Apim-Subscription-Key", "Authorization", "traceparent"}.isdisjoint(server.headers[0])


@pytest.mark.parametrize("status", [201, 204, 302, 307, 400, 401, 403, 404, 429, 500, 503])
async def test_status_other_than_200_is_unavailable(point: PdpDecisionPoint, server: PdpServer, status: int) -> None:
    """Whatever the decision point answers but 200 decides nothing; no redirect is followed."""
    server.status = status
    await _assert_unavailable(point)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body", [b"", b"Permit", b"<Response/>", b"{}", b"[]", b'{"Response"', b"\xff", b"[" * 100_000]
)
async def test_nonsense_is_unavailable(point: PdpDecisionPoint, server: PdpServer, body: bytes) -> None:
    """A body that is no XACML response decides nothing."""
    server.body = body
    await _assert_unavailable(point)


async def test_endless_answer_is_unavailable(server: PdpServer, client: HttpClient) -> None:
    """An answer is read up to its limit only."""
    server.body = b'{"Response": []}' + b" " * 1000
    point = PdpDecisionPoint(JsonService(client, "P", server.url, max_answer_bytes=1000))
    await _assert_unavailable(point)


async def test_slow_answer_is_unavailable(server: PdpServer, client: HttpClient) -> None:
    """Beyond the deadline the call ends."""
    server.gate.clear()
    await _assert_unavailable(PdpDecisionPoint(JsonService(client, "P", server.url, deadline_seconds=0.05)))
    assert server.arrived.is_set()


async def test_bearer_provider_counts_towards_the_deadline(server: PdpServer, client: HttpClient) -> None:
    """A provider that hangs cannot hold a call longer than the deadline."""

    async def bearer() -> str:
        await asyncio.Event().wait()
        return ""

    await _assert_unavailable(
        PdpDecisionPoint(JsonService(client, "P", server.url, bearer=bearer, deadline_seconds=0.05))
    )


async def test_absent_server_is_unavailable(point: PdpDecisionPoint, server: PdpServer) -> None:
    """Nobody at the address decides nothing, also after it has answered before."""
    await point.decide(QUESTIONS)
    await server.stop()
    await _assert_unavailable(point)


async def test_connection_closed_while_idle_is_opened_again(client: HttpClient) -> None:
    """A kept connection that the other side closed does not fail the next question."""
    served = 0

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n" + b'{"Response":[]}')
        served += 1
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(answer_once, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        point = PdpDecisionPoint(JsonService(client, "P", url))
        for _ in range(3):
            await point.decide(QUESTIONS)
    assert served == 3


async def test_lone_surrogate_in_a_claim_is_asked(point: PdpDecisionPoint, server: PdpServer) -> None:
    """Text that UTF-8 cannot hold fails no request."""
    await point.decide([Question((("urn:altinn:name", "\ud800"),), "read", (("urn:altinn:resource", "b"),))])
    assert len(server.requests) == 1


async def test_answer_below_500_is_up(point: PdpDecisionPoint) -> None:
    """A GET that is refused with 405 still shows that somebody is there."""
    await point.ping()


async def test_ping_fails_when_nobody_answers(point: PdpDecisionPoint, server: PdpServer) -> None:
    """A closed port is down."""
    await server.stop()
    with pytest.raises(EventsError, match="503"):
        await point.ping()


async def test_failure_is_logged_without_its_content(
    point: PdpDecisionPoint, server: PdpServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says that and why the decision point failed, and nothing that was asked or answered."""
    server.status, server.body = 500, b"canary-answer"
    await _assert_unavailable(point)
    assert "status 500" in caplog.text
    assert "canary-answer" not in caplog.text
    assert "20012345" not in caplog.text


async def test_session_is_one_until_closed(client: HttpClient) -> None:
    """The session is made once and made anew only after a close, which may come twice."""
    first = client.session
    assert client.session is first
    await client.close()
    await client.close()
    assert first.closed
    assert client.session is not first
