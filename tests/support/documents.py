"""Read the project's documents: text, code blocks, tables, headings, links and paths."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_CODE_SPAN = re.compile(r"`([^`]+)`")
_PATH = re.compile(r"[\w./*-]+\.(?:py|bicep|json|txt)|[a-z_.]+/[\w./*-]*")
_LOCAL = "-m local "
_SUBSTITUTION_END = ")"


def text_of(path: Path) -> str:
    """Return a document without its code blocks."""
    return _BLOCK.sub("", path.read_text())


def blocks(path: Path, language: str) -> list[str]:
    """Return the code blocks of a document in a language."""
    return [body for marked, body in _BLOCK.findall(path.read_text()) if marked == language]


def headings(path: Path) -> list[str]:
    """Return the headings of a document, without backticks."""
    return [heading.replace("`", "") for heading in _HEADING.findall(text_of(path))]


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document, as GitHub makes them from headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(path)}


def links(path: Path) -> list[str]:
    """Return the targets of a document's links within the project."""
    return [target for target in _LINK.findall(text_of(path)) if "://" not in target]


def named_paths(path: Path) -> list[str]:
    """Return the files and folders of the project that a document names between backticks."""
    return [name for name in _CODE_SPAN.findall(text_of(path)) if _PATH.fullmatch(name)]


def exists(name: str) -> bool:
    """Return whether a path exists in the project or in `events_core`; `*` stands for any name."""
    return any(any(folder.glob(name)) for folder in (ROOT, ROOT / "events_core"))


def table(path: Path, first_heading: str) -> dict[str, list[str]]:
    """Return the rows of tables whose first heading is this: first cell without backticks -> the other cells."""
    rows: dict[str, list[str]] = {}
    inside = False
    for line in path.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            inside = False
        elif inside and not cells[0].startswith("---"):
            rows[cells[0].strip("`")] = cells[1:]
        elif cells[0] == first_heading:
            inside = True
    return rows


def shell_lines(path: Path) -> list[str]:
    """Return the commands of a document's shell blocks, each on one line."""
    return "".join(blocks(path, "sh")).replace("\\\n", " ").splitlines()


def local_commands(path: Path) -> list[list[str]]:
    """Return the arguments of every `python -m local ...` in a document: in shell blocks and between backticks."""
    pieces = [*_CODE_SPAN.findall(text_of(path)), *shell_lines(path)]
    found = [piece.partition(_LOCAL)[2].partition(_SUBSTITUTION_END)[0] for piece in pieces if _LOCAL in piece]
    return [shlex.split(arguments) for arguments in found]
