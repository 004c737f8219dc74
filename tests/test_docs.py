"""The documents describe what is: settings, problems, routes, commands, rooms, and links between them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from events_core.access.authorization import DECISION_SECONDS, DECISIONS_KEPT
from events_core.adapters.cosmos.containers import CONTAINERS, THIRTY_DAYS, Container
from events_core.adapters.cosmos.streams import append, heads, names, read
from events_core.adapters.sqlite.schema import SAMPLED
from events_core.adapters.tokens import jwks
from events_core.cloudevent import reading
from events_core.cloudevent.json_text import MAX_DEPTH
from events_core.common.clock import SECOND
from events_core.common.errors import Problem
from events_core.delivery import attempt, cache, fan_out, worker
from events_core.delivery.delivery import Breaker, RetrySchedule
from events_core.feeds import follow_up
from events_core.feeds import read as read_feed
from events_core.feeds.wait import POLL_SECONDS
from events_core.http import query
from events_core.http.feeds import REQUESTS_A_MINUTE
from events_core.http.request import MAX_QUERY_FIELDS
from events_core.operations import background, health
from events_core.settings import VARIABLES, Settings
from local.__main__ import cli
from local.change_feed import SWEEP_SECONDS
from local.host import load_functions
from local.issuer import TOKEN_SECONDS
from tests.support import documents
from tests.support.documents import DOCUMENTS, ROOT

OPERATIONS = ROOT / "docs/operations.md"
SETTINGS = documents.table(OPERATIONS, "setting")
FIELDS = {variable: field for field, variable in VARIABLES.items()}
STORAGE = ROOT / "docs/storage.md"
CORE = sorted(ROOT.glob("events_core/**/*.py"))
SOURCES = [*CORE, *ROOT.glob("local/*.py"), *ROOT.glob("tests/**/*.py"), ROOT / "function_app.py"]


def test_every_setting_is_documented_and_no_other() -> None:
    """The table of settings has a row for each setting, and none that is stale."""
    assert SETTINGS.keys() == FIELDS.keys()


@pytest.mark.parametrize("setting", FIELDS)
def test_the_documented_default_is_the_default(setting: str) -> None:
    """Setting a variable to its documented default changes nothing; `none` stands for nothing at all."""
    default, name = SETTINGS[setting][0], FIELDS[setting]
    documented = {} if default == "none" else {name: default.strip("`")}
    assert Settings(**documented) == Settings()
    assert bool(documented) or not getattr(Settings(), name)


@pytest.mark.parametrize("setting", FIELDS)
def test_settings_that_nothing_reads_are_marked(setting: str) -> None:
    """Exactly the settings that no code reads yet say so."""
    reading = re.compile(rf"settings\.{FIELDS[setting]}\b")
    read = any(reading.search(path.read_text()) for path in CORE if path.name != "settings.py")
    assert ("Not used yet" in SETTINGS[setting][1]) is not read


KEPT = {None: "for ever", -1: "as each says", THIRTY_DAYS: "30 days"}


def _as_cells(container: Container) -> list[str]:
    """The cells of a container: partition key, unique keys, indexed properties, time to live."""
    unique = ", ".join(f"`{path}`" for paths in container.unique_keys for path in paths) or "none"
    indexed = "everything" if container.indexed is None else ", ".join(f"`{name}`" for name in container.indexed)
    kept = "by retention" if container.name == "streams" else KEPT[container.default_ttl]
    together = "".join(f"; together {', '.join(f'`{name}`' for name in names)}" for names in container.ordered_by)
    return [f"`{container.partition_key}`", unique, indexed + together, kept]


def test_every_container_is_documented_and_no_other() -> None:
    """The table of containers is the definition of the containers."""
    rows = documents.table(STORAGE, "container")
    assert {name: cells[:-1] for name, cells in rows.items()} == {each.name: _as_cells(each) for each in CONTAINERS}


def test_every_problem_is_documented_with_its_status() -> None:
    """The table of problems is the table of errors."""
    rows = documents.table(OPERATIONS, "problem")
    assert {slug: int(cells[0]) for slug, cells in rows.items()} == {each.slug: each.status for each in Problem}


def routes() -> list[str]:
    """Method and path of every HTTP trigger but the catch-all."""
    triggers = [function.trigger for function in load_functions() if function.trigger.get("methods")]
    return [f"{getattr(method, 'value', method)} /{each['route']}" for each in triggers for method in each["methods"]]


@pytest.mark.parametrize("route", routes())
def test_every_route_is_documented(route: str) -> None:
    """Each route of function_app.py stands in a document, as method and path."""
    assert re.search(rf"{re.escape(route)}(?![\w/{{])", documents.everything())


def test_every_local_command_is_documented_and_no_other() -> None:
    """The table of commands has each command of the local host and each target of the Makefile."""
    group = get_command(cli)
    assert isinstance(group, TyperGroup)
    targets = re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    expected = {f"python -m local {name}" for name in group.commands} | {f"make {target}" for target in targets}
    assert documents.table(OPERATIONS, "command").keys() == expected


def parsed(arguments: list[str]) -> Any:
    """The parameters that the command line reads, without doing anything."""
    group = get_command(cli)
    assert isinstance(group, TyperGroup)
    with group.make_context("local", []) as context:
        command = group.get_command(context, arguments[0])
        assert command is not None, arguments
        return command.make_context(arguments[0], arguments[1:], parent=context).params


@pytest.mark.parametrize(
    "arguments",
    [each for path in DOCUMENTS for each in documents.local_commands(path) if len(each) > 1],
    ids=" ".join,
)
def test_documented_commands_are_accepted(arguments: list[str]) -> None:
    """Every `python -m local …` with arguments in a document has options that exist and values that fit."""
    assert parsed(arguments)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Each relative link names a file of the project, and a heading in it."""
    for target in documents.links(path):
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.is_file(), target
        assert not anchor or anchor in documents.anchors(file), target


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_refers_to_documents_that_are_there(path: Path) -> None:
    """A document that code points to exists, and has the heading that is quoted."""
    for name, heading in re.findall(r'(\w[\w/]*\.md)\b(?:, "([^"{}]+)")?', path.read_text()):
        file = next((place / name for place in (ROOT, ROOT / "docs") if (place / name).is_file()), None)
        assert file, name
        assert not heading or heading in documents.headings(file), heading


