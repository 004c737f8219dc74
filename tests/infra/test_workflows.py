"""The pipelines: they parse, do what the repository can do, and may do no more than they have to."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.host import ROOT
from tests.infra.bicep import File, at

FOLDER = ROOT / ".github/workflows"
FILES = sorted(FOLDER.glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()
PINNED = re.compile(r"uses: [\w-]+/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
RELEASED = {"dev", "test", "prod"}


def load(path: Path) -> dict[str, Any]:
    """A file; `on` is the key of its triggers, which YAML 1.1 reads as true."""
    document = yaml.safe_load(path.read_text())
    assert isinstance(document, dict)
    return {str(name).replace("True", "on"): value for name, value in document.items()}


WORKFLOWS = {path.stem: load(path) for path in FILES}


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every job of every workflow: the workflow's name, its own, and what it is."""
    for name, workflow in WORKFLOWS.items():
        for job, body in workflow["jobs"].items():
            yield name, job, body


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every step, with the name of its workflow."""
    for name, _, job in jobs():
        yield from ((name, step) for step in job.get("steps", ()))


def commands() -> Iterator[str]:
    """Every line of every script, continued lines as one."""
    for _, step in steps():
        yield from str(step.get("run", "")).replace("\\\n", " ").splitlines()


def test_there_are_a_check_an_infrastructure_and_a_deployment() -> None:
    """And what the last two call for each environment."""
    assert {*WORKFLOWS} == {"ci", "infra", "infra-environment", "deploy", "deploy-environment"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_workflow_is_what_github_takes(path: Path) -> None:
    """By its schema."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_no_audit_finds_anything() -> None:
    """Pins, permissions, templates in scripts, credentials that stay; what is ignored has its reason beside it."""
    program = Path(sys.executable).with_name("zizmor")
    checked = subprocess.run(
        [program, "--offline", "--format", "json", ROOT / ".github"], capture_output=True, text=True, check=False
    )
    assert json.loads(checked.stdout) == [], checked.stdout
    ignores = [line for path in FILES for line in path.read_text().splitlines() if "zizmor: ignore" in line]
    assert all(re.search(r"ignore\[[\w-]+\] - \w+", line) for line in ignores)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit(path: Path) -> None:
    """With the version that this is beside it; workflows of this repository come with it."""
    used = [line.strip().removeprefix("- ") for line in path.read_text().splitlines() if "uses: " in line]
    assert used
    for line in used:
        assert PINNED.fullmatch(line) or (
            line.startswith("uses: ./") and (ROOT / line.removeprefix("uses: ")).is_file()
        ), line


def test_one_action_has_one_version() -> None:
    """Everywhere."""
    pins = {
        tuple(use.split("@")) for path in FILES for use in re.findall(r"uses: ([\w/-]+@[0-9a-f]{40})", path.read_text())
    }
    assert len({name for name, _ in pins}) == len(pins)


def test_nobody_may_do_more_than_read_but_for_signing_in() -> None:
    """And signing in only where Azure is meant."""
    for name, workflow in WORKFLOWS.items():
        assert workflow["permissions"] in ({}, {"contents": "read"}), name
    for name, job, body in jobs():
        given = body.get("permissions", {})
        assert given.items() <= {"contents": "read", "id-token": "write"}.items(), (name, job)
        signs_in = any("azure/login" in str(step.get("uses")) for step in body.get("steps", ()))
        calls = str(body.get("uses", "")).endswith("-environment.yml")
        assert ("id-token" in given) == (signs_in or calls), (name, job)


def test_signing_in_takes_no_secret() -> None:
    """The identity is federated: there is nothing to steal and nothing to renew."""
    logins = [step["with"] for _, step in steps() if "azure/login" in str(step.get("uses"))]
    assert len(logins) == 3
    for given in logins:
        assert given == {
            f"{part}-id": f"${{{{ vars.AZURE_{part.upper()}_ID }}}}" for part in ("client", "tenant", "subscription")
        }


def test_whatever_signs_in_is_an_environment_that_waits_its_turn() -> None:
    """A pull request has an environment of its own, whose identity only reads."""
    for name, job, body in jobs():
        if any("azure/login" in str(step.get("uses")) for step in body.get("steps", ())):
            assert "environment" in body, (name, job)
    plan = WORKFLOWS["infra"]["jobs"]["what-if"]
    assert plan["environment"] == "${{ matrix.environment }}-plan"
    assert "what-if" in plan["steps"][-1]["run"]
    assert not any("deployment sub create" in str(step.get("run")) for step in plan["steps"])
    for name in ("infra-environment", "deploy-environment"):
        assert WORKFLOWS[name]["jobs"]["deploy"]["concurrency"] == {
            "group": "azure-${{ inputs.environment }}",
            "cancel-in-progress": False,
        }


@pytest.mark.parametrize("name", ["infra", "deploy"])
def test_environments_come_one_after_the_other(name: str) -> None:
    """As many as there are files of parameters, production last."""
    called = {job: body for job, body in WORKFLOWS[name]["jobs"].items() if "-environment.yml" in str(body.get("uses"))}
    assert {job: body["with"]["environment"] for job, body in called.items()} == {each: each for each in RELEASED}
    assert (called["test"]["needs"], called["prod"]["needs"]) == ("dev", "test")
    assert {path.name.split(".")[1] for path in (ROOT / "infra").glob("main.*.bicepparam")} == RELEASED


