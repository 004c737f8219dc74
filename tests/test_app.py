"""The application is composed as the settings describe it, and bad files are bad settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from events_core import app
from events_core.adapters.neighbours.http_client import HttpClient
from events_core.common.errors import EventsError, MisconfiguredError
from events_core.common.halves import Requests
from events_core.compose import compose
from events_core.operations.application import Application
from events_core.settings import SettingsError, load_settings
from tests.support.askers import PERSON, PERSON_UUID, USER, question
from tests.support.certificates import KEY, certificate_of, pem, platform_certificate, platform_pem
from tests.support.entra_server import EntraServer, trust
from tests.support.pdp_server import PdpServer
from tests.support.register_server import Person, RegisterServer

Compose = Callable[..., Application]
FILES = ("EVENTS_POLICY_FILE", "EVENTS_REGISTER_FILE")
EMPTY = {"EVENTS_POLICY_FILE": '{"rules": []}', "EVENTS_REGISTER_FILE": "[]"}


def _written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Minimal settings for development: a data directory, a policy and a Register without content."""
    environment = {"AZURE_FUNCTIONS_ENVIRONMENT": "Development", "EVENTS_DATA_DIR": str(tmp_path / "data")}
    environment |= {name: _written(tmp_path / name, text) for name, text in EMPTY.items()}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


@pytest.fixture
async def composed(environment: dict[str, str]) -> AsyncIterator[Compose]:
    """Compose the application with more settings, and close it."""
    made: list[Application] = []

    def compose_with(**settings: str) -> Application:
        made.append(compose(load_settings({**environment, **settings})))
        return made[-1]

    yield compose_with
    for events in made:
        await events.close()


@pytest.fixture
async def entra(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EntraServer]:
    """The identity endpoint of the process."""
    async with EntraServer() as server:
        monkeypatch.setenv("IDENTITY_ENDPOINT", server.identity_endpoint)
        monkeypatch.setenv("IDENTITY_HEADER", server.secret)
        yield server


async def test_development_needs_two_files_only(composed: Compose) -> None:
    """Store, PDP and Register are embedded, and each answers."""
    events = composed()
    for port in (events.store, events.decision_point, events.register):
        await port.ping()
    assert [decision.permit for decision in await events.decision_point.decide([question()])] == [False]


async def test_the_policy_file_decides(tmp_path: Path, composed: Compose) -> None:
    """The embedded PDP reads the file of the setting."""
    rule = '{"who": {"urn:altinn:userid": "*"}, "may": ["subscribe"], "on": {"urn:altinn:resource": "*"}}'
    file = _written(tmp_path / "policy.json", f'{{"rules": [{rule}]}}')
    events = composed(EVENTS_POLICY_FILE=file)
    assert [decision.permit for decision in await events.decision_point.decide([question()])] == [True]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_a_bad_setting(environment: dict[str, str], name: str) -> None:
    """The error is one line that names the setting and not its value."""
    with pytest.raises(SettingsError, match=f"^{name}: No such file or directory$"):
        compose(load_settings({**environment, name: "/nowhere/canary.json"}))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("text", ["", "{", "7", '"canary"', '{"rules": 7}', '[{"partyId": "canary"}]', "\ud800"])
def test_a_bad_file_is_a_bad_setting(environment: dict[str, str], name: str, text: str) -> None:
    """The error is one line that names the setting and shows no value of the file."""
    Path(environment[name]).write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(SettingsError, match=f"^{name}: ") as caught:
        compose(load_settings(environment))
    assert "canary" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FILES)
