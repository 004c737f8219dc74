"""The modes of publishing: structured, batch and binary; and the older route."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.publishing import (
    BATCH,
    BINARY,
    STRUCTURED,
    batch,
    binary,
    feed,
    fields,
    publisher,
    stored,
    structured,
)
from tests.support.service import PUBLISH, RESOURCE, Service, event, ids


async def send(service: Service, body: bytes, content_type: str | None, **headers: str) -> int:
    """Publish a body byte for byte; return the status."""
    answer = await service.request(
        "POST", PUBLISH, token=publisher(service), body=body, content_type=content_type, headers=headers
    )
    return answer.status


async def test_one_event_is_answered_with_its_outcome(service: Service) -> None:
    """The response has one id, source and `duplicate`, and nothing else."""
    answer = await structured(service, event(id="e1"))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json; charset=utf-8")
    assert answer.json() == {"events": [{"id": "e1", "source": "https://mail.example/box", "duplicate": False}]}


@pytest.mark.on_cosmos
async def test_a_batch_is_answered_in_its_order(service: Service) -> None:
    """Outcomes and stored events have the order of the batch."""
    answer = await batch(service, [event(id=name) for name in "bca"])
    assert ids(answer.json()["events"]) == ["b", "c", "a"]
    assert ids(await feed(service)) == ["b", "c", "a"]


@pytest.mark.on_cosmos
async def test_an_event_is_served_as_it_was_published(service: Service) -> None:
    """The service neither adds nor changes anything."""
    sent = event(time="2020-01-01T00:00:00.000Z", subject="/party/1", myext="a", count=5, flag=True, data={"a": [1.50]})
    await structured(service, sent)
    assert await feed(service) == [sent]


@pytest.mark.parametrize(
    "content_type",
    [STRUCTURED, f"{STRUCTURED}; charset=utf-8", "Application/CloudEvents+JSON", f"{STRUCTURED};charset=UTF-8"],
)
async def test_the_content_type_names_the_mode(service: Service, content_type: str) -> None:
    """`application/cloudevents+json` means structured mode, in any case and with parameters."""
    assert await send(service, json.dumps(event()).encode(), content_type) == 200


async def test_structured_mode_wins_over_ce_headers(service: Service) -> None:
    """In structured mode the `ce-` headers are ignored."""
    assert await send(service, json.dumps(event(id="body")).encode(), STRUCTURED, **BINARY) == 200
    assert ids(await feed(service)) == ["body"]


@pytest.mark.parametrize(
    ("content_type", "headers"),
    [
        (None, {}),
        ("application/json", {}),
        ("text/plain", {}),
        ("application/x-www-form-urlencoded", {}),
        ("application/cloudevents+xml", BINARY),
        ("application/cloudevents+avro", BINARY),
        ("application/cloudevents-batch+avro", BINARY),
        ("application/cloudevents", BINARY),
    ],
)
async def test_other_content_types_are_refused(
    service: Service, tmp_path: Path, content_type: str | None, headers: dict[str, str]
) -> None:
    """Only JSON is a known event format."""
    assert await send(service, json.dumps(event()).encode(), content_type, **headers) == 415
    assert await stored() == []


async def test_a_json_body_becomes_data(service: Service) -> None:
    """In binary mode the Content-Type becomes `datacontenttype`."""
    answer = await binary(service, b' {"a": 1.50} ', "application/json")
    assert (answer.status, ids(answer.json()["events"])) == (200, ["e1"])
    [found] = await feed(service)
    assert (found["data"], found["datacontenttype"]) == ({"a": 1.5}, "application/json")


@pytest.mark.parametrize(
    ("body", "content_type", "member", "value"),
    [
        ("blåbær".encode(), "text/plain", "data", "blåbær"),
        (b"<a/>", "application/xml", "data", "<a/>"),
        (b"[1]", "application/vnd.x+json; charset=utf-8", "data", [1]),
        (b"\x00\xff", "application/octet-stream", "data_base64", base64.b64encode(b"\x00\xff").decode()),
        (b"\xe5", "text/plain", "data_base64", "5Q=="),
        (b"\xe5", "text/plain; charset=iso-8859-1", "data_base64", "5Q=="),
    ],
)
async def test_other_bodies_become_text_or_base64(
    service: Service, body: bytes, content_type: str, member: str, value: object
) -> None:
    """In binary mode UTF-8 text becomes a string, and anything else `data_base64`."""
    assert (await binary(service, body, content_type)).status == 200
    [found] = await feed(service)
    assert (found[member], found["datacontenttype"]) == (value, content_type)
    assert ("data" in found) + ("data_base64" in found) == 1


async def test_an_event_in_binary_mode_may_have_no_data(service: Service) -> None:
    """Without a body and a Content-Type the event has no data."""
    assert (await binary(service)).status == 200
    assert [found for found in await feed(service) if "data" in found or "datacontenttype" in found] == []


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("%E2%82%AC", "€"),
        ('"quoted"', "quoted"),
        ('"a \\"b\\" c"', 'a "b" c'),
        ("a%20b", "a b"),
        ("50%25", "50%"),
        ("plain, text; with=marks", "plain, text; with=marks"),
        ('"%C3%A5"', "å"),
    ],
)
async def test_header_values_are_decoded(service: Service, value: str, read: str) -> None:
    """In binary mode percent-encoding and quotes are undone once."""
    assert (await binary(service, headers={"ce-myext": value})).status == 200
    assert [found["myext"] for found in await feed(service)] == [read]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("ce-id", "%"),
        ("ce-id", "%zz"),
        ("ce-id", "%ff"),
        ("ce-id", '"open'),
        ("ce-id", "blåbær"),
        ("ce-id", "%00"),
        ("ce-my-ext", "a"),
        ("ce-my_ext", "a"),
        ("ce-data", "a"),
        ("ce-datacontenttype", "text/plain"),
        ("ce-data_base64", "YQ=="),
        ("ce-time", "yesterday"),
        ("ce-source", "https://a b"),
    ],
)
async def test_an_invalid_header_is_named(service: Service, tmp_path: Path, header: str, value: str) -> None:
    """In binary mode the problem names the header, and nothing is stored."""
    answer = await binary(service, headers={header: value})
    assert answer.status == 400
    assert fields(answer)[0].removeprefix("ce-") in (header.removeprefix("ce-"), "my*ext")
    assert await stored() == []


@pytest.mark.parametrize("header", ["ce-specversion", "ce-id", "ce-type", "ce-source", "ce-resource"])
async def test_required_attributes_need_their_headers(service: Service, header: str) -> None:
    """In binary mode the problem names the missing attribute."""
    answer = await binary(service, headers={header: None, "ce-other": "a"})
    assert (answer.status, fields(answer)) == (400, [header.removeprefix("ce-")])


async def test_a_binary_body_needs_a_content_type(service: Service, tmp_path: Path) -> None:
    """Without it the response is 415, and nothing is stored."""
    assert (await binary(service, b"{}")).status == 415
    assert await stored() == []


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "text/plain;"])
async def test_an_empty_body_in_binary_mode_is_no_data(service: Service, content_type: str) -> None:
    """With `Content-Length: 0` the Content-Type is kept, without a semicolon at its end."""
    assert (await binary(service, b"", content_type)).status == 200
    [found] = await feed(service)
    assert (found["datacontenttype"], "data" in found) == (content_type.rstrip(";"), False)


@pytest.mark.parametrize("mode", ["structured", "batch", "binary"])
async def test_a_null_is_neither_stored_nor_served(service: Service, mode: str) -> None:
    """The other members are kept byte for byte."""
    nulls = '"data":null, "dataschema":null,"my_ext" : null, '
    text = json.dumps(event(id="e1", half="0.50")).replace('"id"', f'{nulls}"id"')
    if mode == "binary":
        await binary(service, b"null", "application/json")
    elif mode == "batch":
        await send(service, f"[{text}]".encode(), BATCH)
    else:
        await send(service, text.encode(), STRUCTURED)
    [kept] = await stored()
    assert b"null" not in kept
    assert mode == "binary" or kept.decode() == text.replace(nulls, "")


async def test_structured_mode_takes_headers_that_repeat_attributes(service: Service) -> None:
    """The CloudEvents SDK for C# sends them; the body alone counts."""
    headers = {**BINARY, "ce-id": "e1", "ce-flag": "x", "ce-datacontenttype": "text/plain", "ce-%": "%"}
    sent = event(id="e1", flag=True)
    assert await send(service, json.dumps(sent).encode(), STRUCTURED, **headers) == 200
    assert await feed(service) == [sent]


