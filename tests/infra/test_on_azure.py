"""`tools/on_azure.py` runs a command with the settings of a deployed service; a script stands in for `az`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from events_core.settings import load_settings
from tools import on_azure

KEY = "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2U="
VAULT = "https://kv-events-prod.vault.azure.net/secrets"
SETTINGS = {
    "EVENTS_COSMOS__accountEndpoint": "https://cosmos-events-prod.documents.azure.com:443/",
    "EVENTS_COSMOS__credential": "managedidentity",
    "EVENTS_COSMOS__clientId": "00000000-0000-4000-8000-000000000000",
    "EVENTS_COSMOS_DATABASE": "events",
    "EVENTS_BASE_URL": "https://platform.example",
    "EVENTS_PDP_URL": "https://platform.example/pdp",
    "EVENTS_REGISTER_URL": "https://platform.example/register",
    "EVENTS_SECRET_KEY": f"@Microsoft.KeyVault(SecretUri={VAULT}/secret-key)",
    "EVENTS_SUBJECT_KEY": f"@Microsoft.KeyVault(SecretUri={VAULT}/subject-key)",
    "AzureWebJobsStorage__credential": "managedidentity",
}
AZ = """#!{python}
import json, sys
words = sys.argv[1:]
if words[:4] == ["functionapp", "config", "appsettings", "list"] and words[-2:] == ["--output", "json"]:
    assert words[4:8] == ["--resource-group", "rg-events-prod", "--name", "func-events-prod"]
    print(json.dumps([{{"name": name, "slotSetting": False, "value": value}} for name, value in {settings}.items()]))
elif words[:4] == ["keyvault", "secret", "show", "--id"] and words[4].startswith("{vault}/"):
    print(json.dumps("{key}"))
else:
    sys.exit("az: no such thing")
"""
WHERE = ["--group", "rg-events-prod", "--name", "func-events-prod", "--"]


@pytest.fixture
def az(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the script that stands in for `az` on the path."""
    program = tmp_path / "bin/az"
    program.parent.mkdir()
    program.write_text(AZ.format(python=sys.executable, settings=SETTINGS, vault=VAULT, key=KEY))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("EVENTS_APPS_DOMAIN", "left.over.example")


@pytest.mark.usefixtures("az")
def test_the_command_has_the_settings_of_the_service(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """They are complete and valid, with the keys; settings of this machine and of the host are left out."""
    code = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
    assert on_azure.main([*WHERE, sys.executable, "-c", code, str(tmp_path / "seen")]) == 0
    seen = json.loads((tmp_path / "seen").read_text())
    assert {name for name in seen if name.startswith("EVENTS_")} == {n for n in SETTINGS if n.startswith("EVENTS_")}
    assert (seen["EVENTS_SECRET_KEY"], seen["EVENTS_SUBJECT_KEY"]) == (KEY, KEY)
    assert "AzureWebJobsStorage__credential" not in seen
    assert load_settings(seen).on_cosmos
    assert KEY not in "".join(capfd.readouterr())


@pytest.mark.usefixtures("az")
def test_the_exit_status_is_that_of_the_command() -> None:
    """A script that calls the tool sees whether the command failed."""
    assert on_azure.main([*WHERE, sys.executable, "-c", "raise SystemExit(3)"]) == 3


@pytest.mark.usefixtures("az")
def test_without_the_settings_no_command_runs(tmp_path: Path) -> None:
    """An operator who may not read the settings gets an error instead of a command with half of them."""
    with pytest.raises(SystemExit) as left:
        on_azure.main(
            ["--group", "rg", "--name", "other", "--", sys.executable, "-c", f"open({str(tmp_path / 'x')!r}, 'w')"]
        )
    assert left.value.code == 1
    assert not (tmp_path / "x").exists()
