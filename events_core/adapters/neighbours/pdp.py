"""The decision point as a XACML JSON endpoint over HTTP (XACML 3.0 JSON profile 1.1)."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from events_core.access.xacml_request import Decision, Question, to_request
from events_core.access.xacml_response import decisions_from
from events_core.adapters.neighbours.http_client import JsonService


class PdpDecisionPoint:
    """Asks a policy decision point over HTTP: one request for all questions of a call."""

    def __init__(self, service: JsonService) -> None:
        self._service = service

    async def decide(self, questions: Sequence[Question]) -> list[Decision]:
        """Answer distinct questions, in their order, in one request.

        Raises:
            EventsError: UNAVAILABLE when the endpoint is unreachable, slow, or answers other than 200 and XACML.
        """
        if not questions:
            return []
        reply = await self._service.post(to_request(questions))
        if reply.status != 200:
            raise self._service.down(f"status {reply.status}")
        try:
            return decisions_from(orjson.loads(reply.body), questions)
        except ValueError:
            raise self._service.down("no XACML response") from None

    async def ping(self) -> None:
        """Return when the endpoint answers at all, with a status below 500.

        Raises:
            EventsError: UNAVAILABLE when it does not.
        """
        await self._service.ping()
