"""The parameters of every feed: time, types, sources, size, media type; and events exactly as published."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.reading import FEEDS, START_OF_TIME, app_events, cursor_of, next_query, store_clock
from tests.support.service import (
    ANCIENT,
    APP_FEED,
    APP_RESOURCE,
    APP_TOKEN_SCOPES,
    PARTY,
    PARTY_FEED,
    PUBLISH,
    RESOURCE,
    RESOURCE_FEED,
    Service,
    event,
    ids,
    instance_source,
    running,
)

# -- from and to ------------------------------------------------------------------------------------------------------

SECOND = 1_000_000
SAME_TIME = [
    "2023-11-14T22:13:21Z",
    "2023-11-14T22:13:21.000000Z",
    "2023-11-14t22:13:21z",
    "2023-11-14T23:13:21+01:00",
    "2023-11-14T17:43:21.0-04:30",
    "2023-11-15T00:13:21.000+02:00",
]


async def five_seconds(service: Service) -> list[str]:
    """Publish an event each second from 22:13:20 to 22:13:24 on 14 November 2023; return their ids."""
    clock = await store_clock()
    published = app_events(5)
    for number, sent in enumerate(published):
        clock.now = START_OF_TIME + number * SECOND
        await service.publish(sent)
    return ids(published)


async def read(service: Service, **query: Any) -> list[str]:
    """The ids on the owner's page."""
    answer = await service.get(APP_FEED, service.org(APP_TOKEN_SCOPES), **query)
    assert answer.status == 200, answer.body
    return ids(answer.json())


async def test_from_and_to_are_inclusive_in_every_notation(service: Service) -> None:
    """The bounds take any zone and any fraction of a second."""
    published = await five_seconds(service)
    for time in SAME_TIME:
        assert await read(service, from_=time) == published[1:], time
        assert await read(service, from_=ANCIENT, to=time) == published[:2], time
        assert await read(service, from_=time, to=time) == published[1:2], time


@pytest.mark.on_cosmos
async def test_from_is_exact(service: Service) -> None:
    """An event of a microsecond before `from` is left out; seconds may be missing; any year is valid."""
    published = await five_seconds(service)
    for time, first in (
        ("2023-11-14T22:13:20.000001Z", 1),
        ("2023-11-14T22:13:20.0000001Z", 1),
        ("2023-11-14T22:13:20.9999999Z", 1),
        ("2023-11-14T22:13:21.000001Z", 2),
        ("2023-11-14T22:13Z", 0),
        ("2023-11-14T22:14Z", 5),
        ("1969-12-31T23:59:59Z", 0),
        ("0001-01-01T00:00:00Z", 0),
        ("9999-12-31T23:59:59.999Z", 5),
    ):
        assert await read(service, from_=time) == published[first:], time


@pytest.mark.on_cosmos
async def test_to_is_exact(service: Service) -> None:
    """An event of a microsecond after `to` is left out."""
    published = await five_seconds(service)
    for time, count in (
        ("2023-11-14T22:13:20.999999Z", 1),
        ("2023-11-14T22:13:20.9999999Z", 1),
        ("2023-11-14T22:14Z", 5),
    ):
        assert await read(service, from_=ANCIENT, to=time) == published[:count], time


async def test_a_plus_that_arrives_as_a_space_is_understood(service: Service) -> None:
    """An unescaped `+` of a zone arrives as a space."""
    published = await five_seconds(service)
    for time in ("2023-11-14T23:13:22+01:00", "2023-11-14T23:13:22%2B01:00"):
        target = f"{APP_FEED}?from={time}&to=2999-01-01T00:00Z"
        answer = await service.request("GET", target, token=service.org(APP_TOKEN_SCOPES))
        assert ids(answer.json()) == published[2:], time


@pytest.mark.on_cosmos
async def test_the_bounds_hold_on_every_page(service: Service) -> None:
    """A walk is caught up at `to`, although there are later events."""
    published = await five_seconds(service)
    asked: dict[str, Any] = {"from": "2023-11-14T22:13:21Z", "to": "2023-11-14T22:13:23Z", "size": 1}
    answer = await service.get(APP_FEED, token := service.org(APP_TOKEN_SCOPES), **asked)
    assert ids(await service.walk(answer, token)) == published[1:4]


@pytest.mark.on_cosmos
async def test_from_bounds_an_unknown_after(service: Service) -> None:
    """An unknown id starts from the oldest event that `from` lets through."""
    published = await five_seconds(service)
    assert await read(service, after="unknown", from_="2023-11-14T22:13:22Z") == published[2:]


