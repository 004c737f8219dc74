"""Bicep files as trees, and the faults in them that can be found without the compiler.

The compiler runs in the pipeline; this finds slips of the pen on a machine without it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache, cached_property
from pathlib import Path

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

_PARSER = Parser(Language(tree_sitter_bicep.language()))
_TYPE = re.compile(r"'[A-Z][A-Za-z]+\.[A-Za-z]+(/[A-Za-z]+)+@(20\d\d-\d\d-\d\d)(-preview)?'")
_DECORATORS = {"allowed", "description", "maxLength", "maxValue", "minLength", "minValue", "secure"}
_FUNCTIONS = _DECORATORS | {
    *("cidrSubnet", "empty", "environment", "guid", "items", "loadJsonContent", "string", "subscription"),
    *("subscriptionResourceId", "take", "union", "uniqueString"),
}
_BICEP = frozenset({"name", "parent", "scope", "dependsOn", "location", "tags"})
_OPEN = frozenset({"tags", "identity"})
INFRA = Path(__file__).resolve().parents[2] / "infra"
_LIMIT = re.compile(r"@(m(?:in|ax)(?:Length|Value))\((\d+)\)")
_KINDS = {"string": "string", "number": "int", "boolean": "bool", "array": "array", "object": "object"}
"""The type of a literal, by the grammar's name for it."""
_ASSIGNED = re.compile(rb"^param (?=\w+ =)", re.MULTILINE)


def text(node: Node) -> str:
    """The source text of a node."""
    return (node.text or b"").decode()


def unquoted(node: Node) -> str:
    """The content of a string, interpolations unresolved."""
    return text(node).removeprefix("'").removesuffix("'")


def nodes(node: Node) -> Iterator[Node]:
    """A node and its descendants, in the order of the text."""
    yield node
    for child in node.children:
        yield from nodes(child)


def properties(node: Node) -> dict[str, Node]:
    """The members of an object by their names."""
    pairs = [child.named_children for child in node.named_children if child.type == "object_property"]
    return {unquoted(pair[0]): pair[1] for pair in pairs if len(pair) > 1}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a template. `limits` are its `minLength`, `maxLength`, `minValue` and `maxValue`."""

    type: str
    required: bool
    allowed: tuple[str, ...] = ()
    described: bool = False
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class File:
    """One Bicep file."""

    path: Path
    source: bytes
    _root: list[Node] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> File:
        """Read a file. The grammar has no files of parameters, so each parameter there is read as a variable."""
        source = path.read_bytes()
        return cls(path, _ASSIGNED.sub(b"var ", source) if path.suffix == ".bicepparam" else source)

    @cached_property
    def root(self) -> Node:
        """The root of the tree."""
        return _PARSER.parse(self.source).root_node

    @property
    def scope(self) -> str:
        """The scope that the file is deployed to."""
        named = re.search(rb"^targetScope = '(\w+)'", self.source, re.MULTILINE)
        return named[1].decode() if named else "resourceGroup"

    def declared(self, kind: str) -> dict[str, Node]:
        """The declarations of a kind (`parameter`, `variable`, `resource`, `module`, `output`) by their names."""
        found = [node for node in self.root.named_children if node.type == f"{kind}_declaration"]
        return {text(node.named_children[0]): node for node in found if node.named_children}

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters of the file."""
        found: dict[str, Parameter] = {}
        decorators = ""
        for node in self.root.named_children:
            if node.type == "parameter_declaration":
                has_default = len(node.named_children) > 2
                allowed = re.search(r"@allowed\(\[(.*?)\]\)", decorators, re.DOTALL)
                values = tuple(re.findall(r"'([^']*)'", allowed[1])) if allowed else ()
                limits = {name: int(value) for name, value in _LIMIT.findall(decorators)}
                name, kind = map(text, node.named_children[:2])
                found[name] = Parameter(kind, not has_default, values, "@description" in decorators, limits)
            decorators = text(node) if node.type == "decorators" else ""
        return found

    def resources(self) -> Iterator[tuple[str, str, Node]]:
        """Each resource: its symbol, its type without the version, and its body."""
        for name, node in self.declared("resource").items():
            kind = unquoted(node.named_children[1]).partition("@")[0]
            yield name, kind, next(child for child in nodes(node) if child.type == "object")

    def modules(self) -> Iterator[tuple[str, Path, Node]]:
        """Each module: its symbol, its file, and its body."""
        for name, node in self.declared("module").items():
            body = next(child for child in nodes(node) if child.type == "object")
            yield name, self.path.parent / unquoted(node.named_children[1]), body

    def where(self, node: Node) -> str:
        """The file and line of a node."""
        return f"{self.path.name}:{node.start_point[0] + 1}"


