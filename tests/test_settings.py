"""Settings are read and validated; an error is one line that names the setting."""

import base64
import json

import pytest

from events_core.settings import Settings, SettingsError, load_settings

DEVELOPMENT = {"AZURE_FUNCTIONS_ENVIRONMENT": "Development"}
KEY = base64.b64encode(bytes(32)).decode()
DEPLOYED = {
    "EVENTS_COSMOS": "AccountEndpoint=https://x.documents.azure.com;AccountKey=c2VjcmV0;",
    "EVENTS_PDP_URL": "https://pdp.example/authorize",
    "EVENTS_REGISTER_URL": "https://register.example/",
    "EVENTS_BASE_URL": "https://events.example/",
    "EVENTS_SECRET_KEY": KEY,
    "EVENTS_SUBJECT_KEY": KEY,
}


def test_development_needs_no_setting() -> None:
    """Everything has a default."""
    settings = load_settings(DEVELOPMENT)
    assert settings.development
    assert settings.max_page_size == 1000


def test_a_complete_deployment_is_valid() -> None:
    """URLs lose a slash at the end."""
    settings = load_settings(DEPLOYED)
    assert (settings.base_url, settings.register_url) == ("https://events.example", "https://register.example")
    assert not settings.development


@pytest.mark.parametrize("missing", DEPLOYED)
@pytest.mark.parametrize("environment", ["", "Production", "Staging"])
def test_a_deployment_never_falls_back_to_embedded_parts(missing: str, environment: str) -> None:
    """An empty setting counts as missing, and the error names it."""
    with pytest.raises(SettingsError, match=f"^{missing}: is missing"):
        load_settings({**DEPLOYED, missing: "", "AZURE_FUNCTIONS_ENVIRONMENT": environment})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EVENTS_TOKEN_ISSUERS", '[{"issuer": "x", "jwks_uri": "file:///keys.json"}]'),
        ("EVENTS_PLATFORM_TOKEN_ISSUERS", '{"ttd": {"jwks_uri": "file:///keys.json"}}'),
        ("EVENTS_PLATFORM_TOKEN_ISSUERS", '{"*": {"jwks_uri": "https://keys.example/jwks"}}'),
        ("EVENTS_PLATFORM_TOKEN_ISSUERS", '{"*": {"jwks_uri": "http://keys.example/{iss}/jwks"}}'),
    ],
)
def test_a_deployment_takes_no_development_keys(name: str, value: str) -> None:
    """Keys from files, one key set for all issuers, and key sets of unlisted issuers over http are for development."""
    load_settings({**DEVELOPMENT, name: value})
    with pytest.raises(SettingsError, match=f"^{name}: "):
        load_settings({**DEPLOYED, name: value})


def any_issuer(url: str) -> dict[str, str]:
    """The setting with this URL for issuers that are not listed."""
    return {"EVENTS_PLATFORM_TOKEN_ISSUERS": json.dumps({"*": {"jwks_uri": url}})}


@pytest.mark.parametrize(
    "url",
    [
        "https://keys.example/{iss}/jwks",
        "https://keys.example:8443/v1/{iss}/jwks.json",
        "https://keys.example/keys-{iss}.json?v=1",
        "https://keys.example/{iss}",
    ],
)
def test_a_deployment_takes_a_key_set_for_each_unlisted_issuer(url: str) -> None:
    """The URL of `*` is https, with the placeholder once in its path."""
    assert load_settings({**DEPLOYED, **any_issuer(url)}).platform_token_issuers["*"].jwks_uri == url


@pytest.mark.parametrize(
    "url",
    [
        "https://keys.example/{iss}/{iss}/jwks",
        "https://{iss}.keys.example/jwks",
        "https://{iss}.keys.example/{iss}/jwks",
        "https://{iss}@keys.example/jwks",
        "https://user:{iss}@keys.example/jwks",
        "https://user@keys.example/{iss}/jwks",
        "https://keys.example/jwks?iss={iss}",
        "https://keys.example/{iss}/jwks?iss={iss}",
        "https://keys.example/jwks#{iss}",
        "https://keys.example/{iss}/jwks#top",
        "https://keys.example?/{iss}/jwks",
        "https://keys.example#/{iss}/jwks",
        "https://keys.example{iss}/jwks",
        "https://keys.example:{iss}/jwks",
        "https://keys.example\\@other.example/{iss}/jwks",
        "https:///{iss}/jwks",
        "https://keys.example/{iss}/../jwks",
        "https://keys.example/{iss}/%2e%2E/jwks",
        "https://keys.example/{iss}/..",
        "https://keys.example/{{iss}}/jwks",
        "https://keys.example/{iss}/{app}/jwks",
    ],
)
@pytest.mark.parametrize("environment", [DEPLOYED, DEVELOPMENT], ids=["deployed", "development"])
def test_the_placeholder_stands_once_and_in_the_path(url: str, environment: dict[str, str]) -> None:
    """The name of an issuer chooses a path of one server: no host, query or fragment, and no other path."""
    with pytest.raises(SettingsError, match=r"^EVENTS_PLATFORM_TOKEN_ISSUERS: the URL of \* "):
        load_settings({**environment, **any_issuer(url)})


@pytest.mark.parametrize("environment", [DEPLOYED, DEVELOPMENT], ids=["deployed", "development"])
def test_key_sets_of_unlisted_issuers_are_not_files(environment: dict[str, str]) -> None:
    """A missing file would be an outage, and not an issuer without a key set."""
    with pytest.raises(SettingsError, match=r"^EVENTS_PLATFORM_TOKEN_ISSUERS: "):
        load_settings({**environment, **any_issuer("file:///keys/{iss}.json")})


