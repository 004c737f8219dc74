"""Malformed requests, each with the status and the field of the expected problem."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.publishing import BATCH, BINARY, STRUCTURED, of_size
from tests.support.service import APP_FEED, APP_RESOURCE, PARTY_FEED, PERSON, PUBLISH, RESOURCE_FEED, app_event, event

CANARY = "canary"
"""A text in invalid values, which no response may repeat."""
FROM = "from=2020-01-01T00:00:00Z"
GUID = "6fb3738d-6372-48e3-a2d2-f40ab0531fc1"
PUBLISH_APP = "/events/api/v1/app"
KIB = 1024


@dataclasses.dataclass(frozen=True)
class Malformed:
    """A request with every scope and an app's token. The problem names `field` unless it is None."""

    what: str
    status: int
    field: str | None
    method: str
    target: str
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    content_type: str | None = None
    with_tokens: bool = True


def _gets(
    path: str, queries: Mapping[str, str | None], headers: Mapping[str, str] | None = None
) -> Iterator[Malformed]:
    for query, name in queries.items():
        yield Malformed(f"GET {path}?{query[:60]}", 400, name, "GET", f"{path}?{query}", headers or {})


def _bounds() -> dict[str, str | None]:
    wrong = [
        CANARY,
        "2020-01-01",
        "13/28/2026%2010:00:00%20%2B01:00",
        "11/28/2026%2010:00:00",
        "2020-01-01T00:00:00",
        "2020-13-01T00:00:00Z",
        "2020-02-30T00:00:00Z",
        "2020-00-01T00:00:00Z",
        "2020-01-01T24:00:00Z",
        "2020-01-01T00:60:00Z",
        "2020-01-01T00:00:61Z",
        "2020-01-01T00:00:00%2B25:00",
        "2020-01-01T00:00:00%2B0100",
        "2020-01-01T00:00:00.Z",
        "20200101T000000Z",
        "1580000000",
        f"{PERSON}",
        "%D9%A2020-01-01T00:00:00Z",
        "-2020-01-01T00:00:00Z",
    ]
    starts = {f"from={value}": "from" for value in wrong}
    return {**starts, **{f"{FROM}&to={value}": "to" for value in wrong}}


def owner_feed() -> Iterator[Malformed]:
    """Queries of the owner's feed."""
    yield from _gets(APP_FEED, _bounds())
    sizes = ["0", "-1", CANARY, "1.5", "1e3", "%D9%A3", "1%2C000", "0x10", "--1", "-"]
    yield from _gets(APP_FEED, {f"{FROM}&size={value}": "size" for value in sizes})
    parties = ["-1", CANARY, "1.0", PERSON, "%D9%A3", "1/2"]
    yield from _gets(APP_FEED, {f"{FROM}&party={value}": "party" for value in parties})
    units = ["12345678", "1234567890", "97476067x", "%D9%A374760673", PERSON, CANARY]
    yield from _gets(APP_FEED, {f"{FROM}&unit={value}": "unit" for value in units})
    yield from _gets(
        APP_FEED,
        {
            "": "from",
            "from=": "from",
            "after=": "from",
            f"size=10&type={CANARY}": "from",
            "to=2020-01-01T00:00:00Z": "from",
            f"{FROM}&to=2019-12-31T23:59:59Z": "to",
            f"{FROM}&{FROM}": "from",
            f"after={CANARY}&after=b": "after",
            f"{FROM}&size=1&size=2": "size",
            f"{FROM}&party=1&party=2": "party",
            f"{FROM}&party=1&unit=974760673": "party",
            f"{FROM}&person={PERSON}": "person",
            f"{FROM}&PERSON={PERSON}": "person",
            f"{FROM}&type={CANARY * 400}": "type",
            f"{FROM}&source={CANARY * 400}": "source",
            f"after={CANARY * 400}": "after",
            f"{FROM}&{'&'.join(['type=a'] * 101)}": "type",
            f"{FROM}&type={CANARY}%00": "type",
            f"after=%00{CANARY}": "after",
            f"{FROM}&type=%ff": None,
            f"{FROM}&%ff=a": None,
            f"{FROM}&type=%ed%a0%80": None,
            f"{FROM}&{'&'.join(['a=b'] * 200)}": None,
            f"{FROM}&{PERSON}={CANARY}%00": "*",
            f"{FROM}&person[]={PERSON}": "person",
            f"{FROM}&person[{PERSON}]={CANARY}": "person",
            f"{FROM}&PARTY%5B0%5D={CANARY}": "party",
            f"{FROM}&type[a]={CANARY}": "type",
            f"{FROM}&type={'%25' * 6}&source={'%25' * 5}": "type",
            f"{FROM}&source={CANARY}{'%25' * 11}": "source",
        },
    )
    strict = {f"{FROM}&tpye={CANARY}": "tpye", f"{FROM}&{PERSON}={CANARY}": "*", f"{FROM}&typ[]={CANARY}": "typ[]"}
    yield from _gets(APP_FEED, strict, {"Prefer": "handling=strict"})


