"""The documents on deploying and cost agree with the templates, the workflows and the model."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
from pathlib import Path

from bench import costs
from local.host import ROOT
from tests.infra.bicep import File, text
from tests.support import documents

DEPLOYING, COSTS = ROOT / "docs/deploying.md", ROOT / "docs/costs.md"
IDENTITIES = ROOT / "tools/pipeline_identities.sh"
MAIN = File.read(ROOT / "infra/main.bicep")
ROLES = (ROOT / "infra/modules/roles.bicep").read_text()


def default_of(name: str) -> str:
    """Return a parameter's default as the table shows it; a missing or empty one is `none`."""
    value = MAIN.declared("parameter")[name].named_children[2:]
    shown = text(value[0]).strip("'") if value else ""
    return f"`{shown}`" if shown else "none"


def test_the_table_of_parameters_has_each_parameter_with_its_default_and_no_other() -> None:
    """An operator sets these parameters for each environment."""
    table = documents.table(DEPLOYING, "parameter")
    assert {name: cells[0] for name, cells in table.items()} == {name: default_of(name) for name in MAIN.parameters}


def test_every_command_can_be_pasted() -> None:
    """The shell parses each block."""
    scripts = documents.blocks(DEPLOYING, "sh")
    assert len(scripts) > 10
    faults = {}
    for script in scripts:
        checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
        if checked.returncode or checked.stderr:
            faults[script.splitlines()[0]] = checked.stderr
    assert faults == {}


def test_no_value_has_to_be_guessed() -> None:
    """Each variable of a command is set in its block or in an earlier one."""
    blocks = documents.blocks(DEPLOYING, "sh")
    known = {"SECRET_KEY", "SUBJECT_KEY"}  # the reader makes them under "Keys"
    for script in blocks:
        known |= set(re.findall(r"^(?:export )?([A-Z_]+)=", script, re.MULTILINE))
        assert set(re.findall(r"\$\{?([A-Z_]+)\b", script)) <= known, script


def test_every_file_that_commands_name_exists() -> None:
    """Commands name scripts and templates."""
    scripts = "".join(documents.blocks(DEPLOYING, "sh"))
    named = {*re.findall(r"(?<![\w./-])(?:infra|tools)/[\w./]+", scripts)}
    assert named >= {"infra/main.bicep", "tools/pipeline_identities.sh", "tools/smoke.py", "tools/on_azure.py"}
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_pipeline_may_give_the_roles_that_the_templates_give_and_no_other() -> None:
    """The condition on its right to assign roles names the roles of infra/modules/roles.bicep."""
    (allowed,) = re.findall(r"^ROLES=([\w,-]+)$", IDENTITIES.read_text(), re.MULTILINE)
    assert {*allowed.split(",")} == {*re.findall(r"'([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})'", ROLES)}


def test_the_guide_names_resources_as_the_templates_do() -> None:
    """Its commands use the names that the default prefix gives."""
    names = {"rg-${name}": "rg-events-dev", "id-${name}": "id-events-dev", "vnet-${name}": "vnet-events-prod"}
    for template, name in names.items():
        assert f"  name: '{template}'\n" in (ROOT / "infra/main.bicep").read_text()
        assert name in DEPLOYING.read_text()


def test_the_guide_sets_every_variable_and_secret_that_the_workflows_read() -> None:
    """A workflow without one of them fails at the first deployment."""
    read = "".join(path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml"))
    needed = set(re.findall(r"\$\{\{ (?:vars|secrets)\.(\w+) \}\}", read))
    guide = DEPLOYING.read_text()
    commanded = set(re.findall(r"gh (?:variable|secret) set (\w+)", guide + IDENTITIES.read_text()))
    assert needed == commanded | {"PDP_SUBSCRIPTION_KEY", "SMOKE_TOKEN"}
    assert all(f"`{name}`" in guide for name in ("PDP_SUBSCRIPTION_KEY", "SMOKE_TOKEN"))


def test_the_script_gives_each_environment_an_identity_that_deploys_and_one_that_reads(tmp_path: Path) -> None:
    """The pipeline's rights come from this script alone; here `az` and `gh` only print their arguments."""
    for name in ("az", "gh"):
        (tmp_path / name).write_text('#!/bin/sh\necho "$(basename "$0") $*" >&2\necho a-$$\n')
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "REPOSITORY": "org/events", "LOCATION": "norwayeast"}
    done = subprocess.run([IDENTITIES, "dev"], env=environment, capture_output=True, text=True, check=True)
    subjects = re.findall(r"--subject (\S+)", done.stderr)
    assert subjects == ["repo:org/events:environment:dev", "repo:org/events:environment:dev-plan"]
    roles = re.findall(r"--role (.+?)(?: (?:--condition \S+|a-\d+).*)?$", done.stderr, re.MULTILINE)
    assert roles == [
        "Contributor",
        "Locks Contributor",
        "Role Based Access Control Administrator",
        "Events deployment plan",
    ]


def test_the_table_of_costs_is_what_the_model_prints() -> None:
    """The numbers of the page are those of `python -m bench.costs`."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        costs.main()
    (shown,) = re.findall(r"^```\n(.*?)^```", COSTS.read_text(), re.MULTILINE | re.DOTALL)
    assert shown == printed.getvalue().partition("\n\n")[2]


def test_the_model_of_costs_assumes_what_is_deployed() -> None:
    """Retention, ready instances, endpoints, memory, and the limit of telemetry are those of infra/ and host.json."""
    use, shape = costs.Use(1e6), costs.SHAPE
    assert default_of("retentionDays") == f"`{use.retention_days:.0f}`"
    assert default_of("zoneRedundant") == "`true`"
    assert shape.always_ready == 2  # Azure keeps two with zone redundancy
    assert (ROOT / "infra/modules/endpoints.bicep").read_text().count("{ name: '") == shape.private_endpoints
    assert "instanceMemoryMB: 2048" in (ROOT / "infra/modules/functions.bicep").read_text()
    host = (ROOT / "host.json").read_text()
    assert f'"maxTelemetryItemsPerSecond": {costs.CONSUMPTION.telemetry_items_per_second:.0f},' in host


def test_more_events_cost_more_in_all_and_less_each() -> None:
    """This holds for any prices."""
    totals = [sum(cost for _, cost in costs.rows(costs.Use(events))) for events in (1e6, 10e6, 100e6)]
    assert totals == sorted(totals)
    assert totals[1] < 10 * totals[0]
    assert totals[2] < 10 * totals[1]
