"""A policy decision point that answers XACML JSON on loopback, correctly or not as a test needs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from events_core.access.xacml_request import ACTION_ID

_CATEGORY_IDS = {
    "AccessSubject": "urn:oasis:names:tc:xacml:1.0:subject-category:access-subject",
    "Action": "urn:oasis:names:tc:xacml:3.0:attribute-category:action",
    "Resource": "urn:oasis:names:tc:xacml:3.0:attribute-category:resource",
}


@dataclass(frozen=True)
class Asked:
    """A question as the server read it: attributes by name (the last of several), the event id included."""

    subject: Mapping[str, str]
    action: str
    resource: Mapping[str, str]


@dataclass(frozen=True)
class Ruling:
    """A decision, and the authentication levels of its obligations."""

    decision: str = "Permit"
    level: object = None
    level_org: object = None


PERMIT, DENY = Ruling(), Ruling("Deny")
Json = dict[str, Any]
_SYNTAX_ERROR = "urn:oasis:names:tc:xacml:1.0:status:syntax-error"


@dataclass
class PdpServer:
    """Serves `url` while it is entered.

    `decide` gives the ruling on each question. A request with a question that `fails` gets one Indeterminate for all of
    its questions. `edit` may change the list of results before it is sent. `status` and `body` replace the response.
    While `gate` is cleared, requests wait; `arrived` is set when a request comes.
    """

    decide: Callable[[Asked], Ruling] = lambda _: PERMIT
    fails: Callable[[Asked], bool] = lambda _: False
    edit: Callable[[list[Json]], list[Json]] = lambda results: results
    status: int = 200
    body: bytes | None = None
    requests: list[Json] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def __aenter__(self) -> Self:
        self.gate.set()
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/decide", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/decide"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()
        await self.stop()

    async def stop(self) -> None:
        """Close the port and every connection."""
        await self._runner.cleanup()

    @property
    def asked(self) -> list[list[Asked]]:
        """The questions of each request, in the order of their references."""
        return [_questions_of(request["Request"]) for request in self.requests]

    @property
    def log(self) -> str:
        """The headers and bodies of all requests."""
        return json.dumps([[dict(headers) for headers in self.headers], self.requests])

    async def _answer(self, request: web.Request) -> web.Response:
        document = await request.json()
        self.requests.append(document)
        self.headers.append(dict(request.headers))
        self.arrived.set()
        await self.gate.wait()
        if self.status != 200 or self.body is not None:
            return web.Response(status=self.status, body=self.body, headers={"Location": self.url})
        return web.json_response({"Response": self.edit(self._results(document["Request"]))})

    def _results(self, request: Json) -> list[Json]:
        if any(map(self.fails, _questions_of(request))):
            return [{"Decision": "Indeterminate", "Status": {"StatusCode": {"Value": _SYNTAX_ERROR}}}]
        return [
            _result(self.decide(asked), _returned(request, reference["ReferenceId"]))
            for asked, reference in zip(
                _questions_of(request), request["MultiRequests"]["RequestReference"], strict=True
            )
        ]


def _questions_of(request: Json) -> list[Asked]:
    sections = _sections(request)
    return [_asked([sections[key] for key in reference["ReferenceId"]]) for reference in _references(request)]


def _references(request: Json) -> list[Json]:
    references: list[Json] = request["MultiRequests"]["RequestReference"]
    return references


def _sections(request: Json) -> dict[str, Json]:
    return {section["Id"]: section for name in _CATEGORY_IDS for section in request[name]}


def _asked(sections: Sequence[Json]) -> Asked:
    subject, action, resource = ({a["AttributeId"]: a["Value"] for a in section["Attribute"]} for section in sections)
    return Asked(subject, action[ACTION_ID], resource)


def _returned(request: Json, reference: Sequence[str]) -> list[Json]:
    """The categories of a question with the attributes that its result must include."""
    found = []
    for name, category_id in _CATEGORY_IDS.items():
        section = next(section for section in request[name] if section["Id"] in reference)
        back = [attribute for attribute in section["Attribute"] if attribute.get("IncludeInResult")]
        if back:
            found.append({"CategoryId": category_id, "Attribute": back})
    return found


def _result(ruling: Ruling, categories: list[Json]) -> Json:
    result: Json = {"Decision": ruling.decision, "Status": {"StatusCode": {"Value": "ok"}}, "Category": categories}
    levels = {
        "urn:altinn:minimum-authenticationlevel": ruling.level,
        "urn:altinn:minimum-authenticationlevel-org": ruling.level_org,
    }
    assignments = [
        {"AttributeId": "urn:altinn:obligation1-assignment1", "Category": category, "Value": value}
        for category, value in levels.items()
        if value is not None
    ]
    if assignments:
        result["Obligations"] = [{"Id": "urn:altinn:obligation:1", "AttributeAssignment": assignments}]
    return result