def party_feed() -> Iterator[Malformed]:
    """Queries and headers of the party feed."""
    yield from _gets(
        PARTY_FEED,
        {FROM: "party", f"{FROM}&party=": "party", f"{FROM}&party=0": "party", "party=1": "from", "": "from"},
    )
    person = {"person": PERSON}
    yield from _gets(PARTY_FEED, {f"{FROM}&party=1": "party", f"{FROM}&unit=974760673": "unit"}, person)
    for wrong in ("123", "0189969955x", f"{PERSON}1", CANARY, f"{PERSON},{PERSON}"):
        yield from _gets(PARTY_FEED, {FROM: "person"}, {"person": wrong})
    names = {"app=a": "org", "org=a/b&app=c": "app", "org=a&app=b/c": "app", f"org={CANARY}%20&app=b": "app"}
    yield from _gets(PARTY_FEED, {f"{FROM}&party=1&{query}": name for query, name in names.items()})


def resource_feed() -> Iterator[Malformed]:
    """Queries and headers of the resource feed."""
    good = "resource=urn:altinn:resource:ttd-mail"
    wrong = ["", CANARY, "urn:altinn:resource:", "urn:altinn:Resource:x", "urn:x:y", f"{good[9:]}&{good}"]
    yield from _gets(RESOURCE_FEED, {f"{FROM}&resource={value}": "resource" for value in wrong})
    yield from _gets(RESOURCE_FEED, {good: "from", f"{good}&from={CANARY}": "from", f"{good}&{FROM}&size=x": "size"})
    persons = [f"urn:altinn:person:identifier-no:{PERSON}", f"/person/{PERSON}", PERSON, f"urn:x:{PERSON}"]
    yield from _gets(RESOURCE_FEED, {f"{good}&{FROM}&subject={value}": "subject" for value in persons})
    alternative = {"Altinn-AlternativeSubject": CANARY}
    yield from _gets(RESOURCE_FEED, {f"{good}&{FROM}&subject=/party/1": "subject"}, alternative)
    yield from _gets(RESOURCE_FEED, {f"{good}&{FROM}": "subject"}, {**alternative, "Altinn-Subject": "/party/1"})
    yield from _gets(RESOURCE_FEED, {f"{good}&{FROM}&subject=/party/1": "subject"}, {"Altinn-Subject": CANARY})


def posted() -> Iterator[Malformed]:
    """Parameters of a feed as a JSON body."""
    start = '"from": "2020-01-01T00:00:00Z"'
    documents: dict[str, str | None] = {
        "": None,
        "{": None,
        "[]": None,
        '"a"': None,
        "{}": "from",
        f"{{{start}}}": "party",
        f'{{"party": 1, "from": "{CANARY}"}}': "from",
        f'{{"party": {{"{CANARY}": 1}}, {start}}}': "party",
        f'{{"party": 1.5, {start}}}': "party",
        f'{{"party": true, {start}}}': "party",
        f'{{"party": [1, 2], {start}}}': "party",
        f'{{"person": "{CANARY}", {start}}}': "person",
        f'{{"person": "{PERSON}", "party": 1, {start}}}': "party",
        f'{{"person": "{PERSON}", "unit": "974760673", {start}}}': "unit",
        f'{{"unit": 12, {start}}}': "unit",
        f'{{"party": 1, "size": "{CANARY}", {start}}}': "size",
        f'{{"party": 1, "app": "a", {start}}}': "org",
        f'{{"{PERSON}": {{}}, {start}}}': "party",
        f'{{"party": 0, {start}}}': "party",
        f'{{"party": 1, "type": 5, {start}}}': "type",
        f'{{"party": 1, "source": 5, {start}}}': "source",
        f'{{"party": 1, "type": ["a", 5], {start}}}': "type",
        f'{{"party": 1, "type": "a", "type": "b", {start}}}': "type",
        f'{{"party": 1, "Party": 2, {start}}}': "Party",
        f'{{"person[]": "{PERSON}", {start}}}': "person",
        f'{{"party": 1, "type": "{"%" * 11}", {start}}}': "type",
        f'{{"party": 1, "type": [{{}}], {start}}}': "type",
    }
    for text, name in documents.items():
        yield _post(PARTY_FEED, text.encode(), 400, name, "application/json")
    yield _post(PARTY_FEED, b"\xff", 400, None, "application/json")
    yield _post("/events/api/v1/party", b"{}", 400, "from", "application/json")
    yield _post(PARTY_FEED, b'{"party": 1}', 415, None, "text/plain")
    yield _post(PARTY_FEED, b"party=1", 415, None, "application/x-www-form-urlencoded")
    yield _post(PARTY_FEED, json.dumps({"type": "x" * 70_000}).encode(), 413, None, "application/json")