@pytest.mark.on_cosmos
async def test_the_bounds_compare_registration_not_the_events_time(service: Service) -> None:
    """The `time` of an event does not matter."""
    clock = await store_clock()
    await service.publish(*(published := app_events(1, time="1999-01-01T00:00:00Z")))
    assert clock.now == START_OF_TIME
    assert await read(service, from_="2023-11-14T22:13:20Z") == ids(published)
    assert await read(service, from_="1998-01-01T00:00:00Z", to="2000-01-01T00:00:00Z") == []


@pytest.mark.parametrize("name", ["from", "to"])
async def test_a_time_without_zone_is_refused(service: Service, name: str) -> None:
    """The problem has the documented words."""
    query: dict[str, Any] = {"from": ANCIENT, name: "2022-07-07T11:00:53.3917"}
    answer = await service.get(APP_FEED, service.org(), **query)
    detail = f"The '{name.capitalize()}' parameter must specify timezone. E.g. 2022-07-07T11:00:53.3917Z for UTC"
    assert (answer.status, answer.json()["detail"]) == (400, detail)


@pytest.mark.parametrize("name", ["from", "to"])
async def test_an_invalid_time_is_refused(service: Service, name: str) -> None:
    """The problem names the parameter."""
    for time in ("yesterday", "2022-13-01T00:00Z", "2022-02-30T00:00Z", "2022-01-01", "1", "T00:00Z"):
        answer = await service.get(APP_FEED, service.org(), **dict[str, Any]({"from": ANCIENT, name: time}))
        assert (answer.status, answer.json()["errors"][0]["field"]) == (400, name), time


async def test_to_before_from_is_refused(service: Service) -> None:
    """Different zones do not hide it; the same time is valid."""
    token = service.org()
    asked: dict[str, Any] = {"from": "2023-01-01T00:00:00+02:00", "to": "2022-12-31T22:00:00Z"}
    assert (await service.get(APP_FEED, token, **asked)).status == 200
    assert (await service.get(APP_FEED, token, **{**asked, "to": "2022-12-31T21:59:59.999Z"})).status == 400


# -- type and source --------------------------------------------------------------------------------------------------

TYPES = ["app.instance.created", "App.Instance.Process.Completed", "app_instance", "appXinstance", "100%"]


TYPES_FOUND: list[tuple[str, list[str], list[int]]] = [
    ("type", ["app.instance.created"], [0]),
    ("type", ["APP.instance.CREATED"], [0]),
    ("eventType", ["app.instance.process.completed"], [1]),
    ("type", ["app.instance.created", "app_instance"], [0, 2]),
    ("type", ["app.instance.%"], [0, 1]),
    ("type", ["%"], [0, 1, 2, 3, 4]),
    ("type", ["app_instance"], [2]),
    ("type", ["app.instance"], []),
    ("type", ["%created"], [0]),
    ("type", ["app%.%ed"], [0, 1]),
    ("type", ["app.*"], []),
]


@pytest.mark.on_cosmos
async def test_types_match_whole_in_any_case(service: Service) -> None:
    """`type` or `eventType` keeps events of any of the types; `%` stands for any run of characters."""
    published = [app_events(1, type=kind)[0] for kind in TYPES]
    await service.publish(*published)
    for name, values, found in TYPES_FOUND:
        assert await read(service, from_=ANCIENT, **{name: values}) == [published[n]["id"] for n in found], values


@pytest.mark.on_cosmos
async def test_type_and_event_type_are_one_filter(service: Service) -> None:
    """Values under both names count together."""
    published = [app_events(1, type=kind)[0] for kind in TYPES]
    await service.publish(*published)
    assert await read(service, from_=ANCIENT, type="app_instance", eventType="appxinstance") == ids(published[2:4])


SOURCES = ["https://a.example/one_two", "https://a.example/oneXtwo", "https://A.Example/ONE", "urn:x:(1)*?"]


SOURCES_FOUND = [
    (["https://a.example/one_two"], [0]),
    (["https://A.EXAMPLE/ONE_TWO"], [0]),
    (["https://a.example/one%"], [0, 1, 2]),
    (["%one_%"], [0]),
    (["https://a.example/one%", "urn:x:(1)*?"], [0, 1, 2, 3]),
    (["urn:x:(%)*?"], [3]),
    (["urn:x:(1)*_"], []),
    (["urn:x:*"], []),
    (["a.example"], []),
    (["%a.example%two"], [0, 1]),
    (["%%"], [0, 1, 2, 3]),
    (["\\%"], []),
    (["æ%", "URN:%"], [3]),
]


