"""The targets of the Makefile."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)


def make(*arguments: str, directory: Path = ROOT, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    """Run make. It inherits no variable from a make that runs these tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")} | {"PATH": path}
    return subprocess.run(
        [shutil.which("make") or "make", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_without_a_target_prints_help() -> None:
    """The help lists every target with a description."""
    shown = make().stdout
    assert [line.split()[1] for line in shown.splitlines()] == TARGETS
    assert {"run", "test", "check", "bench", "clean"} < set(TARGETS)


def test_continuous_integration_runs_make_test() -> None:
    """A developer runs the same."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()


@pytest.mark.parametrize(
    ("version", "is_recent"),
    [("22.1.0", True), ("20.19.0", True), ("20.18.9", False), ("18.20.2", False), (None, False)],
)
def test_node_is_installed_unless_the_machine_has_a_recent_one(
    tmp_path: Path, version: str | None, *, is_recent: bool
) -> None:
    """`make test` needs no other set-up; `requirements-node.txt` goes into the virtual environment."""
    node, database = shutil.which("node") or "", make("-pn", "test").stdout
    condition = re.search(r"^NODE_IS_RECENT := (.*)$", database, re.MULTILINE)
    assert condition is not None
    if version is not None:
        (tmp_path / "npm").write_text("#!/bin/bash\n")
        (tmp_path / "node").write_text(
            f"#!/bin/bash\nexec {node} -e \"Object.defineProperty(process.versions, 'node', "
            f"{{value: '{version}'}}); $2\"\n"
        )
        for name in ("npm", "node"):
            (tmp_path / name).chmod(0o755)
    ended = subprocess.run(
        ["/bin/bash", "-c", condition[1]], env={"PATH": str(tmp_path)}, capture_output=True, check=False
    )
    assert (ended.returncode == 0) == is_recent
    assert "$(NODE_IS_RECENT) ||" in (ROOT / "Makefile").read_text()
    assert "requirements-node.txt" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("target", ["run", "test"])
def test_an_older_python_is_refused_with_one_line(tmp_path: Path, target: str) -> None:
    """Nothing is installed."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for requirements in ROOT.glob("requirements*.txt"):
        (tmp_path / requirements.name).touch()
    old = tmp_path / "bin" / "python3"
    old.parent.mkdir()
    old.write_text('#!/bin/bash\n[ "$1" = --version ] && echo Python 3.9.2 || exit 1\n')
    old.chmod(0o755)
    for name in ("python3.11", "python3.12", "python3.13"):
        (old.parent / name).symlink_to(old)
    ended = make(target, directory=tmp_path, path=f"{old.parent}:/usr/bin:/bin")
    assert ended.returncode != 0
    assert "Python 3.11 or later with venv is needed; python3 here is: Python 3.9.2" in ended.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_package_for_another_python_is_not_built() -> None:
    """The deployed Python could not use its compiled files."""
    refused = make("package", "FOR=3.99", "--old-file=.venv/.test")  # a test installs nothing
    assert refused.returncode != 0
    assert re.search(r"this is Python 3\.\d+, not 3\.99", refused.stderr)


def test_from_chooses_the_python(tmp_path: Path) -> None:
    """`FROM` comes before the default names."""
    chosen = tmp_path / "python-of-ours"
    chosen.write_text(
        f'#!/bin/bash\nif [ "$1" = -m ]; then echo "chosen: $*"; exit 0; fi\nexec {sys.executable} "$@"\n'
    )
    chosen.chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    made = make(".venv/bin/python", f"FROM={chosen}", directory=tmp_path)
    assert made.stdout.splitlines()[-1] == "chosen: -m venv .venv"