def _post(path: str, body: bytes, status: int, name: str | None, content_type: str | None, **headers: str) -> Malformed:
    what = f"POST {path} {content_type} {body[:60].decode('ascii', 'replace')} {name}"
    return Malformed(what, status, name, "POST", path, headers, body, content_type)


WRONG: dict[str, list[Any]] = {
    "specversion": [None, "", "0.3", "1.1", 1.0, 1],
    "id": [None, "", "x" * 257, 5, ["a"], "a\nb"],
    "source": [None, "", "https://a b", "::", "x" * 2049, 5, "https://[::g]/", "%zz", "\\"],
    "type": [None, "", "x" * 257, 5, "a\x7f", {}],
    "resource": [
        None,
        "",
        CANARY,
        "urn:x",
        "urn:altinn:",
        "urn:altinn:resource:",
        5,
        f"urn:altinn:resource:{'x' * 2048}",
    ],
    "subject": ["", "x" * 513, 5, [], "a\x00b"],
    "alternativesubject": ["", "x" * 513, 5],
    "time": ["", CANARY, "2020-01-01", "2020-01-01T00:00:00", "2020-02-30T00:00:00Z", 5, PERSON],
    "dataschema": ["", "schema", "https://a b", "https://example.com/#a", 5],
    "datacontenttype": ["", "json", "application/", "a/b;c", 5],
    "data_base64": ["***", "YQ", "YQ=", 5, {}, "YQ==\n"],
    "myext": [1.5, 2**31, -(2**31) - 1, [], {}, "a\x85b"],
}


def structured() -> Iterator[Malformed]:
    """Events in structured mode with one invalid attribute."""
    for name, values in WRONG.items():
        for value in values:
            body = json.dumps({**event(), name: value, "data": CANARY} if name != "data_base64" else _b64(value))
            yield _post(PUBLISH, body.encode(), 400, name, STRUCTURED)
    for name in ("MyExt", "my_ext", "my-ext", "", "my ext", "å"):
        body = json.dumps({**event(), name: CANARY})
        yield _post(PUBLISH, body.encode(), 400, {"my ext": "my*ext", "å": "*"}.get(name, name), STRUCTURED)
    for name in ("specversion", "id", "source", "type", "resource"):
        body = json.dumps({key: value for key, value in event().items() if key != name})
        yield _post(PUBLISH, body.encode(), 400, name, STRUCTURED)


def _b64(value: object) -> dict[str, Any]:
    return {**event(), "data_base64": value}


