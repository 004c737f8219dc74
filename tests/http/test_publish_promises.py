"""Publishing stores an event once, whole, durable and readable at once, within its limits."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from events_core import app
from events_core.adapters.sqlite import SqliteEventStore
from tests.support.asgi import Answer
from tests.support.pdp_server import DENY, PERMIT
from tests.support.publishing import (
    BATCH,
    STRUCTURED,
    batch,
    binary,
    feed,
    fields,
    of_size,
    publisher,
    stored,
    structured,
)
from tests.support.reading import cursor_of
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

KIB = 1024


async def send(service: Service, body: bytes, content_type: str) -> Answer:
    """Publish a body byte for byte."""
    return await service.request("POST", PUBLISH, token=publisher(service), body=body, content_type=content_type)


def duplicates(answer: Answer) -> list[bool]:
    """Whether each event was a duplicate."""
    assert answer.status == 200, answer.body
    return [outcome["duplicate"] for outcome in answer.json()["events"]]


@pytest.mark.on_cosmos
async def test_an_event_is_published_once(service: Service) -> None:
    """A repeat of (source, id) is a duplicate and changes nothing."""
    sent = event(id="e1", data="first")
    answers = [await structured(service, sent), await structured(service, {**sent, "data": "second", "type": "other"})]
    assert [duplicates(answer) for answer in answers] == [[False], [True]]
    assert await feed(service) == [sent]


@pytest.mark.on_cosmos
async def test_an_event_is_published_once_within_a_batch(service: Service) -> None:
    """The second of two equal events of a batch is the duplicate."""
    answer = await batch(service, [event(id=name) for name in ("a", "b", "a")])
    assert duplicates(answer) == [False, False, True]
    assert ids(await feed(service)) == ["a", "b"]


@pytest.mark.on_cosmos
async def test_a_batch_may_hold_duplicates(service: Service) -> None:
    """Only its new events are added."""
    await batch(service, [event(id="a"), event(id="b")])
    assert duplicates(await batch(service, [event(id=name) for name in "abc"])) == [True, True, False]
    assert ids(await feed(service)) == ["a", "b", "c"]


@pytest.mark.on_cosmos
@pytest.mark.parametrize(
    "other", [{"source": "https://mail.example/box2"}, {"id": "E1"}, {"id": "e1 "}, {"resource": f"{RESOURCE}-2"}]
)
async def test_another_source_id_or_resource_is_another_event(service: Service, other: dict[str, str]) -> None:
    """Identity compares source and id character by character, within the resource."""
    first = event(id="e1")
    assert duplicates(await structured(service, first)) == [False]
    assert duplicates(await structured(service, {**first, **other})) == [False]


@pytest.mark.on_cosmos
async def test_a_caller_cannot_suppress_another_resources_event(service: Service) -> None:
    """The same (source, id) in another resource is another event."""
    for resource in (f"{RESOURCE}-2", RESOURCE):
        await structured(service, event(resource, id="e1"))
    assert ids(await feed(service)) == ["e1"]


@pytest.mark.on_cosmos
async def test_both_routes_publish_the_same_event_once(service: Service) -> None:
    """An app's event is a duplicate when it is sent as an event of the app's resource."""
    source = instance_source()
    await service.publish_app_event(id="e1", source=source)
    assert duplicates(await structured(service, event(APP_RESOURCE, id="e1", source=source))) == [True]


@pytest.mark.on_cosmos
async def test_simultaneous_equal_events_are_stored_once(service: Service) -> None:
    """Exactly one of 20 publishers gets no duplicate."""
    sent = event(id="e1")
    answers = await asyncio.gather(*(structured(service, sent) for _ in range(20)))
    assert sorted(duplicates(answer)[0] for answer in answers) == [False] + [True] * 19


GOOD = [event(id="a"), event(id="b")]


BAD: list[tuple[object, int]] = [
    (event(id=""), 400),
    (event(resource="urn:altinn:resource:app_ttd_apps-test"), 400),
    (event(type="platform.x"), 403),
    (event(type="denied"), 403),
    (event(subject="urn:altinn:person:identifier-no:20868012804"), 403),
    (event(data="x" * 256 * KIB), 413),
    (5, 400),
]


@pytest.mark.on_cosmos
async def test_a_batch_is_all_or_nothing(service: Service) -> None:
    """One malformed, denied or large event keeps the whole batch out, wherever it stands."""
    service.pdp.decide = lambda asked: DENY if "denied" in asked.resource.values() else PERMIT
    for bad, status in BAD:
        for index in range(3):
            answer = await batch(service, [*GOOD[:index], bad, *GOOD[index:]])
            assert answer.status == status, (bad, index)
            assert await stored() == [], (bad, index)


@pytest.mark.on_cosmos
async def test_a_batch_is_not_half_stored_when_the_pdp_is_down(service: Service, tmp_path: Path) -> None:
    """The same batch is published whole once the PDP is back."""
    service.pdp.status = 500
    assert (await batch(service, GOOD)).status == 503
    assert await stored() == []
    service.pdp.status = 200
    assert duplicates(await batch(service, GOOD)) == [False, False]


async def test_a_repeated_batch_completes(service: Service, tmp_path: Path) -> None:
    """A store that cannot write gives 503 with `Retry-After`; a repeat stores each event once."""
    assert duplicates(await structured(service, GOOD[0])) == [False]
    store = (await app.current()).store
    assert isinstance(store, SqliteEventStore)
    store._writer._busy_timeout = 0.05
    with closing(sqlite3.connect(tmp_path / "data" / "events.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = await batch(service, GOOD)
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        other.execute("ROLLBACK")
    assert duplicates(await batch(service, GOOD)) == [True, False]


@pytest.mark.on_cosmos
async def test_an_acknowledged_event_outlives_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart the events are stored and recognised as duplicates."""
    async with running(tmp_path, monkeypatch) as service:
        await batch(service, GOOD)
    async with running(tmp_path, monkeypatch) as service:
        assert ids(await feed(service)) == ["a", "b"]
        assert duplicates(await batch(service, GOOD)) == [True, True]


