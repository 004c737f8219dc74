"""Run an operator's command with the settings of a deployed service: its own, and its keys from the vault.

    az login
    python tools/on_azure.py --group rg-events-prod --name func-events-prod-abc123 -- \
        .venv/bin/python -m local replay-parked

It asks `az`, so whoever runs it needs the right to list the app's settings and to read secrets of the vault, and a
machine that reaches vault and Cosmos DB and has the identity of the service (docs/deploying.md, "A machine for
operators"). Nothing is written anywhere, and no value is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from typing import Any

PREFIX = "EVENTS_"
_IN_VAULT = re.compile(r"@Microsoft\.KeyVault\(SecretUri=(https://[^)\s]+)\)")


def asked(*words: str) -> Any:
    """What `az` answers, from JSON.

    Raises:
        SystemExit: it fails; its own message is there already.
    """
    done = subprocess.run(["az", *words, "--output", "json"], stdout=subprocess.PIPE, check=False)  # noqa: S603, S607
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def settings_of(group: str, name: str) -> dict[str, str]:
    """The settings of the service in a function app, those that the vault keeps with their values."""
    listed = asked("functionapp", "config", "appsettings", "list", "--resource-group", group, "--name", name)
    values = {each["name"]: str(each["value"]) for each in listed if each["name"].startswith(PREFIX)}
    return {setting: _read(value) for setting, value in values.items()}


def _read(value: str) -> str:
    kept = _IN_VAULT.fullmatch(value)
    return value if kept is None else str(asked("keyvault", "secret", "show", "--id", kept[1], "--query", "value"))


def main(arguments: list[str]) -> int:
    """Run the command that follows `--`; its own exit status."""
    parser = argparse.ArgumentParser(description="Run a command with the settings of a deployed service.")
    parser.add_argument("--group", required=True, help="the resource group")
    parser.add_argument("--name", required=True, help="the function app")
    parser.add_argument("command", nargs="+")
    wanted = parser.parse_args(arguments)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment = {**kept, **settings_of(wanted.group, wanted.name), "AZURE_FUNCTIONS_ENVIRONMENT": "Production"}
    return subprocess.run(wanted.command, env=environment, check=False).returncode  # noqa: S603 - the operator's own


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
