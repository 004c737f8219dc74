"""Azurite, the emulator of Azure Storage, as a queue service."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.node import install, program

HERE = Path(__file__).resolve().parent.parent / "azurite"
MAIN = HERE / "node_modules/azurite/dist/src/queue/main.js"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
OPTIONS = ["--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry", "--queuePort", "0"]


OTHER_STORAGE = "EVENTS_TEST_STORAGE"
"""The setting with the connection string of another queue service to test on, like the official image."""


@contextmanager
def azurite() -> Iterator[str]:
    """Run Azurite on a free port; yields the connection string of an account without queues.

    A service that the environment names may hold queues of earlier tests.
    """
    if other := os.environ.get(OTHER_STORAGE):
        yield other
        return
    install(HERE)
    command = [program("node"), str(MAIN), *OPTIONS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield f"AccountName=devstoreaccount1;AccountKey={KEY};QueueEndpoint={_endpoint(process)}/devstoreaccount1;"
        finally:
            process.kill()


def _endpoint(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if listens := re.search(r"listens on (http://\S+)", line):
            return listens[1]
    raise AssertionError(f"Azurite did not start.\n{said}")