@pytest.mark.on_cosmos
async def test_sources_match_whole_in_any_case(service: Service) -> None:
    """`%` stands for any run of characters, and every other character for itself."""
    await service.publish(*(published := [event(source=source) for source in SOURCES]))
    token = service.org("altinn:events.subscribe")
    for values, found in SOURCES_FOUND:
        answer = await service.get(RESOURCE_FEED, token, resource=RESOURCE, from_=ANCIENT, source=values)
        assert ids(answer.json()) == [published[n]["id"] for n in found], values


@pytest.mark.on_cosmos
async def test_filters_hold_on_every_page(service: Service) -> None:
    """A filtered walk of any page size returns the events that match all filters."""
    published = [app_events(1, type=f"t{number % 3}", party=10 + number % 2)[0] for number in range(40)]
    await service.publish(*published)
    matching = [sent["id"] for number, sent in enumerate(published) if number % 3 == 1 and number % 2 == 1]
    for size in (1, 4, 50):
        query: dict[str, Any] = {"from": ANCIENT, "type": "T1", "source": "%/instances/11/%", "size": size}
        answer = await service.get(APP_FEED, token := service.org(APP_TOKEN_SCOPES), **query)
        assert ids(await service.walk(answer, token)) == matching


@pytest.mark.on_cosmos
async def test_a_filtered_page_without_matches_moves_on(service: Service) -> None:
    """Its `next` is at the end of the stream and finds later matches."""
    await service.publish(*app_events(30))
    answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT, type="late")
    assert (answer.json(), answer.headers["events-caught-up"]) == ([], "true")
    await service.publish(*(late := app_events(1, type="late")))
    answer = await service.request("GET", answer.headers["next"], token=token)
    assert ids(answer.json()) == ids(late)


# -- size -------------------------------------------------------------------------------------------------------------


async def test_a_page_has_fifty_events_by_default(service: Service) -> None:
    """Any other size up to the maximum is valid."""
    await service.publish(*app_events(100))
    assert len(await read(service, from_=ANCIENT)) == 50
    assert [len(await read(service, from_=ANCIENT, size=size)) for size in (1, 49, 51, 99)] == [1, 49, 51, 99]


@pytest.mark.on_cosmos
async def test_a_larger_size_is_clamped_to_a_thousand(service: Service) -> None:
    """A page has at most 1,000 events, whatever was asked."""
    for _ in range(11):
        await service.publish(*app_events(100))
    for size in (1_000, 1_001, 10**9, 10**30):
        assert len(await read(service, from_=ANCIENT, size=size)) == 1_000


