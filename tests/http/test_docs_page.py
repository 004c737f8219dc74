"""The documentation page as it renders the OpenAPI document, without a browser."""

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
    """What stands in each part of the page that its script fills."""
    command = [program("node"), str(Path(__file__).with_name("page.js")), str(PAGE), str(OPENAPI)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    parts: dict[str, Any] = json.loads(done.stdout)
    return parts


def elements(node: Any, tag: str | None = None) -> Iterator[dict[str, Any]]:
    """The elements in a node, itself among them, in their order."""
    if not isinstance(node, dict):
        return
    if tag in (None, node["tag"]):
        yield node
    for child in node["children"]:
        yield from elements(child, tag)


def text(node: Any) -> str:
    """What a node reads."""
    return node if isinstance(node, str) else "".join(map(text, node["children"]))


def box(name: str) -> str:
    """What the box of an operation or a schema reads."""
    (found,) = (each for part in rendered().values() for each in elements(part) if each["attributes"].get("id") == name)
    return text(found)


def test_every_operation_and_webhook_has_its_box() -> None:
    """Once, with the method, and for the endpoints' own the word for their URL."""
    described = document()
    boxes = [each for each in elements(rendered()["operations"], "details") if each["attributes"].get("class") == "box"]
    shown = [(each["attributes"]["id"], text(next(elements(each, "summary")))) for each in boxes]
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
    """In the order of the document."""
    headings = [text(each) for each in elements(rendered()["operations"], "h3")]
    assert headings == [tag["name"] for tag in document()["tags"]]


def test_a_webhook_is_shown_as_what_the_service_sends() -> None:
    """With its headers, body and answers, and without a word on tokens, for it needs none of ours."""
    shown = box("operation-webhook_event")
    assert all(word in shown for word in ("webhook-id", "webhook-signature", "CloudEvent", "410", "Retry-After"))
    assert "oken" not in shown


def test_what_can_be_tried_is_the_feeds() -> None:
    """What reads a page of anything else would not be shown."""
    options = [text(each) for each in elements(rendered()["feed"], "option")]
    feeds = {
        f"{item['get']['summary']}: {path}"
        for path, item in document()["paths"].items()
        if item.get("get", {}).get("tags") == ["Feeds"]
    }
    assert set(options) == feeds
    assert len(options) == 4


def test_every_schema_that_is_linked_has_its_box() -> None:
    """No link to a schema leads nowhere."""
    links = {
        each["attributes"]["href"][1:]
        for part in rendered().values()
        for each in elements(part, "a")
        if each["attributes"]["href"].startswith("#schema-")
    }
    boxes = {each["attributes"].get("id") for each in elements(rendered()["schemas"], "details")}
    assert {"schema-Subscription", "schema-Delivery", "schema-CloudEvent"} <= links
    assert links <= boxes


def test_a_subscription_that_was_just_made_is_shown_whole() -> None:
    """The members that its schema takes over from another too."""
    shown = box("schema-NewSubscription")
    assert all(name in shown for name in ("secret", *document()["components"]["schemas"]["Subscription"]["properties"]))
