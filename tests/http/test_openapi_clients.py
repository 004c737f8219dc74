"""The OpenAPI document generates clients, and those work."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.data_dir import open_issuer
from tests.support.clients import DOCUMENT, HERE, run_node, run_python
from tests.support.openapi import document, resolved
from tests.support.served import served

VERBS = (
    *("read", "publish", "erase", "trace", "explain", "receive", "send"),
    *("list", "create", "get", "change", "move", "pause", "resume", "test", "delete", "validate", "replay", "rotate"),
)
SCHEMAS = ("items", "contains", "not", "if", "then", "else", "propertyNames", "unevaluatedProperties")
LISTS_OF_SCHEMAS = ("allOf", "anyOf", "oneOf", "prefixItems")
NAMED_SCHEMAS = ("properties", "patternProperties", "dependentSchemas", "schemas")


def nodes(node: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object in a JSON value but those in examples, with its key."""
    if isinstance(node, dict):
        yield key, node
    for name, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if name not in ("example", "examples"):
            yield from nodes(child, str(name))


def subschemas(node: dict[str, Any]) -> Iterator[Any]:
    """The schemas right within an object of the document."""
    yield from (node[name] for name in SCHEMAS if name in node)
    yield from (schema for name in LISTS_OF_SCHEMAS for schema in node.get(name, ()))
    yield from (schema for name in NAMED_SCHEMAS if isinstance(node.get(name), dict) for schema in node[name].values())


# -- The rules --------------------------------------------------------------------------------------------------------


def test_operation_ids_are_verbs_in_camel_case() -> None:
    """Generators make method names of them, and classes of what stands before a `_`."""
    ids = [node["operationId"] for _, node in nodes(document()) if "operationId" in node]
    pattern = re.compile(rf"({'|'.join(VERBS)})([A-Z][a-z]+)+")
    assert len(ids) > 30
    assert [name for name in ids if not pattern.fullmatch(name)] == []


def test_no_schema_is_a_boolean() -> None:
    """Generators of C# and Python stop at `false`; `{"not": {}}` says the same."""
    wrong = [
        node
        for key, node in nodes(document())
        if key not in NAMED_SCHEMAS and any(isinstance(schema, bool) for schema in subschemas(node))
    ]
    assert wrong == []


def test_a_constant_has_its_type() -> None:
    """Without `type` a constant is an object in C#."""
    constants = [node for key, node in nodes(document()) if "const" in node and key not in NAMED_SCHEMAS]
    assert len(constants) > 5
    assert [node for node in constants if "type" not in node] == []


def test_each_part_of_an_all_of_has_a_type() -> None:
    """A part without one, such as a `not` alone, is a class of nothing, at which generators stop."""
    parts = [resolved(part) for _, node in nodes(document()) for part in node.get("allOf", ())]
    assert parts
    assert [part for part in parts if not part.keys() & {"type", "anyOf", "oneOf", "allOf"}] == []


def test_a_request_begins_with_its_structured_type() -> None:
    """Generators of C# take `application/json` if it is there, else the first: an event must not go as binary data."""
    content = document()["components"]["requestBodies"]["Events"]["content"]
    assert list(content) == ["application/cloudevents+json", "application/cloudevents-batch+json", "*/*"]


# -- The tools --------------------------------------------------------------------------------------------------------

CLIENT = """
import sys
from events_client import AuthenticatedClient
from events_client.api.feeds import read_app_feed, read_resource_feed
from events_client.api.publishing import publish_app_event, publish_events
from events_client.models import AppEvent, CloudEvent

url, token, platform_token, source = sys.argv[1:]
organisation = AuthenticatedClient(base_url=url, token=token)
app = AuthenticatedClient(base_url=url, token=platform_token, prefix="", auth_header_name="PlatformAccessToken")

event = CloudEvent("1.0", "run-1", "https://reports.example/s", "report.ready", "urn:altinn:resource:ttd-reports")
event.data = {"pages": 12}
event["priority"] = 7
outcome = publish_events.sync(client=organisation, body=event).events[0]
assert (outcome.id, outcome.duplicate) == ("run-1", False), outcome
assert publish_events.sync(client=organisation, body=event).events[0].duplicate

page = read_resource_feed.sync_detailed(client=organisation, resource=event.resource, from_="2020-01-01T00:00:00Z")
(read,) = page.parsed
assert read.to_dict() == event.to_dict(), read
assert page.headers["next"].startswith(url)

about = AppEvent("1.0", source, "app.instance.created", "/party/50002108")
assert publish_app_event.sync_detailed(client=app, body=about).status_code == 201
(read,) = read_app_feed.sync(org="ttd", app="apps-test", client=organisation, after="0")
assert (read.source, read.subject) == (source, "/party/50002108"), read

refused = publish_events.sync_detailed(client=organisation, body=CloudEvent("1.0", "", "s", "t", event.resource))
assert (refused.status_code, refused.parsed.status) == (400, 400), refused
"""
SOURCE = "https://ttd.apps.altinn.no/ttd/apps-test/instances/50002108/5b1f64c9-0f0e-4c39-9a5c-0a7f5a3f8f11"
SCOPES = "altinn:events.publish.admin altinn:events.subscribe altinn:events/ttd/apps-test"


def test_a_generated_python_client_publishes_and_reads(tmp_path: Path) -> None:
    """openapi-python-client leaves out batches and binary mode only, and its client works with the service."""
    out = tmp_path / "events_client"
    words = ["generate", "--path", str(DOCUMENT), "--meta", "none", "--output-path", str(out)]
    made = run_python("-m", "openapi_python_client", *words, beside=tmp_path)
    assert made.returncode == 0, made.stderr
    left_out = set(re.findall(r"^WARNING parsing (.*) within", made.stderr, re.MULTILINE))
    assert left_out == {"POST /events/api/v1/events", "POST /events"}, made.stderr
    with served(tmp_path) as service:
        issuer = open_issuer(service.data_dir)
        tokens = issuer.token_for_org("ttd", SCOPES), issuer.platform_token("ttd/apps-test")
        ran = run_python("-c", CLIENT, service.url, *tokens, SOURCE, beside=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_generated_types_check_in_typescript(tmp_path: Path) -> None:
    """openapi-typescript makes types of the document, and code that uses them compiles."""
    made = run_node("openapi-typescript", str(DOCUMENT), "--output", str(tmp_path / "api.d.ts"))
    assert made.returncode == 0, made.stdout + made.stderr
    for name in ("reader.ts", "tsconfig.json"):
        shutil.copy(HERE / name, tmp_path)
    checked = run_node("tsc", "--project", str(tmp_path))
    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_linter_accepts_the_document() -> None:
    """Redocly's strict rules hold, but for those that tests/clients/redocly.yaml gives a reason for."""
    words = ["lint", "--format", "json", "--config", str(HERE / "redocly.yaml"), str(DOCUMENT)]
    linted = run_node("redocly", *words)
    assert json.loads(linted.stdout)["problems"] == []
    assert linted.returncode == 0
