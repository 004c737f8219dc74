"""The size of the deployed package, and the time to import it: `python -m bench.package`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tools import package

RUNS = 9


def imported(folder: Path) -> float:
    """Seconds of a new process to import the app from a package with dependencies."""
    environment = {**os.environ, "PYTHONPATH": str(folder / package.DEPENDENCIES), "PYTHONDONTWRITEBYTECODE": "1"}
    return _seconds([sys.executable, "-S", "-c", "import function_app"], folder, environment)


def empty() -> float:
    """Seconds of a process that does nothing."""
    return _seconds([sys.executable, "-S", "-c", "pass"], Path.cwd(), dict(os.environ))


def _seconds(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return time.perf_counter() - started


def without_compiled(folder: Path, target: Path) -> Path:
    """A copy of a package without compiled files."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def main() -> None:
    """Print the results."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, zipped = Path(temporary) / "app", Path(temporary) / "events.zip"
        package.build(folder, dependencies=True)
        package.archive(folder, zipped)
        own = package.size(folder) - package.size(folder / package.DEPENDENCIES)
        print(f"{'the app, compiled':44} {own / 1e6:.1f} MB")
        print(f"{'with its dependencies':44} {package.size(folder) / 1e6:.1f} MB")
        print(f"{'the zip file to deploy':44} {zipped.stat().st_size / 1e6:.1f} MB")
        plain = without_compiled(folder, Path(temporary) / "plain")
        rounds = [(empty(), imported(folder), imported(plain)) for _ in range(RUNS)]
    floor, compiled, uncompiled = map(median, zip(*rounds, strict=True))
    print(f"{'import function_app, compiled':44} {compiled - floor:.2f} s   (at most 0.6 s)")
    ratio = (uncompiled - floor) / (compiled - floor)
    print(f"{'import function_app, not compiled':44} {uncompiled - floor:.2f} s   ({ratio:.1f} times as long)")


if __name__ == "__main__":
    main()
