"""A misconfigured deployment answers 503 everywhere, and `/health` names the setting but never its value."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from events_core.adapters.telemetry import JsonLines
from local.host import ROOT
from tests.support.publishing import structured
from tests.support.service import ANCIENT, APP_FEED, APP_TOKEN_SCOPES, Service, event, running

KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I="
DEPLOYED = {
    "AZURE_FUNCTIONS_ENVIRONMENT": "Production",
    "EVENTS_COSMOS": "AccountEndpoint=http://127.0.0.1:9/;AccountKey=bWFkZS11cA==;",
    "EVENTS_BASE_URL": "https://platform.example",
    "EVENTS_SECRET_KEY": KEY,
    "EVENTS_SUBJECT_KEY": KEY,
}
REQUIRED = [
    "EVENTS_COSMOS",
    "EVENTS_PDP_URL",
    "EVENTS_REGISTER_URL",
    "EVENTS_BASE_URL",
    "EVENTS_SECRET_KEY",
    "EVENTS_SUBJECT_KEY",
]
ROUTES = [
    ("DELETE", "/events/api/v1/events"),
    ("GET", "/events/api/v1/trace"),
    ("GET", "/events/api/v1/app/ttd/apps-test"),
    ("GET", "/events/api/v1/app/ttd"),
    ("GET", "/events/api/v1/app/party"),
    ("POST", "/events/api/v1/app/party"),
    ("POST", "/events/api/v1/party"),
    ("GET", "/events/api/v1/events"),
    ("POST", "/events/api/v1/events"),
    ("POST", "/events/api/v1/app"),
    ("DELETE", "/events/api/v1/events/e1"),
    ("GET", "/events/api/v1/events/e1/trace"),
    ("POST", "/events/api/v1/subscriptions"),
    ("GET", "/events/api/v1/subscriptions"),
    ("GET", "/events/api/v1/subscriptions/1"),
    ("PATCH", "/events/api/v1/subscriptions/1"),
    ("DELETE", "/events/api/v1/subscriptions/1"),
    ("PUT", "/events/api/v1/subscriptions/validate/1"),
    ("GET", "/events/api/v1/subscriptions/1/deliveries"),
    ("POST", "/events/api/v1/subscriptions/1/replay"),
    ("POST", "/events/api/v1/subscriptions/1/rotate-secret"),
    ("POST", "/events/api/v1/subscriptions/1/test"),
    ("POST", "/events/instanceeventsforinstance/1/6fb3738d-6372-48e3-a2d2-f40ab0531fc1"),
    ("GET", "/events/instanceevents/ttd/apps-test"),
    ("GET", "/events/instanceevents/ttd"),
    ("GET", "/events/instanceeventsforparty"),
    ("POST", "/events"),
    ("GET", "/events/api/v1/openapi.json"),
    ("GET", "/events/api/v1/docs"),
    ("GET", "/nothing"),
    ("PUT", "/events/api/v1/events"),
]
CANARY = "canary-4711"
BAD = {
    "EVENTS_BASE_URL": f"ftp://{CANARY}",
    "EVENTS_TOKEN_ISSUERS": f"[{CANARY}",
    "EVENTS_PLATFORM_TOKEN_ISSUERS": json.dumps({"ttd": {"jwks_uri": CANARY}}),
    "EVENTS_PLATFORM_CERTIFICATE": CANARY,
    "EVENTS_PDP_URL": CANARY,
    "EVENTS_REGISTER_URL": f"{CANARY}://x",
    "EVENTS_APPS_DOMAIN": f"{CANARY}/x",
    "EVENTS_MAX_PAGE_SIZE": CANARY,
    "EVENTS_ANONYMOUS_APPS": CANARY,
    "EVENTS_RETENTION_DAYS": f"-{CANARY}",
    "EVENTS_SECRET_KEY": CANARY,
    "EVENTS_SUBJECT_KEY": "Y2FuYXJ5LTQ3MTE=",
    "EVENTS_MAX_WAITERS": CANARY,
    "EVENTS_MAX_SUBSCRIPTIONS": CANARY,
    "EVENTS_MAX_REPLAYS": CANARY,
    "EVENTS_WEBHOOK_ALLOW_NETWORKS": CANARY,
    "EVENTS_WEBHOOK_RETRY_SECONDS": CANARY,
    "EVENTS_WEBHOOK_ALLOW_HTTP": CANARY,
}


async def fault_of_settings(service: Service) -> str:
    """The fault of the settings by `/health`."""
    answer = await service.get("/health")
    assert (answer.status, list(answer.json()["checks"])) == (503, ["settings"])
    return str(answer.json()["checks"]["settings"])


@pytest.mark.parametrize("missing", REQUIRED)
async def test_a_deployment_needs_every_required_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """A missing store, dependency, base URL or key is named by `/health`; defaults serve development only."""
    async with running(tmp_path, monkeypatch, **{**DEPLOYED, missing: ""}) as service:
        assert (await fault_of_settings(service)).startswith(f"{missing}: ")
        answer = await service.get("/health/ready")
        assert (answer.status, list(answer.json()["checks"])) == (503, ["settings"])


@pytest.mark.parametrize("environment", ["", "Production", "Staging", "Developments"])
async def test_only_development_is_development(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: str
) -> None:
    """Any other environment, and none, is a deployment."""
    async with running(tmp_path, monkeypatch, AZURE_FUNCTIONS_ENVIRONMENT=environment) as service:
        assert (await fault_of_settings(service)).startswith("EVENTS_COSMOS: ")


async def test_every_route_of_a_misconfigured_service_is_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The problem has `Retry-After` and names no setting to strangers."""
    async with running(tmp_path, monkeypatch, EVENTS_PDP_URL=CANARY) as service:
        for method, path in ROUTES:
            answer = await service.request(method, path, token=service.org(), json_body={})
            assert (answer.status, answer.headers["retry-after"].isdigit()) == (503, True), path
            assert answer.headers["content-type"] == "application/problem+json", path
            assert b"EVENTS_" not in answer.body, path
            assert CANARY.encode() not in answer.body, path