def faults(path: Path) -> list[str]:
    """The faults of a Bicep file, each with its file and line."""
    file = File.read(path)
    errors = [node for node in nodes(file.root) if node.is_error or node.is_missing]
    if errors:
        return [f"{file.where(node)}: syntax" for node in errors[:1]]
    return [
        *_symbols(file),
        *_types(file),
        *_members(file),
        *_missing(file),
        *_loops(file),
        *_modules(file),
        *_undescribed(file),
    ]


@cache
def known_properties() -> dict[str, frozenset[str]]:
    """The property names of each resource type (tools/azure_properties.py makes the list)."""
    listed = json.loads((INFRA / "properties.json").read_text())
    return {kind: frozenset(names) | _BICEP for kind, names in listed.items()}


def _members(file: File) -> Iterator[str]:
    for _, kind, body in file.resources():
        known = known_properties().get(kind)
        if known is None:
            yield f"{file.where(body)}: {kind} is not in the list of resource types"
            continue
        for name, node in _within(body):
            if name not in known:
                yield f"{file.where(node)}: {kind} has no property {name}"


def _within(body: Node) -> Iterator[tuple[str, Node]]:
    """The members of an object and of the objects in it, except in objects whose names are free (`_OPEN`)."""
    for name, node in properties(body).items():
        yield name, node
        if name not in _OPEN:
            for child in nodes(node):
                if child.type == "object":
                    yield from ((inner, value) for inner, value in properties(child).items())


def _missing(file: File) -> Iterator[str]:
    """Required members. Only a resource that is new and in no other resource needs a location and tags."""
    for name, _, body in file.resources():
        given = properties(body).keys()
        is_existing = " existing " in text(file.declared("resource")[name]).split("{")[0]
        is_top_level = not (is_existing or given & {"parent", "scope"})
        for member in ("name", *(("location", "tags") if is_top_level else ())):
            if member not in given:
                yield f"{file.where(body)}: {name} has no {member}"


def _loops(file: File) -> Iterator[str]:
    """In an array of objects that a loop goes over, each object has exactly the members that the loop uses."""
    used: dict[str, set[str]] = {}
    for loop in (node for node in nodes(file.root) if node.type == "for_statement"):
        variable, array = map(text, loop.named_children[:2])
        element_name = variable.strip("(").split(",")[0]
        used.setdefault(array, set()).update(re.findall(rf"\b{element_name}\.(\w+)", text(loop)))
    for name, node in file.declared("variable").items():
        for element in node.named_children[1].named_children if name in used else ():
            given = properties(element).keys()
            for member in sorted(used[name] ^ given) if element.type == "object" else ():
                yield f"{file.where(element)}: {member} is {'not used' if member in given else 'missing'}"


def _symbols(file: File) -> Iterator[str]:
    kinds = ("parameter", "variable", "resource", "module")
    declared = {name: node for kind in kinds for name, node in file.declared(kind).items()}
    loops = {text(node) for node in nodes(file.root) if node.type in ("loop_variable", "loop_enumerator")}
    for loop in (node for node in nodes(file.root) if node.type == "for_statement"):
        variable = loop.child_by_field_name("initializer")
        loops |= {text(variable)} if variable is not None else set()
    used = set()
    for node in nodes(file.root):
        if node.type != "identifier" or node in _names(node):
            continue
        name = text(node)
        used.add(name)
        is_called = node.parent is not None and node.parent.type == "call_expression" and node.prev_sibling is None
        if is_called and name not in _FUNCTIONS:
            yield f"{file.where(node)}: the function {name} is not known"
        if not is_called and name not in declared.keys() | loops:
            yield f"{file.where(node)}: {name} is not declared"
    for kind in ("parameter", "variable"):
        for name, node in file.declared(kind).items():
            if name not in used and file.path.suffix != ".bicepparam":
                yield f"{file.where(node)}: {name} is not used"