FIGURES = {
    "architecture": [
        f"{read_feed.SCAN_ROWS:,} rows examined, or {read_feed.SCAN_SECONDS:.0f} seconds",
        f"up to {read_feed.LARGEST_CHUNK} rows",
        f"{DECISION_SECONDS} seconds, {DECISIONS_KEPT:,} at most",
        f"every {POLL_SECONDS * 1000:.0f} ms",
        f"every {jwks.REREAD_SECONDS // 60} minutes",
        f"every {SAMPLED}th row",
        f"up to {follow_up.PAGE} rows",
        f"up to {follow_up.TARGETS_AT_ONCE} targets",
        f"followed for {follow_up.ROUND_SECONDS:.0f} seconds",
        f"when the change feed asks, for {follow_up.FEED_ROUND_SECONDS:.0f} seconds",
        f"more than {follow_up.MOST_QUARANTINED} targets",
        f"segments of {names.SEGMENT_SIZE:,}",
        f"a turn of {worker.TURN // SECOND} seconds",
        f"an answer within {fan_out.ANSWER_SECONDS:.0f} seconds",
        f"as known at most {cache.KEPT_SECONDS:.0f} seconds ago",
        f"as read at most {attempt.EVENT_KEPT // SECOND} seconds ago",
        f"noted at most {attempt.DECISION_KEPT // SECOND} seconds ago",
    ],
    "subscribers": [
        f"has {Settings().webhook_timeout_seconds} seconds",
        "after 10, 30, 60, 300, 600, 1,800, 3,600, 10,800 and 21,600 seconds, then six times every 12 hours",
        "Both sign for 24 hours",
        f"are kept for {background.KEPT_DAYS} days",
        f"up to {RetrySchedule(()).longest_retry_after / 3600:.0f} hours",
    ],
    "consumers": [
        f"{query.DEFAULT_SIZE} unless given",
        f"{query.MAX_LENGTH:,} characters",
        f"{query.MAX_VALUES} values",
        f"{MAX_QUERY_FIELDS} parameters",
        f"{read_feed.MAX_PAGE_BYTES // 2**20} MiB",
        f"{REQUESTS_A_MINUTE} times a minute",
    ],
    "publishers": [
        f"{reading.MAX_EVENT_BYTES // 2**10} KiB",
        f"{reading.MAX_BATCH_BYTES // 2**20} MiB, {reading.MAX_BATCH_EVENTS} events",
        f"{MAX_DEPTH} levels",
        f"newest {names.SEGMENT_SIZE:,} events",
    ],
    "storage": [
        f"of {names.SEGMENT_SIZE:,} documents",
        f"newest {names.SEGMENT_SIZE:,} of its resource",
        f"{append.GROUP_OPERATIONS} events or {append.GROUP_BYTES / 1e6:g} MB",
        f"silence for {append.ATTEMPT_SECONDS:.0f} seconds",
        f"up to {append.LONGEST_WAIT} seconds",
        f"more than {heads.WARM_SECONDS:.0f} seconds ago",
        f"at {read.SEGMENTS_AT_ONCE} segments at most",
        f"each stream and {POLL_SECONDS * 1000:.0f} ms",
        f"sweeps every {SWEEP_SECONDS:.0f} seconds",
    ],
    "operations": [
        f"every {health.KEPT_SECONDS:.0f} seconds",
        f"{jwks.KEEP_SECONDS // 3600} hours",
        f"valid for {TOKEN_SECONDS // 3600} hours",
        f"up to {worker.TURN // SECOND} seconds, under a lease",
        f"after {Breaker.THRESHOLD} failures in a row",
        f"after at most {Breaker.LONGEST_SECONDS:.0f} seconds",
        f"serves {worker.LANES_OF_ENDPOINT} lanes of one endpoint at once",
        f"look again every {attempt.PAUSE // SECOND} seconds",
    ],
}