@pytest.mark.on_cosmos
async def test_an_event_is_readable_in_the_next_request(service: Service) -> None:
    """The feeds of resource, owner and party have it at once."""
    owner, user = service.org(APP_TOKEN_SCOPES), service.user()
    for number in range(1, 21):
        await structured(service, event(APP_RESOURCE, source=instance_source(), subject=f"/party/{PARTY}"))
        assert len(await feed(service, APP_RESOURCE)) == number
        assert len((await service.get(APP_FEED, owner, from_=ANCIENT)).json()) == number
        assert len((await service.get(PARTY_FEED, user, from_=ANCIENT, party=PARTY)).json()) == number


@pytest.mark.on_cosmos
async def test_other_resources_are_in_no_party_feed(service: Service) -> None:
    """A party feed holds the events of apps alone."""
    await structured(service, event(subject=f"/party/{PARTY}"))
    assert (await service.get(PARTY_FEED, service.user(), from_=ANCIENT, party=PARTY)).json() == []


@pytest.mark.on_cosmos
@pytest.mark.parametrize(("size", "status"), [(256 * KIB, 200), (256 * KIB + 1, 413)])
async def test_an_event_has_at_most_256_kib(service: Service, size: int, status: int) -> None:
    """In structured mode, 256 KiB are stored and served whole, and one byte more is 413."""
    assert (await send(service, of_size(event(), size), STRUCTURED)).status == status
    assert len(await feed(service)) == (status == 200)


@pytest.mark.parametrize(("size", "status"), [(256 * KIB, 200), (256 * KIB + 1, 413)])
async def test_an_event_in_a_batch_has_at_most_256_kib(service: Service, size: int, status: int) -> None:
    """The problem names the event."""
    body = b"[" + of_size(event(), 500) + b"," + of_size(event(), size) + b"]"
    answer = await send(service, body, BATCH)
    assert (answer.status, fields(answer)) == (status, [] if status == 200 else ["[1]"])


@pytest.mark.on_cosmos
@pytest.mark.parametrize(("size", "status"), [(1024 * KIB, 200), (1024 * KIB + 1, 413)])
async def test_a_batch_has_at_most_1_mib(service: Service, size: int, status: int) -> None:
    """Exactly 1 MiB is stored, and one byte more is 413."""
    quarter = 1024 * KIB // 5
    parts = [of_size(event(), quarter) for _ in range(4)]
    start = b"[" + b",".join(parts) + b","
    body = start + of_size(event(), size - len(start) - 1) + b"]"
    assert len(body) == size
    assert (await send(service, body, BATCH)).status == status


