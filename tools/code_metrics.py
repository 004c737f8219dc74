"""Count what makes the code easy or hard to enter: `python tools/code_metrics.py [FOLDER]` prints a table.

The table counts files at the top of `events_core`, levels and pairs of imports, lines of code, private helpers that are
called once, exemptions from the linter, and the words and diagrams of the documents.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path


def code_lines(text: str) -> int:
    """The number of lines without blank lines, comments and docstrings."""
    tree = ast.parse(text)
    docstrings = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = enumerate(text.splitlines(), start=1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and n not in docstrings for n, line in lines)


def imports(root: Path) -> dict[str, set[str]]:
    """Each module of `events_core`, with the modules that it imports."""
    modules = {
        ".".join(path.relative_to(root).with_suffix("").parts): path for path in root.glob("events_core/**/*.py")
    }

    def imported(path: Path) -> Iterator[str]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                for name in (f"{node.module}.{alias.name}" for alias in node.names):
                    yield name if name in modules else node.module

    return {name: modules.keys() & set(imported(path)) - {name} for name, path in modules.items()}


def levels(graph: dict[str, set[str]]) -> int:
    """The length of the longest chain of imports. No module occurs twice in it."""

    @cache
    def depth(name: str, above: frozenset[str] = frozenset()) -> int:
        below = graph[name] - above - {name}
        return 1 + max((depth(module, above | {name}) for module in below), default=0)

    return max(map(depth, graph))


def called_once(root: Path) -> int:
    """The number of private functions of `events_core` whose name occurs once besides the definition."""
    text = "\n".join(path.read_text() for path in root.glob("events_core/**/*.py"))
    used = Counter(re.findall(r"\b_[a-z]\w*", text))
    nodes = [node for path in root.glob("events_core/**/*.py") for node in ast.walk(ast.parse(path.read_text()))]
    functions = [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return sum(used[name] == 2 for name in functions if re.match(r"_[a-z]", name))


def table(root: Path) -> dict[str, int]:
    """Every count by its name."""
    graph = imports(root)
    sources = [*root.glob("events_core/**/*.py")]
    folders = ("events_core", "local", "tests", "bench", "tools", "docs")
    checked = [path for folder in folders for path in (root / folder).rglob("*.py")]
    documents = [path.read_text() for path in sorted((root / "docs").glob("*.md"))]
    return {
        "files at the top of events_core": len([*root.glob("events_core/*.py")]),
        "levels of imports": levels(graph),
        "pairs of imports": sum(map(len, graph.values())),
        "lines of code in events_core": sum(code_lines(path.read_text()) for path in sources),
        "private helpers called once": called_once(root),
        "noqa and type: ignore": sum(len(re.findall(r"# (?:noqa|type: ignore)", path.read_text())) for path in checked),
        "words in docs/*.md": sum(len(text.split()) for text in documents),
        "diagrams in docs/*.md": sum(text.count("```mermaid") for text in documents),
    }


if __name__ == "__main__":
    for name, count in table(Path(sys.argv[1] if len(sys.argv) > 1 else ".")).items():
        print(f"{count:8,}  {name}")