def _names(node: Node) -> tuple[Node, ...]:
    """The node itself if it is the name of a declaration or of an object's member."""
    parent = node.parent
    named_first = parent is not None and parent.named_children[:1] == [node]
    if (
        parent is not None
        and named_first
        and (parent.type.endswith("_declaration") or parent.type == "object_property")
    ):
        return (node,)
    return ()


def _types(file: File) -> Iterator[str]:
    for node in file.declared("resource").values():
        kind = node.named_children[1]
        matched = _TYPE.fullmatch(text(kind))
        if matched is None or not _is_date(matched[2]):
            yield f"{file.where(kind)}: {text(kind)} is no type with a version"


def _is_date(version: str) -> bool:
    """Whether a version is a date in the past."""
    try:
        return date.fromisoformat(version) <= datetime.now(UTC).date()
    except ValueError:
        return False


def _modules(file: File) -> Iterator[str]:
    outputs: dict[str, set[str]] = {}
    for name, path, body in file.modules():
        if not path.is_file():
            yield f"{file.where(body)}: there is no {path.name}"
            continue
        module = File.read(path)
        if file.scope != module.scope and "scope" not in properties(body):
            yield f"{file.where(body)}: {name} has no scope, and is of a {module.scope}"
        outputs[name] = set(module.declared("output"))
        params = properties(body).get("params")
        given = properties(params) if params is not None else {}
        for unknown in given.keys() - module.parameters.keys():
            yield f"{file.where(body)}: {path.name} has no parameter {unknown}"
        for wanted, parameter in module.parameters.items():
            if parameter.required and wanted not in given:
                yield f"{file.where(body)}: {path.name} wants the parameter {wanted}"
    for symbol, output in re.findall(r"\b(\w+)!?\.outputs\.(\w+)", text(file.root)):
        if output not in outputs.get(symbol, {output}):
            yield f"{file.path.name}: {symbol} has no output {output}"


def _undescribed(file: File) -> Iterator[str]:
    for name, parameter in file.parameters.items():
        if not parameter.described:
            yield f"{file.path.name}: the parameter {name} is not described"


def wrong_values(file: File, main: File) -> list[str]:
    """The faults of a file of parameters, by the template that declares them."""
    given = file.declared("variable")
    wrong = [f"{file.path.name}: there is no parameter {name}" for name in given.keys() - main.parameters.keys()]
    for name, parameter in main.parameters.items():
        if parameter.required and name not in given:
            wrong.append(f"{file.path.name}: the parameter {name} is missing")
        if name in given:
            value = given[name].named_children[1]
            wrong += [f"{file.path.name}: {name} {fault}" for fault in _faults_of(value, parameter)]
    return wrong


def _faults_of(value: Node, parameter: Parameter) -> Iterator[str]:
    """The faults of a parameter's value."""
    if text(value).startswith(("readEnvironmentVariable(", "json(readEnvironmentVariable(")):
        return
    kind = _KINDS.get(value.type)
    if kind != parameter.type:
        yield f"is no {parameter.type}"
        return
    if parameter.allowed and unquoted(value) not in parameter.allowed:
        yield f"is none of {', '.join(parameter.allowed)}"
    if kind == "string":
        length, unit = len(unquoted(value)), "Length"
    elif kind == "array":
        length, unit = len(value.named_children), "Length"
    elif kind == "int":
        length, unit = int(text(value)), "Value"
    else:
        return
    if length < parameter.limits.get(f"min{unit}", length):
        yield f"is below min{unit}"
    if length > parameter.limits.get(f"max{unit}", length):
        yield f"is above max{unit}"


def at(body: Node, path: str) -> str | None:
    """The text of a member by its path from an object, where a number is an index; None if there is no such member."""
    node: Node | None = body
    for name in path.split("."):
        if node is None:
            return None
        if name.isdecimal():
            node = next(iter(node.named_children[int(name) : int(name) + 1]), None)
        else:
            node = properties(node).get(name)
    return None if node is None else text(node)
