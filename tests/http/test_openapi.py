"""The OpenAPI document and the documentation page agree with the triggers, the code and real responses."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

import function_app
from events_core.common.errors import Problem
from local.host import functions_of
from tests.support.openapi import assert_documented, document, resolved
from tests.support.service import ANCIENT, APP_FEED, APP_TOKEN_SCOPES, PARTY, PARTY_FEED, PUBLISH, RESOURCE, Service
from tests.support.service import app_event as sample_app_event
from tests.support.service import event as sample_event

ROOT = Path(__file__).parents[2]
HTTP = ROOT / "events_core" / "http"
PAGE = (HTTP / "static" / "docs.html").read_text()
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
BY_STATUS = {str(problem.status): problem for problem in Problem}
NO_PARAMETERS = {"authorization", "accept", "platformaccesstoken", "transfer-encoding"}
NO_PARAMETERS |= {"content-encoding", "content-length", "content-type"}
"""Headers that OpenAPI describes by other means, or that are part of HTTP."""


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation: its path, method and description."""
    for path, item in document()["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def triggers() -> set[tuple[str, str]]:
    """The path and method of every HTTP trigger but the fallback. HEAD goes with GET."""
    found = set()
    for function in functions_of(function_app.app):
        if function.trigger["type"] == "httpTrigger" and function.name != "zz_fallback":
            method, *head = (method.value for method in function.trigger["methods"])
            assert head == (["HEAD"] if method == "GET" else []), function.name
            found.add((f"/{function.trigger['route']}", method.lower()))
    return found


def parameters(path: str, operation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parameters of an operation and of its path."""
    shared = document()["paths"][path].get("parameters", [])
    return [resolved(parameter) for parameter in [*shared, *operation.get("parameters", [])]]


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(child)


def references() -> set[str]:
    """Every reference in the document."""
    return {node["$ref"] for node in nodes(document()) if isinstance(node.get("$ref"), str)}


def schema_faults(schema: Mapping[str, Any], value: object) -> list[str]:
    """The faults of a value by a schema of the document."""
    whole = {**schema, "components": document()["components"]}
    return [fault.message for fault in OAS31Validator(whole).iter_errors(value)]


# -- The document -----------------------------------------------------------------------------------------------------


def test_the_document_is_valid_openapi() -> None:
    """The version is OpenAPI 3.1."""
    validate(document())
    assert document()["openapi"].startswith("3.1.")


def test_operations_are_the_triggers_one_to_one() -> None:
    """Path and method of each operation are those of a trigger."""
    assert {(path, method) for path, method, _ in operations()} == triggers()


def test_webhooks_have_names_of_their_own() -> None:
    """Requests that the service sends are no operations, and operation ids are unique."""
    ids = [node["operationId"] for node in nodes(document()) if "operationId" in node]
    sent = {one["operationId"] for item in document()["webhooks"].values() for one in item.values()}
    assert len(ids) == len(set(ids))
    assert sent == {"receiveEvent", "receiveHandshake", "receiveTest", "receiveValidation"}


def test_older_routes_are_deprecated() -> None:
    """Exactly the older routes are, and their responses have the headers that say so."""
    for _, _, operation in operations():
        assert operation.get("deprecated", False) == ("Legacy" in operation["operationId"])
        successes = [resolved(answer) for status, answer in operation["responses"].items() if status < "4"]
        said = all({"Deprecation", "Link"} <= answer.get("headers", {}).keys() for answer in successes)
        assert said or not operation.get("deprecated")


def test_the_version_is_the_projects() -> None:
    """The version is that of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert document()["info"]["version"] == project["version"]


def test_every_component_is_used() -> None:
    """Only the response to a wrong method belongs to no operation."""
    components = {
        f"#/components/{kind}/{name}"
        for kind, named in document()["components"].items()
        if kind != "securitySchemes"
        for name in named
    }
    assert components - references() == {"#/components/responses/MethodNotAllowed"}


def test_path_parameters_are_those_of_the_path() -> None:
    """An operation describes exactly the parameters in its path."""
    for path, _, operation in operations():
        named = {parameter["name"] for parameter in parameters(path, operation) if parameter["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path)), path


def test_errors_are_those_of_the_table() -> None:
    """A failure's example is a problem of the table, and never a 500."""
    for path, _, operation in operations():
        for status in (status for status in operation["responses"] if status >= "4" and not path.startswith("/health")):
            example = resolved(operation["responses"][status])["content"]["application/problem+json"]["example"]
            problem = BY_STATUS[status]
            assert problem is not Problem.INTERNAL
            assert (example["title"], example["status"]) == (problem.title, problem.status)
            assert example["type"] == f"/events/api/v1/docs#{problem.slug}"


def test_every_operation_may_be_unavailable() -> None:
    """A missing setting gives 503 everywhere."""
    assert all("503" in operation["responses"] for _, _, operation in operations())


def test_operations_with_a_token_document_401() -> None:
    """401 is documented exactly where a token is needed."""
    for path, _, operation in operations():
        assert ("401" in operation["responses"]) == bool(operation["security"]), path


def test_every_feed_promises_its_headers() -> None:
    """A page and a 304 have `next`, `Link`, `ETag` and `Events-Caught-Up`."""
    promised = {"next", "Link", "ETag", "Events-Caught-Up"}
    feeds = [operation for _, _, operation in operations() if "304" in operation["responses"]]
    assert len(feeds) == 10
    for operation, status in ((operation, status) for operation in feeds for status in ("200", "304")):
        headers = resolved(operation["responses"][status])["headers"]
        assert {name for name in promised if resolved(headers[name])["required"]} == promised


def test_every_header_and_parameter_that_the_code_reads_is_documented() -> None:
    """The names in the handlers are documented parameters."""
    code = "".join(file.read_text() for file in HTTP.glob("*.py"))
    read = set(re.findall(r'(?:\.header|\.one|\.many|timestamp\(\w+,)\(? ?"([\w-]+)"', code))
    documented = {parameter["name"].lower() for path, _, one in operations() for parameter in parameters(path, one)}
    assert {"if-none-match", "after", "from", "size"} <= read
    assert {name.lower() for name in read} - NO_PARAMETERS - documented == set()


def test_examples_are_valid() -> None:
    """Each example is valid by its schema."""
    schemas = document()["components"]["schemas"].values()
    shown = [(schema, example) for schema in schemas for example in schema.get("examples", [])]
    shown += [(node["schema"], node["example"]) for node in nodes(document()) if "schema" in node and "example" in node]
    assert len(shown) > 40
    for schema, example in shown:
        assert not schema_faults(schema, example), example


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("2022-07-07T11:00:53.3917Z", True),
        ("2023-02-16T18:00Z", True),
        ("2023-02-16t19:00:00.123 01:00", True),
        ("2024-02-29T23:59:60-23:59", True),
        ("", True),
        ("2023-02-16T18:00", False),
        ("2023-13-01T00:00Z", False),
        ("2023-04-31T00:00Z", False),
        ("2023-02-16T24:00Z", False),
        ("0000-01-01T00:00Z", False),
        ("2023-02-16", False),
        ("2023-02-16Z", True),
        ("2023-02-16 01:00", True),
        ("2023-02-30Z", False),
        ("11/28/2026 10:00:00 +01:00", True),
        ("11/28/2026 10:00:00  01:00", True),
        ("28/11/2026 10:00:00 +01:00", False),
        ("11/28/2026 10:00:00", False),
    ],
)
def test_the_pattern_of_a_time_is_that_of_the_service(text: str, *, valid: bool) -> None:
    """The document's pattern and the service accept the same times."""
    assert (not schema_faults({"$ref": "#/components/schemas/Timestamp"}, text)) == valid


# -- Real responses ---------------------------------------------------------------------------------------------------


async def test_real_feeds_are_documented(service: Service) -> None:
    """A page, a 304 and a page of an older route."""
    await service.publish_app_event()
    token = service.org(APP_TOKEN_SCOPES)
    page = await service.get(APP_FEED, token, from_=ANCIENT)
    assert_documented("GET", "/events/api/v1/app/{org}/{app}", page.status, page.headers, page.body)
    unchanged = await service.get(APP_FEED, token, from_=ANCIENT, headers={"If-None-Match": page.headers["etag"]})
    assert unchanged.status == 304
    assert_documented("GET", "/events/api/v1/app/{org}/{app}", unchanged.status, unchanged.headers, unchanged.body)
    older = await service.get("/events/instanceevents/ttd/apps-test", token, from_=ANCIENT)
    assert_documented("GET", "/events/instanceevents/{org}/{app}", older.status, older.headers, older.body)


async def test_real_publishing_is_documented(service: Service) -> None:
    """A first publish, a repeat and a batch."""
    for _ in range(2):
        one = await service.request(
            "POST", "/events/api/v1/app", platform_token=service.app(), json_body=sample_app_event(id="1")
        )
        assert_documented("POST", "/events/api/v1/app", one.status, one.headers, one.body)
    many = await service.request(
        "POST",
        PUBLISH,
        token=service.org("altinn:events.publish"),
        json_body=[sample_event(), sample_event(priority=7)],
        content_type="application/cloudevents-batch+json",
    )
    assert many.status == 200
    assert_documented("POST", PUBLISH, many.status, many.headers, many.body)


async def test_real_problems_are_documented(service: Service) -> None:
    """Failures of a route, an older route, an unknown path and a wrong method."""
    bad = await service.get(PARTY_FEED, service.user(), from_="yesterday", party=PARTY)
    assert_documented("GET", PARTY_FEED, bad.status, bad.headers, bad.body)
    older = await service.get("/events/instanceeventsforparty", from_=ANCIENT)
    assert_documented("GET", "/events/instanceeventsforparty", older.status, older.headers, older.body)
    nowhere = await service.get("/events/api/v2/events")
    assert_documented("GET", "/events/api/v2/events", nowhere.status, nowhere.headers, nowhere.body)
    method = await service.request("PATCH", PUBLISH)
    assert_documented("PATCH", PUBLISH, method.status, method.headers, method.body)
    method = await service.request("DELETE", "/events")
    assert_documented("DELETE", "/events", method.status, method.headers, method.body)


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/events/api/v1/openapi.json", "/events/api/v1/docs"])
async def test_real_operating_responses_are_documented(service: Service, path: str) -> None:
    """Health, the document and the page."""
    answer = await service.get(path)
    assert answer.status == 200
    assert_documented("GET", path, answer.status, answer.headers, answer.body)


async def test_erasing_is_documented(service: Service) -> None:
    """Erasing a stored and an unknown event."""
    event = sample_event(id="to erase")
    await service.publish(event)
    query = f"?source={event['source']}&resource={RESOURCE}"
    for event_id, status in (("to%20erase", 204), ("unknown", 404)):
        answer = await service.request(
            "DELETE", f"{PUBLISH}/{event_id}{query}", token=service.org("altinn:events.erase")
        )
        assert answer.status == status
        assert_documented("DELETE", f"{PUBLISH}/{{id}}", answer.status, answer.headers, answer.body)
        answer = await service.request(
            "DELETE", f"{PUBLISH}{query}&id={event_id}", token=service.org("altinn:events.erase")
        )
        assert answer.status == status
        assert_documented("DELETE", PUBLISH, answer.status, answer.headers, answer.body)


# -- The check itself -------------------------------------------------------------------------------------------------

PROBLEM = {
    "type": "/events/api/v1/docs#bad-request",
    "title": "Bad request",
    "status": 400,
    "detail": "No.",
    "traceId": "0" * 31 + "1",
}
PROBLEM_HEADERS = {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}


def check(status: int = 400, body: object = PROBLEM, **changed: str | None) -> None:
    """Check a failure of publishing, with some headers changed or left out."""
    headers = {**PROBLEM_HEADERS, **{name.replace("_", "-"): value for name, value in changed.items()}}
    given = {name: value for name, value in headers.items() if value is not None}
    assert_documented("POST", PUBLISH, status, given, json.dumps(body).encode())


def test_a_documented_response_passes() -> None:
    """The check accepts a response as it is documented."""
    check()


@pytest.mark.parametrize(
    "broken",
    [
        {"status": 404},
        {"status": 500},
        {"status": 401},
        {"body": {**PROBLEM, "traceId": "1"}},
        {"body": {"title": "Bad request"}},
        {"body": "Bad request"},
        {"Content_Type": "application/json"},
        {"Content_Type": None},
        {"Cache_Control": None},
        {"Cache_Control": "public"},
        {"next": "https://platform.altinn.no/"},
        {"Deprecation": "@1688169600"},
    ],
)
def test_an_undocumented_response_fails(broken: dict[str, Any]) -> None:
    """The check refuses another status, body or content type, and headers that are missing, wrong or undocumented."""
    with pytest.raises(AssertionError, match="POST /events/api/v1/events"):
        check(**broken)


# -- The page ---------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The ids and the links of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.urls: list[str] = []
        self.handlers: list[str] = []
        self.feed(PAGE)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the id and the links of an element."""
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "action", "srcset", "data", "poster"):
                self.urls.append(value or "")
            if name.startswith("on"):
                self.handlers.append(f"{tag} {name}")


@pytest.mark.parametrize("problem", Problem)
def test_every_kind_of_problem_has_its_anchor(problem: Problem) -> None:
    """Problem documents link to the anchors."""
    assert Page().ids.count(problem.slug) == 1


def test_ids_are_unique_and_links_have_targets() -> None:
    """A target may be rendered from the document."""
    page = Page()
    named = {f"operation-{node['operationId']}" for node in nodes(document()) if "operationId" in node}
    assert len(page.ids) == len(set(page.ids))
    assert {url[1:] for url in page.urls if url.startswith("#")} <= set(page.ids) | named


def test_the_page_refers_to_nothing_external() -> None:
    """The page loads no style, font or script."""
    assert {url for url in Page().urls if not url.startswith("#")} == {"openapi.json", "data:,"}
    assert not re.search(r"https?:|@import|url\(|//\w+\.\w", PAGE)


def test_the_page_renders_text_and_never_markup() -> None:
    """Text of the document cannot become markup or code."""
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc", PAGE)
    assert Page().handlers == []


def test_the_page_keeps_no_token() -> None:
    """The page neither stores the token nor puts it into a URL."""
    assert not re.search(r"localStorage|sessionStorage|document\.cookie|history\.", PAGE)


async def test_the_page_works_under_its_policy(service: Service) -> None:
    """The Content-Security-Policy names the page's own style and script by their hashes, and allows nothing else."""
    policy = (await service.get("/events/api/v1/docs")).headers["content-security-policy"]
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    for tag in ("style", "script"):
        inline = re.findall(rf"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline]
        assert allowed.pop(f"{tag}-src").split() == [f"'sha256-{text}'" for text in hashes]
        assert len(re.findall(f"<{tag}", PAGE)) == len(hashes) == 1
    assert allowed.pop("connect-src") == "'self'"
    assert allowed.pop("img-src") == "data:"
    assert allowed == dict.fromkeys(("default-src", "base-uri", "form-action", "frame-ancestors"), "'none'")
    assert not re.search(r"<(?:img|iframe|object|embed|script src)|\bstyle=", PAGE)
