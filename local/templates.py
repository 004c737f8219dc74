"""Route templates, as in ASP.NET Core ("Routing in ASP.NET Core", Route templates), compiled to patterns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from local.constraints import Constraint, constraint

_BRACED = r"\{(?P<parameter>(?:[^{}]|\{\{|\}\})+)\}"
_LITERAL = r"(?P<literal>(?:[^{}/]|\{\{|\}\})+)"
_PART = re.compile(f"{_BRACED}|{_LITERAL}")
_SEGMENT = re.compile(r"(?:[^{}/]|\{\{|\}\}|\{(?:[^{}]|\{\{|\}\})+\})+")
_PARAMETER = re.compile(r"(?P<stars>\*{0,2})(?P<name>[^*:=?{}/]+)(?P<rest>.*)", re.DOTALL)
_CONSTRAINT = re.compile(r":(?P<name>\w+)(?:\((?P<argument>.*?)\)(?=:|=|$))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a template. It has the value `default` when the path leaves it out."""

    name: str
    constraints: tuple[Constraint, ...] = ()
    default: str | None = None
    optional: bool = False
    catch_all: bool = False

    def takes(self, text: str) -> bool:
        """Whether a text satisfies every constraint."""
        return all(test(text) for test in self.constraints)


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template. The pattern's groups have generated names, since a parameter's name may be no group name."""

    pattern: re.Pattern[str]
    parameters: Mapping[str, Parameter]

    def match(self, path: str) -> dict[str, str] | None:
        """The values of the parameters in a decoded path, or None if the template does not match."""
        found = self.pattern.fullmatch(path)
        if found is None:
            return None
        values: dict[str, str] = {}
        for group, parameter in self.parameters.items():
            if text := found[group]:
                if not parameter.takes(text):
                    return None
                values[parameter.name] = text
            elif parameter.default is not None:
                values[parameter.name] = parameter.default
        return values


def compile_template(text: str) -> Template:
    """Compile a template such as `app/{org}/{app:alpha}` or `{*path}`.

    Raises:
        ValueError: The template cannot be read, or names an unknown constraint.
    """
    parameters: dict[str, Parameter] = {}
    segments = [_segment(segment, parameters) for segment in _segments(text)]
    end = "" if any(parameter.catch_all for parameter in parameters.values()) else "/?"
    pattern, all_optional = "", True
    for segment, optional in reversed(segments):
        all_optional = all_optional and optional
        pattern = f"(?:/{segment}{pattern})?" if all_optional else f"/{segment}{pattern}"
    names = [parameter.name.lower() for parameter in parameters.values()]
    if len(set(names)) < len(names):
        raise ValueError("a parameter is named twice")
    return Template(re.compile(pattern + end, re.IGNORECASE | re.DOTALL), parameters)


def _segments(text: str) -> list[str]:
    """The segments of a template. A slash inside braces is part of a constraint."""
    segments, at = [], 0
    while at < len(text):
        found = _SEGMENT.match(text, at)
        if found is None or text[found.end() : found.end() + 1] not in {"", "/"}:
            raise ValueError(f"cannot be read at {text[at:]!r}")
        segments.append(found[0])
        at = found.end() + 1
    return segments


def _segment(text: str, parameters: dict[str, Parameter]) -> tuple[str, bool]:
    """The pattern of a segment, and whether a path may leave it out. Adds its parameters to `parameters`."""
    if any(parameter.catch_all for parameter in parameters.values()):
        raise ValueError("a catch-all parameter must come last")
    patterns, read = [], []
    for part in _PART.finditer(text):
        if part["literal"]:
            patterns.append(re.escape(_unescaped(part["literal"])))
        else:
            group = f"p{len(parameters)}"
            read.append(_parameter(part["parameter"]))
            parameters[group] = read[-1]
            patterns.append(f"(?P<{group}>{'.*' if read[-1].catch_all else '[^/]+'})")
    alone = len(patterns) == 1 and len(read) == 1
    return "".join(patterns), alone and read[0].optional


def _parameter(text: str) -> Parameter:
    found = _PARAMETER.fullmatch(text.removesuffix("?"))
    if found is None:
        raise ValueError(f"a parameter has no name: {text!r}")
    rest, at, constraints = found["rest"], 0, []
    while match := _CONSTRAINT.match(rest, at):
        argument = match["argument"]
        constraints.append(constraint(match["name"], None if argument is None else _unescaped(argument)))
        at = match.end()
    default = rest[at + 1 :] if rest[at:].startswith("=") else None
    if rest[at:] and default is None:
        raise ValueError(f"a parameter cannot be read: {text!r}")
    catch_all = bool(found["stars"])
    optional = catch_all or default is not None or text.endswith("?")
    return Parameter(found["name"], tuple(constraints), default, optional=optional, catch_all=catch_all)


def _unescaped(text: str) -> str:
    return text.replace("{{", "{").replace("}}", "}")
