"""What every feed takes: bounds in time, types, sources, page size, media type; and events as they were published."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.reading import START_OF_TIME, app_events, next_query, place, store_clock
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
SAME_MOMENT = [
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
    for number, each in enumerate(published):
        clock.now = START_OF_TIME + number * SECOND
        await service.publish(each)
    return ids(published)


async def read(service: Service, **query: Any) -> list[str]:
    """The ids of the page that the owner gets."""
    answer = await service.get(APP_FEED, service.org(APP_TOKEN_SCOPES), **query)
    assert answer.status == 200, answer.body
    return ids(answer.json())


@pytest.mark.parametrize("moment", SAME_MOMENT)
async def test_from_and_to_are_inclusive_in_every_notation(service: Service, moment: str) -> None:
    """`from` and `to` bound the registration, both inclusive, in any zone and with any fraction."""
    published = await five_seconds(service)
    assert await read(service, from_=moment) == published[1:]
    assert await read(service, from_=ANCIENT, to=moment) == published[:2]
    assert await read(service, from_=moment, to=moment) == published[1:2]


@pytest.mark.on_cosmos
@pytest.mark.parametrize(
    ("moment", "first"),
    [
        ("2023-11-14T22:13:20.000001Z", 1),
        ("2023-11-14T22:13:20.0000001Z", 1),
        ("2023-11-14T22:13:20.9999999Z", 1),
        ("2023-11-14T22:13:21.000001Z", 2),
        ("2023-11-14T22:13Z", 0),
        ("2023-11-14T22:14Z", 5),
        ("1969-12-31T23:59:59Z", 0),
        ("0001-01-01T00:00:00Z", 0),
        ("9999-12-31T23:59:59.999Z", 5),
    ],
)
async def test_from_is_exact(service: Service, moment: str, first: int) -> None:
    """What was registered a microsecond before `from` is out; seconds may be missing; any year is taken."""
    published = await five_seconds(service)
    assert await read(service, from_=moment) == published[first:]


@pytest.mark.parametrize(
    ("moment", "count"),
    [("2023-11-14T22:13:20.999999Z", 1), ("2023-11-14T22:13:20.9999999Z", 1), ("2023-11-14T22:14Z", 5)],
)
async def test_to_is_exact(service: Service, moment: str, count: int) -> None:
    """What was registered a microsecond after `to` is out."""
    published = await five_seconds(service)
    assert await read(service, from_=ANCIENT, to=moment) == published[:count]


@pytest.mark.parametrize(
    "moment", ["2023-11-14T23:13:22 01:00", "2023-11-14T23:13:22+01:00", "2023-11-14T23:13:22%2B01:00"]
)
async def test_a_plus_that_arrives_as_a_space_is_understood(service: Service, moment: str) -> None:
    """A `+` may be escaped, or stand as it is, which arrives as a space."""
    published = await five_seconds(service)
    target = f"{APP_FEED}?from={moment.replace(' ', '+')}&to=2999-01-01T00:00Z"
    answer = await service.request("GET", target, token=service.org(APP_TOKEN_SCOPES))
    assert ids(answer.json()) == published[2:]


@pytest.mark.on_cosmos
async def test_the_bounds_hold_on_every_page(service: Service) -> None:
    """Walking goes on between the same bounds, and is caught up at `to` though more was published."""
    published = await five_seconds(service)
    asked: dict[str, Any] = {"from": "2023-11-14T22:13:21Z", "to": "2023-11-14T22:13:23Z", "size": 1}
    answer = await service.get(APP_FEED, token := service.org(APP_TOKEN_SCOPES), **asked)
    assert ids(await service.walk(answer, token)) == published[1:4]


@pytest.mark.on_cosmos
async def test_from_bounds_what_follows_an_unknown_after(service: Service) -> None:
    """An `after` that names nothing known starts from the oldest event that `from` lets through."""
    published = await five_seconds(service)
    assert await read(service, after="unknown", from_="2023-11-14T22:13:22Z") == published[2:]


@pytest.mark.on_cosmos
async def test_the_bounds_are_of_the_registration_and_not_of_the_events_time(service: Service) -> None:
    """What counts is when an event was registered, whatever `time` it says."""
    clock = await store_clock()
    await service.publish(*(published := app_events(1, time="1999-01-01T00:00:00Z")))
    assert clock.now == START_OF_TIME
    assert await read(service, from_="2023-11-14T22:13:20Z") == ids(published)
    assert await read(service, from_="1998-01-01T00:00:00Z", to="2000-01-01T00:00:00Z") == []


@pytest.mark.parametrize("name", ["from", "to"])
async def test_a_time_without_zone_is_refused(service: Service, name: str) -> None:
    """A time must say its zone, in the documented words."""
    query: dict[str, Any] = {"from": ANCIENT, name: "2022-07-07T11:00:53.3917"}
    answer = await service.get(APP_FEED, service.org(), **query)
    detail = f"The '{name.capitalize()}' parameter must specify timezone. E.g. 2022-07-07T11:00:53.3917Z for UTC"
    assert (answer.status, answer.json()["detail"]) == (400, detail)


@pytest.mark.parametrize(
    "moment", ["yesterday", "2022-13-01T00:00Z", "2022-02-30T00:00Z", "2022-01-01", "1", "T00:00Z"]
)
@pytest.mark.parametrize("name", ["from", "to"])
async def test_what_is_no_time_is_refused(service: Service, name: str, moment: str) -> None:
    """A time that is none, or that never was, is 400 and names the parameter."""
    answer = await service.get(APP_FEED, service.org(), **dict[str, Any]({"from": ANCIENT, name: moment}))
    assert (answer.status, answer.json()["errors"][0]["field"]) == (400, name)


async def test_to_before_from_is_refused(service: Service) -> None:
    """`to` before `from` is 400, also when the zones hide it; the same moment is not."""
    token = service.org()
    asked: dict[str, Any] = {"from": "2023-01-01T00:00:00+02:00", "to": "2022-12-31T22:00:00Z"}
    assert (await service.get(APP_FEED, token, **asked)).status == 200
    assert (await service.get(APP_FEED, token, **{**asked, "to": "2022-12-31T21:59:59.999Z"})).status == 400


# -- type and source --------------------------------------------------------------------------------------------------

TYPES = ["app.instance.created", "App.Instance.Process.Completed", "app_instance", "appXinstance", "100%"]


@pytest.mark.parametrize(
    ("name", "values", "found"),
    [
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
    ],
)
async def test_types_match_whole_in_any_case_any_of_them(
    service: Service, name: str, values: list[str], found: list[int]
) -> None:
    """`type`, also as `eventType`, keeps exactly those types, `%` standing for any run of characters."""
    published = [app_events(1, type=kind)[0] for kind in TYPES]
    await service.publish(*published)
    assert await read(service, from_=ANCIENT, **{name: values}) == [published[index]["id"] for index in found]


@pytest.mark.on_cosmos
async def test_type_and_event_type_are_one_filter(service: Service) -> None:
    """Values under both names count together."""
    published = [app_events(1, type=kind)[0] for kind in TYPES]
    await service.publish(*published)
    assert await read(service, from_=ANCIENT, type="app_instance", eventType="appxinstance") == ids(published[2:4])


SOURCES = ["https://a.example/one_two", "https://a.example/oneXtwo", "https://A.Example/ONE", "urn:x:(1)*?"]


@pytest.mark.parametrize(
    ("values", "found"),
    [
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
    ],
)
async def test_sources_match_whole_in_any_case(service: Service, values: list[str], found: list[int]) -> None:
    """`source` is matched without regard to case; `%` is any run, and `_` like all else stands for itself."""
    await service.publish(*(published := [event(source=source) for source in SOURCES]))
    token = service.org("altinn:events.subscribe")
    answer = await service.get(RESOURCE_FEED, token, resource=RESOURCE, from_=ANCIENT, source=values)
    assert ids(answer.json()) == [published[index]["id"] for index in found]


@pytest.mark.on_cosmos
async def test_filters_hold_on_every_page(service: Service) -> None:
    """A filtered walk returns exactly what matches all filters, with any page size."""
    published = [app_events(1, type=f"t{number % 3}", party=10 + number % 2)[0] for number in range(40)]
    await service.publish(*published)
    matching = [each["id"] for number, each in enumerate(published) if number % 3 == 1 and number % 2 == 1]
    for size in (1, 4, 50):
        query: dict[str, Any] = {"from": ANCIENT, "type": "T1", "source": "%/instances/11/%", "size": size}
        answer = await service.get(APP_FEED, token := service.org(APP_TOKEN_SCOPES), **query)
        assert ids(await service.walk(answer, token)) == matching


@pytest.mark.on_cosmos
async def test_a_filtered_page_that_finds_nothing_moves_on(service: Service) -> None:
    """When nothing matches, `next` is at the end of the stream and finds what matches later."""
    await service.publish(*app_events(30))
    answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT, type="late")
    assert (answer.json(), answer.headers["events-caught-up"]) == ([], "true")
    await service.publish(*(late := app_events(1, type="late")))
    answer = await service.request("GET", answer.headers["next"], token=token)
    assert ids(answer.json()) == ids(late)


# -- size -------------------------------------------------------------------------------------------------------------


async def test_a_page_has_fifty_events_unless_asked_otherwise(service: Service) -> None:
    """The default size is 50, and any other up to the maximum is taken."""
    await service.publish(*app_events(100))
    assert len(await read(service, from_=ANCIENT)) == 50
    assert [len(await read(service, from_=ANCIENT, size=size)) for size in (1, 49, 51, 99)] == [1, 49, 51, 99]


@pytest.mark.on_cosmos
async def test_a_larger_size_is_clamped_to_a_thousand(service: Service) -> None:
    """A larger size is not refused; the page has at most 1,000 events."""
    for _ in range(11):
        await service.publish(*app_events(100))
    for size in (1_000, 1_001, 10**9, 10**30):
        assert len(await read(service, from_=ANCIENT, size=size)) == 1_000


async def test_the_maximum_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`EVENTS_MAX_PAGE_SIZE` bounds every page, the default one too, and `next` repeats what was asked."""
    async with running(tmp_path, monkeypatch, EVENTS_MAX_PAGE_SIZE="3") as service:
        await service.publish(*(published := app_events(8)))
        answer = await service.get(APP_FEED, token := service.org(), from_=ANCIENT, size=50)
        default = await service.get(APP_FEED, token, from_=ANCIENT)
        assert (ids(answer.json()), ("size", "50") in next_query(answer)) == (ids(published)[:3], True)
        assert (len(default.json()), ids(await service.walk(answer, token))) == (3, ids(published))


