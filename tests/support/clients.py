"""Programs that generate and check clients: of npm by tests/clients/, of PyPI by requirements-clients.txt."""

from __future__ import annotations

import os
import subprocess
import sys
from asyncio.subprocess import Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.documents import ROOT
from tests.support.node import install, program

HERE = ROOT / "tests" / "clients"
DOCUMENT = ROOT / "events_core" / "http" / "static" / "openapi.json"
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
"""Settings with which the linter asks nothing of the network."""

_PACKAGES = Path(sys.prefix) / "clients"
_MAIN = {
    "openapi-typescript": "openapi-typescript/bin/cli.js",
    "redocly": "@redocly/cli/bin/cli.js",
    "tsc": "typescript/bin/tsc",
}


def run_node(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of tests/clients/package.json."""
    install(HERE)
    return _run([program("node"), str(HERE / "node_modules" / _MAIN[name]), *words], QUIET)


@asynccontextmanager
async def webhook_receiver(*words: str) -> AsyncIterator[Process]:
    """Run tests/clients/receiver.js, whose input and output say what it gets."""
    install(HERE)
    process = await create_subprocess_exec(
        program("node"), str(HERE / "receiver.js"), *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()


def run_python(*words: str, beside: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with the packages of requirements-clients.txt first and those of a folder next."""
    assert _PACKAGES.is_dir(), "NO GENERATOR: `make install` installs it (requirements-clients.txt)."
    return _run([sys.executable, *words], {"PYTHONPATH": os.pathsep.join([str(_PACKAGES), str(beside)])})


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=100, check=False
    )
