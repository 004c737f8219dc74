"""The project's documents as tests read them: their text, code blocks, tables, headings and links."""

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
_LOCAL = "-m local "
_SUBSTITUTION_END = ")"


def text_of(path: Path) -> str:
    """A document without its code blocks."""
    return _BLOCK.sub("", path.read_text())


def everything() -> str:
    """All documents as one text."""
    return "\n".join(path.read_text() for path in DOCUMENTS)


def blocks(path: Path, language: str) -> list[str]:
    """The code blocks of a document in a language."""
    return [body for marked, body in _BLOCK.findall(path.read_text()) if marked == language]


def headings(path: Path) -> list[str]:
    """The headings of a document, as they read."""
    return [heading.replace("`", "") for heading in _HEADING.findall(text_of(path))]


def anchors(path: Path) -> set[str]:
    """What a link may name after `#`, as GitHub makes it from headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(path)}


def links(path: Path) -> list[str]:
    """The targets of a document's links that stay within the project."""
    return [target for target in _LINK.findall(text_of(path)) if "://" not in target]


def table(path: Path, first_heading: str) -> dict[str, list[str]]:
    """The rows of the tables whose first column has this heading: first cell without backticks -> the other cells."""
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
    """The commands in a document's shell blocks, each on one line."""
    return "".join(blocks(path, "sh")).replace("\\\n", " ").splitlines()


def local_commands(path: Path) -> list[list[str]]:
    """The arguments of every `python -m local ...` in a document: in shell blocks, and between backticks."""
    pieces = [*_CODE_SPAN.findall(text_of(path)), *shell_lines(path)]
    given = [piece.partition(_LOCAL)[2].partition(_SUBSTITUTION_END)[0] for piece in pieces if _LOCAL in piece]
    return [shlex.split(arguments) for arguments in given]