@pytest.mark.parametrize(
    "url", ["https://keys.example/jwks", "https://keys.example/{ISS}/jwks", "https://k.example/%7Biss%7D"]
)
def test_a_deployment_takes_no_url_of_any_issuer_without_the_placeholder(url: str) -> None:
    """One key set for all would let each app owner publish as any other."""
    load_settings({**DEVELOPMENT, **any_issuer(url)})
    with pytest.raises(SettingsError, match=r"^EVENTS_PLATFORM_TOKEN_ISSUERS: the URL of \* "):
        load_settings({**DEPLOYED, **any_issuer(url)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EVENTS_BASE_URL", "events.example"),
        ("EVENTS_BASE_URL", "https://events.example?x=CANARY"),
        ("EVENTS_TOKEN_ISSUERS", "CANARY"),
        ("EVENTS_TOKEN_ISSUERS", '[{"issuer": ""}]'),
        ("EVENTS_TOKEN_ISSUERS", '[{"issuer": "x", "jwks_uri": "CANARY"}]'),
        ("EVENTS_TOKEN_ISSUERS", '[{"issuer": "x", "CANARY": "y"}]'),
        ("EVENTS_PLATFORM_TOKEN_ISSUERS", '["CANARY"]'),
        ("EVENTS_PLATFORM_TOKEN_ISSUERS", '{"ttd": {}}'),
        ("EVENTS_PLATFORM_TOKEN_ISSUERS", '{"*": {"jwks_uri": "https://CANARY/?{iss}"}}'),
        ("EVENTS_PDP_URL", "ftp://CANARY"),
        ("EVENTS_AUTHORITY", "http://CANARY/tenant"),
        ("EVENTS_AUTHORITY", "https://CANARY"),
        ("EVENTS_AUTHORITY", "https://CANARY/"),
        ("EVENTS_AUTHORITY", "https://CANARY/tenant?x"),
        ("EVENTS_MAX_PAGE_SIZE", "0"),
        ("EVENTS_MAX_PAGE_SIZE", "CANARY"),
        ("EVENTS_ANONYMOUS_APPS", "CANARY"),
        ("EVENTS_APPS_DOMAIN", "https://CANARY"),
        ("EVENTS_WEBHOOK_ALLOW_HTTP", "CANARY"),
        ("EVENTS_WEBHOOK_ALLOW_NETWORKS", "CANARY"),
        ("EVENTS_WEBHOOK_RETRY_SECONDS", "10,CANARY"),
        ("EVENTS_WEBHOOK_RETRY_SECONDS", "0"),
        ("EVENTS_WEBHOOK_TIMEOUT_SECONDS", "0"),
        ("EVENTS_RETENTION_DAYS", "-1"),
        ("EVENTS_RETENTION_DAYS", "1"),
        ("EVENTS_SECRET_KEY", "CANARY"),
        ("EVENTS_SUBJECT_KEY", base64.b64encode(b"CANARY").decode()),
        ("EVENTS_MAX_WAITERS", "-1"),
        ("EVENTS_MAX_SUBSCRIPTIONS", "0"),
        ("EVENTS_MAX_REPLAYS", "CANARY"),
    ],
)
def test_the_error_of_a_setting_names_it_and_not_its_value(name: str, value: str) -> None:
    """The value may be a secret."""
    with pytest.raises(SettingsError) as caught:
        load_settings({**DEVELOPMENT, name: value})
    line = str(caught.value)
    assert line.startswith(name)
    assert "\n" not in line
    assert "CANARY" not in line.removeprefix(name).replace("[CANARY]", "")


CLIENT = {
    "EVENTS_CLIENT_ID": "me",
    "EVENTS_CLIENT_SECRET": "CANARY",
    "EVENTS_AUTHORITY": "https://login.example/tenant/",
}


def test_a_client_has_id_secret_and_authority() -> None:
    """A managed identity needs the id alone."""
    assert load_settings({**DEVELOPMENT, **CLIENT}).authority == "https://login.example/tenant"
    assert load_settings({**DEVELOPMENT, "EVENTS_CLIENT_ID": "me"}).client_id == "me"


@pytest.mark.parametrize("missing", CLIENT)
def test_half_a_client_is_refused(missing: str) -> None:
    """The error names the missing settings."""
    with pytest.raises(SettingsError, match=f"^{missing}: is missing") as caught:
        load_settings({**DEVELOPMENT, **CLIENT, missing: ""})
    assert "CANARY" not in str(caught.value)


def test_printed_settings_show_no_secret() -> None:
    """`repr` may end up in a log."""
    assert KEY not in repr(load_settings(DEPLOYED))


def test_lists_are_read_from_commas() -> None:
    """Names, networks and seconds are separated by commas."""
    settings = load_settings(
        {**DEVELOPMENT, "EVENTS_ANONYMOUS_APPS": "ttd/a, skd/b", "EVENTS_WEBHOOK_RETRY_SECONDS": "1,2"}
    )
    assert settings.anonymous_apps == ("ttd/a", "skd/b")
    assert settings.webhook_retry_seconds == (1, 2)


def test_the_default_schedule_is_fifteen_retries_over_more_than_three_days() -> None:
    """An endpoint may be down for a weekend."""
    waits = Settings().webhook_retry_seconds
    assert len(waits) == 15
    assert sum(waits) > 3 * 86_400
