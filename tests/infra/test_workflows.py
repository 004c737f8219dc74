"""The pipelines are valid, call only what the repository has, and have no more rights than they need."""

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
    """Load a file. YAML 1.1 reads the key `on` as true."""
    document = yaml.safe_load(path.read_text())
    assert isinstance(document, dict)
    return {str(name).replace("True", "on"): value for name, value in document.items()}


WORKFLOWS = {path.stem: load(path) for path in FILES}


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every job: the workflow's name, the job's name and its body."""
    for name, workflow in WORKFLOWS.items():
        for job, body in workflow["jobs"].items():
            yield name, job, body


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every step, with the name of its workflow."""
    for name, _, job in jobs():
        yield from ((name, step) for step in job.get("steps", ()))


def commands() -> Iterator[str]:
    """Every line of every script; a continued line counts as one."""
    for _, step in steps():
        yield from str(step.get("run", "")).replace("\\\n", " ").splitlines()


def test_every_workflow_is_valid_by_githubs_schema() -> None:
    """A workflow that GitHub cannot read never runs."""
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
        *map(str, FILES),
    ]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_audit_finds_nothing() -> None:
    """Zizmor looks at pins, permissions, templates in scripts and credentials; each exception has its reason."""
    program = Path(sys.executable).with_name("zizmor")
    checked = subprocess.run(
        [program, "--offline", "--format", "json", ROOT / ".github"], capture_output=True, text=True, check=False
    )
    assert json.loads(checked.stdout) == [], checked.stdout
    ignores = [line for path in FILES for line in path.read_text().splitlines() if "zizmor: ignore" in line]
    assert all(re.search(r"ignore\[[\w-]+\] - \w+", line) for line in ignores)


def test_every_action_is_pinned_by_its_commit() -> None:
    """The version stands beside the commit. Workflows of this repository need no pin."""
    lines = [line.strip().removeprefix("- ") for path in FILES for line in path.read_text().splitlines()]
    used = [line for line in lines if "uses: " in line]
    own = [line for line in used if line.startswith("uses: ./") and (ROOT / line.removeprefix("uses: ")).is_file()]
    assert [line for line in used if line not in own and not PINNED.fullmatch(line)] == []
    assert len(used) > len(FILES)


def test_one_action_has_one_version() -> None:
    """All workflows pin the same commit of an action."""
    pins = {
        tuple(use.split("@")) for path in FILES for use in re.findall(r"uses: ([\w/-]+@[0-9a-f]{40})", path.read_text())
    }
    assert len({name for name, _ in pins}) == len(pins)


def test_a_job_may_only_read_and_sign_in() -> None:
    """Only jobs that talk to Azure may sign in."""
    for name, workflow in WORKFLOWS.items():
        assert workflow["permissions"] in ({}, {"contents": "read"}), name
    for name, job, body in jobs():
        given = body.get("permissions", {})
        assert given.items() <= {"contents": "read", "id-token": "write"}.items(), (name, job)
        signs_in = any("azure/login" in str(step.get("uses")) for step in body.get("steps", ()))
        calls = str(body.get("uses", "")).endswith("-environment.yml")
        assert ("id-token" in given) == (signs_in or calls), (name, job)


def test_signing_in_takes_no_secret() -> None:
    """The identity is federated, so there is no secret to steal or renew."""
    logins = [step["with"] for _, step in steps() if "azure/login" in str(step.get("uses"))]
    assert len(logins) == 3
    for given in logins:
        assert given == {
            f"{part}-id": f"${{{{ vars.AZURE_{part.upper()}_ID }}}}" for part in ("client", "tenant", "subscription")
        }


def test_a_job_that_signs_in_has_an_environment() -> None:
    """A pull request's environment has an identity that only reads; deployments of an environment do not overlap."""
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
def test_environments_are_deployed_in_order(name: str) -> None:
    """Each environment with a file of parameters is deployed, production last."""
    called = {job: body for job, body in WORKFLOWS[name]["jobs"].items() if "-environment.yml" in str(body.get("uses"))}
    assert {job: body["with"]["environment"] for job, body in called.items()} == {name: name for name in RELEASED}
    assert (called["test"]["needs"], called["prod"]["needs"]) == ("dev", "test")
    assert {path.name.split(".")[1] for path in (ROOT / "infra").glob("main.*.bicepparam")} == RELEASED


