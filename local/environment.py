"""Defaults that the local host sets in the environment: the embedded ports, and its own token issuer."""

from __future__ import annotations

import json
import os
from pathlib import Path

from events_core.settings import ANY_ISSUER
from local.data_dir import open_issuer
from local.issuer import DEFAULT_ISSUER, DevelopmentIssuer

_HERE = Path(__file__).resolve().parent


def prepare(data_dir: Path) -> DevelopmentIssuer | None:
    """Set defaults in this process's environment. Returns the development issuer unless another one is configured.

    Raises:
        LocalError: The data directory cannot be used.
    """
    os.environ["EVENTS_DATA_DIR"] = str(data_dir)
    _default("AZURE_FUNCTIONS_ENVIRONMENT", "Development")
    _default("EVENTS_POLICY_FILE", str(_HERE / "policy.json"))
    _default("EVENTS_REGISTER_FILE", str(_HERE / "register.json"))
    if not os.environ.get("EVENTS_WEBHOOK_ALLOW_NETWORKS"):
        _default("EVENTS_WEBHOOK_ALLOW_HTTP", "true")
    _default("EVENTS_WEBHOOK_ALLOW_NETWORKS", "127.0.0.0/8")
    if os.environ.get("EVENTS_TOKEN_ISSUERS") or os.environ.get("EVENTS_PLATFORM_TOKEN_ISSUERS"):
        return None
    issuer = open_issuer(data_dir)
    keys = {"jwks_uri": issuer.jwks_path.as_uri()}
    names = dict.fromkeys((DEFAULT_ISSUER, issuer.issuer))
    _default("EVENTS_TOKEN_ISSUERS", json.dumps([{"issuer": name, **keys} for name in names]))
    _default("EVENTS_PLATFORM_TOKEN_ISSUERS", json.dumps({ANY_ISSUER: keys}))
    return issuer


def _default(name: str, value: str) -> None:
    if not os.environ.get(name):
        os.environ[name] = value
