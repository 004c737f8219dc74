"""Checks of real responses and webhooks by the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from openapi_schema_validator import OAS31Validator, oas31_format_checker

TELLING = frozenset(
    {
        "next",
        "link",
        "etag",
        "events-caught-up",
        "preference-applied",
        "retry-after",
        "www-authenticate",
        "location",
        "allow",
        "deprecation",
    }
)
"""Headers that a response may have only if the document has them."""


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document as it is served."""
    text = (resources.files("events_core.http") / "static" / "openapi.json").read_bytes()
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def resolved(node: Mapping[str, Any]) -> dict[str, Any]:
    """A node, its reference followed."""
    while "$ref" in node:
        kind, name = node["$ref"].removeprefix("#/components/").split("/")
        node = document()["components"][kind][name]
    return dict(node)


def assert_documented(
    method: str, path_template: str, status: int, headers: Mapping[str, str], body: bytes | str
) -> None:
    """Fail unless the document describes this response: its status, headers, content type and body.

    An unknown path must get 404, and an undocumented method of a path 405.
    """
    where = f"{method} {path_template} {status}"
    present = {name.lower(): value for name, value in headers.items()}
    operation = _operation(method, path_template)
    assert str(status) in operation["responses"], f"{where}: the status is not documented"
    response = resolved(operation["responses"][str(status)])
    _assert_headers(where, _documented_headers(operation, response), present)
    _assert_body(where, response.get("content", {}), present.get("content-type", ""), body)


def assert_webhook(name: str, method: str, headers: Mapping[str, str], body: bytes) -> None:
    """Fail unless the document describes this request to an endpoint as its webhook `name`: headers and body."""
    where = f"{method} {name}"
    operation = document()["webhooks"][name][method.lower()]
    documented = {parameter["name"].lower(): parameter for parameter in map(resolved, operation["parameters"])}
    undocumented = {name for name in headers if name.startswith("webhook-")} - documented.keys()
    assert not undocumented, f"{where}: {sorted(undocumented)} not documented"
    _assert_headers(where, documented, headers)
    content = operation.get("requestBody", {}).get("content", {})
    _assert_body(where, content, headers.get("content-type", ""), body)


def _operation(method: str, path_template: str) -> dict[str, Any]:
    components = document()["components"]["responses"]
    path = document()["paths"].get(path_template)
    if path is None:
        return {"responses": {"404": components["NotFound"], "503": components["Unavailable"]}}
    undocumented = {"responses": {"405": components["MethodNotAllowed"], "503": components["Unavailable"]}}
    return dict(path.get(method.lower(), undocumented))


def _documented_headers(operation: Mapping[str, Any], response: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    documented = {name.lower(): resolved(header) for name, header in response.get("headers", {}).items()}
    if operation.get("deprecated"):
        components = document()["components"]["headers"]
        for name, component in (("deprecation", "Deprecation"), ("link", "Successor")):
            documented.setdefault(name, {**components[component], "required": False})
    return documented


def _assert_headers(where: str, documented: Mapping[str, dict[str, Any]], present: Mapping[str, str]) -> None:
    required = {name for name, header in documented.items() if header.get("required")}
    assert required <= present.keys(), f"{where}: without {sorted(required - present.keys())}"
    undocumented = TELLING & present.keys() - documented.keys()
    assert not undocumented, f"{where}: {sorted(undocumented)} not documented"
    for name, header in documented.items():
        if name in present:
            _assert_valid(f"{where}: {name}", header["schema"], _header_value(header["schema"], present[name]))


def _header_value(schema: Mapping[str, Any], text: str) -> str | int:
    return int(text) if schema.get("type") == "integer" and text.isdecimal() else text


def _assert_body(where: str, content: Mapping[str, Any], content_type: str, body: bytes | str) -> None:
    if not content:
        assert not body, f"{where}: a body is not documented"
        return
    media_type = content_type.partition(";")[0].strip().lower()
    assert media_type in content, f"{where}: {content_type!r} is not documented"
    text = body.decode() if isinstance(body, bytes) else body
    _assert_valid(where, content[media_type]["schema"], json.loads(text) if media_type.endswith("json") else text)


def _assert_valid(where: str, schema: Mapping[str, Any], value: object) -> None:
    whole = {**schema, "components": document()["components"]}
    faults = OAS31Validator(whole, format_checker=oas31_format_checker).iter_errors(value)
    listed = [f"{fault.json_path}: {fault.message[:200]}" for fault in faults]
    assert not listed, f"{where}: {'; '.join(listed)}"