def test_only_tested_commits_are_deployed() -> None:
    """The package waits for the tests, and `dev` for the package."""
    deploy = WORKFLOWS["deploy"]["jobs"]
    assert deploy["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert deploy["package"]["needs"] == "ci"
    assert deploy["dev"]["needs"] == "package"


def test_only_commits_of_main_are_packaged() -> None:
    """A deployment that is started by hand may name any commit, so the job checks it."""
    checkout, check, *_ = WORKFLOWS["deploy"]["jobs"]["package"]["steps"]
    assert (checkout["with"]["ref"], checkout["with"]["fetch-depth"]) == ("${{ inputs.ref }}", 0)
    assert check["run"] == "git merge-base --is-ancestor HEAD origin/main"


def test_every_job_has_a_time_limit_and_a_fixed_image() -> None:
    """A job that hangs ends within the hour."""
    for name, job, body in jobs():
        if "uses" not in body:
            assert 0 < body["timeout-minutes"] <= 60, (name, job)
            assert re.fullmatch(r"ubuntu-\d\d\.\d\d", body["runs-on"]), (name, job)


def test_every_needed_job_exists() -> None:
    """`needs` names a job of the same workflow."""
    for name, job, body in jobs():
        needed = body.get("needs", [])
        assert {needed} if isinstance(needed, str) else {*needed} <= {*WORKFLOWS[name]["jobs"]}, (name, job)


def test_every_supported_python_is_tested() -> None:
    """The package is compiled by the Python that is deployed."""
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


def test_the_pipeline_uses_the_emulators_of_compose() -> None:
    """Developers and the pipeline test against the same versions."""
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    services = WORKFLOWS["ci"]["jobs"]["emulators"]["services"]
    assert {name: each["image"] for name, each in services.items()} == {
        name: each["image"] for name, each in compose.items()
    }
    assert services["cosmos"]["env"] == compose["cosmos"]["environment"]


def test_core_tools_start_the_app_with_the_sample_settings() -> None:
    """The started app must be healthy, publish an event and serve it."""
    script = "\n".join(str(step.get("run", "")) for step in WORKFLOWS["ci"]["jobs"]["core-tools"]["steps"])
    for part in (
        "cp local.settings.sample.json local.settings.json",
        "local issuer --port 7072",
        "func start --port 7071",
    ):
        assert part in script
    assert re.search(r"tools/smoke\.py http://127\.0\.0\.1:7071 --wait \d+ --publish", script)


# -- Whatever the pipelines call exists -------------------------------------------------------------------------------


def test_every_make_target_exists() -> None:
    """The pipelines call three targets of the Makefile."""
    called = {target for line in commands() for target in re.findall(r"\bmake (\w+)", line)}
    assert called == {"test", "install", "package"}
    assert all(re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) for target in called)


def test_every_named_file_exists() -> None:
    """A name with an environment in it exists for each environment."""
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


def test_every_local_command_exists() -> None:
    """Each `python -m local WORD` of a pipeline has a help text."""
    words = {word for line in commands() for word in re.findall(r"-m local (\w+)", line)}
    assert words == {"issuer", "token"}
    for word in words:
        shown = subprocess.run(
            [sys.executable, "-m", "local", word, "--help"], cwd=ROOT, capture_output=True, check=False
        )
        assert shown.returncode == 0


def test_the_deployment_reads_every_output_of_the_template() -> None:
    """Outputs and the deployment have the names that the scripts ask for."""
    script = WORKFLOWS["deploy-environment"]["jobs"]["deploy"]["steps"]
    asked = set(re.findall(r"\$\(output (\w+)\)", "\n".join(str(step.get("run", "")) for step in script)))
    assert asked == {*File.read(ROOT / "infra/main.bicep").declared("output")}
    assert sum('--name "events-$ENVIRONMENT"' in line for line in commands()) == 3


def test_the_deployment_gives_every_secret_that_the_parameters_read() -> None:
    """A secret has one name in the environment, the workflow and the parameters."""
    (deploy,) = [
        step for step in WORKFLOWS["infra-environment"]["jobs"]["deploy"]["steps"] if step.get("name") == "Deploy"
    ]
    given = {name for name, value in deploy["env"].items() if "secrets." in value}
    read = re.findall(r"readEnvironmentVariable\('(\w+)'", (ROOT / "infra/main.prod.bicepparam").read_text())
    assert given == {*read}
    assert all(deploy["env"][name] == f"${{{{ secrets.{name} }}}}" for name in given)


def test_azd_finds_the_template_and_the_app() -> None:
    """Azd finds the function app by its tag."""
    azd = yaml.safe_load((ROOT / "azure.yaml").read_text())
    assert (ROOT / azd["infra"]["path"] / f"{azd['infra']['module']}.bicep").is_file()
    assert azd["services"]["functions"] == {"project": ".", "language": "python", "host": "function"}
    assert (ROOT / azd["infra"]["path"] / f"{azd['infra']['module']}.bicepparam").is_file()
    assert "'azd-service-name': 'functions'" in (ROOT / "infra/modules/functions.bicep").read_text()
    assert "'azd-env-name': environmentName" in (ROOT / "infra/main.bicep").read_text()
