"""The house: imports point one way by folder, and files and functions stay small (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "events_core"
SOURCES = sorted([*CORE.rglob("*.py"), *ROOT.glob("local/**/*.py"), ROOT / "function_app.py"])

MAY_IMPORT = {
    "common": set(),
    "settings": set(),
    "cloudevent": {"common"},
    "access": {"common"},
    "feeds": {"common", "cloudevent", "access"},
    "delivery": {"common", "cloudevent", "access", "feeds"},
    "operations": {"common", "cloudevent", "access", "feeds", "delivery", "settings"},
    "http": {"common", "cloudevent", "access", "feeds", "delivery", "operations", "settings"},
    "adapters": {"common", "cloudevent", "access", "feeds", "delivery", "operations"},
    "compose": {"common", "cloudevent", "access", "feeds", "delivery", "operations", "settings", "adapters"},
    "app": {"common", "operations", "settings", "adapters", "compose"},
}
"""Each area of `events_core`, and the areas that it may import besides itself."""

ONLY_IN = {
    "azure.functions": ("http",),
    "azure.cosmos": ("adapters/cosmos",),
    "azure.core": ("adapters",),
    "azure.storage": ("adapters",),
    "msal": ("adapters",),
    "aiohttp": ("adapters",),
    "httptools": ("adapters",),
    "sqlite3": ("adapters/sqlite",),
    "jwt": ("adapters/tokens",),
    "opentelemetry": ("adapters",),
    "starlette": (),
    "uvicorn": (),
    "typer": (),
}
"""Frameworks, and the folders of `events_core` that may import them."""


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """The line and the name of every import in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def inside(path: Path) -> str:
    """A file's path below `events_core`."""
    return path.relative_to(CORE).as_posix()


def area_of(path: Path) -> str:
    """The area of `events_core` that a file belongs to."""
    return inside(path).partition("/")[0].removesuffix(".py")


def test_areas_are_the_documented_ones() -> None:
    """A new folder or file at the top of `events_core` must get its rank in the order of imports."""
    assert {area_of(path) for path in CORE.rglob("*.py")} == {*MAY_IMPORT, "__init__"}


def test_imports_point_one_way() -> None:
    """An area imports only those below it."""
    wrong = [
        f"{inside(path)}:{line} imports {name}"
        for path in CORE.rglob("*.py")
        for line, name in imported(path)
        if name.startswith("events_core.")
        and name.split(".")[1] not in MAY_IMPORT.get(area_of(path), set()) | {area_of(path)}
    ]
    assert wrong == []


def test_frameworks_stay_in_their_folders() -> None:
    """`azure.functions` appears in http only, Azure's SDKs and other drivers in adapters only."""
    wrong = [
        f"{inside(path)}:{line} imports {name}"
        for path in CORE.rglob("*.py")
        for line, name in imported(path)
        for framework, folders in ONLY_IN.items()
        if f"{name}.".startswith(f"{framework}.") and not inside(path).startswith(folders or "/")
    ]
    assert wrong == []


def test_nothing_deployed_imports_the_local_host() -> None:
    """`local` is not deployed."""
    deployed = [*CORE.rglob("*.py"), ROOT / "function_app.py"]
    assert [str(path) for path in deployed for _, name in imported(path) if f"{name}.".startswith("local.")] == []


def test_files_stay_readable() -> None:
    """A file has at most 400 lines."""
    assert [str(path) for path in SOURCES if len(path.read_text().splitlines()) > 400] == []


def test_functions_stay_small() -> None:
    """A function has at most 60 lines."""
    large = [
        f"{path}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno >= 60
    ]
    assert large == []
