"""The package that is deployed: only what runs, compiled, and enough to serve a feed from."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from local.host import ROOT
from tests.support.served import clean_environment
from tools import package, smoke

NEVER = ("tests", "local", "infra", "docs", "tools", "bench", ".venv", ".git", ".github", "Makefile", "pyproject.toml")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package without what it depends on."""
    folder = tmp_path_factory.mktemp("package") / "app"
    package.build(folder)
    return folder


def test_the_package_is_what_runs_and_nothing_else(built: Path) -> None:
    """The triggers, the core, the host's file and what to install."""
    assert {each.name for each in built.iterdir()} - {"__pycache__"} == {
        *("LICENSE", "events_core", "function_app.py", "host.json", "requirements.txt"),
    }
    assert not any((built / name).exists() for name in NEVER)
    secrets = [each for each in built.rglob("*") if "settings" in each.name and each.suffix != ".py"]
    assert all(each.suffix == ".pyc" for each in secrets)


def test_every_file_of_the_core_is_in_it(built: Path) -> None:
    """Also those that are no Python."""
    kept = [each for each in (ROOT / "events_core").rglob("*") if each.is_file() and "__pycache__" not in each.parts]
    assert len(kept) > 100
    assert all((built / each.relative_to(ROOT)).read_bytes() == each.read_bytes() for each in kept)


def test_every_source_is_compiled_and_not_looked_at_again(built: Path) -> None:
    """PEP 552: the flags of a compiled file that is not checked against its source are 1."""
    sources = sorted(built.rglob("*.py"))
    assert len(sources) > 100
    for source in sources:
        compiled = Path(importlib.util.cache_from_source(str(source)))
        assert compiled.read_bytes()[:8] == importlib.util.MAGIC_NUMBER + b"\x01\0\0\0", source


def test_the_same_content_is_the_same_archive(built: Path, tmp_path: Path) -> None:
    """Whenever and wherever it was built, so that what was tested can be told from what was not."""
    again = tmp_path / "elsewhere" / "app"
    package.build(again)
    for folder, name in ((built, "one.zip"), (again, "other.zip")):
        package.archive(folder, tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert {"function_app.py", "host.json", "requirements.txt"} <= set(archive.namelist())


def test_every_dependency_is_pinned() -> None:
    """Those of dependencies too: what is deployed is what was tested."""
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+( ; python_version .*)?", line) for line in lines)
    pinned = {re.split(r"[=\[]", line)[0].lower().replace("_", "-") for line in lines}
    assert {each.name.lower().replace("_", "-") for each in closure(lines)} == pinned


def test_nothing_the_service_imports_is_left_out_of_its_requirements(built: Path) -> None:
    """A package of the tools of this machine may be there by chance; the requirements are what is deployed."""
    wanted = closure([each for each in (built / "requirements.txt").read_text().splitlines() if "==" in each])
    provided = {module for each in wanted for module in modules_of(each)}
    imported = {
        name.partition(".")[0]
        for path in built.rglob("*.py")
        for name in re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
    }
    ours = {"events_core", "function_app"}
    assert imported - ours - provided - {*sys.stdlib_module_names} == set()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_feed_is_served_from_the_package_alone(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a virtual environment made from its requirements; the local host comes from here, with what only it needs."""
    python = environment_from(built / "requirements.txt", tmp_path / "venv")
    where = subprocess.run(
        [python, "-c", "import function_app, events_core; print(function_app.__file__, events_core.__path__[0])"],
        cwd=built,
        env=clean_environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    assert [Path(each).parent for each in where.stdout.split()] == [built, built]
    host = Host(built, python, host_alone(tmp_path / "host"), tmp_path / "data")
    with host.served() as url:
        monkeypatch.setenv("SMOKE_TOKEN", host.token("--org", "ttd", "--scope", "altinn:events/ttd"))
        monkeypatch.setenv("SMOKE_PLATFORM_TOKEN", host.token("--platform", "ttd/apps-test"))
        assert smoke.main([url, "--publish"]) == 0, capsys.readouterr().out


# -- What it takes ----------------------------------------------------------------------------------------------------


def environment_from(requirements: Path, folder: Path) -> str:
    """A virtual environment with what a file pins and nothing else; its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin/python")
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", requirements], check=True
    )
    return python


def closure(requirements: list[str]) -> list[Distribution]:
    """What requirements install, and what those require in turn."""
    found: dict[str, Distribution] = {}
    left = [Requirement(each) for each in requirements]
    while left:
        wanted = left.pop()
        name = wanted.name.lower().replace("_", "-")
        extras = {"", *wanted.extras}
        if wanted.marker is not None and not any(wanted.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        if name not in found:
            found[name] = distribution(wanted.name)
            needed = [Requirement(each) for each in found[name].requires or ()]
            left += [
                each
                for each in needed
                if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras)
            ]
    return list(found.values())


def modules_of(installed: Distribution) -> set[str]:
    """The top-level modules of what is installed."""
    names = {each.parts[0] for each in installed.files or () if not each.parts[0].endswith((".dist-info", ".."))}
    return {name.partition(".")[0] for name in names if name not in ("__pycache__", "..")}


def host_alone(folder: Path) -> Path:
    """A folder with the local host and what it needs beyond the app's own requirements, by links."""
    folder.mkdir()
    lines = {name: (ROOT / name).read_text().splitlines() for name in ("requirements.txt", "requirements-local.txt")}
    pinned = {name: [each for each in some if "==" in each] for name, some in lines.items()}
    theirs = {each.name for each in closure(pinned["requirements.txt"])}
    # Of the azure packages one would bring the others along; the queue of a storage account is not used here.
    extra = closure([each for each in pinned["requirements-local.txt"] if not each.startswith("azure-")])
    for each in (each for each in extra if each.name not in theirs):
        site = Path(str(each.locate_file("")))
        for path in (found for module in modules_of(each) for found in site.glob(f"{module}*")):
            if path.suffix != ".dist-info" and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
    (folder / "local").symlink_to(ROOT / "local")
    return folder


@dataclass(frozen=True)
class Host:
    """The local host on the app of a folder, run by a Python of its own choice."""

    app: Path
    python: str
    host: Path
    data: Path

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command of the local host."""
        environment = {**clean_environment(), "PYTHONPATH": str(self.host), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [self.python, "-m", "local", *words, "--data-dir", str(self.data)]
        return subprocess.Popen(command, cwd=self.app, env=environment, stdout=subprocess.PIPE, text=True)

    def token(self, *words: str) -> str:
        """A token that the host trusts."""
        with self.start("token", *words) as process:
            printed, _ = process.communicate(timeout=60)
        return printed.strip()

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve; the URL."""
        with self.start("serve", "--port", "0", "--no-sample-data") as process:
            try:
                assert process.stdout is not None
                yield process.stdout.readline().removeprefix("listening on ").strip()
            finally:
                process.terminate()
                process.communicate(timeout=20)
