"""The house: imports point one way, and each line knows its room (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VALUES = {
    *(
        "altinn",
        "cloudevent",
        "delivery",
        "endpoint",
        "errors",
        "feed",
        "gauges",
        "identity",
        "rfc",
        "subscription",
        "trace",
    ),
    *("subscription_rules", "webhook", "xacml", "xacml_response"),
}
USE_CASES = {
    *("answers", "authorization", "delivery_ports", "follow_up", "ports", "publish", "read_feed", "wakeups"),
    *("attempt", "bell", "deliver", "directory", "fan_out", "measure", "replay", "subscribe", "trace_event", "turns"),
    "validate_endpoint",
}
FRAMEWORKS = {"azure", "aiohttp", "sqlite3", "pydantic", "jwt", "msal", "starlette", "uvicorn", "typer"}
SOURCES = sorted([*ROOT.glob("events_core/**/*.py"), *ROOT.glob("local/**/*.py"), ROOT / "function_app.py"])


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms(path: Path) -> set[str]:
    """The rooms of events_core that a file imports from."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("events_core.")}


def room_of(path: Path) -> str:
    """The room of events_core that a file stands in."""
    return path.relative_to(ROOT / "events_core").parts[0].removesuffix(".py")


CORE = [path for path in SOURCES if path.is_relative_to(ROOT / "events_core")]


@pytest.mark.parametrize("path", [p for p in CORE if room_of(p) in VALUES], ids=str)
def test_values_import_values_only(path: Path) -> None:
    """A value knows other values, and no framework."""
    assert rooms(path) <= VALUES | {room_of(path)}
    assert not {name.split(".")[0] for name in imported(path)} & FRAMEWORKS


@pytest.mark.parametrize("path", [p for p in CORE if room_of(p) in USE_CASES], ids=str)
def test_use_cases_import_values_and_ports_only(path: Path) -> None:
    """A use case knows values, ports and other use cases, and no framework."""
    assert rooms(path) <= VALUES | USE_CASES
    assert not {name.split(".")[0] for name in imported(path)} & FRAMEWORKS


@pytest.mark.parametrize("path", [p for p in CORE if room_of(p) == "adapters"], ids=str)
def test_adapters_do_not_know_http_or_the_composition_root(path: Path) -> None:
    """An adapter knows values, ports, and its own technology."""
    assert rooms(path) <= VALUES | {"ports", "delivery_ports", "answers", "adapters"}


@pytest.mark.parametrize("path", [p for p in CORE if room_of(p) == "http"], ids=str)
def test_http_knows_no_adapter(path: Path) -> None:
    """HTTP reaches the world through ports."""
    assert "adapters" not in rooms(path)


@pytest.mark.parametrize("path", CORE, ids=str)
def test_only_the_composition_root_imports_adapters(path: Path) -> None:
    """Adapters are chosen in one place."""
    assert "adapters" not in rooms(path) or room_of(path) in {"app", "adapters"}


@pytest.mark.parametrize("path", CORE, ids=str)
def test_nothing_in_the_core_imports_the_local_host(path: Path) -> None:
    """The local host is not deployed."""
    assert not any(name == "local" or name.startswith("local.") for name in imported(path))


@pytest.mark.parametrize("path", CORE, ids=str)
def test_azure_functions_stays_at_the_edge(path: Path) -> None:
    """`azure.functions` appears in function_app.py, events_core/http and the local host only."""
    assert room_of(path) == "http" or not any(name.startswith("azure.functions") for name in imported(path))


def test_every_room_is_known() -> None:
    """A new module of events_core is put into a room on purpose."""
    known = VALUES | USE_CASES | {"adapters", "http", "app", "background", "settings", "__init__"}
    assert {room_of(path) for path in CORE} <= known


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_files_stay_readable(path: Path) -> None:
    """A file has at most 400 lines."""
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_functions_stay_small(path: Path) -> None:
    """A function has at most 60 lines."""
    functions = (
        n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert [n.name for n in functions if (n.end_lineno or n.lineno) - n.lineno >= 60] == []
