"""The time to start the service: `python -m bench.start`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median
from urllib.request import urlopen

RUNS = 7


def imported() -> float:
    """Seconds of a new process to import function_app, without those of an empty process."""
    return _run("import function_app") - _run("pass")


def responded() -> float:
    """Seconds from the start of the local host on an empty store to its first response."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "local", "serve", "--port", "0", "--data-dir", folder]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            with urlopen(f"{url}/health") as response:
                assert response.status == 200
            seconds = time.perf_counter() - started
            process.terminate()
        return seconds


def _run(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def main() -> None:
    """Print the results."""
    measures: list[tuple[str, Callable[[], float], float]] = [
        ("import function_app", imported, 0.6),
        ("start to first response, with sample data", responded, 1.5),
    ]
    for name, measure, most in measures:
        print(f"{name:44} {median(measure() for _ in range(RUNS)):.2f} s   (at most {most} s)", flush=True)


if __name__ == "__main__":
    main()