@pytest.mark.on_cosmos
async def test_an_empty_batch_publishes_nothing(service: Service) -> None:
    """It is answered with no outcomes, also while the decision point is down; the scope is needed all the same."""
    await service.pdp.stop()
    answer = await batch(service, [])
    assert (answer.status, answer.json()) == (200, {"events": []})
    assert (await batch(service, [], service.org("other"))).status == 403


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[]", b""])
async def test_the_scope_is_looked_at_before_the_body(service: Service, body: bytes) -> None:
    """A caller without the scope learns nothing about its events."""
    token = service.org("altinn:events.subscribe")
    answer = await service.request("POST", PUBLISH, token=token, body=body, content_type=STRUCTURED)
    assert answer.status == 403


async def test_the_answer_to_another_type_names_the_types(service: Service) -> None:
    """`application/json` without `ce-` headers is none of the three modes."""
    answer = await service.request("POST", PUBLISH, token=publisher(service), json_body=event())
    assert answer.status == 415
    assert STRUCTURED in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/events", "/events/"])
async def test_the_older_route_publishes_alike(service: Service, path: str) -> None:
    """`POST /events/` answers like its successor and names it."""
    token = publisher(service)
    answer = await service.request("POST", path, token=token, json_body=event(id="e1"), content_type=STRUCTURED)
    assert (answer.status, ids(answer.json()["events"])) == (200, ["e1"])
    assert answer.headers["deprecation"] == "@1688169600"
    assert answer.headers["link"] == f'<http://127.0.0.1:7071{PUBLISH}>; rel="successor-version"'


