"""The decision point as a XACML JSON endpoint over HTTP (XACML 3.0 JSON profile 1.1)."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from typing_extensions import override

from events_core.access.ports import DecisionPoint
from events_core.access.xacml_request import Decision, Question, to_request
from events_core.access.xacml_response import decisions_from
from events_core.adapters.neighbours.http_client import JsonService


class PdpDecisionPoint(DecisionPoint):
    """Asks a policy decision point over HTTP."""

    def __init__(self, service: JsonService) -> None:
        self._service = service

    @override
    async def decide(self, questions: Sequence[Question]) -> list[Decision]:
        if not questions:
            return []
        reply = await self._service.post(to_request(questions))
        if reply.status != 200:
            raise self._service.down(f"status {reply.status}")
        try:
            return decisions_from(_json(reply.body), questions)
        except ValueError as error:
            raise self._service.down(str(error)) from None
        except RecursionError:
            raise self._service.down("too deeply nested") from None

    @override
    async def ping(self) -> None:
        await self._service.ping()


def _json(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except ValueError:
        raise ValueError("no JSON") from None  # the parser's text quotes the body
