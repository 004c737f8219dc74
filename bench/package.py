"""How large the deployed package is, and how long a process takes to import it: `python -m bench.package`."""

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
    """Seconds that a new process takes to import the app from a package, its dependencies included."""
    environment = {**os.environ, "PYTHONPATH": str(folder / package.DEPENDENCIES), "PYTHONDONTWRITEBYTECODE": "1"}
    return _seconds([sys.executable, "-S", "-c", "import function_app"], folder, environment)


def empty() -> float:
    """Seconds that a process takes which does nothing."""
    return _seconds([sys.executable, "-S", "-c", "pass"], Path.cwd(), dict(os.environ))


def _seconds(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return time.perf_counter() - started


def without_compiled(folder: Path, target: Path) -> Path:
    """A copy of a package as it would be had nobody compiled it."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def main() -> None:
    """The table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, zipped = Path(temporary) / "app", Path(temporary) / "events.zip"
        package.build(folder, dependencies=True)
        package.archive(folder, zipped)
        own = package.size(folder) - package.size(folder / package.DEPENDENCIES)
        print(f"{'the app itself, compiled':44} {own / 1e6:.1f} MB")
        print(f"{'with what it depends on':44} {package.size(folder) / 1e6:.1f} MB")
        print(f"{'the file that is deployed':44} {zipped.stat().st_size / 1e6:.1f} MB")
        plain = without_compiled(folder, Path(temporary) / "plain")
        rounds = [(empty(), imported(folder), imported(plain)) for _ in range(RUNS)]
    floor, compiled, uncompiled = (median(each) for each in zip(*rounds, strict=True))
    print(f"{'import function_app, compiled':44} {compiled - floor:.2f} s   (at most 0.6 s)")
    ratio = (uncompiled - floor) / (compiled - floor)
    print(f"{'import function_app, not compiled':44} {uncompiled - floor:.2f} s   ({ratio:.1f} times as long)")


if __name__ == "__main__":
    main()