def test_nothing_is_deployed_that_was_not_tested() -> None:
    """But what was tested before, on the way back."""
    deploy = WORKFLOWS["deploy"]["jobs"]
    assert deploy["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert deploy["package"]["needs"] == "ci"
    assert deploy["dev"]["needs"] == "package"


def test_what_is_packaged_is_or_was_on_main() -> None:
    """Whatever commit is asked for by hand."""
    checkout, check, *_ = WORKFLOWS["deploy"]["jobs"]["package"]["steps"]
    assert (checkout["with"]["ref"], checkout["with"]["fetch-depth"]) == ("${{ inputs.ref }}", 0)
    assert check["run"] == "git merge-base --is-ancestor HEAD origin/main"


def test_every_job_ends() -> None:
    """Within the hour, on an image with a name."""
    for name, job, body in jobs():
        if "uses" not in body:
            assert 0 < body["timeout-minutes"] <= 60, (name, job)
            assert re.fullmatch(r"ubuntu-\d\d\.\d\d", body["runs-on"]), (name, job)


def test_every_job_that_is_needed_is_there() -> None:
    """By its name."""
    for name, job, body in jobs():
        needed = body.get("needs", [])
        assert {needed} if isinstance(needed, str) else {*needed} <= {*WORKFLOWS[name]["jobs"]}, (name, job)


def test_the_pythons_are_those_that_the_service_runs_on() -> None:
    """All of them are tested; compiled files are made by the one that is deployed."""
    assert WORKFLOWS["ci"]["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    (body,) = [
        body
        for _, kind, body in File.read(ROOT / "infra/modules/functions.bicep").resources()
        if kind == "Microsoft.Web/sites"
    ]
    deployed = (at(body, "properties.functionAppConfig.runtime.version") or "").strip("'")
    package = WORKFLOWS["deploy"]["jobs"]["package"]["steps"]
    (python,) = [step["with"]["python-version"] for step in package if "setup-python" in str(step.get("uses"))]
    assert python == deployed
    assert any(step.get("run") == f"make package FROM=python FOR={deployed}" for step in package)


def test_the_emulators_are_those_of_compose() -> None:
    """One version of each."""
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    services = WORKFLOWS["ci"]["jobs"]["emulators"]["services"]
    assert {name: each["image"] for name, each in services.items()} == {
        name: each["image"] for name, each in compose.items()
    }
    assert services["cosmos"]["env"] == compose["cosmos"]["environment"]


def test_core_tools_start_what_the_sample_says() -> None:
    """And then it has to be healthy, take an event and give it again."""
    script = "\n".join(str(step.get("run", "")) for step in WORKFLOWS["ci"]["jobs"]["core-tools"]["steps"])
    for part in (
        "cp local.settings.sample.json local.settings.json",
        "local issuer --port 7072",
        "func start --port 7071",
    ):
        assert part in script
    assert re.search(r"tools/smoke\.py http://127\.0\.0\.1:7071 --wait \d+ --publish", script)


# -- What is called is there ------------------------------------------------------------------------------------------


def test_every_target_of_make_is_there() -> None:
    """In the Makefile."""
    called = {target for line in commands() for target in re.findall(r"\bmake (\w+)", line)}
    assert called == {"test", "install", "package"}
    assert all(re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) for target in called)


def test_every_file_that_is_named_is_there() -> None:
    """Scripts, modules, tests, templates; those with an environment in their name for each of them."""
    named = {
        name
        for line in commands()
        for name in re.findall(r"(?<![\w./$-])((?:infra|tools|tests|local)[\w./$-]*)", line)
        if "/" in name
    }
    assert {"infra/main.bicep", "tools/smoke.py", "tests/contract"} <= named
    for name in named:
        for environment in RELEASED:
            path = name.replace("$environment", environment).replace("$ENVIRONMENT", environment).rstrip(".")
            assert (ROOT / path).exists(), name


def test_every_command_of_ours_is_there() -> None:
    """`python -m local WORD`, and the options of what is called."""
    words = {word for line in commands() for word in re.findall(r"-m local (\w+)", line)}
    assert words == {"issuer", "token"}
    for word in words:
        shown = subprocess.run(
            [sys.executable, "-m", "local", word, "--help"], cwd=ROOT, capture_output=True, check=False
        )
        assert shown.returncode == 0


def test_the_deployment_reads_what_the_template_says() -> None:
    """The outputs by their names, of the deployment by its name."""
    script = WORKFLOWS["deploy-environment"]["jobs"]["deploy"]["steps"]
    asked = set(re.findall(r"\$\(output (\w+)\)", "\n".join(str(step.get("run", "")) for step in script)))
    assert asked == {*File.read(ROOT / "infra/main.bicep").declared("output")}
    assert sum('--name "events-$ENVIRONMENT"' in line for line in commands()) == 3


def test_the_secrets_that_are_given_are_those_that_the_parameters_read() -> None:
    """From the environment, by one name."""
    (deploy,) = [
        step for step in WORKFLOWS["infra-environment"]["jobs"]["deploy"]["steps"] if step.get("name") == "Deploy"
    ]
    given = {name for name, value in deploy["env"].items() if "secrets." in value}
    read = re.findall(r"readEnvironmentVariable\('(\w+)'", (ROOT / "infra/main.prod.bicepparam").read_text())
    assert given == {*read}
    assert all(deploy["env"][name] == f"${{{{ secrets.{name} }}}}" for name in given)


def test_azd_finds_what_it_deploys() -> None:
    """The template with its parameters, the app, and by its tag where the app goes."""
    azd = yaml.safe_load((ROOT / "azure.yaml").read_text())
    assert (ROOT / azd["infra"]["path"] / f"{azd['infra']['module']}.bicep").is_file()
    assert azd["services"]["functions"] == {"project": ".", "language": "python", "host": "function"}
    assert (ROOT / azd["infra"]["path"] / f"{azd['infra']['module']}.bicepparam").is_file()
    assert "'azd-service-name': 'functions'" in (ROOT / "infra/modules/functions.bicep").read_text()
    assert "'azd-env-name': environmentName" in (ROOT / "infra/main.bicep").read_text()
