"""The rules of the Functions host and its Python worker, where breaking one would show in Azure alone."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
import textwrap
import tomllib
from typing import Any

import azure.functions as func
import pytest

import function_app
from events_core.common.clock import SECOND
from events_core.delivery.delivery import Lane
from events_core.delivery.turn import lease_length
from events_core.delivery.worker import TURN
from events_core.feeds.follow_up import ROUND_SECONDS
from events_core.http.request import Request
from events_core.settings import Settings
from local.host import ROOT, functions_of

FUNCTIONS = {function.name: function for function in functions_of(function_app.app)}
HOST = json.loads((ROOT / "host.json").read_text())
SAMPLE = json.loads((ROOT / "local.settings.sample.json").read_text())["Values"]
MAIN_BICEP = (ROOT / "infra/main.bicep").read_text()
FUNCTIONS_BICEP = (ROOT / "infra/modules/functions.bicep").read_text()

# -- At import --------------------------------------------------------------------------------------------------------

_AT_IMPORT = """
import json, sys, threading
seen = []
quiet = {"os.listdir", "os.scandir"}
def hook(name, arguments):
    if name == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        seen.append(f"open {arguments[0]}")
    elif name.partition(".")[0] in ("socket", "subprocess", "sqlite3", "shutil", "tempfile", "asyncio", "os"):
        if name not in quiet:
            seen.append(name)
sys.addaudithook(hook)
import function_app
print(json.dumps({"seen": seen, "threads": threading.active_count(), "modules": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, Any]:
    """What a new process did while it imported function_app."""
    printed = subprocess.run(
        [sys.executable, "-c", _AT_IMPORT], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    found: dict[str, Any] = json.loads(printed)
    return found


def test_importing_the_app_does_no_work(imported: dict[str, Any]) -> None:
    """No socket, process, database, file that is written, or thread: the host imports it to index it, too."""
    assert imported["seen"] == []
    assert imported["threads"] == 1


@pytest.mark.parametrize(
    "module", ["azure.cosmos", "azure.storage", "aiohttp", "msal", "pydantic", "sqlite3", "jwt", "opentelemetry"]
)
def test_what_costs_a_cold_start_waits_for_the_first_request(imported: dict[str, Any], module: str) -> None:
    """And what is not configured is never imported."""
    assert module not in imported["modules"]


# -- Requests ---------------------------------------------------------------------------------------------------------


def test_each_value_of_a_repeated_parameter_counts() -> None:
    """The host's own map keeps one of them and drops empty ones; the URL has all."""
    url = "https://events.example/events/api/v1/app/ttd/apps-test?type=a&type=b&from="
    raw = func.HttpRequest("GET", url, headers={}, params={"type": "b"}, route_params={}, body=b"")
    assert Request(raw, None).query == [("type", "a"), ("type", "b"), ("from", "")]


def test_nobody_asks_the_map_of_the_host() -> None:
    """Neither for the query, nor for a body as JSON or form, which it reads in its own way."""
    for path in (ROOT / "events_core").rglob("*.py"):
        assert not re.search(r"\.params\b(?!\()|\.get_json\(|\.form\b", path.read_text()), path


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_a_coroutine(name: str) -> None:
    """All of them share one event loop, with one client of each neighbour; none waits for a thread of the pool."""
    assert inspect.iscoroutinefunction(FUNCTIONS[name].user_function)


def test_blocking_calls_in_coroutines_are_looked_for() -> None:
    """By the linter, in all that is deployed; a blocking call would stall every request of the process."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert lint["select"] == ["ALL"]
    ignored = [
        *lint["ignore"],
        *(rule for name, rules in lint["per-file-ignores"].items() if "**" in name for rule in rules),
    ]
    assert not any(rule.startswith("ASYNC") for rule in ignored)
    for path in (ROOT / "events_core").rglob("*.py"):
        assert "noqa: ASYNC" not in path.read_text(), path


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_trigger_is_one_call(name: str) -> None:
    """Nothing is decided in function_app.py: what is there no test of the core sees."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(FUNCTIONS[name].user_function))).body
    assert isinstance(function, ast.AsyncFunctionDef)
    documentation, statement = function.body
    assert isinstance(documentation, ast.Expr)
    assert isinstance(statement, ast.Return | ast.Expr)


# -- The files around -------------------------------------------------------------------------------------------------


def test_settings_that_bindings_name_are_set_everywhere() -> None:
    """`%NAME%` without a value keeps a function from being indexed."""
    bindings = [each for function in FUNCTIONS.values() for each in (function.trigger, *function.outputs)]
    named = {name for each in bindings for value in each.values() for name in re.findall(r"%(\w+)%", str(value))}
    assert named == {"EVENTS_COSMOS_DATABASE"}
    for name in named:
        assert SAMPLE[name]
        assert re.search(rf"^  {name}: ", MAIN_BICEP, re.MULTILINE)


def test_the_sample_is_a_developers_and_nothing_of_it_is_deployed() -> None:
    """What is switched off on a laptop runs in Azure; what Flex Consumption sets by itself is not set."""
    assert SAMPLE["AZURE_FUNCTIONS_ENVIRONMENT"] == "Development"
    for source in (MAIN_BICEP, FUNCTIONS_BICEP):
        assert not re.search(
            r"AzureWebJobs\.|AZURE_FUNCTIONS_ENVIRONMENT|FUNCTIONS_WORKER_RUNTIME|FUNCTIONS_EXTENSION_VERSION|"
            r"WEBSITE_RUN_FROM_PACKAGE|SCM_DO_BUILD_DURING_DEPLOYMENT|FUNCTIONS_WORKER_PROCESS_COUNT",
            source,
        )


def test_every_connection_is_in_the_sample_or_switched_off_with_what_uses_it() -> None:
    """So that `func start` does not want what a laptop does not have."""
    for function in FUNCTIONS.values():
        needs = {each["connection"] for each in (function.trigger, *function.outputs) if each.get("connection")}
        if needs or function.trigger["type"] == "timerTrigger":
            assert SAMPLE[f"AzureWebJobs.{function.name}.Disabled"] == "true"


def test_no_function_is_cut_off_at_its_work() -> None:
    """The host ends a function after ten minutes; what a call does at most takes less than two."""
    hours, minutes, seconds = map(int, HOST["functionTimeout"].split(":"))
    longest = max(ROUND_SECONDS, (TURN + lease_length(Settings().webhook_timeout_seconds * SECOND)) / SECOND)
    assert (hours * 60 + minutes) * 60 + seconds >= 5 * longest


def test_a_message_of_the_queue_is_small() -> None:
    """48 KiB is the most; a message names a lane, and whoever gets it asks the store."""
    assert len(str(Lane(2**63, 2**63)).encode()) < 100


def test_the_bundle_of_extensions_is_the_fourth() -> None:
    """The one with the triggers as they are used here."""
    assert HOST["extensionBundle"]["version"] == "[4.*, 5.0.0)"
    assert HOST["version"] == "2.0"