def texts() -> Iterator[Malformed]:
    """Bodies that are no JSON or no event."""
    good = json.dumps(event())
    bodies: list[bytes] = [
        b"",
        b" ",
        b"{",
        b"nul",
        b"null",
        b"5",
        b'"canary"',
        b"[]",
        good.encode()[:-1],
        good.encode() + b"x",
        good.encode() * 2,
        b"\xef\xbb\xbf" * 2 + good.encode(),
        good.encode("utf-16"),
        good.replace("mail", "m\xe5il").encode("latin-1"),
        good.encode().replace(b"mail", b"\xed\xa0\x80"),
        good.replace('"id"', '"data": NaN, "id"').encode(),
        good.replace('"id"', '"data": -Infinity, "id"').encode(),
        good.replace('"id"', '"data": 01, "id"').encode(),
        good.replace('"id"', '"data": {"a": 1, "a": 2}, "id"').encode(),
        good.replace('"id"', '"id": "a", "id"').encode(),
        good.replace('"id"', f'"{PERSON}": 1, "{PERSON}": 2, "id"').encode(),
        good.replace('"id"', '"data": "\\ud800", "id"').encode(),
        good.replace('"id"', '"data": "\t", "id"').encode(),
        good.replace('"id"', "'data': 1, \"id\"").encode(),
        good.replace('"id"', f'"data": {"[" * 70}{"]" * 70}, "id"').encode(),
        good.replace('"id"', f'"data": {"[" * 100_000}, "id"').encode(),
        good.replace('"id"', '/* canary */ "id"').encode(),
    ]
    for body in bodies:
        yield _post(PUBLISH, body, 400, None, STRUCTURED)
        yield _post(PUBLISH_APP, body, 400, None, "application/json")
        yield _post(PUBLISH, b"[" + body + b",{}]" if body.strip() else b"", 400, None, BATCH)


def binary() -> Iterator[Malformed]:
    """Events in binary mode with one invalid header."""
    wrong: list[tuple[str, str, str]] = [
        ("ce-specversion", "0.3", "specversion"),
        ("ce-id", "%zz", "ce-id"),
        ("ce-source", f"https://{CANARY} b", "source"),
        ("ce-type", '"open', "ce-type"),
        ("ce-time", CANARY, "time"),
        ("ce-subject", "%ff", "ce-subject"),
        ("ce-resource", CANARY, "resource"),
        ("ce-dataschema", CANARY, "dataschema"),
        ("ce-datacontenttype", "text/plain", "ce-datacontenttype"),
        ("ce-data", CANARY, "ce-data"),
        ("ce-my_ext", CANARY, "ce-my_ext"),
        (f"ce-{PERSON}-", CANARY, "ce-*-"),
    ]
    for name, value, named in wrong:
        yield Malformed(f"binary {name}: {value}", 400, named, "POST", PUBLISH, {**BINARY, name: value})
    for name in BINARY:
        rest = {key: value for key, value in BINARY.items() if key != name}
        yield Malformed(f"binary without {name}", 400, name.removeprefix("ce-"), "POST", PUBLISH, rest)
    yield Malformed("binary, no type of a type", 400, "datacontenttype", "POST", PUBLISH, BINARY, b"", "text;")
    yield Malformed("binary, no JSON", 400, None, "POST", PUBLISH, BINARY, b"{canary", "application/json")
    yield Malformed("binary, bad type", 400, "datacontenttype", "POST", PUBLISH, BINARY, b"a", f"{CANARY} {PERSON}")
    yield Malformed("binary, no type", 415, None, "POST", PUBLISH, BINARY, b"canary")
    yield Malformed("lost body", 411, None, "POST", PUBLISH, {**BINARY, "transfer-encoding": "chunked"})


def app_events() -> Iterator[Malformed]:
    """Invalid events of apps."""
    source = f"https://ttd.apps.altinn.example/ttd/apps-test/instances/{PERSON}1/{GUID}"
    wrong: dict[str, list[Any]] = {
        "source": [None, 5, source, source.replace("instances", CANARY)],
        "type": [None, "", 5],
        "subject": [None, "", 5],
        "specversion": [None, "0.3"],
        "id": ["", 5, ["a"]],
        "myext": [1.5],
        "data_base64": [CANARY + "*"],
    }
    for name, values in wrong.items():
        for value in values:
            yield _post(PUBLISH_APP, json.dumps(app_event(**{name: value})).encode(), 400, name, "application/json")
    body = json.dumps(app_event()).encode()
    yield _post(PUBLISH_APP, body, 415, None, "text/plain")
    yield _post(PUBLISH_APP, body, 415, None, None)
    yield _post(PUBLISH_APP, body, 415, None, BATCH)


