"""Routing by the rules of the Functions host."""

from __future__ import annotations

from collections.abc import Iterable

import azure.functions as func
import pytest

from local.errors import HostError
from local.host import functions_of
from local.routing import Router, decode_path, encode_path

GUID = "3ab8d4f0-5d2b-4d0e-9c4c-d1c2a1b0e0aa"


async def nothing(req: func.HttpRequest) -> None:
    """Do nothing: routing calls no function."""


def app_of(*routes: tuple[str, str, Iterable[str]]) -> func.FunctionApp:
    """An app with a function for each name, route and methods."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
    for name, route, methods in routes:
        app.function_name(name)(app.route(route, methods=list(methods) or None)(nothing))
    return app


def router_of(*routes: tuple[str, str, Iterable[str]], prefix: str = "") -> Router:
    """The router of `app_of(*routes)`."""
    return Router(functions_of(app_of(*routes)), prefix)


def matched(template: str, path: str) -> dict[str, str] | None:
    """The parameters that a template finds in an escaped path, or None if it does not match."""
    found = router_of(("f", template, [])).match("GET", decode_path(path))
    return None if found is None else found[1]


@pytest.mark.parametrize(
    ("template", "path", "parameters"),
    [
        ("events", "/events", {}),
        ("events", "/EVENTS", {}),
        ("events", "/events/", {}),
        ("Events", "/events", {}),
        ("events.json", "/events.json", {}),
        ("app/{org}/{app}", "/app/ttd/apps-test", {"org": "ttd", "app": "apps-test"}),
        ("app/{org}/{app}", "/app/TTD/a%20b", {"org": "TTD", "app": "a b"}),
        ("app/{org}", "/app/a%2Fb", {"org": "a%2Fb"}),
        ("app/{org}", "/app/a%2fb%C3%A5", {"org": "a%2fbå"}),
        ("app/{org}", "/app/%C3%A5%FF%2F%41", {"org": "å%FF%2FA"}),
        ("app/{org}", "/app/a+b%2B", {"org": "a+b+"}),
        ("app/{org}", "/app/x/../y/", {"org": "y"}),
        ("app/{org}", "/app/%2e%2e/./app/y", {"org": "y"}),
        ("app/{org?}", "/app", {}),
        ("app/{org?}", "/app/ttd", {"org": "ttd"}),
        ("app/{org=ttd}", "/app", {"org": "ttd"}),
        ("app/{org=ttd}/{app?}", "/app/skd", {"org": "skd"}),
        ("{*rest}", "/", {}),
        ("{*rest}", "/a/b%2Fc/", {"rest": "a/b%2Fc/"}),
        ("a/{*rest}", "/a", {}),
        ("a/{**rest}", "/a/b/c", {"rest": "b/c"}),
        ("v{major}.{minor}", "/v1.2.3", {"major": "1.2", "minor": "3"}),
        ("{id:int}", "/-42", {"id": "-42"}),
        ("{id:long}", "/3000000000", {"id": "3000000000"}),
        ("{id:guid}", f"/{GUID}", {"id": GUID}),
        ("{id:guid}", f"/{GUID.upper().replace('-', '')}", {"id": GUID.upper().replace("-", "")}),
        ("{id:guid}", f"/%7B{GUID}%7D", {"id": f"{{{GUID}}}"}),
        ("{id:bool}", "/True", {"id": "True"}),
        ("{id:decimal}", "/12.5", {"id": "12.5"}),
        ("{id:alpha:length(3)}", "/ttd", {"id": "ttd"}),
        ("{id:length(2,4)}", "/abcd", {"id": "abcd"}),
        ("{id:minlength(2):maxlength(3)}", "/ab", {"id": "ab"}),
        ("{id:range(1,5)}", "/5", {"id": "5"}),
        ("{id:min(3)}", "/3", {"id": "3"}),
        ("{id:max(3)}", "/3", {"id": "3"}),
        ("{id:int?}", "/", {}),
        (r"{id:regex(^\d{{3}}(-x)?$)}", "/123", {"id": "123"}),
        (r"{id:regex(^[a-c/]+$)}/end", "/ABC/end", {"id": "ABC"}),
    ],
)
def test_a_template_matches_as_in_asp_net_core(template: str, path: str, parameters: dict[str, str]) -> None:
    """Literals ignore case. Parameters are decoded except for an escaped slash, and satisfy their constraints."""
    assert matched(template, path) == parameters


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("events", "/events/x"),
        ("events", "/event"),
        ("events", "/events//"),
        ("events.json", "/eventsxjson"),
        ("app/{org}", "/app"),
        ("app/{org}", "/app/a/b"),
        ("app/{org}", "/app//"),
        ("app/{org?}/end", "/app/end"),
        ("{id:int}", "/2147483648"),
        ("{id:int}", "/1.5"),
        ("{id:int}", "/" + "9" * 5000),
        ("{id:guid}", f"/{GUID}0"),
        ("{id:guid}", f"/%7B{GUID}"),
        ("{id:bool}", "/1"),
        ("{id:decimal}", "/twelve"),
        ("{id:alpha}", "/ttd1"),
        ("{id:length(3)}", "/ttdx"),
        ("{id:minlength(2)}", "/a"),
        ("{id:maxlength(2)}", "/abc"),
        ("{id:range(1,5)}", "/6"),
        ("{id:min(3)}", "/2"),
        ("{id:max(3)}", "/4"),
        (r"{id:regex(^\d{{3}}$)}", "/1234"),
        ("{id:int?}", "/x"),
    ],
)
def test_other_paths_do_not_match(template: str, path: str) -> None:
    """They are left to the next function."""
    assert matched(template, path) is None


@pytest.mark.parametrize(
    "template",
    [
        "{id:even}",
        "{id:length}",
        "{id:length(x)}",
        "{id:range(1)}",
        "{id:int(3)}",
        "{id:regex(()}",
        "{}",
        "{a}/{A}",
        "{*rest}/more",
        "{a",
        "a}",
        "a//b",
        "/a",
        "admin/keys",
        "Runtime/webhooks",
    ],
)
def test_a_route_that_the_functions_host_refuses_is_an_error(template: str) -> None:
    """The error names the function."""
    with pytest.raises(HostError, match=r"^f: "):
        router_of(("f", template, []))


def test_functions_are_tried_in_the_order_of_their_names() -> None:
    """The order in the file does not matter, and a more specific route has no priority."""
    router = router_of(("b_special", "app/party", ["GET"]), ("a_general", "app/{org}", ["GET"]))
    found = router.match("GET", "/app/party")
    assert found is not None
    assert found[0].name == "a_general"


@pytest.mark.parametrize(("method", "name"), [("GET", "a_get"), ("POST", "b_post"), ("HEAD", "z_rest")])
def test_the_method_is_part_of_the_match(method: str, name: str) -> None:
    """A function without the method is skipped, for HEAD and OPTIONS too."""
    router = router_of(("a_get", "x", ["GET"]), ("b_post", "x", ["POST"]), ("z_rest", "{*path}", []))
    found = router.match(method, "/x")
    assert found is not None
    assert found[0].name == name


def test_nothing_matches_without_a_route() -> None:
    """The host then answers by itself."""
    assert router_of(("f", "x", ["GET"])).match("POST", "/x") is None


def test_every_route_begins_with_the_prefix() -> None:
    """The prefix is `routePrefix` of `host.json`."""
    router = router_of(("f", "x", []), prefix="api")
    assert router.match("GET", "/api/x") is not None
    assert router.match("GET", "/x") is None


def test_the_default_route_is_the_name_of_the_function() -> None:
    """This is the default of the Functions host."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
    app.function_name("hello")(app.route()(nothing))
    assert Router(functions_of(app), "api").match("GET", "/api/hello") is not None


@pytest.mark.parametrize(
    ("raw", "url_path"),
    [
        ("/a%20b", "/a%20b"),
        ("/%61", "/a"),
        ("/a%2Fb", "/a%2Fb"),
        ("/%E5", "/%E5"),
        ("/100%25", "/100%25"),
        ("/å", "/%C3%A5"),
    ],
)
def test_the_url_has_a_normalised_path(raw: str, url_path: str) -> None:
    """Only characters that need it are escaped, and an escaped slash stays."""
    assert encode_path(decode_path(raw)) == url_path