@pytest.mark.parametrize(("content_type", "character"), [("application/json", "x"), ("text/plain", '"')])
async def test_an_event_in_binary_mode_has_at_most_256_kib(
    service: Service, tmp_path: Path, content_type: str, character: str
) -> None:
    """The limit counts the event as it would be stored."""
    wrapped = ('"%s"' if content_type == "application/json" else "%s").encode()
    answers = [
        await binary(service, wrapped % (character.encode() * count), content_type)
        for count in (256 * KIB, 256 * KIB - 1000 if character == "x" else 130 * KIB, 100 * KIB)
    ]
    assert [answer.status for answer in answers] == [413, 200 if character == "x" else 413, 200]
    assert len(await stored()) == 1


@pytest.mark.on_cosmos
@pytest.mark.parametrize(("count", "status"), [(100, 200), (101, 413)])
async def test_a_batch_has_at_most_100_events(service: Service, count: int, status: int) -> None:
    """With one more, nothing is stored."""
    assert (await batch(service, [event() for _ in range(count)])).status == status
    assert len(await feed(service)) == (count if status == 200 else 0)


LIMITS: Mapping[str, tuple[str, int]] = {
    "id": ("", 256),
    "type": ("", 256),
    "source": ("urn:x:", 2048),
    "resource": ("urn:altinn:resource:", 2048),
    "subject": ("", 512),
}


@pytest.mark.on_cosmos
@pytest.mark.parametrize("name", LIMITS)
async def test_attributes_have_a_maximum_length(service: Service, name: str) -> None:
    """256 characters for `id` and `type`, 2,048 for `source` and `resource`, 512 for `subject`."""
    start, most = LIMITS[name]
    longest = start + "x" * (most - len(start))
    assert (await structured(service, event(**{name: longest}))).status == 200
    answer = await structured(service, event(**{name: longest + "x"}))
    assert (answer.status, fields(answer)) == (400, [name])


@pytest.mark.on_cosmos
@pytest.mark.parametrize("number", [0, 1])
async def test_an_id_that_is_a_cursor_of_its_feed_is_refused(service: Service, number: int) -> None:
    """`after=<id>` would be read as a cursor and could lead a consumer in a circle."""
    first = (await batch(service, [event()])).json()["events"][0]["id"]
    page = await service.get(RESOURCE_FEED, service.org("altinn:events.subscribe"), resource=RESOURCE, from_=ANCIENT)
    events = [event() for _ in range(number)] + [event(id=cursor_of(page)["at"])]
    answer = await batch(service, events)
    assert (answer.status, fields(answer)) == (400, ["[1].id" if number else "id"])
    assert ids(await feed(service)) == [first]


@pytest.mark.on_cosmos
async def test_characters_are_counted_not_bytes(service: Service) -> None:
    """An id may have 256 characters of four bytes each."""
    assert (await structured(service, event(id="\U0001f600" * 256))).status == 200


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": 1.0}, "specversion"),
        ({"source": "https://a b"}, "source"),
        ({"time": "2020-02-30T00:00:00Z"}, "time"),
        ({"time": "2020-01-01T00:00:00"}, "time"),
        ({"dataschema": "schema.json"}, "dataschema"),
        ({"datacontenttype": "json"}, "datacontenttype"),
        ({"data_base64": "***"}, "data_base64"),
        ({"data": 1, "data_base64": "YQ=="}, "data_base64"),
        ({"my_ext": "a"}, "my_ext"),
        ({"MyExt": "a"}, "MyExt"),
        ({"myext": {"a": 1}}, "myext"),
        ({"myext": 1.5}, "myext"),
        ({"myext": 2**31}, "myext"),
        ({"subject": ""}, "subject"),
        ({"subject": "a\nb"}, "subject"),
    ],
)
async def test_the_rules_of_cloudevents_are_enforced(
    service: Service, tmp_path: Path, attributes: dict[str, Any], named: str
) -> None:
    """The problem names the attribute, and nothing is stored."""
    answer = await structured(service, event(**attributes))
    assert (answer.status, fields(answer)) == (400, [named])
    assert await stored() == []