async def test_requests_get_503_while_a_file_is_missing(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """/health shows the error."""
    monkeypatch.setenv(name, "/nowhere")
    with pytest.raises(MisconfiguredError) as caught:
        await app.current()
    assert caught.value.problem.status == 503
    assert caught.value.line == f"{name}: No such file or directory"
    monkeypatch.setenv(name, environment[name])
    await app.current()
    await app.close()


@pytest.mark.parametrize("name", FILES)
def test_no_store_is_opened_for_bad_files(environment: dict[str, str], name: str) -> None:
    """A composition that fails leaves nothing open, however often it is tried."""
    with pytest.raises(SettingsError):
        compose(load_settings({**environment, name: "/nowhere"}))
    assert not Path(environment["EVENTS_DATA_DIR"]).exists()


async def test_the_pdp_gets_the_token_of_its_scope(composed: Compose, entra: EntraServer) -> None:
    """The token for EVENTS_PDP_SCOPE is the bearer token."""
    async with PdpServer() as pdp:
        events = composed(EVENTS_PDP_URL=pdp.url, EVENTS_PDP_SCOPE="api://pdp/.default")
        await events.decision_point.decide([question()])
    assert entra.asked[0]["resource"] == "api://pdp"
    assert pdp.headers[0]["Authorization"] == "Bearer token-1"


async def test_register_gets_the_token_of_its_scope(composed: Compose, entra: EntraServer) -> None:
    """The token for EVENTS_REGISTER_SCOPE goes with the service's own questions."""
    async with RegisterServer(persons={PERSON: Person(50002108, PERSON_UUID)}) as register:
        events = composed(
            EVENTS_REGISTER_URL=register.url, EVENTS_REGISTER_SCOPE="api://register", EVENTS_CLIENT_ID="me"
        )
        await events.register.party_uuids([PERSON], Requests(1))
        assert (await events.register.party_of_person(PERSON, USER)) == 50002108
    assert (entra.asked[0]["resource"], entra.asked[0]["client_id"]) == ("api://register", "me")
    assert register.headers[0]["Authorization"] == "Bearer token-1"


@pytest.mark.parametrize("text", ["CANARY", pem(certificate_of(KEY)), "@Microsoft.KeyVault(SecretUri=https://CANARY/)"])
def test_an_unusable_certificate_is_a_bad_setting(environment: dict[str, str], text: str) -> None:
    """The line names the setting and not its value, and no store is opened."""
    with pytest.raises(SettingsError, match=r"^EVENTS_PLATFORM_CERTIFICATE: (is|has) ") as caught:
        compose(load_settings({**environment, "EVENTS_PLATFORM_CERTIFICATE": text}))
    assert "CANARY" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path(environment["EVENTS_DATA_DIR"]).exists()


async def test_register_gets_a_platform_access_token_of_the_certificate(composed: Compose) -> None:
    """Nobody gets in without one, and no other neighbour gets it."""
    persons = {PERSON: Person(50002108, PERSON_UUID)}
    async with RegisterServer(persons, certificate=platform_certificate()) as register, PdpServer() as pdp:
        urls = {"EVENTS_REGISTER_URL": register.url, "EVENTS_PDP_URL": pdp.url}
        events = composed(**urls, EVENTS_PLATFORM_CERTIFICATE=platform_pem())
        assert await events.register.party_of_person(PERSON, USER) == 50002108
        await events.decision_point.decide([question()])
        without = composed(**urls, EVENTS_DATA_DIR=f"{events.settings.data_dir}-2")
        with pytest.raises(EventsError, match="503"):
            await without.register.party_of_person(PERSON, USER)
    assert ["PlatformAccessToken" in headers for headers in register.headers] == [True, False]
    assert "PlatformAccessToken" not in pdp.headers[0]


async def test_without_scopes_no_token_is_acquired(composed: Compose, entra: EntraServer) -> None:
    """The identity endpoint gets no request."""
    async with PdpServer() as pdp:
        await composed(EVENTS_PDP_URL=pdp.url).decision_point.decide([question()])
    assert (entra.asked, "Authorization" in pdp.headers[0]) == ([], False)


async def test_a_client_with_a_secret_asks_its_authority(composed: Compose, entra: EntraServer) -> None:
    """The identity endpoint gets no request."""
    async with PdpServer() as pdp:
        events = composed(
            EVENTS_PDP_URL=pdp.url,
            EVENTS_PDP_SCOPE="api://pdp/.default",
            EVENTS_CLIENT_ID="me",
            EVENTS_CLIENT_SECRET="canary",
            EVENTS_AUTHORITY=entra.authority,
        )
        _, client = events.connections
        assert isinstance(client, HttpClient)
        client._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust()))
        await events.decision_point.decide([question()])
    assert [entra.asked[0][name] for name in ("client_id", "client_secret")] == ["me", "canary"]
    assert pdp.headers[0]["Authorization"] == "Bearer token-1"


async def test_the_pdp_is_not_asked_without_a_token(composed: Compose, entra: EntraServer) -> None:
    """If no token can be had, the request is 503."""
    entra.status = 403
    async with PdpServer() as pdp:
        events = composed(EVENTS_PDP_URL=pdp.url, EVENTS_PDP_SCOPE="api://pdp/.default")
        with pytest.raises(EventsError, match="503"):
            await events.decision_point.decide([question()])
    assert pdp.requests == []
