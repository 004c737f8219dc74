"""An app owner that no setting lists publishes with its own key set, found by its name."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.asgi import Answer
from tests.support.issuer import IssuerServer, SigningKey, claims_of
from tests.support.service import APP_TOKEN_SCOPES, Service, app_event, ids, running

PUBLISH_APP = "/events/api/v1/app"
NAV = SigningKey.ec("nav")


@pytest.fixture
async def keys() -> AsyncIterator[IssuerServer]:
    """The server of the app owners' key sets; `nav` has one."""
    async with IssuerServer() as server:
        server.owners = {"nav": [NAV], "platform": [NAV]}
        yield server


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: IssuerServer) -> AsyncIterator[Service]:
    """The service with no platform issuer but `*`."""
    issuers = json.dumps({"*": {"jwks_uri": keys.owners_jwks_uri}})
    async with running(tmp_path, monkeypatch, EVENTS_PLATFORM_TOKEN_ISSUERS=issuers) as running_service:
        yield running_service


async def publish(service: Service, org: str, **attributes: str) -> Answer:
    """Publish an event of an app with its owner's token."""
    token = NAV.sign(claims_of(org, {"urn:altinn:app": "apps-test"}))
    event = app_event(f"{org}/apps-test", **attributes)
    return await service.request("POST", PUBLISH_APP, platform_token=token, json_body=event)


async def test_a_new_app_owner_publishes_without_a_change_of_settings(service: Service, keys: IssuerServer) -> None:
    """Its key set is fetched once, and its event is in the app's feed."""
    answers = [await publish(service, "nav", id=id_) for id_ in ("e1", "e2")]
    assert [answer.status for answer in answers] == [201, 201]
    page = await service.get(
        answers[0].headers["location"], service.org(APP_TOKEN_SCOPES.replace("ttd", "nav"), org="nav")
    )
    assert (ids(page.json()), keys.owner_fetches) == (["e1"], {"nav": 1})


@pytest.mark.parametrize("org", ["unknown", "platform", "NAV"])
async def test_an_issuer_that_is_not_trusted_is_401(service: Service, org: str) -> None:
    """An app owner without a key set, `platform`, and a name that no app owner has."""
    answer = await publish(service, org)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["detail"] == "The token is not valid."


async def test_a_spent_allowance_is_503_with_retry_after(service: Service, keys: IssuerServer) -> None:
    """A new app owner sends its event again later; one that is known goes on."""
    assert (await publish(service, "nav")).status == 201
    assert {(await publish(service, f"invented-{number}")).status for number in range(9)} == {401}
    keys.owners["skd"] = [NAV]
    answer = await publish(service, "skd")
    assert answer.status == 503
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert (await publish(service, "nav")).status == 201


async def test_health_does_not_ask_the_server_of_unlisted_key_sets(service: Service, keys: IssuerServer) -> None:
    """Listed issuers work without it."""
    await keys.stop()
    assert (await service.get("/health/ready")).status == 200
