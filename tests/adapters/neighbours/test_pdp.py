"""The decision point over HTTP: its requests, and bad responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from events_core.access.ports import UndecidedError
from events_core.access.xacml_request import Question
from events_core.adapters.neighbours.http_client import HttpClient, JsonService
from events_core.adapters.neighbours.pdp import PdpDecisionPoint
from events_core.common.errors import EventsError, Problem
from tests.support.askers import question
from tests.support.pdp_server import DENY, PERMIT, Asked, PdpServer, Ruling

QUESTIONS = [question(resource="a"), question(resource="b")]
_DEEP = b"[" * 1_010 + b"]" * 1_010
_NESTED = b'{"Response": [{"Decision": "Permit", "Obligations": {"AttributeAssignment": {"Category": %s}}}]}' % _DEEP


@pytest.fixture
async def server() -> AsyncIterator[PdpServer]:
    """A decision point that permits only `a`."""
    async with PdpServer(_permit_only_a) as server:
        yield server


def _permit_only_a(asked: Asked) -> Ruling:
    return PERMIT if asked.resource["urn:altinn:resource"] == "a" else DENY


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    """An HTTP client."""
    client = HttpClient()
    yield client
    await client.close()


@pytest.fixture
def service(client: HttpClient, server: PdpServer) -> JsonService:
    """The server as a service without credentials."""
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


async def test_all_questions_go_into_one_request(point: PdpDecisionPoint, server: PdpServer) -> None:
    """The questions keep their order."""
    await point.decide(QUESTIONS)
    assert [[asked.resource["urn:altinn:resource"] for asked in request] for request in server.asked] == [["a", "b"]]


async def test_the_event_id_is_sent(point: PdpDecisionPoint, server: PdpServer) -> None:
    """The resource attributes of a question hold the event's id."""
    await point.decide(QUESTIONS)
    assert [asked.resource["urn:altinn:event-id"] for asked in server.asked[0]] == ["e-a", "e-b"]


async def test_no_question_causes_no_request(point: PdpDecisionPoint, server: PdpServer) -> None:
    """An empty list of questions has no decisions."""
    await point.decide([])
    assert server.requests == []


async def test_results_in_another_order_are_matched(point: PdpDecisionPoint, server: PdpServer) -> None:
    """The decisions follow the order of the questions."""
    server.edit = lambda results: results[::-1]
    assert await _permits(point) == [True, False]


async def test_a_missing_result_decides_nothing(point: PdpDecisionPoint, server: PdpServer) -> None:
    """A question without a result is not denied."""
    server.edit = lambda results: results[1:]
    with pytest.raises(UndecidedError):
        await point.decide(QUESTIONS)


async def test_credentials_and_trace_are_sent(server: PdpServer, client: HttpClient) -> None:
    """The request has headers for the subscription key, the bearer token and the trace parent."""

    async def bearer() -> str:
        return "acquired"

    service = JsonService(client, "P", server.url, "key", bearer, traceparent=lambda: "00-trace")
    await PdpDecisionPoint(service).decide(QUESTIONS)
    names = ("Ocp-Apim-Subscription-Key", "Authorization", "traceparent", "Content-Type")
    assert [server.headers[0].get(name) for name in names] == ["key", "Bearer acquired", "00-trace", "application/json"]


async def test_credentials_are_not_sent_if_not_configured(point: PdpDecisionPoint, server: PdpServer) -> None:
    """Without key, bearer and trace, the request has no such headers."""
    await point.decide(QUESTIONS)
    assert {"Ocp-Apim-Subscription-Key", "Authorization", "traceparent"}.isdisjoint(server.headers[0])


