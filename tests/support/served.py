"""The service as `python -m local serve` runs it: a process of its own, on a free port and a new store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.documents import ROOT


@dataclass(frozen=True)
class Served:
    """A running service: its URL, and its data directory `.data` in a directory of its own."""

    url: str
    data_dir: Path

    def run(self, *words: str, stdin: str = "") -> str:
        """Run Python with these arguments beside the data directory; return the output.

        Raises:
            subprocess.CalledProcessError: the command failed.
        """
        environment = {**clean_environment(), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, *words]
        return subprocess.run(
            command, cwd=self.data_dir.parent, env=environment, input=stdin, text=True, check=True, capture_output=True
        ).stdout


def clean_environment() -> dict[str, str]:
    """This process's environment without settings of the service."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("EVENTS_", "AZURE_FUNCTIONS_"))}


@contextmanager
def served(directory: Path, **settings: str) -> Iterator[Served]:
    """Run the local host until the block ends, without sample data; `settings` are environment variables."""
    data_dir = directory / ".data"
    options = ["--port", "0", "--no-sample-data", "--data-dir", str(data_dir)]
    command = [sys.executable, "-m", "local", "serve", *options]
    with subprocess.Popen(
        command, cwd=ROOT, env={**clean_environment(), **settings}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            yield Served(first.removeprefix("listening on ").strip(), data_dir)
        finally:
            process.terminate()
            process.communicate(timeout=20)
