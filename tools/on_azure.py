"""Run a command with the settings of a deployed service, including its keys from the vault.

    az login
    python tools/on_azure.py --group rg-events-prod --name func-events-prod-abc123 -- \
        .venv/bin/python -m local replay-parked

The script reads the settings with `az`. The operator needs the rights to list the app's settings and to read secrets of
the vault. The machine must reach the vault and Cosmos DB and have the identity of the service (docs/deploying.md,
"A machine for operators"). The script writes no file and prints no value.
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


def az(*words: str) -> Any:
    """Run `az`. Returns its JSON output.

    Raises:
        SystemExit: The command fails; `az` has printed why.
    """
    done = subprocess.run(["az", *words, "--output", "json"], stdout=subprocess.PIPE, check=False)  # noqa: S603, S607
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def settings_of(group: str, name: str) -> dict[str, str]:
    """The settings of the service in a function app. References to the vault are replaced by their values."""
    listed = az("functionapp", "config", "appsettings", "list", "--resource-group", group, "--name", name)
    return {item["name"]: _resolve(str(item["value"])) for item in listed if item["name"].startswith(PREFIX)}


def _resolve(value: str) -> str:
    reference = _IN_VAULT.fullmatch(value)
    return str(az("keyvault", "secret", "show", "--id", reference[1], "--query", "value")) if reference else value


def main(arguments: list[str]) -> int:
    """Run the command after `--`. Returns its exit status."""
    parser = argparse.ArgumentParser(description="Run a command with the settings of a deployed service.")
    parser.add_argument("--group", required=True, help="the resource group")
    parser.add_argument("--name", required=True, help="the function app")
    parser.add_argument("command", nargs="+", help="the command to run, after --")
    wanted = parser.parse_args(arguments)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment = {**kept, **settings_of(wanted.group, wanted.name), "AZURE_FUNCTIONS_ENVIRONMENT": "Production"}
    return subprocess.run(wanted.command, env=environment, check=False).returncode  # noqa: S603 - the operator's own


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
