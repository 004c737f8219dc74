"""The settings of the service, read from the environment and validated once (docs/operations.md lists them)."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

PREFIX = "EVENTS_"
ANY_ISSUER = "*"
"""The name of the platform issuer that stands for all issuers without an entry of their own."""
ISSUER_PLACEHOLDER = "{iss}"
"""Stands for the issuer's name in the URL of `*`."""
_APP = re.compile(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+")
_BASE_URL = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")
_URL = re.compile(r"https?://[^\s/?#]+(/[^\s#]*)?")
_AUTHORITY = re.compile(r"https://[^\s/?#]+/[^\s?#]+")
_KEYS_URL = re.compile(r"(https?|file)://[^\s?#]*\S*")
_DOT_SEGMENT = r"/(\.|%2[Ee]){1,2}([/?]|$)"
_KEYS_URL_BY_NAME = re.compile(
    rf"https?://(?!.*{_DOT_SEGMENT})[^\s/?#@\\{{}}]+/[^\s?#{{}}]*\{{iss\}}[^\s?#{{}}]*(\?[^\s#{{}}]*)?"
)
"""A dot segment after the placeholder would remove it: `/{iss}/../jwks` is one key set for every issuer."""


class SettingsError(Exception):
    """A setting is missing or bad. The text is one line that names the setting and never shows its value."""


def _from_json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("is not JSON") from None


def _from_commas(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _base_url(value: str) -> str:
    if not _BASE_URL.fullmatch(value):
        raise ValueError("is not an http(s) URL without a query")
    return value.rstrip("/")


def _url(value: str) -> str:
    if not _URL.fullmatch(value):
        raise ValueError("is not an http(s) URL")
    return value


def _authority(value: str) -> str:
    if not _AUTHORITY.fullmatch(value.rstrip("/")):
        raise ValueError("is not an https URL with a tenant")
    return value.rstrip("/")


def _keys_url(value: str) -> str:
    if not _KEYS_URL.fullmatch(value):
        raise ValueError("is not a URL of a key set")
    return value


def _app(value: str) -> str:
    if not _APP.fullmatch(value):
        raise ValueError("is not a comma-separated list of org/app")
    return value


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        raise ValueError("is not a comma-separated list of networks in CIDR notation") from None
    return value


def _key(value: SecretStr) -> SecretStr:
    try:
        raw = base64.b64decode(value.get_secret_value(), validate=True)
    except binascii.Error:
        raise ValueError("is not base64") from None
    if len(raw) != 32:
        raise ValueError("is not 32 bytes in base64")
    return value


BaseUrl = Annotated[str, AfterValidator(_base_url)]
Url = Annotated[str, AfterValidator(_url)]
Authority = Annotated[str, AfterValidator(_authority)]
KeysUrl = Annotated[str, AfterValidator(_keys_url)]
Key = Annotated[SecretStr, AfterValidator(_key)]


class TokenIssuer(BaseModel):
    """An issuer of bearer tokens. Without `jwks_uri`, its OpenID discovery document names the key set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(min_length=1)
    jwks_uri: KeysUrl | None = None
    audience: str | None = None


class PlatformTokenIssuer(BaseModel):
    """A key set of PlatformAccessTokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    jwks_uri: KeysUrl


class Settings(BaseModel):
    """All settings. `VARIABLES` names the environment variable of each field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: BaseUrl | None = None
    data_dir: Path = Path(".data")
    cosmos: SecretStr | None = None
    cosmos_account_endpoint: Url | None = None
    cosmos_client_id: str | None = None
    cosmos_database: str = "events"
    storage: SecretStr | None = None
    storage_queue_service_uri: Url | None = None
    storage_client_id: str | None = None
    token_issuers: Annotated[tuple[TokenIssuer, ...], BeforeValidator(_from_json)] = ()
    platform_token_issuers: Annotated[dict[str, PlatformTokenIssuer], BeforeValidator(_from_json)] = {}
    platform_certificate: SecretStr | None = None
    pdp_url: Url | None = None
    pdp_subscription_key: SecretStr | None = None
    pdp_scope: str | None = None
    policy_file: Path = Path("local/policy.json")
    register_url: BaseUrl | None = None
    register_scope: str | None = None
    register_file: Path = Path("local/register.json")
    client_id: str | None = None
    client_secret: SecretStr | None = None
    authority: Authority | None = None
    apps_domain: str | None = Field(default=None, pattern=r"^[A-Za-z0-9.-]+(:\d+)?$")
    max_page_size: int = Field(default=1000, ge=1, le=1_000)
    anonymous_apps: Annotated[tuple[Annotated[str, AfterValidator(_app)], ...], BeforeValidator(_from_commas)] = ()
    max_subscriptions: int = Field(default=500, ge=1, le=100_000)
    max_replays: int = Field(default=5, ge=1, le=1_000)
    webhook_allow_http: bool = False
    webhook_allow_networks: Annotated[
        tuple[Annotated[str, AfterValidator(_network)], ...], BeforeValidator(_from_commas)
    ] = ()
    webhook_retry_seconds: Annotated[
        tuple[Annotated[int, Field(ge=1, le=7 * 86_400)], ...], BeforeValidator(_from_commas)
    ] = (10, 30, 60, 300, 600, 1800, 3600, 10800, 21600, *(43200,) * 6)
    webhook_timeout_seconds: int = Field(default=30, ge=1, le=100)
    retention_days: int = Field(default=90, ge=2, le=36_500)
    secret_key: Annotated[tuple[Key, ...], BeforeValidator(_from_commas)] = ()
    subject_key: Key | None = None
    max_waiters: int = Field(default=8, ge=0, le=10_000)
    development: bool = False

    @property
    def on_cosmos(self) -> bool:
        """Whether the store is Cosmos DB, by connection string or by identity."""
        return self.cosmos is not None or self.cosmos_account_endpoint is not None


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read and validate the settings. An empty value counts as absent.

    Raises:
        SettingsError: A setting is missing or bad. The error names the first of them.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {
        field: environment[variable] for field, variable in VARIABLES.items() if environment.get(variable)
    }
    try:
        settings = Settings(**values, development=is_development(environment))
    except ValidationError as error:
        raise SettingsError(_one_line(error)) from None
    _require_whole_client(settings)
    if not settings.development:
        _require_deployed_settings(settings)
    _require_one_key_set_for_each_issuer(settings)
    return settings


def is_development(environment: Mapping[str, str]) -> bool:
    """Whether the process runs on a developer's machine, in the local host or Core Tools (`func start`)."""
    return environment.get("AZURE_FUNCTIONS_ENVIRONMENT", "").lower() == "development"


def _one_line(error: ValidationError) -> str:
    fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
    name, *inside = fault["loc"]
    where = "".join(f"[{part}]" for part in inside if str(part).isidentifier())
    return f"{VARIABLES[str(name)]}{where}: {fault['msg'].removeprefix('Value error, ')}"


def _require_whole_client(settings: Settings) -> None:
    """Require id, secret and authority of a client together. An id alone names a managed identity."""
    if settings.client_secret is None and settings.authority is not None:
        raise SettingsError(f"{PREFIX}CLIENT_SECRET: is missing; {PREFIX}AUTHORITY needs it")
    for name in ("client_id", "authority"):
        if settings.client_secret is not None and getattr(settings, name) is None:
            raise SettingsError(f"{PREFIX}{name.upper()}: is missing; {PREFIX}CLIENT_SECRET needs it")


def _require_one_key_set_for_each_issuer(settings: Settings) -> None:
    """Require the issuer's name in the URL of `*`. In development one key set may verify every issuer's tokens."""
    issuer = settings.platform_token_issuers.get(ANY_ISSUER)
    if issuer is None or (settings.development and ISSUER_PLACEHOLDER not in issuer.jwks_uri):
        return
    is_secure = issuer.jwks_uri.startswith("https:") or settings.development
    if not is_secure or not _KEYS_URL_BY_NAME.fullmatch(issuer.jwks_uri):
        raise SettingsError(
            f"{PREFIX}PLATFORM_TOKEN_ISSUERS: the URL of {ANY_ISSUER} is not https with {ISSUER_PLACEHOLDER} once, in"
            " its path"
        )


def _require_deployed_settings(settings: Settings) -> None:
    """Refuse the embedded ports: after a typo, an instance must not acknowledge events into its own file."""
    for name in _REQUIRED_WHEN_DEPLOYED:
        if not getattr(settings, name):
            raise SettingsError(
                f"{PREFIX}{name.removeprefix('on_').upper()}: is missing; only development works without it"
            )
    uris = [issuer.jwks_uri or "" for issuer in settings.token_issuers]
    if any(uri.startswith("file:") for uri in uris):
        raise SettingsError(f"{PREFIX}TOKEN_ISSUERS: keys from files are allowed only in development")
    if any(issuer.jwks_uri.startswith("file:") for issuer in settings.platform_token_issuers.values()):
        raise SettingsError(f"{PREFIX}PLATFORM_TOKEN_ISSUERS: keys from files are allowed only in development")


_NAMED_BY_FUNCTIONS = {
    "cosmos_account_endpoint": f"{PREFIX}COSMOS__accountEndpoint",
    "cosmos_client_id": f"{PREFIX}COSMOS__clientId",
    "storage": "AzureWebJobsStorage",
    "storage_queue_service_uri": "AzureWebJobsStorage__queueServiceUri",
    "storage_client_id": "AzureWebJobsStorage__clientId",
}
VARIABLES = {
    field: _NAMED_BY_FUNCTIONS.get(field, PREFIX + field.upper())
    for field in Settings.model_fields
    if field != "development"
}
"""The environment variable of each field."""
_REQUIRED_WHEN_DEPLOYED = ("on_cosmos", "pdp_url", "register_url", "base_url", "secret_key", "subject_key")