async def test_the_older_route_refuses_alike(service: Service) -> None:
    """Problems name the successor too."""
    answer = await service.request("POST", "/events/", token=publisher(service), json_body={}, content_type=STRUCTURED)
    assert (answer.status, answer.headers["deprecation"]) == (400, "@1688169600")


def with_fault(**attributes: Any) -> list[dict[str, Any]]:
    """A batch of a valid event and an event with these attributes."""
    return [event(), event(**attributes)]


@pytest.mark.parametrize(
    ("events", "named"),
    [
        (with_fault(id=""), "[1].id"),
        (with_fault(type=5), "[1].type"),
        (with_fault(time="now"), "[1].time"),
        (with_fault(resource="mail"), "[1].resource"),
        (with_fault(Upper="a"), "[1].Upper"),
        ([event(), {}], "[1].specversion"),
        ([event(), None], "[1]"),
        ([event(), [event()]], "[1]"),
    ],
)
async def test_a_fault_in_a_batch_is_named_by_its_index(
    service: Service, tmp_path: Path, events: list[Any], named: str
) -> None:
    """The problem names the event and the attribute, and nothing is stored."""
    answer = await batch(service, events)
    assert (answer.status, fields(answer)[0]) == (400, named)
    assert await stored() == []


async def test_every_fault_is_named(service: Service) -> None:
    """The problem lists every fault of every event."""
    answer = await batch(service, [event(id="", type=""), event(time="now")])
    assert fields(answer) == ["[0].id", "[0].type", "[1].time"]


@pytest.mark.parametrize("body", [b"{}", b"", b"null", b"[] []", b"[", b"[{}", b"[{},]", b"[{}] x", b"[[]]"])
async def test_a_batch_is_an_array_of_events(service: Service, body: bytes) -> None:
    """Anything but a JSON array of events is refused."""
    assert await send(service, body, BATCH) == 400


@pytest.mark.on_cosmos
async def test_the_scope_reaches_every_resource(service: Service) -> None:
    """A batch may hold events of several resources."""
    await batch(service, [event(id="a"), event(f"{RESOURCE}-2", id="b")])
    assert (ids(await feed(service)), ids(await feed(service, f"{RESOURCE}-2"))) == (["a"], ["b"])