@pytest.mark.parametrize("status", [201, 204, 302, 307, 400, 401, 403, 404, 429, 500, 503])
async def test_a_status_other_than_200_is_503(point: PdpDecisionPoint, server: PdpServer, status: int) -> None:
    """Any other status decides nothing, and no redirect is followed."""
    server.status = status
    await _assert_unavailable(point)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (b"", "no JSON"),
        (b"Permit 01899699552", "no JSON"),
        (b"<Response/>", "no JSON"),
        (b'{"Response"', "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (_NESTED, "too deeply nested"),
        (b"{}", "no list of results"),
        (b"[]", "no list of results"),
        (b'{"Response": {"Decision": "Permit"}}', "no list of results"),
        (b'{"Response": []}', "0 results for 2 questions"),
        (
            b'{"Response": [{"Decision": "Deny"}, {"Decision": "Deny"}, {"Decision": "Deny"}]}',
            "3 results for 2 questions",
        ),
        (b'{"Response": [{"Decision": "01899699552"}, {"Decision": "Deny"}]}', "an unknown decision"),
        (b'{"Response": ["Permit", "Permit"]}', "an object is expected"),
    ],
)
async def test_an_invalid_response_is_503_and_its_shape_is_logged(
    point: PdpDecisionPoint, server: PdpServer, body: bytes, shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It decides nothing, and nothing of its content is logged."""
    server.body = body
    await _assert_unavailable(point)
    assert shape in caplog.text
    assert "01899699552" not in caplog.text


async def test_an_oversized_response_is_503(server: PdpServer, client: HttpClient) -> None:
    """A response is read up to the limit."""
    server.body = b'{"Response": []}' + b" " * 1000
    point = PdpDecisionPoint(JsonService(client, "P", server.url, max_body_bytes=1000))
    await _assert_unavailable(point)


async def test_a_slow_response_is_503(server: PdpServer, client: HttpClient) -> None:
    """The call ends at the deadline."""
    server.gate.clear()
    await _assert_unavailable(PdpDecisionPoint(JsonService(client, "P", server.url, deadline_seconds=0.05)))
    assert server.arrived.is_set()


async def test_the_deadline_includes_the_bearer_provider(server: PdpServer, client: HttpClient) -> None:
    """A hanging provider cannot delay a call beyond the deadline."""

    async def bearer() -> str:
        await asyncio.Event().wait()
        return ""

    await _assert_unavailable(
        PdpDecisionPoint(JsonService(client, "P", server.url, bearer=bearer, deadline_seconds=0.05))
    )


async def test_an_unreachable_server_is_503(point: PdpDecisionPoint, server: PdpServer) -> None:
    """The kept connection to a stopped server is no decision."""
    await point.decide(QUESTIONS)
    await server.stop()
    await _assert_unavailable(point)


async def test_a_closed_idle_connection_is_replaced(client: HttpClient) -> None:
    """A connection that the server closed does not fail the next request."""
    served = 0

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        body = b'{"Response":[{"Decision":"Deny"},{"Decision":"Deny"}]}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        served += 1
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(answer_once, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        point = PdpDecisionPoint(JsonService(client, "P", url))
        for _ in range(3):
            await point.decide(QUESTIONS)
    assert served == 3


async def test_a_lone_surrogate_in_a_claim_can_be_sent(point: PdpDecisionPoint, server: PdpServer) -> None:
    """Text that UTF-8 cannot hold is sent as a JSON escape."""
    await point.decide([Question((("urn:altinn:name", "\ud800"),), "read", (("urn:altinn:resource", "b"),))])
    assert len(server.requests) == 1


async def test_ping_accepts_a_status_below_500(point: PdpDecisionPoint) -> None:
    """A server that refuses GET with 405 is up."""
    await point.ping()


async def test_ping_fails_on_a_closed_port(point: PdpDecisionPoint, server: PdpServer) -> None:
    """A stopped server is down."""
    await server.stop()
    with pytest.raises(EventsError, match="503"):
        await point.ping()


async def test_a_failure_is_logged_without_its_content(
    point: PdpDecisionPoint, server: PdpServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The log holds the reason of the failure, but neither the question nor the response."""
    server.status, server.body = 500, b"canary-answer"
    await _assert_unavailable(point)
    assert "status 500" in caplog.text
    assert "canary-answer" not in caplog.text
    assert "20012345" not in caplog.text


async def test_a_client_has_one_session_until_closed(client: HttpClient) -> None:
    """A session is created on first use and after a close; closing twice is harmless."""
    first = client.session
    assert client.session is first
    await client.close()
    await client.close()
    assert first.closed
    assert client.session is not first