@pytest.mark.on_cosmos
@pytest.mark.parametrize("scope", [APP_TOKEN_SCOPES, ""])
async def test_a_page_ends_at_four_mebibytes(service: Service, scope: str) -> None:
    """A page of large events ends before 4 MiB, names its last event, and the walk misses none."""
    published = app_events(40, data="x" * 250 * 1024)
    for start in range(0, 40, 4):
        await service.publish(*published[start : start + 4])
    answer = await service.get(APP_FEED, token := service.org(scope), from_=ANCIENT)
    page = answer.json()
    one = len(json.dumps(published[0]))
    assert 4 * 1024 * 1024 - one < len(answer.body) <= 4 * 1024 * 1024 + len(page) + 1
    assert (place(answer)["after"], answer.headers["events-caught-up"]) == (page[-1]["id"], "false")
    assert ids(await service.walk(answer, token)) == ids(published)


async def test_a_repeated_single_parameter_is_refused(service: Service) -> None:
    """A parameter that may stand once is refused when it stands twice."""
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
async def test_the_media_type_is_the_one_that_accept_prefers(
    service: Service, accept: str | None, media_type: str
) -> None:
    """A page is `application/cloudevents+json` unless Accept prefers a batch or plain JSON; the body is the same."""
    await service.publish(*(published := app_events(2)))
    headers = {"Accept": accept} if accept else {}
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT, headers=headers)
    assert answer.headers["content-type"] == f"{media_type}; charset=utf-8"
    assert answer.json() == published


