"""The documentation page renders the OpenAPI document; Node.js runs its script without a browser."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from local.host import ROOT
from tests.support.node import program
from tests.support.openapi import document

STATIC = ROOT / "events_core" / "http" / "static"
PAGE, OPENAPI = STATIC / "docs.html", STATIC / "openapi.json"


@cache
def rendered() -> dict[str, Any]:
    """The content of each part of the page that the script fills."""
    command = [program("node"), str(Path(__file__).with_name("page.js")), str(PAGE), str(OPENAPI)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    parts: dict[str, Any] = json.loads(done.stdout)
    return parts


def elements(node: Any, tag: str | None = None) -> Iterator[dict[str, Any]]:
    """A node and the elements in it, in their order."""
    if not isinstance(node, dict):
        return
    if tag in (None, node["tag"]):
        yield node
    for child in node["children"]:
        yield from elements(child, tag)


def text(node: Any) -> str:
    """The text of a node."""
    return node if isinstance(node, str) else "".join(map(text, node["children"]))


def box(name: str) -> str:
    """The text of the box of an operation or a schema."""
    (found,) = (node for part in rendered().values() for node in elements(part) if node["attributes"].get("id") == name)
    return text(found)


def test_every_operation_and_webhook_has_its_box() -> None:
    """The box has the method and the path; a webhook has the word for the endpoint's URL."""
    described = document()
    boxes = [node for node in elements(rendered()["operations"], "details") if node["attributes"].get("class") == "box"]
    shown = [(node["attributes"]["id"], text(next(elements(node, "summary")))) for node in boxes]
    wanted = {
        (f"operation-{operation['operationId']}", f"{method.upper()}{path}{operation['summary']}")
        for kind, items in (("paths", described["paths"]), ("webhooks", described["webhooks"]))
        for name, item in items.items()
        for path in (name if kind == "paths" else "endPoint",)
        for method, operation in item.items()
        if method != "parameters"
    }
    assert {(name, summary.removesuffix(" (deprecated)")) for name, summary in shown} == wanted
    assert len(shown) == len(wanted)


def test_each_tag_is_a_heading() -> None:
    """The order is that of the document."""
    headings = [text(node) for node in elements(rendered()["operations"], "h3")]
    assert headings == [tag["name"] for tag in document()["tags"]]


def test_a_webhook_is_shown_with_its_headers_and_responses() -> None:
    """It mentions no token, since the endpoint needs none."""
    shown = box("operation-receiveEvent")
    assert all(word in shown for word in ("webhook-id", "webhook-signature", "CloudEvent", "410", "Retry-After"))
    assert "oken" not in shown


def test_only_feeds_can_be_tried() -> None:
    """The page can show nothing but events."""
    options = [text(node) for node in elements(rendered()["feed"], "option")]
    feeds = {
        f"{item['get']['summary']}: {path}"
        for path, item in document()["paths"].items()
        if item.get("get", {}).get("tags") == ["Feeds"]
    }
    assert set(options) == feeds
    assert len(options) == 4


def test_every_linked_schema_has_its_box() -> None:
    """No link to a schema is broken."""
    links = {
        node["attributes"]["href"][1:]
        for part in rendered().values()
        for node in elements(part, "a")
        if node["attributes"]["href"].startswith("#schema-")
    }
    boxes = {node["attributes"].get("id") for node in elements(rendered()["schemas"], "details")}
    assert {"schema-Subscription", "schema-Delivery", "schema-CloudEvent"} <= links
    assert links <= boxes


def test_the_schema_of_a_new_subscription_is_shown_whole() -> None:
    """It shows inherited members too."""
    shown = box("schema-NewSubscription")
    assert all(name in shown for name in ("secret", *document()["components"]["schemas"]["Subscription"]["properties"]))
