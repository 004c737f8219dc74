"""Build the package that is deployed: only what runs, compiled, with or without what it depends on.

    python tools/package.py .package/app                    the app's own files
    python tools/package.py .package/app --dependencies     and what requirements.txt pins, installed beside them
    python tools/package.py ... --zip .package/events.zip   and all of it in a file to deploy

Compiled files are of the Python that runs this; they are checked against nothing at import, since no source changes
after this (PEP 552, unchecked hash-based pycs).
"""

from __future__ import annotations

import argparse
import compileall
import py_compile
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pathspec import GitIgnoreSpec

ROOT = Path(__file__).resolve().parent.parent
DEPENDENCIES = Path(".python_packages/lib/site-packages")
"""Where the Functions worker looks for what an app brings along."""
_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The moment of every file in the archive, so that the same content is the same archive."""


def deployed(root: Path = ROOT) -> Iterator[Path]:
    """The files that are deployed, relative to the root: whatever `.funcignore` does not leave out."""
    ignored = GitIgnoreSpec.from_lines((root / ".funcignore").read_text().splitlines())
    yield from sorted(Path(name) for name in ignored.match_tree_files(root, negate=True))


def build(folder: Path, *, dependencies: bool = False) -> None:
    """Build the package in a folder, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in deployed():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target)
    if dependencies:
        _install(folder / DEPENDENCIES)
    _compile(folder)


def _install(target: Path) -> None:
    options = ["--disable-pip-version-check", "--quiet", "--no-compile", "--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", target, "-r", ROOT / "requirements.txt"]
    subprocess.run([str(each) for each in command], check=True)  # noqa: S603 - pip, on a file of ours


def _compile(folder: Path) -> None:
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    # A library may bring along what is no Python of this version, and never imports it.
    own = [each for each in folder.iterdir() if each.name != DEPENDENCIES.parts[0]]
    if not all(_compile_one(each, mode) for each in own):
        sys.exit("a file of the package does not compile")
    compileall.compile_dir(folder / DEPENDENCIES, quiet=2, force=True, invalidation_mode=mode, stripdir=str(folder))


def _compile_one(path: Path, mode: py_compile.PycInvalidationMode) -> bool:
    if path.is_dir():
        return bool(
            compileall.compile_dir(path, quiet=1, force=True, invalidation_mode=mode, stripdir=str(path.parent))
        )
    if path.suffix == ".py":
        return bool(
            compileall.compile_file(path, quiet=1, force=True, invalidation_mode=mode, stripdir=str(path.parent))
        )
    return True


def archive(folder: Path, path: Path) -> None:
    """Put a package into a file; packages of the same content are the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as target:
        for each in sorted(each for each in folder.rglob("*") if each.is_file()):
            entry = zipfile.ZipInfo(str(each.relative_to(folder)), _EARLIEST)
            entry.external_attr = 0o644 << 16
            target.writestr(entry, each.read_bytes(), zipfile.ZIP_DEFLATED)


def size(folder: Path) -> int:
    """How many bytes the files of a folder have."""
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


def main(arguments: list[str]) -> None:
    """Build what the arguments say, and print its size."""
    parser = argparse.ArgumentParser(description="Build the package that is deployed.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dependencies", action="store_true", help="install what requirements.txt pins beside the app")
    parser.add_argument("--zip", type=Path, help="the file to put it into")
    wanted = parser.parse_args(arguments)
    build(wanted.folder, dependencies=wanted.dependencies)
    print(f"{wanted.folder}: {size(wanted.folder) / 1e6:.1f} MB, Python {sys.version_info[0]}.{sys.version_info[1]}")
    if wanted.zip:
        archive(wanted.folder, wanted.zip)
        print(f"{wanted.zip}: {wanted.zip.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
