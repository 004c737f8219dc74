"""The documents describe the code: settings, problems, routes, commands, areas, and links between them."""

from __future__ import annotations

import re
import shlex
import sys
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from events_core.adapters.cosmos.containers import CONTAINERS, Container
from events_core.common.errors import Problem
from events_core.settings import VARIABLES, Settings
from local.__main__ import cli
from local.host import load_functions
from tests.support import documents
from tests.support.documents import DOCUMENTS, ROOT

ARCHITECTURE = ROOT / "docs/architecture.md"
FROM_ALTINN = ROOT / "docs/from-altinn.md"
OPERATIONS = ROOT / "docs/operations.md"
STORAGE = ROOT / "docs/storage.md"
THREATS = ROOT / "docs/threats.md"
SETTINGS = documents.table(OPERATIONS, "setting")
FIELDS = {variable: field for field, variable in VARIABLES.items()}
CORE = sorted(ROOT.glob("events_core/**/*.py"))
SOURCES = [*CORE, *(path for folder in ("local", "tools", "tests") for path in ROOT.glob(f"{folder}/**/*.py"))]
SOURCES += [ROOT / "function_app.py"]


def test_the_table_of_settings_has_a_row_for_each_setting_and_no_other() -> None:
    """An operator finds every setting, and none that is gone."""
    assert SETTINGS.keys() == FIELDS.keys()


def test_the_documented_default_is_the_default() -> None:
    """Setting a variable to its documented default changes nothing; `none` means that it has no value."""
    wrong = []
    for variable, (default, _) in SETTINGS.items():
        field = FIELDS[variable]
        if default == "none":
            is_default = not getattr(Settings(), field)
        else:
            is_default = Settings(**{field: default.strip("`")}) == Settings()
        if not is_default:
            wrong.append(variable)
    assert wrong == []


def test_every_setting_is_read() -> None:
    """A documented setting that the code ignores would mislead operators."""
    code = "".join(path.read_text() for path in CORE if path.name != "settings.py")
    assert [variable for variable, field in FIELDS.items() if not re.search(rf"settings\.{field}\b", code)] == []


KEPT = {None: "for ever", -1: "by each document's `ttl`"}


def _as_cells(container: Container) -> list[str]:
    """Return the documented cells of a container: partition key, unique keys, time to live."""
    unique = ", ".join(f"`{path}`" for paths in container.unique_keys for path in paths) or "none"
    kept = "by retention" if container.name == "streams" else KEPT[container.default_ttl]
    return [f"`{container.partition_key}`", unique, kept]


def test_the_table_of_containers_is_their_definition() -> None:
    """Partition keys and unique keys can never change."""
    rows = documents.table(STORAGE, "container")
    assert {name: cells[:-1] for name, cells in rows.items()} == {
        container.name: _as_cells(container) for container in CONTAINERS
    }


def test_every_problem_is_documented_with_its_status() -> None:
    """The table of problems is the table of errors."""
    rows = documents.table(OPERATIONS, "problem")
    assert {slug: int(cells[0]) for slug, cells in rows.items()} == {
        problem.slug: problem.status for problem in Problem
    }


@pytest.mark.parametrize("table", ["reading", "publishing", "subscribing"])
def test_every_difference_from_altinn_says_what_to_do(table: str) -> None:
    """Each row has Altinn's answer, ours, and what a client does about it."""
    rows = documents.table(FROM_ALTINN, table)
    assert len(rows) >= 10
    assert [what for what, cells in rows.items() if len(cells) != 3 or not all(cells)] == []


def _routes() -> list[str]:
    """Return method and path of every HTTP trigger but the fallback. HEAD goes with GET."""
    triggers = [function.trigger for function in load_functions() if function.trigger.get("methods")]
    return [
        f"{getattr(method, 'value', method)} /{trigger['route']}"
        for trigger in triggers
        for method in trigger["methods"]
        if getattr(method, "value", method) != "HEAD"
    ]


def test_every_route_is_documented() -> None:
    """Each route of function_app.py stands in a document, as method and path."""
    text = "\n".join(path.read_text() for path in DOCUMENTS)
    routes = _routes()
    assert len(routes) > 20
    assert [route for route in routes if not re.search(rf"{re.escape(route)}(?![\w/{{])", text)] == []


def test_the_table_of_commands_has_each_command_and_no_other() -> None:
    """An operator finds every command of the local host."""
    group = get_command(cli)
    assert isinstance(group, TyperGroup)
    commands = {f"python -m local {name}" for name in group.commands}
    assert documents.table(OPERATIONS, "command").keys() == commands


