"""Defaults that the local host sets in the environment."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from events_core.settings import load_settings
from local.environment import prepare
from local.issuer import DEFAULT_ISSUER, DevelopmentIssuer


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all settings from the environment, and restore them after the test."""
    for name in list(os.environ):
        if name.startswith(("EVENTS_", "AZURE_FUNCTIONS_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_an_empty_environment_becomes_a_complete_one(tmp_path: Path) -> None:
    """It gets the development environment, the embedded files, and deliveries to this machine."""
    prepare(tmp_path)
    settings = load_settings()
    assert settings.development
    assert settings.data_dir == tmp_path
    assert settings.policy_file.is_file()
    assert settings.register_file.is_file()
    assert (settings.webhook_allow_http, settings.webhook_allow_networks) == (True, ("127.0.0.0/8",))


def test_the_development_issuer_is_trusted_under_both_of_its_names(tmp_path: Path) -> None:
    """The names are the default and the URL where it was last served. Its key verifies every PlatformAccessToken."""
    DevelopmentIssuer(tmp_path).record("http://127.0.0.1:7999")
    issuer = prepare(tmp_path)
    assert issuer is not None
    keys = issuer.jwks_path.as_uri()
    settings = load_settings()
    named = {issuer.issuer: issuer.jwks_uri for issuer in settings.token_issuers}
    assert named == {DEFAULT_ISSUER: keys, "http://127.0.0.1:7999": keys}
    assert settings.platform_token_issuers["*"].jwks_uri == keys


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EVENTS_TOKEN_ISSUERS", json.dumps([{"issuer": "https://issuer.example"}])),
        ("EVENTS_PLATFORM_TOKEN_ISSUERS", json.dumps({"ttd": {"jwks_uri": "https://issuer.example/jwks"}})),
    ],
)
def test_the_development_issuer_is_not_used_when_another_is_configured(tmp_path: Path, name: str, value: str) -> None:
    """No key is made either."""
    os.environ[name] = value
    assert prepare(tmp_path) is None
    assert not (tmp_path / "issuer").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EVENTS_POLICY_FILE", "mine.json"),
        ("EVENTS_REGISTER_FILE", "mine.json"),
        ("EVENTS_WEBHOOK_ALLOW_HTTP", "false"),
        ("EVENTS_WEBHOOK_ALLOW_NETWORKS", "10.0.0.0/8"),
        ("AZURE_FUNCTIONS_ENVIRONMENT", "Production"),
    ],
)
def test_a_given_setting_stays(tmp_path: Path, name: str, value: str) -> None:
    """The local host sets only missing settings."""
    os.environ[name] = value
    prepare(tmp_path)
    assert os.environ[name] == value


def test_an_empty_value_counts_as_absent(tmp_path: Path) -> None:
    """The settings treat an empty value the same way."""
    os.environ["EVENTS_POLICY_FILE"] = ""
    prepare(tmp_path)
    assert os.environ["EVENTS_POLICY_FILE"]