@pytest.mark.parametrize(("name", "figure"), [(name, figure) for name in FIGURES for figure in FIGURES[name]])
def test_figures_are_those_of_the_code(name: str, figure: str) -> None:
    """A limit or time that a document names is the constant that the code uses."""
    assert figure in " ".join((ROOT / f"docs/{name}.md").read_text().split())


def test_every_area_is_described() -> None:
    """The table of areas names each folder and file at the top of events_core, and none that is gone."""
    areas = {path.relative_to(ROOT / "events_core").parts[0].removesuffix(".py") for path in CORE} - {"__init__"}
    assert {name.strip("`") for name in documents.table(ROOT / "docs/architecture.md", "area")} == areas


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_in_documents_compiles(path: Path) -> None:
    """A block marked as Python is Python."""
    for body in documents.blocks(path, "python"):
        compile(body, path.name, "exec")


def test_the_changelog_has_the_version_of_the_project() -> None:
    """The version in pyproject.toml is described in the changelog."""
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert version[1] in (ROOT / "CHANGELOG.md").read_text()


def test_what_the_threat_model_names_is_there() -> None:
    """Each file, and each test by its name."""
    named = set(re.findall(r"`([^`\s]+)`", (ROOT / "docs/threats.md").read_text()))
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    assert [each for each in named if each.startswith("test_") and f"def {each}(" not in tests] == []
    files = [
        each
        for each in named
        if re.fullmatch(r"[\w./-]+\.(py|bicep|txt)|(tests|adapters|http|cloudevent)/[\w./]*", each)
    ]
    assert len(files) > 40
    assert [each for each in files if not any((base / each).exists() for base in (ROOT, ROOT / "events_core"))] == []