def test_documented_targets_are_in_the_makefile() -> None:
    """`make help` lists every target, so the documents name only some."""
    targets = set(re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        name for path in DOCUMENTS for name in re.findall(r"^make (\w+)|`make (\w+)", path.read_text(), re.MULTILINE)
    }
    assert {first or second for first, second in named} <= targets


def _parse(arguments: list[str]) -> Any:
    """Parse arguments as the command line does, without running the command."""
    group = get_command(cli)
    assert isinstance(group, TyperGroup)
    with group.make_context("local", []) as context:
        command = group.get_command(context, arguments[0])
        assert command is not None, f"no such command: {arguments[0]}"
        return command.make_context(arguments[0], arguments[1:], parent=context).params


def test_documented_commands_are_accepted() -> None:
    """Every `python -m local …` with arguments in a document has options that exist and values that fit."""
    commands = [arguments for path in DOCUMENTS for arguments in documents.local_commands(path) if len(arguments) > 1]
    assert len(commands) > 10
    for arguments in commands:
        try:
            _parse(arguments)
        except Exception as error:
            error.add_note(shlex.join(arguments))
            raise


def test_links_lead_somewhere() -> None:
    """Each relative link names a file of the project, and a heading in it."""
    broken = []
    for path in DOCUMENTS:
        for target in documents.links(path):
            name, _, anchor = target.partition("#")
            file = (path.parent / name).resolve() if name else path
            if not file.is_file() or (anchor and anchor not in documents.anchors(file)):
                broken.append(f"{path.name}: {target}")
    assert broken == []


def test_code_names_documents_and_headings_that_exist() -> None:
    """A docstring that sends the reader to a document, or to a heading in it, is right."""
    wrong = []
    for path in SOURCES:
        for name, heading in re.findall(r'(\w[\w/-]*\.md)\b(?:, "([^"{}]+)")?', path.read_text()):
            file = next((folder / name for folder in (ROOT, ROOT / "docs") if (folder / name).is_file()), None)
            if file is None or (heading and " ".join(heading.split()) not in documents.headings(file)):
                wrong.append(f"{path.relative_to(ROOT)}: {name} {heading}")
    assert wrong == []


def test_every_area_is_described() -> None:
    """The table of areas names each folder and file at the top of events_core, and none that is gone."""
    areas = {path.relative_to(ROOT / "events_core").parts[0].removesuffix(".py") for path in CORE} - {"__init__"}
    assert documents.table(ARCHITECTURE, "area").keys() == areas


def test_files_that_the_documents_name_exist() -> None:
    """A path in a document of the code leads a newcomer to a file."""
    missing = [
        f"{path.name}: {name}"
        for path in (ARCHITECTURE, STORAGE, THREATS)
        for name in documents.named_paths(path)
        if not documents.exists(name)
    ]
    assert missing == []


def test_tests_that_the_threat_model_names_exist() -> None:
    """A defence without its test is a claim."""
    tests = "".join(path.read_text() for path in ROOT.glob("tests/**/*.py"))
    named = set(re.findall(r"`(test_\w+)`", THREATS.read_text()))
    assert len(named) > 40
    assert [name for name in sorted(named) if f"def {name}(" not in tests] == []


def test_python_in_documents_compiles() -> None:
    """A block marked as Python is Python."""
    broken = []
    for path in DOCUMENTS:
        for body in documents.blocks(path, "python"):
            try:
                compile(body, path.name, "exec")
            except SyntaxError as error:
                broken.append(f"{path.name}: {error}")
    assert broken == []


def test_the_architecture_stays_short() -> None:
    """A newcomer reads it in ten minutes: at most 1,500 words."""
    assert len(ARCHITECTURE.read_text().split()) <= 1_500


def test_the_changelog_has_the_version_of_the_project() -> None:
    """The version in pyproject.toml is described in the changelog."""
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert version[1] in (ROOT / "CHANGELOG.md").read_text()


def test_examples_need_no_package() -> None:
    """A reader can copy one file and run it: it imports the standard library only."""
    examples = sorted(ROOT.glob("docs/*.py"))
    assert len(examples) == 2
    imported = re.findall(r"^(?:from|import) (\w+)", "".join(path.read_text() for path in examples), re.MULTILINE)
    assert {*imported} <= sys.stdlib_module_names
