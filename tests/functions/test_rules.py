"""Rules of the Functions host and its Python worker; a violation would show in Azure alone."""

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
    """The actions of a new process while it imports function_app."""
    printed = subprocess.run(
        [sys.executable, "-c", _AT_IMPORT], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    found: dict[str, Any] = json.loads(printed)
    return found


def test_importing_the_app_does_no_work(imported: dict[str, Any]) -> None:
    """The host imports the app to index it, so no socket, process, database, file or thread is opened."""
    assert imported["seen"] == []
    assert imported["threads"] == 1


def test_slow_imports_wait_for_the_first_request(imported: dict[str, Any]) -> None:
    """They would lengthen every cold start, and a process imports only the adapters that its settings name."""
    slow = {"azure.cosmos", "azure.storage", "aiohttp", "msal", "pydantic", "sqlite3", "jwt", "opentelemetry"}
    assert slow & {*imported["modules"]} == set()


# -- Requests ---------------------------------------------------------------------------------------------------------


def test_each_value_of_a_repeated_parameter_counts() -> None:
    """The host's own map keeps one value and drops empty ones, but the URL has all."""
    url = "https://events.example/events/api/v1/app/ttd/apps-test?type=a&type=b&from="
    raw = func.HttpRequest("GET", url, headers={}, params={"type": "b"}, route_params={}, body=b"")
    assert Request(raw, None).query == [("type", "a"), ("type", "b"), ("from", "")]


def test_no_code_reads_parsed_requests_of_the_host() -> None:
    """The host parses queries and bodies in its own way."""
    files = (ROOT / "events_core").rglob("*.py")
    parsed = re.compile(r"\.params\b(?!\()|\.get_json\(|\.form\b")
    assert [path for path in files if parsed.search(path.read_text())] == []


def test_every_function_is_a_coroutine() -> None:
    """All functions share one event loop and its HTTP clients, and none waits for a thread of the pool."""
    assert [n for n, function in FUNCTIONS.items() if not inspect.iscoroutinefunction(function.user_function)] == []


def test_the_linter_finds_blocking_calls() -> None:
    """A blocking call in a coroutine would stall every request of the process."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert lint["select"] == ["ALL"]
    ignored = [
        *lint["ignore"],
        *(rule for name, rules in lint["per-file-ignores"].items() if "**" in name for rule in rules),
    ]
    assert not any(rule.startswith("ASYNC") for rule in ignored)
    assert [path for path in (ROOT / "events_core").rglob("*.py") if "noqa: ASYNC" in path.read_text()] == []


def test_a_trigger_is_one_call() -> None:
    """The tests of the core do not see code in function_app.py, so nothing is decided there."""
    for name, function in FUNCTIONS.items():
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function.user_function))).body
        assert isinstance(definition, ast.AsyncFunctionDef)
        documentation, statement = definition.body
        assert isinstance(documentation, ast.Expr), name
        assert isinstance(statement, ast.Return | ast.Expr), name


# -- Settings files ---------------------------------------------------------------------------------------------------


def test_settings_that_bindings_name_are_set_everywhere() -> None:
    """`%NAME%` without a value keeps a function from being indexed."""
    bindings = [binding for function in FUNCTIONS.values() for binding in (function.trigger, *function.outputs)]
    values = [str(value) for binding in bindings for value in binding.values()]
    named = {name for value in values for name in re.findall(r"%(\w+)%", value)}
    assert named == {"EVENTS_COSMOS_DATABASE"}
    for name in named:
        assert SAMPLE[name]
        assert re.search(rf"^  {name}: ", MAIN_BICEP, re.MULTILINE)


def test_the_settings_of_the_sample_are_not_deployed() -> None:
    """Azure runs the functions that the sample disables, and Flex Consumption sets the rest itself."""
    assert SAMPLE["AZURE_FUNCTIONS_ENVIRONMENT"] == "Development"
    for source in (MAIN_BICEP, FUNCTIONS_BICEP):
        assert not re.search(
            r"AzureWebJobs\.|AZURE_FUNCTIONS_ENVIRONMENT|FUNCTIONS_WORKER_RUNTIME|FUNCTIONS_EXTENSION_VERSION|"
            r"WEBSITE_RUN_FROM_PACKAGE|SCM_DO_BUILD_DURING_DEPLOYMENT|FUNCTIONS_WORKER_PROCESS_COUNT",
            source,
        )


def test_functions_with_a_connection_are_disabled_in_the_sample() -> None:
    """`func start` must not need a storage account."""
    for function in FUNCTIONS.values():
        is_connected = any(binding.get("connection") for binding in (function.trigger, *function.outputs))
        if is_connected or function.trigger["type"] == "timerTrigger":
            assert SAMPLE[f"AzureWebJobs.{function.name}.Disabled"] == "true"


def test_no_function_runs_into_the_hosts_timeout() -> None:
    """The host ends a function after ten minutes, and the longest call takes less than two."""
    hours, minutes, seconds = map(int, HOST["functionTimeout"].split(":"))
    longest = max(ROUND_SECONDS, (TURN + lease_length(Settings().webhook_timeout_seconds * SECOND)) / SECOND)
    assert (hours * 60 + minutes) * 60 + seconds >= 5 * longest


def test_a_message_of_the_queue_is_small() -> None:
    """A message names a lane, far below the limit of 48 KiB."""
    assert len(str(Lane(2**63, 2**63)).encode()) < 100


def test_the_extension_bundle_is_version_4() -> None:
    """The triggers rely on its options."""
    assert HOST["extensionBundle"]["version"] == "[4.*, 5.0.0)"
    assert HOST["version"] == "2.0"
