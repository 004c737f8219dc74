"""The deployed package holds exactly what runs, compiled, and serves a feed by itself."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
    """The package without its dependencies."""
    folder = tmp_path_factory.mktemp("package") / "app"
    package.build(folder)
    return folder


def test_the_package_holds_only_the_app(built: Path) -> None:
    """No tests, tools, templates or settings are deployed."""
    assert {path.name for path in built.iterdir()} - {"__pycache__"} == {
        *("LICENSE", "events_core", "function_app.py", "host.json", "requirements.txt"),
    }
    assert not any((built / name).exists() for name in NEVER)
    secrets = [path for path in built.rglob("*") if "settings" in path.name and path.suffix != ".py"]
    assert all(path.suffix == ".pyc" for path in secrets)


def test_the_package_holds_every_file_of_the_core(built: Path) -> None:
    """Static files are packaged as well as Python."""
    kept = [path for path in (ROOT / "events_core").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(kept) > 100
    assert all((built / path.relative_to(ROOT)).read_bytes() == path.read_bytes() for path in kept)


def test_every_source_is_compiled_for_good(built: Path) -> None:
    """By the flag of PEP 552, Python does not check a compiled file against its source, so it starts faster."""
    compiled = {source: Path(importlib.util.cache_from_source(str(source))) for source in built.rglob("*.py")}
    assert len(compiled) > 100
    header = importlib.util.MAGIC_NUMBER + b"\x01\0\0\0"
    assert [source for source, path in compiled.items() if path.read_bytes()[:8] != header] == []


def test_the_same_content_makes_the_same_archive(built: Path, tmp_path: Path) -> None:
    """Time and place of the build leave no trace, so a hash identifies a tested package."""
    again = tmp_path / "elsewhere" / "app"
    package.build(again)
    for folder, name in ((built, "one.zip"), (again, "other.zip")):
        package.archive(folder, tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert {"function_app.py", "host.json", "requirements.txt"} <= set(archive.namelist())


def test_every_dependency_is_pinned() -> None:
    """So is every dependency of a dependency: the deployed versions are the tested ones."""
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+( ; python_version .*)?", line) for line in lines)
    pinned = {re.split(r"[=\[]", line)[0].lower().replace("_", "-") for line in lines}
    assert {installed.name.lower().replace("_", "-") for installed in closure(lines)} == pinned


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_hashes_are_of_the_pinned_versions(version: str) -> None:
    """On each Python, the file of hashes names what requirements.txt pins, each with a hash: else run `make hashes`."""
    pinned, hashed = (versions_on(version, ROOT / name) for name in ("requirements.txt", "requirements-hashes.txt"))
    assert hashed == pinned
    lines = package.HASHES.read_text().replace("\\\n", "").splitlines()
    assert all("--hash=sha256:" in line for line in lines if "==" in line)


@pytest.mark.parametrize("changed", [False, True])
def test_a_dependency_with_other_content_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, changed: bool
) -> None:
    """A registry that serves another file under the same version ends the build."""
    wheel = tmp_path / "sample-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("sample.py", "")
        file.writestr("sample-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n")
        file.writestr("sample-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("sample-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes() + b"!" * changed).hexdigest()
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"sample==1.0 --hash=sha256:{digest}\n")
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(tmp_path))):
        monkeypatch.setenv(name, value)
    with pytest.raises(subprocess.CalledProcessError) if changed else nullcontext():
        package.install(tmp_path / "installed", requirements)
    assert (tmp_path / "installed" / "sample.py").exists() is not changed


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_registry_serves_the_pinned_files(tmp_path: Path) -> None:
    """Pip finds a wheel with a pinned hash for each dependency, on the Python of this test."""
    options = ["--quiet", "--require-hashes", "--only-binary", ":all:", "--dest", str(tmp_path)]
    command = [sys.executable, "-m", "pip", "download", *options, "--requirement", str(package.HASHES)]
    subprocess.run(command, check=True)
    here = ".".join(map(str, sys.version_info[:2]))
    assert len(list(tmp_path.iterdir())) == len(versions_on(here, package.HASHES))


def test_every_import_is_in_the_requirements(built: Path) -> None:
    """A package that only tools or tests need is installed here, and not in the deployment."""
    wanted = closure([line for line in (built / "requirements.txt").read_text().splitlines() if "==" in line])
    provided = {module for installed in wanted for module in modules_of(installed)}
    imported = {
        name.partition(".")[0]
        for path in built.rglob("*.py")
        for name in re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
    }
    ours = {"events_core", "function_app"}
    assert imported - ours - provided - {*sys.stdlib_module_names} == set()


def test_a_feed_is_served_from_the_package_alone(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its environment holds the pinned requirements only; the local host brings its own dependencies."""
    python = environment_from(built / "requirements.txt", tmp_path / "venv")
    where = subprocess.run(
        [python, "-c", "import function_app, events_core; print(function_app.__file__, events_core.__path__[0])"],
        cwd=built,
        env=clean_environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    assert [Path(path).parent for path in where.stdout.split()] == [built, built]
    host = Host(built, python, host_alone(tmp_path / "host"), tmp_path / "data")
    with host.served() as url:
        monkeypatch.setenv("SMOKE_TOKEN", host.token("--org", "ttd", "--scope", "altinn:events/ttd"))
        monkeypatch.setenv("SMOKE_PLATFORM_TOKEN", host.token("--platform", "ttd/apps-test"))
        assert smoke.main([url, "--publish"]) == 0, capsys.readouterr().out


# -- Environments -----------------------------------------------------------------------------------------------------


def environment_from(requirements: Path, folder: Path) -> str:
    """Make a virtual environment of links to the installed packages that a file pins; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for installed in closure([line for line in requirements.read_text().splitlines() if "==" in line]):
        for file in installed.files or ():
            source = Path(file.locate())
            if ".." not in file.parts and source.exists():
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                (site / file).symlink_to(source)
    return str(folder / "bin/python")


def closure(requirements: list[str]) -> list[Distribution]:
    """The installed packages that requirements need, and those that these need in turn."""
    found: dict[str, Distribution] = {}
    left = [Requirement(requirement) for requirement in requirements]
    while left:
        wanted = left.pop()
        name = wanted.name.lower().replace("_", "-")
        extras = {"", *wanted.extras}
        if wanted.marker is not None and not any(wanted.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        if name not in found:
            found[name] = distribution(wanted.name)
            needed = [Requirement(requirement) for requirement in found[name].requires or ()]
            left += [
                requirement
                for requirement in needed
                if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)
            ]
    return list(found.values())


def versions_on(python: str, requirements: Path) -> dict[str, str]:
    """The versions that a file pins on a Python, by name."""
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    wanted = [line.partition(" \\")[0] for line in requirements.read_text().splitlines() if "==" in line]
    return {
        pinned.name.lower().replace("_", "-"): str(pinned.specifier)
        for pinned in map(Requirement, wanted)
        if pinned.marker is None or pinned.marker.evaluate(environment)
    }


def modules_of(installed: Distribution) -> set[str]:
    """The top-level modules of an installed package."""
    names = {file.parts[0] for file in installed.files or () if not file.parts[0].endswith((".dist-info", ".."))}
    return {name.partition(".")[0] for name in names if name not in ("__pycache__", "..")}


def host_alone(folder: Path) -> Path:
    """A folder with links to the local host and to its dependencies that the app does not have."""
    folder.mkdir()
    lines = {name: (ROOT / name).read_text().splitlines() for name in ("requirements.txt", "requirements-local.txt")}
    pinned = {name: [line for line in some if "==" in line] for name, some in lines.items()}
    theirs = {installed.name for installed in closure(pinned["requirements.txt"])}
    # The azure packages share one folder, so a link would bring all of them; this test needs no storage queue.
    extra = closure([line for line in pinned["requirements-local.txt"] if not line.startswith("azure-")])
    for installed in (library for library in extra if library.name not in theirs):
        site = Path(str(installed.locate_file("")))
        for path in (found for module in modules_of(installed) for found in site.glob(f"{module}*")):
            if path.suffix != ".dist-info" and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
    (folder / "local").symlink_to(ROOT / "local")
    return folder


@dataclass(frozen=True)
class Host:
    """The local host on the app in a folder, run by a given Python."""

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
        """Make a token that the host trusts."""
        with self.start("token", *words) as process:
            printed, _ = process.communicate(timeout=60)
        return printed.strip()

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve until the block ends; yields the URL."""
        with self.start("serve", "--port", "0", "--no-sample-data") as process:
            try:
                assert process.stdout is not None
                yield process.stdout.readline().removeprefix("listening on ").strip()
            finally:
                process.terminate()
                process.communicate(timeout=20)