def test_every_route_is_listed() -> None:
    """`ROUTES` holds every HTTP trigger of function_app.py."""
    routes = re.findall(r'@app\.route\("([^"{*]*)', (ROOT / "function_app.py").read_text())
    walked = [path.lower() for _, path in ROUTES] + ["/health", "/health/ready"]
    assert all(any(path.startswith(f"/{route}".rstrip("/").lower()) for path in walked) for route in routes)


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_setting_is_named_and_its_value_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """`/health` says what the setting should be; neither a response nor a log shows its value."""
    caplog.set_level(logging.DEBUG)
    async with running(tmp_path, monkeypatch, **{name: BAD[name]}) as service:
        assert re.match(rf"{name}(\[\w+\])*: ", await fault_of_settings(service))
        answers = [await service.get(path) for path in ("/health", "/health/ready", APP_FEED)]
    shown = b"".join(answer.body for answer in answers).decode() + "".join(map(JsonLines().format, caplog.records))
    assert BAD[name] not in shown
    assert CANARY not in shown


async def test_a_deployment_without_a_store_acknowledges_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes no file of its own."""
    data = tmp_path / "data"
    async with running(data, monkeypatch, **{**DEPLOYED, "EVENTS_COSMOS": ""}) as service:
        assert (await structured(service, event())).status == 503
    assert not data.exists()


@pytest.mark.parametrize("environment", ["Production", "Development"])
async def test_a_store_that_does_not_answer_is_never_replaced_by_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: str
) -> None:
    """With EVENTS_COSMOS no event is stored elsewhere, not even in development."""
    data = tmp_path / "data"
    settings = {**DEPLOYED, "AZURE_FUNCTIONS_ENVIRONMENT": environment}
    async with running(data, monkeypatch, **settings) as service:
        assert (await structured(service, event())).status == 503
        assert list((await service.get("/health")).json()["checks"].items())[1] == (
            "store",
            "The event store does not answer.",
        )
    assert not data.exists()


async def test_a_bad_connection_string_is_named_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EVENTS_COSMOS without an endpoint is a configuration error."""
    async with running(tmp_path, monkeypatch, **{**DEPLOYED, "EVENTS_COSMOS": "AccountKey=CANARY;"}) as service:
        assert (await fault_of_settings(service)) == "EVENTS_COSMOS: has no AccountEndpoint"


@pytest.mark.parametrize("issuers", ["", "[]"])
async def test_without_issuers_every_token_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, issuers: str
) -> None:
    """Neither a bearer token nor a PlatformAccessToken is trusted."""
    settings = {"EVENTS_TOKEN_ISSUERS": issuers, "EVENTS_PLATFORM_TOKEN_ISSUERS": ""}
    async with running(tmp_path, monkeypatch, **settings) as service:
        answers = [
            await service.get(APP_FEED, service.org(APP_TOKEN_SCOPES), from_=ANCIENT),
            await service.request("POST", "/events/api/v1/app", platform_token=service.app(), json_body={}),
        ]
    assert [answer.status for answer in answers] == [401, 401]


async def test_a_corrected_setting_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that could not start tries again at the next request."""
    async with running(tmp_path, monkeypatch, EVENTS_MAX_PAGE_SIZE="0") as service:
        assert (await structured(service, event())).status == 503
        monkeypatch.setenv("EVENTS_MAX_PAGE_SIZE", "10")
        assert (await structured(service, event())).status == 200


@pytest.mark.parametrize("settings", [{}, BAD, {"AZURE_FUNCTIONS_ENVIRONMENT": "Production"}])
def test_indexing_never_depends_on_settings(tmp_path: Path, settings: dict[str, str]) -> None:
    """The host lists the functions without settings, with bad ones, and from any folder."""
    code = "import function_app; print(len(function_app.app.get_functions()))"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **settings}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert (done.returncode, int(done.stdout) >= len(ROUTES) - 2) == (0, True), done.stderr