@pytest.mark.parametrize("accept", ["text/html", "image/*", f"{JSON};q=0", "*/*;q=0", "application/xml, text/*"])
@pytest.mark.parametrize("path", [APP_FEED, "/events/api/v1/app/ttd", PARTY_FEED, RESOURCE_FEED])
async def test_what_accept_does_not_take_is_not_served(service: Service, path: str, accept: str) -> None:
    """When Accept takes none of the three the answer is 406."""
    queries: dict[str, dict[str, Any]] = {PARTY_FEED: {"party": PARTY}, RESOURCE_FEED: {"resource": RESOURCE}}
    token = service.org("altinn:events.subscribe")
    answer = await service.get(path, token, from_=ANCIENT, headers={"Accept": accept}, **queries.get(path, {}))
    assert (answer.status, answer.headers["content-type"]) == (406, "application/problem+json")


# -- events as published ----------------------------------------------------------------------------------------------

REQUIRED = f'"specversion":"1.0","id":"%d","source":"{instance_source()}","type":"t","resource":"{APP_RESOURCE}"'
AS_PUBLISHED = [
    '{%s,"data":{"amount":100.00,"huge":1E400,"tiny":1e-400,"big":123456789012345678901234567890,"zero":-0}}',
    '{%s,"data":{"text":"\\u00e6\\ud83d\\ude00 \\/ æ 😀","e":""}}',
    '{%s,"unknownextension":"kept","number":42,"flag":true,"data":[]}',
    f'{{%s,"datacontenttype":"application/octet-stream","data_base64":"{base64.b64encode(bytes(range(256))).decode()}"}}',
    '{ %s ,\t"data" : { "b":1 ,\n "a" : [ 1 , 2 ] } }',
    '{"data":"first, as no serialiser would put it",%s}',
    '{%s,"subject":null,"data":null}',
    '{%s,"subject":"/party/1","time":"2020-01-01T00:00:00.000000000+01:00","dataschema":"https://a.example/s"}',
    '{%s,"datacontenttype":"text/xml","data":"<a b=\\"c\\"/>"}',
    '{%s,"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","data":"x"}',
]