def sizes() -> Iterator[Malformed]:
    """Requests just beyond each limit."""
    yield _post(PUBLISH, of_size(event(), 256 * KIB + 1), 413, None, STRUCTURED)
    yield _post(PUBLISH_APP, of_size(app_event(), 256 * KIB + 1), 413, None, "application/json")
    yield _post(PUBLISH, b"[" + of_size(event(), 256 * KIB + 1) + b"]", 413, "[0]", BATCH)
    yield _post(PUBLISH, b"[" + b",".join([of_size(event(), 210 * KIB)] * 5) + b"]", 413, None, BATCH)
    yield _post(PUBLISH, json.dumps([event() for _ in range(101)]).encode(), 413, None, BATCH)
    yield _post(PUBLISH, b"x" * (256 * KIB + 1), 413, None, "text/plain", **BINARY)
    yield _post(PUBLISH, b'"' * 200 * KIB, 413, None, "text/plain", **BINARY)


def batches() -> Iterator[Malformed]:
    """Batches with one invalid event."""
    app_resource = event(APP_RESOURCE, source=f"https://mail.example/{CANARY}")
    wrong: list[tuple[Any, str]] = [
        (event(id=""), "[1].id"),
        (event(time=CANARY), "[1].time"),
        ({}, "[1].specversion"),
        (CANARY, "[1]"),
        ({**event(), f"x-{PERSON}": 1}, "[1].x-*"),
        (app_resource, "[1].source"),
    ]
    for bad, name in wrong:
        yield _post(PUBLISH, json.dumps([event(), bad, event()]).encode(), 400, name, BATCH)


def envelopes() -> Iterator[Malformed]:
    """Invalid routes, methods, media types and tokens."""
    body = json.dumps(event(data=CANARY)).encode()
    for content_type in (
        "application/json",
        "text/plain",
        "application/cloudevents+xml",
        CANARY,
        ";",
        "multipart/form-data",
    ):
        yield _post(PUBLISH, body, 415, None, content_type)
    for accept in ("text/html", "application/xml", "application/json;q=0", CANARY):
        yield Malformed(f"Accept {accept}", 406, None, "GET", f"{APP_FEED}?{FROM}", {"Accept": accept})
    for method, target in (
        ("PUT", PUBLISH),
        ("PATCH", PUBLISH),
        ("POST", APP_FEED),
        ("GET", PUBLISH_APP),
    ):
        yield Malformed(f"{method} {target}", 405, None, method, target, {}, body, STRUCTURED)
    for target in (
        "/events/api/v1/events/a/b",
        "/events/api/v1/canary",
        f"/events/api/v1/x/{PERSON}",
        "/events/api/v2/events",
    ):
        yield Malformed(f"POST {target}", 404, None, "POST", target, {}, body, STRUCTURED)
    for name in ("t%20td/apps", "ttd/a%2Fb", "ttd/%00", "t_d/apps", f"canary%3F/{PERSON}", "ttd/a%20b", "%ff/a"):
        yield Malformed(f"GET app {name}", 400, "app", "GET", f"/events/api/v1/app/{name}?{FROM}")
    for token in ("", "canary", "a.b.c", "x" * 20_000, "eyJhbGciOiJub25lIn0.e30."):
        headers = {"Authorization": f"Bearer {token}", "PlatformAccessToken": token or "canary"}
        for target in (PUBLISH, PUBLISH_APP):
            yield Malformed(
                f"token {token[:20]} {target}", 401, None, "POST", target, headers, body, STRUCTURED, with_tokens=False
            )
    for query, name in (("", "source"), (f"?source={CANARY}", "resource"), ("?source=a&source=b&resource=c", "source")):
        yield Malformed(f"DELETE {query}", 400, name, "DELETE", f"{RESOURCE_FEED}/canary{query}")
    yield Malformed("DELETE without id", 400, "id", "DELETE", f"{RESOURCE_FEED}?source=a&resource=b")
    yield Malformed("trace without id", 400, "id", "GET", f"/events/api/v1/trace?source={CANARY}")
    for name in ("a%2Fb", "a%252fb", "..%2F", "%2F"):
        query = "?source=a&resource=b"
        yield Malformed(f"DELETE {name}", 400, "id", "DELETE", f"{RESOURCE_FEED}/{name}{query}")
        yield Malformed(f"trace {name}", 400, "id", "GET", f"{RESOURCE_FEED}/{name}/trace{query}")


GROUPS = {
    group.__name__.replace("_", " "): list(group())
    for group in (
        owner_feed,
        party_feed,
        resource_feed,
        posted,
        structured,
        texts,
        binary,
        app_events,
        sizes,
        batches,
        envelopes,
    )
}
"""Every malformed request, by what is malformed."""
