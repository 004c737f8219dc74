"""The feed of one instance, without login."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.asgi import Answer
from tests.support.reading import app_events, next_query, until_waiting
from tests.support.service import ANCIENT, APP_FEED, APP_RESOURCE, PARTY, Service, event, ids, instance_source, running

FUTURE = "2999-01-01T00:00:00Z"
OPEN_APPS = "ttd/apps-test,ttd/second"
SHOWN = {"specversion", "id", "source", "type", "time"}


@pytest.fixture
async def open_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """The service with two apps whose instances anyone may read."""
    async with running(tmp_path / "data", monkeypatch, EVENTS_ANONYMOUS_APPS=OPEN_APPS) as service:
        yield service


async def ask(service: Service, guid: str, party: object = PARTY, **asked: Any) -> Answer:
    """Post the parameters to the feed of an instance, without a token."""
    target = f"/events/instanceeventsforinstance/{party}/{guid}"
    return await service.request("POST", target, json_body={"from": ANCIENT, **asked})


async def publish(service: Service, guid: str, app_name: str = "ttd/apps-test", **attributes: Any) -> str:
    """Publish an event of an instance of an app."""
    source = instance_source(app_name, guid=guid)
    return await service.publish_app_event(app_name=app_name, source=source, **attributes)


@pytest.mark.on_cosmos
async def test_the_feed_holds_the_events_of_that_instance_only(open_service: Service) -> None:
    """Other instances of the same app and party are left out."""
    guid = str(uuid.uuid4())
    published = []
    for _ in range(3):
        published.append(await publish(open_service, guid))
        await open_service.publish_app_event()
    answer = await ask(open_service, guid)
    assert (answer.status, ids(answer.json())) == (200, published)


async def test_an_event_is_shown_without_its_content(open_service: Service) -> None:
    """Data, subject, resource and extensions are left out."""
    guid = str(uuid.uuid4())
    await publish(open_service, guid, data={"secret": 1}, alternativesubject="/user/1", extension="x")
    (shown,) = (await ask(open_service, guid)).json()
    assert shown.keys() == SHOWN
    assert shown["source"] == instance_source(guid=guid)


async def test_an_event_without_time_is_shown_without_time(open_service: Service) -> None:
    """The service makes nothing up."""
    source = instance_source(guid=(guid := str(uuid.uuid4())))
    await open_service.publish(event(APP_RESOURCE, source=source, subject=f"/party/{PARTY}"))
    (shown,) = (await ask(open_service, guid)).json()
    assert shown.keys() == SHOWN - {"time"}


async def test_the_feed_ignores_tokens_and_asks_no_decision(open_service: Service) -> None:
    """Neither the PDP nor Register is asked."""
    await publish(open_service, guid := str(uuid.uuid4()))
    answer = await open_service.request(
        "POST",
        f"/events/instanceeventsforinstance/{PARTY}/{guid}",
        token="not a token",
        json_body={"from": ANCIENT},
    )
    assert (answer.status, open_service.pdp.requests, open_service.register.requests) == (200, [], [])


async def test_every_app_of_the_setting_is_open(open_service: Service) -> None:
    """The setting is a list of apps."""
    published = await publish(open_service, guid := str(uuid.uuid4()), "ttd/second")
    assert ids((await ask(open_service, guid)).json()) == [published]


async def not_found(service: Service) -> Answer:
    """The response for an instance that does not exist."""
    answer = await ask(service, str(uuid.uuid4()))
    assert answer.status == 404
    return answer


async def test_an_instance_of_a_closed_app_looks_like_an_unknown_one(open_service: Service) -> None:
    """The responses differ in the trace id alone."""
    await publish(open_service, guid := str(uuid.uuid4()), "ttd/closed")
    answer, unknown = await ask(open_service, guid), await not_found(open_service)
    assert {**answer.json(), "traceId": ""} == {**unknown.json(), "traceId": ""}
    assert answer.headers == unknown.headers


async def test_without_the_setting_no_instance_is_open(service: Service) -> None:
    """Apps are closed by default."""
    await publish(service, guid := str(uuid.uuid4()))
    answers = [await ask(service, guid), await service.request("POST", f"/events/instanceeventsforinstance/1/{guid}")]
    assert [answer.status for answer in answers] == [404, 404]


@pytest.mark.parametrize(
    ("party", "guid"),
    [("x", None), ("7", None), (f"0{PARTY}", None), (PARTY, "x"), (PARTY, "{6fb3738d-6372-48e3-a2d2-f40ab0531fc1}")],
)
async def test_an_invalid_instance_is_not_found(open_service: Service, party: object, guid: str | None) -> None:
    """Party and guid must have their form, and belong together."""
    await publish(open_service, real := str(uuid.uuid4()))
    assert (await ask(open_service, guid or real, party)).status == 404


async def test_a_wildcard_is_no_instance(open_service: Service) -> None:
    """`%` in the path is no pattern."""
    await publish(open_service, str(uuid.uuid4()))
    assert [(await ask(open_service, guid)).status for guid in ("%25", "%25%25", "-" * 36)] == [404] * 3


async def test_an_event_of_another_resource_is_not_shown(open_service: Service) -> None:
    """Its source may name the instance."""
    published = await publish(open_service, guid := str(uuid.uuid4()))
    about = {"source": instance_source(guid=guid), "subject": f"/party/{PARTY}"}
    await open_service.publish(event(**about), event(f"{APP_RESOURCE}-2", **about))
    assert ids((await ask(open_service, guid)).json()) == [published]


async def test_the_guid_is_understood_in_either_case(open_service: Service) -> None:
    """A GUID in capitals names the same instance."""
    published = await publish(open_service, guid := str(uuid.uuid4()))
    assert ids((await ask(open_service, guid.upper())).json()) == [published]


async def test_type_and_to_narrow_the_feed(open_service: Service) -> None:
    """The body takes the common parameters of feeds."""
    await publish(open_service, guid := str(uuid.uuid4()), type="a")
    wanted = await publish(open_service, guid, type="b")
    assert ids((await ask(open_service, guid, type="b")).json()) == [wanted]
    assert (await ask(open_service, guid, to="2000-01-02T00:00Z")).json() == []


@pytest.mark.parametrize("named", [{"org": "ttd", "app": "second"}, {"org": "skd"}])
async def test_org_and_app_of_the_body_must_match(open_service: Service, named: dict[str, str]) -> None:
    """An instance of another app is 404."""
    await publish(open_service, guid := str(uuid.uuid4()))
    assert (await ask(open_service, guid, org="ttd", app="apps-test")).status == 200
    assert (await ask(open_service, guid, **named)).status == 404


@pytest.mark.parametrize("body", [{}, {"from": "yesterday"}, {"from": ANCIENT, "size": 0}])
async def test_invalid_parameters_are_refused(open_service: Service, body: dict[str, Any]) -> None:
    """A start is required here too."""
    await publish(open_service, guid := str(uuid.uuid4()))
    target = f"/events/instanceeventsforinstance/{PARTY}/{guid}"
    assert (await open_service.request("POST", target, json_body=body)).status == 400


@pytest.mark.on_cosmos
async def test_the_feed_is_walked_by_posting_to_next(open_service: Service) -> None:
    """`next` holds the cursor alone, and the body stays the same."""
    guid = str(uuid.uuid4())
    published = [await publish(open_service, guid) for _ in range(5)]
    answer, seen = await ask(open_service, guid, size=2), []
    while answer.json():
        seen += ids(answer.json())
        assert [name for name, _ in next_query(answer)] == ["after", "at"]
        answer = await open_service.request("POST", answer.headers["next"], json_body={"from": ANCIENT, "size": 2})
    assert seen == published


async def test_more_than_sixty_requests_a_minute_are_refused(open_service: Service) -> None:
    """The limit counts for each instance; the 429 has `Retry-After`."""
    await publish(open_service, guid := str(uuid.uuid4()))
    await publish(open_service, other := str(uuid.uuid4()))
    answers = [await ask(open_service, guid) for _ in range(121)]
    refused = [answer for answer in answers if answer.status == 429]
    assert [answer.status for answer in answers[:60]] == [200] * 60
    assert refused
    assert 1 <= int(refused[0].headers["retry-after"]) <= 60
    assert (await ask(open_service, other)).status == 200


async def test_requests_for_unknown_instances_are_limited_too(open_service: Service) -> None:
    """The limit does not reveal whether an instance exists."""
    await publish(open_service, closed := str(uuid.uuid4()), "ttd/closed")
    for guid in (closed, str(uuid.uuid4())):
        assert {(await ask(open_service, guid)).status for _ in range(121)} == {404, 429}


async def test_readers_without_login_are_one_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller with a token displaces the oldest of them, so that they keep nobody from waiting."""
    async with running(tmp_path, monkeypatch, EVENTS_ANONYMOUS_APPS=OPEN_APPS, EVENTS_MAX_WAITERS="2") as service:
        await publish(service, guid := str(uuid.uuid4()))
        target, wait = f"/events/instanceeventsforinstance/{PARTY}/{guid}", {"Prefer": "wait=2"}
        readers = []
        for count in (1, 2):
            reader = service.request("POST", target, json_body={"from": FUTURE}, headers=wait)
            readers.append(asyncio.create_task(reader))
            await until_waiting(count)
        third = await service.request("POST", target, json_body={"from": FUTURE}, headers=wait)
        owner = await service.get(APP_FEED, service.org(), from_=FUTURE, headers=wait)
        answers = [*[await reader for reader in readers], third, owner]
    assert ["preference-applied" in answer.headers for answer in answers] == [False, True, False, True]


@pytest.mark.on_cosmos
async def test_the_events_of_an_instance_are_found_behind_many_others(open_service: Service) -> None:
    """The party has thousands of other events."""
    for _ in range(30):
        await open_service.publish(*app_events(100))
    published = await publish(open_service, guid := str(uuid.uuid4()))
    assert ids((await ask(open_service, guid)).json()) == [published]