async def test_the_maximum_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`EVENTS_MAX_PAGE_SIZE` bounds the default too, and `next` repeats the requested size."""
    async with running(tmp_path, monkeypatch, EVENTS_MAX_PAGE_SIZE="3") as service:
        await service.publish(*(published := app_events(8)))
        answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT, size=50)
        default = await service.get(APP_FEED, token, from_=ANCIENT)
        assert (ids(answer.json()), ("size", "50") in next_query(answer)) == (ids(published)[:3], True)
        assert (len(default.json()), ids(await service.walk(answer, token))) == (3, ids(published))


@pytest.mark.on_cosmos
@pytest.mark.parametrize("scope", [APP_TOKEN_SCOPES, ""])
async def test_a_page_ends_at_four_mebibytes(service: Service, scope: str) -> None:
    """A page of large events ends before 4 MiB, and a walk misses no event."""
    published = app_events(40, data="x" * 250 * 1024)
    for start in range(0, 40, 4):
        await service.publish(*published[start : start + 4])
    answer = await service.get(APP_FEED, token := service.org(scope), from_=ANCIENT)
    page = answer.json()
    one = len(json.dumps(published[0]))
    assert 4 * 1024 * 1024 - one < len(answer.body) <= 4 * 1024 * 1024 + len(page) + 1
    assert (cursor_of(answer)["after"], answer.headers["events-caught-up"]) == (page[-1]["id"], "false")
    assert ids(await service.walk(answer, token)) == ids(published)


async def test_a_repeated_single_parameter_is_refused(service: Service) -> None:
    """The problem names the parameter."""
    for name, value in (("from", ANCIENT), ("size", 1), ("after", "x"), ("party", 1)):
        answer = await service.get(APP_FEED, service.org(), **dict[str, Any]({"from": ANCIENT, name: [value, value]}))
        assert (answer.status, answer.json()["errors"][0]["field"]) == (400, name)


# -- media types ------------------------------------------------------------------------------------------------------

EVENTS, BATCH, JSON = "application/cloudevents+json", "application/cloudevents-batch+json", "application/json"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, EVENTS),
        ("*/*", EVENTS),
        ("application/*", EVENTS),
        (EVENTS, EVENTS),
        (BATCH, BATCH),
        (JSON, JSON),
        ("Application/JSON; charset=utf-8", JSON),
        (f"text/html, {JSON};q=0.9, */*;q=0.1", JSON),
        (f"{JSON};q=0.5, {BATCH};q=0.8", BATCH),
        (f"{EVENTS};q=0, */*", BATCH),
        (f"{JSON}, */*", JSON),
    ],
)
async def test_accept_chooses_the_media_type(service: Service, accept: str | None, media_type: str) -> None:
    """The default is `application/cloudevents+json`; the body is the same for all."""
    await service.publish(*(published := app_events(2)))
    headers = {"Accept": accept} if accept else {}
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT, headers=headers)
    assert answer.headers["content-type"] == f"{media_type}; charset=utf-8"
    assert answer.json() == published


@pytest.mark.parametrize("accept", ["text/html", "image/*", f"{JSON};q=0", "*/*;q=0", "application/xml, text/*"])
async def test_an_accept_without_a_known_media_type_is_406(service: Service, accept: str) -> None:
    """Every feed refuses it."""
    token = service.org("altinn:events.subscribe")
    for path, query in FEEDS:
        answer = await service.get(path, token, from_=ANCIENT, headers={"Accept": accept}, **query)
        assert (answer.status, answer.headers["content-type"]) == (406, "application/problem+json"), path


# -- events as published ----------------------------------------------------------------------------------------------

REQUIRED = f'"specversion":"1.0","id":"%d","source":"{instance_source()}","type":"t","resource":"{APP_RESOURCE}"'
AS_PUBLISHED = [
    '{%s,"data":{"amount":100.00,"huge":1E400,"tiny":1e-400,"big":123456789012345678901234567890,"zero":-0}}',
    '{%s,"data":{"text":"\\u00e6\\ud83d\\ude00 \\/ æ 😀","e":""}}',
    '{%s,"unknownextension":"kept","number":42,"flag":true,"data":[]}',
    f'{{%s,"datacontenttype":"application/octet-stream","data_base64":"{base64.b64encode(bytes(range(256))).decode()}"}}',
    '{ %s ,\t"data" : { "b":1 ,\n "a" : [ 1 , 2 ] } }',
    '{"data":"first, as no serialiser would put it",%s}',
    '{%s,"subject":"/party/1","time":"2020-01-01T00:00:00.000000000+01:00","dataschema":"https://a.example/s"}',
    '{%s,"datacontenttype":"text/xml","data":"<a b=\\"c\\"/>"}',
    '{%s,"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","data":"x"}',
]


async def test_an_event_is_returned_as_it_was_published(service: Service) -> None:
    """Numbers, escapes, order, white space, extensions and binary data stay, byte for byte."""
    published = [(text % (REQUIRED % number)).encode() for number, text in enumerate(AS_PUBLISHED)]
    for body in published:
        token = service.org("altinn:events.publish.admin")
        answer = await service.request("POST", PUBLISH, token=token, body=body, content_type=EVENTS)
        assert answer.status == 200, answer.body
    answer = await service.get(APP_FEED, service.org(APP_TOKEN_SCOPES), from_=ANCIENT)
    assert answer.body == b"[" + b",".join(published) + b"]"


@pytest.mark.on_cosmos
async def test_a_page_is_the_published_events_in_an_array(service: Service) -> None:
    """The texts of a batch's events come back, joined by commas."""
    published = [(text % (REQUIRED % number)).encode() for number, text in enumerate(AS_PUBLISHED)]
    token, body = service.org("altinn:events.publish.admin"), b" [ " + b" , ".join(published) + b" ] "
    answer = await service.request("POST", PUBLISH, token=token, body=body, content_type=BATCH)
    assert answer.status == 200, answer.body
    answer = await service.get(APP_FEED, service.org(APP_TOKEN_SCOPES), from_=ANCIENT)
    assert answer.body == b"[" + b",".join(published) + b"]"


@pytest.mark.on_cosmos
async def test_the_texts_are_the_same_in_every_feed(service: Service) -> None:
    """The feeds of owner, org, party and resource return the same text."""
    text = f'{{{REQUIRED % 1},"subject":"/party/{PARTY}","data":{{"amount":100.00}}}}'
    admin = service.org("altinn:events.publish.admin", "altinn:events.subscribe")
    await service.request("POST", PUBLISH, token=admin, body=text.encode(), content_type=EVENTS)
    for target in (
        APP_FEED,
        "/events/api/v1/app/ttd",
        f"{PARTY_FEED}?party={PARTY}",
        f"{RESOURCE_FEED}?resource={quote(APP_RESOURCE)}",
    ):
        joiner = "&" if "?" in target else "?"
        answer = await service.request("GET", f"{target}{joiner}from={ANCIENT}", token=admin)
        assert answer.body.decode() == f"[{text}]"
