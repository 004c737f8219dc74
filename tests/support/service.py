"""The whole service for tests: function_app.py behind the local host, with issuer, PDP and Register servers."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import pytest

from events_core import app
from events_core.delivery.delivery import Lane
from events_core.operations.application import Application
from events_core.operations.health import HealthChecks
from tests.support import asgi
from tests.support.asgi import Answer, call
from tests.support.certificates import platform_certificate, platform_pem
from tests.support.cosmos import started_server
from tests.support.issuer import IssuerServer, SigningKey
from tests.support.pdp_server import PdpServer
from tests.support.register_server import Person, RegisterServer

SQLITE, COSMOS = "sqlite", "cosmos"
STORES = (SQLITE, COSMOS)
"""The stores that the service can run on."""


class Running:
    """The store on which `running` starts the service, and its databases on Cosmos DB by data directory."""

    store = SQLITE
    databases: ClassVar[dict[Path, str]] = {}


PARTY = 50002108
PERSON, UNIT = "01899699552", "974760673"
UNIT_PARTY = 50074838
RESOURCE = "urn:altinn:resource:ttd-mail"
APP_RESOURCE = "urn:altinn:resource:app_ttd_apps-test"
APP_FEED = "/events/api/v1/app/ttd/apps-test"
PARTY_FEED = "/events/api/v1/app/party"
RESOURCE_FEED = "/events/api/v1/events"
PUBLISH = "/events/api/v1/events"
ANCIENT = "2000-01-01T00:00:00Z"
APP_TOKEN_SCOPES = "altinn:events/ttd/apps-test"


async def _catch_up() -> None:
    """Bring published events to the feeds of parties and orgs, and to deliveries."""
    events = await app.current()
    await events.follow_up.compare()
    serve_wakeups(events)


def serve_wakeups(events: Application) -> None:
    """Serve the lanes in the wake-up queue."""
    for message in events.wakeup_queue.drain():
        lane = Lane.parse(message)
        assert lane is not None
        events.lane_worker.serve_soon(lane)


class Service:
    """The running service: send it requests as any caller, and change the responses of its neighbours."""

    def __init__(
        self, application: asgi.Application, issuer: IssuerServer, pdp: PdpServer, register: RegisterServer
    ) -> None:
        self._application = application
        self.issuer, self.pdp, self.register = issuer, pdp, register

    async def request(
        self,
        method: str,
        target: str,
        *,
        token: str | None = None,
        platform_token: str | None = None,
        headers: Mapping[str, str] | None = None,
        json_body: Any = None,
        body: bytes = b"",
        content_type: str | None = None,
    ) -> Answer:
        """Send a request; `target` is a path with query, or a URL that the service returned."""
        sent = dict(headers or {})
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if platform_token:
            sent["PlatformAccessToken"] = platform_token
        if json_body is not None:
            body, content_type = json.dumps(json_body).encode(), content_type or "application/json"
        if content_type:
            sent["Content-Type"] = content_type
        answer = await call(self._application, method, target, sent, body)
        if method == "POST" and answer.status < 300:
            await _catch_up()
        return answer

    async def get(
        self, path: str, token: str | None = None, /, *, headers: Mapping[str, str] | None = None, **query: Any
    ) -> Answer:
        """GET a path with query parameters; a list repeats its name, and `from_` means `from`."""
        pairs = {name.rstrip("_"): value for name, value in query.items() if value is not None}
        target = f"{path}?{urlencode(pairs, doseq=True)}" if pairs else path
        return await self.request("GET", target, token=token, headers=headers)

    def org(self, *scopes: str, org: str = "ttd", **claims: Any) -> str:
        """A service owner's token."""
        own = {"urn:altinn:org": org, "urn:altinn:orgNumber": "405003309", "urn:altinn:authlevel": "3"}
        return self.issuer.token({**own, "scope": " ".join(scopes), **claims})

    def user(self, *scopes: str, user: int = 20012345, party: int = PARTY, level: int = 3, **claims: Any) -> str:
        """An end user's token."""
        own = {"urn:altinn:userid": user, "urn:altinn:partyid": party, "urn:altinn:authlevel": level}
        return self.issuer.token({**own, "scope": " ".join(scopes), **claims})

    def organisation(self, *scopes: str, number: str = UNIT, **claims: Any) -> str:
        """An organisation's own, unexchanged token."""
        consumer = {"authority": "iso6523-actorid-upis", "ID": f"0192:{number}"}
        return self.issuer.token({"consumer": consumer, "scope": " ".join(scopes), **claims})

    def system_user(self, *scopes: str, **claims: Any) -> str:
        """A system user's token."""
        details = [{"type": "urn:altinn:systemuser", "systemuser_id": ["a1b2c3d4-0000-4000-8000-000000000009"]}]
        return self.issuer.token({"authorization_details": details, "scope": " ".join(scopes), **claims})

    def app(self, name: str = "ttd/apps-test", **claims: Any) -> str:
        """An app's PlatformAccessToken."""
        org, _, app_name = name.partition("/")
        return self.issuer.token({"iss": org, "urn:altinn:app": app_name, **claims})

    async def publish_app_event(self, *, app_name: str = "ttd/apps-test", **attributes: Any) -> str:
        """Publish an event of an app's instance; return its id."""
        event = app_event(app_name, **attributes)
        answer = await self.request("POST", "/events/api/v1/app", platform_token=self.app(app_name), json_body=event)
        assert answer.status in (200, 201), answer.body
        return str(answer.json())

    async def publish(self, *events: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Publish events of any resource as an administrator; return the outcomes."""
        answer = await self.request(
            "POST",
            PUBLISH,
            token=self.org("altinn:events.publish.admin"),
            json_body=list(events),
            content_type="application/cloudevents-batch+json",
        )
        assert answer.status == 200, answer.body
        return list(answer.json()["events"])

    async def walk(
        self, answer: Answer, token: str | None = None, *, most: int = 1_000, **sent: Any
    ) -> list[dict[str, Any]]:
        """Follow `next` from a page until the feed is caught up and empty; return every event on the way."""
        events: list[dict[str, Any]] = []
        for _ in range(most):
            assert answer.status == 200, answer.body
            page = answer.json()
            events += page
            if not page and answer.headers["events-caught-up"] == "true":
                return events
            answer = await self.request("GET", answer.headers["next"], token=token, **sent)
        raise AssertionError(f"the walk did not end within {most} pages")


def instance_source(app_name: str = "ttd/apps-test", party: int = PARTY, guid: str | None = None) -> str:
    """The URL of an instance."""
    org = app_name.partition("/")[0]
    return f"https://{org}.apps.altinn.example/{app_name}/instances/{party}/{guid or uuid.uuid4()}"


def app_event(app_name: str = "ttd/apps-test", **attributes: Any) -> dict[str, Any]:
    """An event as an app publishes it."""
    return {
        "specversion": "1.0",
        "type": "app.instance.created",
        "source": instance_source(app_name),
        "subject": f"/party/{PARTY}",
        **attributes,
    }


def event(resource: str = RESOURCE, **attributes: Any) -> dict[str, Any]:
    """An event of any resource."""
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "type": "mail.received",
        "source": "https://mail.example/box",
        "resource": resource,
        **attributes,
    }


def ids(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """The ids of events."""
    return [str(event["id"]) for event in events]


@cache
def _application() -> asgi.Application:
    """The app behind the local host, made once, since the library gives an app's functions once."""
    import function_app  # noqa: PLC0415 - only where the whole service is wanted
    from local.asgi import HttpHost  # noqa: PLC0415
    from local.host import functions_of  # noqa: PLC0415
    from local.routing import Router  # noqa: PLC0415

    return HttpHost(Router(functions_of(function_app.app), ""))


async def _on_cosmos(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the service on a database of the tests' Cosmos DB server, the same for the same data directory."""
    server = await started_server()
    if data_dir not in Running.databases:
        Running.databases[data_dir] = await server.make_containers()
    monkeypatch.setenv("EVENTS_COSMOS", server.connection_string)
    monkeypatch.setenv("EVENTS_COSMOS_DATABASE", Running.databases[data_dir])


async def drop_databases() -> None:
    """Delete the databases of the services of a test."""
    await (await started_server()).drop(*Running.databases.values())
    Running.databases.clear()


@asynccontextmanager
async def running(data_dir: Path, monkeypatch: pytest.MonkeyPatch, **settings: str) -> AsyncIterator[Service]:
    """Run the service on a new store, with its neighbours; `settings` are environment variables."""
    key = SigningKey.ec("test")
    async with (
        IssuerServer([key]) as issuer,
        PdpServer() as pdp,
        RegisterServer(
            persons={PERSON: Person(PARTY, str(uuid.uuid5(uuid.NAMESPACE_OID, PERSON)))},
            units={UNIT: UNIT_PARTY},
            certificate=platform_certificate(),
        ) as register,
    ):
        platform = {org: {"jwks_uri": issuer.jwks_uri} for org in ("ttd", "skd", "platform")}
        environment = {
            "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
            "EVENTS_DATA_DIR": str(data_dir),
            "EVENTS_TOKEN_ISSUERS": json.dumps([{"issuer": issuer.url, "jwks_uri": issuer.jwks_uri}]),
            "EVENTS_PLATFORM_TOKEN_ISSUERS": json.dumps(platform),
            "EVENTS_PDP_URL": pdp.url,
            "EVENTS_REGISTER_URL": register.url,
            "EVENTS_PLATFORM_CERTIFICATE": platform_pem(),
            **settings,
        }
        import function_app  # noqa: PLC0415 - only where the whole service is wanted

        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(function_app, "checks", HealthChecks(app.current))
        if Running.store == COSMOS and "EVENTS_COSMOS" not in settings:
            await _on_cosmos(data_dir, monkeypatch)
        try:
            yield Service(_application(), issuer, pdp, register)
        finally:
            await app.close()
