"""Generated requests never get a 500, nor a response that the OpenAPI document does not describe."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from local.host import ROOT
from local.listener import listen, url_of
from tests.support.service import APP_RESOURCE, app_event, event, instance_source, running
from tests.support.subscribing import SUBSCRIPTIONS

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SCOPES = ("altinn:events.publish.admin", "altinn:events.subscribe", "altinn:events.erase", "altinn:events/ttd")
EXAMPLES, EXAMPLES_OF_OLDER_ROUTES = 20, 5
"""Requests for each operation. An older route shares its handler with its successor."""
FRAMING = ("content-length", "transfer-encoding", "connection", "host", "upgrade", "expect")
"""Headers that the HTTP server itself refuses when they are invalid."""
KNOWN_EVENT, KNOWN_SOURCE = "e1", instance_source()
TRACE, VALIDATE = "/events/api/v1/events/{id}/trace", f"{SUBSCRIPTIONS}/validate/{{id}}"

DOCUMENT = json.loads((ROOT / "events_core/http/static/openapi.json").read_text())
METHODS = {"get", "put", "post", "delete", "patch"}
OPERATIONS = [
    pytest.param(path, method, mode, id=f"{method} {path} {mode.value}")
    for path, item in DOCUMENT["paths"].items()
    for method in sorted(METHODS & item.keys())
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or item[method]["tags"] != ["Operating"]  # they have no parameters
]
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)


def subscription_for(name: str) -> dict[str, str]:
    """A subscription's body, different for each name."""
    return {"endPoint": f"https://subscriber.example/{name}", "resourceFilter": APP_RESOURCE}


class Served:
    """The service on a port and in a thread of its own."""

    def __init__(self, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._data_dir, self._monkeypatch = data_dir, monkeypatch
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.url = ""
        self.headers: dict[str, str] = {}
        self.platform_token = ""

    def start(self) -> None:
        """Return when the service listens."""
        self._thread.start()
        assert self._ready.wait(30)

    def stop(self) -> None:
        """Return when the service has ended."""
        self._server.should_exit = True
        self._thread.join()

    def headers_for(self, path: str) -> dict[str, str]:
        """The tokens that open a path."""
        return {**self.headers, "PlatformAccessToken": self.platform_token} if path == VALIDATE else self.headers

    def use_known_ids(self, case: schemathesis.Case[Any], path: str, method: str) -> None:
        """Point a request at an existing event or subscription."""
        if path == TRACE:
            case.path_parameters = {"id": KNOWN_EVENT}
            case.query = {**case.query, "source": KNOWN_SOURCE}
        elif path.startswith(f"{SUBSCRIPTIONS}/"):
            case.path_parameters = {"id": self._subscription(method)}

    def _subscription(self, name: str) -> int:
        """The id of the subscription of that name, created if missing."""
        headers = {**self.headers, "Content-Type": "application/json"}
        asked = Request(self.url + SUBSCRIPTIONS, json.dumps(subscription_for(name)).encode(), headers)  # POST
        with urlopen(asked, timeout=10) as answer:
            return int(json.load(answer)["id"])

    async def _serve(self) -> None:
        async with running(self._data_dir, self._monkeypatch, EVENTS_ANONYMOUS_APPS="ttd/apps-test") as service:
            token, known = service.org(*SCOPES), app_event(id=KNOWN_EVENT, source=KNOWN_SOURCE, resource=APP_RESOURCE)
            await service.request("POST", SUBSCRIPTIONS, token=token, json_body=subscription_for("get"))
            await service.publish(event(), event(), known)
            self.headers = {"Authorization": f"Bearer {token}", "PlatformAccessToken": service.app()}
            self.platform_token = service.app("platform/events")
            listener = listen("127.0.0.1", 0)
            self._server = uvicorn.Server(uvicorn.Config(service._application, log_config=None, lifespan="off"))
            self.url = url_of(listener)
            self._ready.set()
            await self._server.serve([listener])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service for all operations, with some events in it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        served = Served(tmp_path_factory.mktemp("served"), monkeypatch)
        served.start()
        yield served
        served.stop()


@pytest.mark.slow
@pytest.mark.parametrize(("path", "method", "mode"), OPERATIONS)
def test_every_response_is_in_the_document(served: Served, path: str, method: str, mode: GenerationMode) -> None:
    """Well-formed and malformed requests, for known and unknown ids, get a documented status, type and body."""
    examples = EXAMPLES_OF_OLDER_ROUTES if DOCUMENT["paths"][path][method].get("deprecated") else EXAMPLES

    @settings(max_examples=examples, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=SCHEMA[path][method].as_strategy(generation_mode=mode), known=st.booleans())
    def answers(case: schemathesis.Case[Any], *, known: bool) -> None:
        for name in FRAMING:
            case.headers.pop(name, None)
        if known:
            served.use_known_ids(case, path, method)
        case.call_and_validate(base_url=served.url, headers=served.headers_for(path), checks=CHECKS, timeout=10)

    answers()
