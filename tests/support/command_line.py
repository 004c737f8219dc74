"""The command line as a user runs it: `python -m local` in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


_OURS = ("EVENTS_", "AZURE_FUNCTIONS_")
_PYTHON = ("PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE")


def environment(**settings: str) -> dict[str, str]:
    """This process's environment with these settings of the service alone."""
    kept = {name: value for name, value in os.environ.items() if name not in _PYTHON and not name.startswith(_OURS)}
    return {**kept, **settings}


def run(*arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", "local", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment(**settings), capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def started(*arguments: str | Path, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command; it is killed when the context ends, and after a minute."""
    command = [sys.executable, "-m", "local", *map(str, arguments)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_interruptible,  # noqa: PLW1509 - one call, and no lock
    ) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()


def _interruptible() -> None:
    """Let Ctrl-C through: tests that run in the background ignore it, and so would the command."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that a command prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    return line.rstrip("\n")


@dataclass(frozen=True)
class Served:
    """A running `local serve`: its URL, data directory and process."""

    url: str
    data_dir: Path
    process: subprocess.Popen[str]

    def command(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command against this service."""
        return run(*arguments, "--url", self.url, "--data-dir", self.data_dir)

    def token(self, *arguments: str) -> str:
        """A token of its issuer."""
        printed = run("token", *arguments, "--data-dir", self.data_dir)
        assert printed.returncode == 0, printed.stderr
        return printed.stdout.strip()

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Stop the service; return its exit status."""
        self.process.send_signal(signal_number)
        self.process.communicate(timeout=10)
        return self.process.returncode


@contextmanager
def served(data_dir: Path, *arguments: str, **settings: str) -> Iterator[Served]:
    """Run `local serve` on a free port; yields once it listens."""
    with started("serve", "--port", "0", "--data-dir", data_dir, *arguments, **settings) as process:
        url = line_of(process).removeprefix("listening on ")
        yield Served(url, data_dir, process)