@pytest.mark.parametrize("text", AS_PUBLISHED)
async def test_an_event_is_returned_as_it_was_published(service: Service, text: str) -> None:
    """Byte for byte: numbers, escapes, order, white space, extensions, binary data; nothing is added."""
    published = (text % (REQUIRED % 1)).encode()
    token = service.org("altinn:events.publish.admin")
    answer = await service.request("POST", PUBLISH, token=token, body=published, content_type=EVENTS)
    assert answer.status == 200, answer.body
    answer = await service.get(APP_FEED, service.org(), from_=ANCIENT)
    assert answer.body == b"[" + published + b"]"


@pytest.mark.on_cosmos
async def test_a_page_is_the_published_events_in_an_array(service: Service) -> None:
    """A batch comes back as its events' own texts, joined by commas."""
    published = [(text % (REQUIRED % number)).encode() for number, text in enumerate(AS_PUBLISHED)]
    token, body = service.org("altinn:events.publish.admin"), b" [ " + b" , ".join(published) + b" ] "
    answer = await service.request("POST", PUBLISH, token=token, body=body, content_type=BATCH)
    assert answer.status == 200, answer.body
    answer = await service.get(APP_FEED, service.org(APP_TOKEN_SCOPES), from_=ANCIENT)
    assert answer.body == b"[" + b",".join(published) + b"]"


@pytest.mark.on_cosmos
async def test_the_texts_are_the_same_in_every_feed(service: Service) -> None:
    """Owner, org, party and resource feed return one and the same text of an event."""
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
