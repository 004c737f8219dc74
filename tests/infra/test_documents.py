"""The documents on deploying and its cost, held against what they speak of."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess

import pytest

from bench import costs
from local.host import ROOT
from tests.infra.bicep import File, text
from tests.support import documents

DEPLOYING, COSTS = ROOT / "docs/deploying.md", ROOT / "docs/costs.md"
MAIN = File.read(ROOT / "infra/main.bicep")
ROLES = (ROOT / "infra/modules/roles.bicep").read_text()


def default_of(name: str) -> str:
    """A parameter's default as the table shows it: nothing where there is none, and where it is empty."""
    value = MAIN.declared("parameter")[name].named_children[2:]
    shown = text(value[0]).strip("'") if value else ""
    return f"`{shown}`" if shown else "none"


def test_every_parameter_is_documented_with_its_default() -> None:
    """And no other."""
    table = documents.table(DEPLOYING, "parameter")
    assert {name: cells[0] for name, cells in table.items()} == {name: default_of(name) for name in MAIN.parameters}


@pytest.mark.parametrize("script", documents.blocks(DEPLOYING, "sh"), ids=lambda script: script.splitlines()[0][:40])
def test_every_command_can_be_pasted(script: str) -> None:
    """The shell reads it."""
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_no_value_has_to_be_guessed() -> None:
    """Whatever a command uses is set in the same block, or in the block before where it was made."""
    blocks = documents.blocks(DEPLOYING, "sh")
    known = {"SECRET_KEY", "SUBJECT_KEY"}  # made under "Keys", and given by the reader
    for script in blocks:
        known |= set(re.findall(r"^(?:export )?([A-Z_]+)=", script, re.MULTILINE))
        assert set(re.findall(r"\$\{?([A-Z_]+)\b", script)) <= known, script


def test_every_file_that_commands_name_is_there() -> None:
    """Scripts and templates."""
    named = {
        each
        for script in documents.blocks(DEPLOYING, "sh")
        for each in re.findall(r"(?<![\w./-])(?:infra|tools)/[\w./]+", script)
    }
    assert named >= {"infra/main.bicep", "tools/smoke.py", "tools/on_azure.py"}
    assert all((ROOT / each).is_file() for each in named)


def test_the_pipeline_may_give_the_roles_that_the_templates_give_and_no_other() -> None:
    """The condition on its right to make role assignments."""
    (given,) = re.findall(r"^ROLES=([\w,-]+)$", DEPLOYING.read_text(), re.MULTILINE)
    assert {*given.split(",")} == {*re.findall(r"'([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})'", ROLES)}


def test_every_resource_is_named_as_the_templates_name_it() -> None:
    """With the default prefix."""
    names = {"rg-${name}": "rg-events-dev", "id-${name}": "id-events-dev", "vnet-${name}": "vnet-events-prod"}
    for template, name in names.items():
        assert f"  name: '{template}'\n" in (ROOT / "infra/main.bicep").read_text()
        assert name in DEPLOYING.read_text()


def test_the_workflows_read_what_the_guide_has_set() -> None:
    """Variables and secrets of an environment, by their names."""
    read = "".join(path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml"))
    wanted = set(re.findall(r"\$\{\{ (?:vars|secrets)\.(\w+) \}\}", read))
    guide = DEPLOYING.read_text()
    assert wanted == set(re.findall(r"gh (?:variable|secret) set (\w+)", guide)) | {
        "PDP_SUBSCRIPTION_KEY",
        "SMOKE_TOKEN",
    }
    assert all(f"`{name}`" in guide for name in ("PDP_SUBSCRIPTION_KEY", "SMOKE_TOKEN"))


def test_the_table_of_costs_is_what_the_model_prints() -> None:
    """To the dollar."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        costs.main()
    (shown,) = re.findall(r"^```\n(.*?)^```", COSTS.read_text(), re.MULTILINE | re.DOTALL)
    assert shown == printed.getvalue().partition("\n\n")[2]


def test_the_model_of_costs_assumes_what_is_deployed() -> None:
    """Retention, what is always ready, endpoints, containers, and how much telemetry an instance may send."""
    use, shape = costs.Use(1e6), costs.SHAPE
    assert default_of("retentionDays") == f"`{use.retention_days:.0f}`"
    assert default_of("zoneRedundant") == "`true`"
    assert shape.always_ready == 2  # what Azure keeps then, whatever is asked for beyond none
    assert (ROOT / "infra/modules/endpoints.bicep").read_text().count("{ name: '") == shape.private_endpoints
    assert "instanceMemoryMB: 2048" in (ROOT / "infra/modules/functions.bicep").read_text()
    host = (ROOT / "host.json").read_text()
    assert f'"maxTelemetryItemsPerSecond": {costs.CHARGES.telemetry_items_per_second:.0f},' in host


def test_more_events_cost_more_and_each_of_them_less() -> None:
    """Whatever the prices are."""
    totals = [sum(cost for _, cost in costs.rows(costs.Use(events))) for events in (1e6, 10e6, 100e6)]
    assert totals == sorted(totals)
    assert totals[1] < 10 * totals[0]
    assert totals[2] < 10 * totals[1]
