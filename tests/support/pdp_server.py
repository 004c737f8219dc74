"""A policy decision point on loopback that refuses what Altinn's refuses, and answers as Altinn's answers.

Made from the recorded answers in tests/contract/recorded/pdp. Results come in the order asked. A request with a
question that cannot be taken gets a single Indeterminate. Permit and Deny return what was asked back, and add the party
of an instance. NotApplicable and Indeterminate return nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from events_core.access.names import PARTY_ID
from events_core.access.xacml_request import ACTION_ID, INSTANCE_ID, Question
from events_core.adapters.development.policy import refuses

_STRING = "http://www.w3.org/2001/XMLSchema#string"
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
    """A decision, and the authentication levels of its obligations. `bare`: the result returns no attributes."""

    decision: str = "Permit"
    level: object = None
    level_org: object = None
    bare: bool = False


PERMIT, DENY = Ruling(), Ruling("Deny")
DENIED_BY_ACCESS_LIST = Ruling("Deny", bare=True)
NOT_APPLICABLE, INDETERMINATE = Ruling("NotApplicable", bare=True), Ruling("Indeterminate", bare=True)
Json = dict[str, Any]


@dataclass
class PdpServer:
    """Serves `url` while it is entered.

    `decide` gives the ruling on each question. A request with a question that `fails` is not decided: a resource
    without a policy, or, if all fail, an outage within. `edit` may change the list of results before it is sent.
    `status` and `body` replace the response. While `gate` is cleared, requests wait; `arrived` is set when a request
    comes. `most_at_once` counts the requests that were open together.
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
    most_at_once: int = 0
    url: str = ""
    _at_once: int = 0

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
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await self.gate.wait()
        await asyncio.sleep(0)  # requests that were sent side by side arrive meanwhile
        self._at_once -= 1
        if self.status != 200 or self.body is not None:
            return web.Response(status=self.status, body=self.body, headers={"Location": self.url})
        return web.json_response({"response": self.edit(self._results(document["Request"]))})

    def _results(self, request: Json) -> list[Json]:
        if any(_is_refused(asked) or self.fails(asked) for asked in _questions_of(request)):
            return [_result(INDETERMINATE, [], status="syntax-error")]
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


def _is_refused(asked: Asked) -> bool:
    return refuses(Question(tuple(asked.subject.items()), asked.action, tuple(asked.resource.items())))


def _returned(request: Json, reference: Sequence[str]) -> list[Json]:
    """The categories of a question with the attributes that its result must include."""
    found = []
    for name, category_id in _CATEGORY_IDS.items():
        section = next(section for section in request[name] if section["Id"] in reference)
        back = [(a["AttributeId"], a["Value"]) for a in section["Attribute"] if a.get("IncludeInResult")]
        instance = dict(back).get(INSTANCE_ID)
        if instance and PARTY_ID not in dict(back):
            back.append((PARTY_ID, instance.split("/")[0]))
        if back:
            found.append(_category(category_id, back))
    return found


def _category(category_id: str, attributes: Sequence[tuple[str, str]]) -> Json:
    listed = [
        {"attributeId": name, "value": value, "issuer": None, "dataType": _STRING, "includeInResult": False}
        for name, value in attributes
    ]
    return {"categoryId": category_id, "id": None, "content": None, "attribute": listed}


def _result(ruling: Ruling, categories: list[Json], *, status: str = "ok") -> Json:
    code = {"value": f"urn:oasis:names:tc:xacml:1.0:status:{status}", "statusCode": None}
    levels = {
        "urn:altinn:minimum-authenticationlevel": ruling.level,
        "urn:altinn:minimum-authenticationlevel-org": ruling.level_org,
    }
    obligations = [
        {
            "id": f"urn:altinn:obligation:authenticationLevel{number}",
            "attributeAssignment": [
                {
                    "attributeId": f"urn:altinn:obligation{number}-assignment{number}",
                    "value": value,
                    "category": category,
                    "dataType": "http://www.w3.org/2001/XMLSchema#integer",
                    "issuer": None,
                }
            ],
        }
        for number, (category, value) in enumerate(levels.items(), start=1)
        if value is not None
    ]
    return {
        "decision": ruling.decision,
        "status": {"statusMessage": None, "statusDetails": None, "statusCode": code},
        "obligations": obligations or None,
        "associateAdvice": None,
        "category": None if ruling.bare else categories,
        "policyIdentifierList": None,
    }
