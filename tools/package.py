"""Build the package to deploy: the compiled app, with or without its dependencies.

    python tools/package.py .package/app                    the files of the app
    python tools/package.py .package/app --dependencies     with the dependencies, as requirements-hashes.txt pins them
    python tools/package.py ... --zip .package/events.zip   and a zip file to deploy

The Python that runs this script compiles the files. At import, Python does not compare a compiled file with its source
(PEP 552, unchecked hash-based pycs), because the source in a package never changes.
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
HASHES = ROOT / "requirements-hashes.txt"
"""The dependencies with their hashes, which `make hashes` makes from requirements.txt."""
DEPENDENCIES = Path(".python_packages/lib/site-packages")
"""The folder where the Functions worker looks for dependencies of an app."""
_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The time of every file in the archive, so that the same content gives the same archive."""


def deployed(root: Path = ROOT) -> Iterator[Path]:
    """The files to deploy, relative to the root: all but those that `.funcignore` lists."""
    ignored = GitIgnoreSpec.from_lines((root / ".funcignore").read_text().splitlines())
    yield from sorted(Path(name) for name in ignored.match_tree_files(root, negate=True))


def build(folder: Path, *, dependencies: bool = False) -> None:
    """Build the package in a folder, and remove its earlier content."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in deployed():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target)
    if dependencies:
        install(folder / DEPENDENCIES)
    _compile(folder)


def install(target: Path, requirements: Path = HASHES) -> None:
    """Install packages into a folder. Pip refuses a file without the hash that is pinned for it."""
    options = ["--disable-pip-version-check", "--quiet", "--no-compile", "--only-binary", ":all:", "--require-hashes"]
    paths = ["--target", str(target), "-r", str(requirements)]
    command = [sys.executable, "-m", "pip", "install", *options, *paths]
    subprocess.run(command, check=True)  # noqa: S603 - pip, with a file of this repository


def _compile(folder: Path) -> None:
    dependencies = DEPENDENCIES.parts[0]
    sources = sorted(path for path in folder.rglob("*.py") if path.relative_to(folder).parts[0] != dependencies)
    if not all(_compile_file(path, folder, quiet=1) for path in sources):
        sys.exit("a file of the package does not compile")
    for path in (folder / dependencies).rglob("*.py"):
        _compile_file(path, folder, quiet=2)  # a library may contain a file for another Python that it never imports


def _compile_file(path: Path, folder: Path, quiet: int) -> bool:
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    return bool(compileall.compile_file(path, quiet=quiet, force=True, invalidation_mode=mode, stripdir=str(folder)))


def archive(folder: Path, path: Path) -> None:
    """Write a package to a zip file. The same content gives the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as target:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(str(file.relative_to(folder)), _EARLIEST)
            entry.external_attr = 0o644 << 16
            target.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)


def size(folder: Path) -> int:
    """The number of bytes in the files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(arguments: list[str]) -> None:
    """Build the package and print its size."""
    parser = argparse.ArgumentParser(description="Build the package to deploy.")
    parser.add_argument("folder", type=Path, help="the folder to build in")
    parser.add_argument("--dependencies", action="store_true", help="add the dependencies, pinned by hash")
    parser.add_argument("--zip", type=Path, help="the zip file to write")
    wanted = parser.parse_args(arguments)
    build(wanted.folder, dependencies=wanted.dependencies)
    print(f"{wanted.folder}: {size(wanted.folder) / 1e6:.1f} MB, Python {sys.version_info[0]}.{sys.version_info[1]}")
    if wanted.zip:
        archive(wanted.folder, wanted.zip)
        print(f"{wanted.zip}: {wanted.zip.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
