"""The emulator of tests/emulator as a process."""

from __future__ import annotations

import atexit
import selectors
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.support.node import NodeMissingError, install, program

HERE = Path(__file__).resolve().parent.parent / "emulator"
START_SECONDS = 20
MODES = ("atomic", "prefix", "lagging")


@dataclass
class Emulator:
    """A running emulator; it ends with this process, even if this process is killed."""

    process: subprocess.Popen[str]
    errors: IO[str]
    port: int = 0

    @property
    def url(self) -> str:
        """The emulator's address."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """End the emulator; a second call changes nothing."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None:
                stream.close()


def start(mode: str = "atomic", *, latency_ms: float = 0, lag_ms: float = 60) -> Emulator:
    """Start an empty emulator on a free port.

    Raises:
        NodeMissingError: The emulator cannot run here.
    """
    install(HERE)
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
    raise NodeMissingError(f"NO EMULATOR: {HERE}/launcher.js did not start.\n{said}")
